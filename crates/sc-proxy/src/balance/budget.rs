//! The retry budget: retries are at most a fifth of the requests, and ten a second beside that, so that retrying never
//! doubles the load of a failing app.

use std::time::{Duration, Instant};

/// Retries earned by one request.
const PER_REQUEST: f64 = 0.2;
/// Retries earned in a second, in the whole proxy.
const PER_SECOND: f64 = 10.0;
/// How many can be saved up, and how many there are at first, in the whole proxy. A killed backend takes all its requests in
/// flight with it at once.
const SAVED: f64 = 1_000.0;

/// One thread's part of an app's retry budget.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    tokens: f64,
    share: f64,
    requests: u64,
    at: Instant,
}

impl Budget {
    /// The part of one of `threads` threads.
    pub fn new(threads: usize, now: Instant) -> Self {
        let share = 1.0 / threads.max(1) as f64;
        Self { tokens: SAVED * share, share, requests: 0, at: now }
    }

    /// Whether one more retry is within the budget; it is then spent. `requests`: how many came so far.
    pub fn spend(&mut self, requests: u64, now: Instant) -> bool {
        let passed: Duration = now.saturating_duration_since(self.at);
        let came = requests.saturating_sub(self.requests);
        (self.at, self.requests) = (now, requests);
        let earned = passed.as_secs_f64() * PER_SECOND * self.share + came as f64 * PER_REQUEST;
        self.tokens = (self.tokens + earned).min(SAVED * self.share);
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_fifth_of_the_requests_and_ten_a_second() {
        let start = Instant::now();
        let mut budget = Budget::new(1, start);
        let spent =
            |budget: &mut Budget, requests, now| (0..100_000).take_while(|_| budget.spend(requests, now)).count();
        assert_eq!(spent(&mut budget, 0, start), 1_000);
        assert!((19..=20).contains(&spent(&mut budget, 100, start)));
        assert!((29..=31).contains(&spent(&mut budget, 100, start + Duration::from_secs(3))));
        assert_eq!(spent(&mut budget, 100, start + Duration::from_secs(1_000_000)), 1_000);
    }
}
