//! What became of the requests.

use std::sync::{Mutex, MutexGuard, PoisonError};

use sc_core::stats::Histogram;

/// Every request is counted once: as answered or as failed.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Counts>);

/// The counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// Requests that were due.
    pub requests: u64,
    /// Of these: answered well.
    pub answered: u64,
    /// Of these: not.
    pub failed: u64,
    /// Time from when they were due to the end of the answer.
    pub latency: Histogram,
    /// Why they failed: the first few.
    pub failures: Vec<String>,
}

/// Reasons kept.
const REASONS: usize = 5;

impl Tally {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One was due.
    pub fn due(&self) {
        self.lock().requests += 1;
    }

    /// One was answered, or failed.
    pub fn done(&self, outcome: Result<std::time::Duration, String>) {
        let mut counts = self.lock();
        match outcome {
            Ok(took) => {
                counts.answered += 1;
                counts.latency.record(took.as_nanos().try_into().unwrap_or(u64::MAX));
            }
            Err(why) => {
                counts.failed += 1;
                if counts.failures.len() < REASONS && !counts.failures.contains(&why) {
                    counts.failures.push(why);
                }
            }
        }
    }

    /// The counts now.
    pub fn now(&self) -> Counts {
        self.lock().clone()
    }

    /// Those that nobody will hear of any more have failed.
    pub fn close(&self) {
        let mut counts = self.lock();
        let lost = counts.requests - counts.answered - counts.failed;
        if lost > 0 {
            counts.failed += lost;
            counts.failures.push(format!("{lost} were not answered in time"));
        }
    }

    /// Why requests failed.
    pub fn failures(&self) -> String {
        self.lock().failures.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_counted_once() {
        let tally = Tally::default();
        (0..4).for_each(|_| tally.due());
        tally.done(Ok(std::time::Duration::from_millis(5)));
        tally.done(Err("503".to_owned()));
        tally.close();
        let counts = tally.now();
        assert_eq!((counts.requests, counts.answered, counts.failed), (4, 1, 3));
        assert!(tally.failures().contains("2 were not answered"), "{}", tally.failures());
    }
}
