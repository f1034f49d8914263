//! Seconds request by request: each comes at its own instant, waits for a slot in the order of coming, takes its own
//! time, and is answered or turned away.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, VecDeque},
};

use super::{
    app::App,
    plant::{Conditions, PATIENCE, Plant, Second},
};
use crate::dice::Dice;

/// An app, request by request.
#[derive(Debug)]
pub struct Requests {
    dice: Dice,
    /// The second that begins.
    at: f64,
    /// Requests in slots, the next to end first.
    busy: BinaryHeap<Reverse<Ending>>,
    /// When those waiting came.
    queue: VecDeque<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Ending {
    at: f64,
    came: f64,
}

impl Eq for Ending {}
impl Ord for Ending {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.total_cmp(&other.at).then(self.came.total_cmp(&other.came))
    }
}
impl PartialOrd for Ending {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Requests {
    /// An app at rest.
    pub fn new(dice: Dice) -> Self {
        Self { dice, at: 0.0, busy: BinaryHeap::new(), queue: VecDeque::new() }
    }

    /// Gives slots to those who wait, while there are any.
    fn start(&mut self, app: &App, now: Conditions, at: f64, second: &mut Second) {
        let slots = (now.replicas * f64::from(app.slots)).round() as usize;
        while self.busy.len() < slots {
            let Some(came) = self.queue.pop_front() else { return };
            if at - came > PATIENCE {
                second.rejected += 1.0;
                continue;
            }
            let ends = at + app.work(&self.dice) * now.slowness;
            second.late += f64::from(u8::from(ends - came > app.objective));
            self.busy.push(Reverse(Ending { at: ends, came }));
        }
    }

    /// Adds up what has been in the replicas and in the queue since `since`.
    fn pass(&self, since: f64, at: f64, second: &mut Second) {
        let span = (at - since).max(0.0);
        second.busy += self.busy.len() as f64 * span;
        second.concurrency += (self.busy.len() + self.queue.len()) as f64 * span;
    }
}

impl Plant for Requests {
    fn second(&mut self, app: &App, now: Conditions) -> Second {
        let (begin, end) = (self.at, self.at + 1.0);
        let arrivals = self.dice.poisson(now.rate);
        let mut second = Second { arrivals, ..Second::default() };
        let mut coming: Vec<f64> = (0..arrivals as u64).map(|_| begin + self.dice.unit()).collect();
        coming.sort_unstable_by(f64::total_cmp);
        let (mut coming, mut since) = (coming.into_iter().peekable(), begin);
        self.start(app, now, begin, &mut second);
        loop {
            let ending = self.busy.peek().map_or(f64::INFINITY, |ending| ending.0.at);
            let next = coming.peek().copied().unwrap_or(f64::INFINITY);
            let at = ending.min(next);
            if at >= end {
                break;
            }
            self.pass(since, at, &mut second);
            since = at;
            if ending <= next {
                if let Some(Reverse(done)) = self.busy.pop() {
                    second.completed += 1.0;
                    if now.latency {
                        second.latency.record(((done.at - done.came) * 1e9) as u64);
                    }
                }
            } else {
                coming.next();
                self.queue.push_back(at);
                let waits = self.queue.len() > 1 || self.busy.len() as f64 >= now.replicas * f64::from(app.slots);
                second.held += f64::from(u8::from(waits));
            }
            self.start(app, now, at, &mut second);
        }
        self.pass(since, end, &mut second);
        while self.queue.front().is_some_and(|came| end - came > PATIENCE) {
            self.queue.pop_front();
            second.rejected += 1.0;
        }
        second.queue = self.queue.len() as f64;
        self.at = end;
        second
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::fluid::Fluid;

    /// Late, rejected and mean concurrency of `seconds` at a rate.
    fn live(plant: &mut dyn Plant, app: &App, load: f64, replicas: f64, seconds: u32) -> (f64, f64) {
        let rate = load * replicas * app.throughput();
        let (mut bad, mut all) = (0.0, 0.0);
        let mut concurrency = 0.0;
        for _ in 0..seconds {
            let now = Conditions { rate, replicas, slowness: 1.0, latency: false };
            let second = plant.second(app, now);
            bad += second.late + second.rejected;
            all += second.arrivals;
            concurrency += second.concurrency;
        }
        (bad / all, concurrency / f64::from(seconds))
    }

    #[test]
    fn the_fluid_agrees_with_the_requests_within_a_tenth() {
        for (slots, replicas) in [(2, 3.0), (4, 10.0), (16, 4.0)] {
            let app = App::new(slots, 0.04, 0.5, 0.2);
            for load in [0.3, 0.6, 0.8, 1.3] {
                let exact = live(&mut Requests::new(Dice::new(1)), &app, load, replicas, 400);
                let fluid = live(&mut Fluid::new(Dice::new(2)), &app, load, replicas, 400);
                assert!((fluid.1 / exact.1 - 1.0).abs() < 0.1, "{slots} {replicas} {load}: {fluid:?} {exact:?}");
                // Of an overload the exact run still has some thousands in its queue at the end, not judged yet.
                let room = if load > 1.0 { 0.1 } else { 0.01 };
                assert!((fluid.0 - exact.0).abs() < room, "{slots} {replicas} {load}: {fluid:?} {exact:?}");
            }
        }
    }

    #[test]
    fn nobody_waits_for_ever_and_nothing_is_lost() {
        let app = App::new(2, 0.1, 0.3, 0.3);
        let mut plant = Requests::new(Dice::new(3));
        let (mut came, mut gone) = (0.0, 0.0);
        for second in 0..200 {
            let rate = if second < 100 { 60.0 } else { 0.0 };
            let second = plant.second(&app, Conditions { rate, replicas: 1.0, slowness: 1.0, latency: false });
            came += second.arrivals;
            gone += second.completed + second.rejected;
        }
        assert_eq!(came, gone);
    }
}
