//! Replicas that start, serve and drain.

use std::collections::VecDeque;

/// The replicas of a run. A start that is not needed any more is given up, the youngest first, before a ready one drains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// Ready replicas.
    pub ready: u32,
    /// When each starting one will be ready (a second of the run), in order.
    starting: VecDeque<u64>,
    /// When each draining one will be gone.
    draining: VecDeque<u64>,
    start_seconds: u64,
}

/// Seconds from leaving the routes to being gone: requests of a fraction of a second, and the stop itself.
const DRAIN_SECONDS: u64 = 1;

impl Fleet {
    /// So many ready ones; a new one takes so many seconds.
    pub fn new(ready: u32, start_seconds: u64) -> Self {
        Self { ready, starting: VecDeque::new(), draining: VecDeque::new(), start_seconds }
    }

    /// Lets the time come to second `at`.
    pub fn tick(&mut self, at: u64) {
        while self.starting.front().is_some_and(|ready| *ready <= at) {
            self.starting.pop_front();
            self.ready += 1;
        }
        while self.draining.front().is_some_and(|gone| *gone <= at) {
            self.draining.pop_front();
        }
    }

    /// Makes them so many, from the end of second `at` on.
    pub fn set(&mut self, want: u32, at: u64) {
        while self.ready + self.starting() < want {
            self.starting.push_back(at + 1 + self.start_seconds);
        }
        while self.ready + self.starting() > want && self.starting.pop_back().is_some() {}
        while self.ready > want {
            self.ready -= 1;
            self.draining.push_back(at + 1 + DRAIN_SECONDS);
        }
    }

    /// How many start.
    pub fn starting(&self) -> u32 {
        self.starting.len() as u32
    }

    /// How many are paid for: ready, starting, draining.
    pub fn paid(&self) -> u32 {
        self.ready + self.starting() + self.draining.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_takes_its_time_and_is_given_up_first() {
        let mut fleet = Fleet::new(2, 3);
        fleet.set(4, 0);
        assert_eq!((fleet.ready, fleet.starting(), fleet.paid()), (2, 2, 4));
        fleet.tick(3);
        assert_eq!(fleet.ready, 2);
        fleet.set(3, 3);
        assert_eq!((fleet.ready, fleet.starting()), (2, 1));
        fleet.tick(4);
        assert_eq!((fleet.ready, fleet.starting()), (3, 0));
        fleet.set(1, 4);
        assert_eq!((fleet.ready, fleet.paid()), (1, 3));
        fleet.tick(6);
        assert_eq!(fleet.paid(), 1);
    }
}
