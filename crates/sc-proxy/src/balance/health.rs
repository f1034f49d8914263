//! Passive health: what the request path itself sees. Failures in a row eject a backend for a while; then one request
//! tries it; each further ejection lasts twice as long.

use std::time::Duration;

/// Failures in a row (no connection, no answer, a broken one) that eject a backend.
pub const FAILURES: u32 = 3;
/// How long the first ejection lasts.
pub const FIRST: Duration = Duration::from_millis(500);
/// How much later than other requests one that must not be sent twice may be the trial: it would fail with it.
pub const CAREFUL: Duration = Duration::from_secs(10);
/// How long one lasts at most.
pub const LONGEST: Duration = Duration::from_secs(60);

/// A backend's health. Times are milliseconds of one monotonic clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    failures: u32,
    ejections: u32,
    until: Option<u64>,
    trial: bool,
}

/// What may be sent to a backend now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Anything.
    Well,
    /// Nothing.
    Ejected,
    /// One request, to try it.
    Trial,
}

impl Health {
    /// What may be sent to it. `repeatable`: if it fails, the request can be sent to another.
    pub fn standing(&self, now: u64, repeatable: bool) -> Standing {
        let careful = if repeatable { 0 } else { CAREFUL.as_millis() as u64 };
        match self.until {
            None => Standing::Well,
            Some(until) if now < until + careful || self.trial => Standing::Ejected,
            Some(_) => Standing::Trial,
        }
    }

    /// It is passed over: ejected, or waiting for its trial to end.
    pub fn is_ejected(&self) -> bool {
        self.until.is_some()
    }

    /// Nothing is held against it.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    /// A trial request is on its way. False when another was first.
    pub fn begin_trial(&mut self, now: u64) -> bool {
        let free = self.standing(now, true) == Standing::Trial;
        self.trial |= free;
        free
    }

    /// The trial ended without saying anything (its client went away).
    pub fn abandon_trial(&mut self) {
        self.trial = false;
    }

    /// It answered.
    pub fn succeeded(&mut self) {
        let ejections = if self.until.is_some() { self.ejections } else { self.ejections.saturating_sub(1) };
        *self = Self { ejections, ..Self::default() };
    }

    /// It failed. `may_eject`: enough others are well. Gives the time of ejection if this ejects it.
    pub fn failed(&mut self, now: u64, may_eject: bool) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        let still_out = self.until.is_some_and(|until| now < until) && !self.trial;
        let again = self.until.is_some() && !still_out;
        self.trial = false;
        if still_out || (self.failures < FAILURES && !again) || !(may_eject || again) {
            return None;
        }
        let span = FIRST.saturating_mul(1 << self.ejections.min(16)).min(LONGEST);
        self.ejections = self.ejections.saturating_add(1);
        self.until = Some(now + span.as_millis() as u64);
        Some(span)
    }
}

/// Whether one more of `n` backends may be ejected: at most half are.
pub fn may_eject(n: usize, ejected: usize) -> bool {
    (ejected + 1) * 2 <= n
}

/// Whether so many are ejected that ejection says nothing any more: all are used.
pub fn panics(n: usize, ejected: usize) -> bool {
    ejected * 2 > n
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_story() {
        let mut health = Health::default();
        assert_eq!((health.failed(0, true), health.failed(0, true)), (None, None));
        health.succeeded();
        assert_eq!((health.failed(0, true), health.failed(0, true)), (None, None));
        assert_eq!(health.failed(0, true), Some(FIRST));
        assert_eq!((health.standing(499, true), health.standing(500, true)), (Standing::Ejected, Standing::Trial));
        assert_eq!(
            (health.standing(10_499, false), health.standing(10_500, false)),
            (Standing::Ejected, Standing::Trial)
        );
        assert!(health.begin_trial(500) && !health.begin_trial(500));
        assert_eq!(health.failed(510, false), Some(FIRST * 2));
        assert_eq!(health.standing(1_509, true), Standing::Ejected);
        assert!(health.begin_trial(1_510));
        health.abandon_trial();
        assert!(health.begin_trial(1_511));
        health.succeeded();
        assert_eq!(health.standing(1_511, true), Standing::Well);
        assert!(!health.is_clean(), "the next ejection is still a long one");
        health.succeeded();
        health.succeeded();
        assert!(health.is_clean());
    }

    #[test]
    fn late_failures_of_an_ejected_one_do_not_prolong_it() {
        let mut health = Health::default();
        (0..3).for_each(|_| _ = health.failed(0, true));
        assert_eq!(health.failed(10, true), None);
        assert_eq!(health.standing(500, true), Standing::Trial);
    }

    proptest! {
        #[test]
        fn at_most_half_are_ejected(n in 0usize..50) {
            let ejected = (0..).find(|ejected| !may_eject(n, *ejected)).unwrap();
            prop_assert!(ejected * 2 <= n && !panics(n, ejected));
        }

        #[test]
        fn no_ejection_is_longer_than_the_longest(steps in proptest::collection::vec((0u64..100_000, any::<bool>()), 0..200)) {
            let (mut health, mut now) = (Health::default(), 0);
            for (later, fails) in steps {
                now += later;
                health.begin_trial(now);
                if fails { health.failed(now, true); } else { health.succeeded(); }
                prop_assert_ne!(health.standing(now + LONGEST.as_millis() as u64, true), Standing::Ejected);
            }
        }
    }
}
