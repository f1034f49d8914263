//! Replacing a container that hands its listening sockets over: the new one starts beside the old one, takes the sockets
//! through the volume they share, and the old one finishes what runs (see `sc_proxy::upgrade`).
//!
//! ```text
//!  NAME serves                      made: NAME-next, not started
//!  NAME shall not be restarted      started: it takes over; NAME finishes and ends
//!  NAME is removed                  NAME-next is renamed to NAME
//! ```
//!
//! **By level.** Each round looks at what there is and takes one step, so a `sc up` that was interrupted anywhere is finished by
//! the next one. Until the old one has ended, a new one that fails is taken away, and the old one serves on.

use std::time::{Duration, Instant};

/// How long the old container may take to end: the proxy's 30 s for what runs, and some.
pub(super) const LIMIT: Duration = Duration::from_secs(45);
/// How often it is looked.
pub(super) const PERIOD: Duration = Duration::from_millis(100);

/// One of the two containers, as it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub running: bool,
    /// It is what would be made now.
    pub current: bool,
    /// Times Docker started it again.
    pub restarts: u64,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing is to be handed over.
    Done,
    /// Make the new one beside, and start it once the old one is not restarted any more.
    Begin,
    /// Look again.
    Wait,
    /// The new one is of no use: remove it, and let the old one be restarted again.
    GiveUp,
    /// The old one has ended: remove it.
    RemoveOld,
    /// The new one is the only one: it gets the name.
    Rename,
}

/// What to do about a container and the one that is to take its place. `since`: when the new one was started here.
pub(super) fn step(old: Option<Seen>, next: Option<Seen>, since: Option<Instant>, now: Instant) -> Step {
    let late = since.is_some_and(|since| now.saturating_duration_since(since) >= LIMIT);
    match (old, next) {
        (None, Some(_)) => Step::Rename,
        (None, None) => Step::Done,
        (Some(old), None) if old.running && !old.current => Step::Begin,
        (Some(_), None) => Step::Done,
        // It was made and never started, has failed, or Docker tries it again and again.
        (Some(_), Some(next)) if !next.running || next.restarts > 0 => Step::GiveUp,
        (Some(old), Some(_)) if !old.running || late => Step::RemoveOld,
        (Some(_), Some(_)) => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(running: bool, current: bool) -> Option<Seen> {
        Some(Seen { running, current, restarts: 0 })
    }

    #[test]
    fn each_state_has_its_next_step() {
        let now = Instant::now();
        let next = |old, next| step(old, next, Some(now), now);
        assert_eq!(next(seen(true, true), None), Step::Done);
        assert_eq!(next(seen(false, false), None), Step::Done, "nothing serves: it is replaced as any container");
        assert_eq!(next(seen(true, false), None), Step::Begin);
        assert_eq!(next(seen(true, false), seen(true, true)), Step::Wait);
        assert_eq!(next(seen(false, false), seen(true, true)), Step::RemoveOld);
        assert_eq!(next(None, seen(true, true)), Step::Rename);
        assert_eq!(next(None, seen(true, false)), Step::Rename, "it serves, whatever it was made from");
        assert_eq!(next(seen(true, false), seen(false, true)), Step::GiveUp);
        let restarted = Some(Seen { restarts: 1, ..seen(true, true).unwrap() });
        assert_eq!(next(seen(true, false), restarted), Step::GiveUp);
        let later = now + LIMIT;
        assert_eq!(step(seen(true, false), seen(true, true), Some(now), later), Step::RemoveOld, "it does not end");
        assert_eq!(
            step(seen(true, false), seen(true, true), None, later),
            Step::Wait,
            "the time begins when it is seen"
        );
    }
}
