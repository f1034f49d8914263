//! Whether the clock goes evenly. Timeouts are counted by the wall clock, since their beginnings stand in the store; when
//! that clock jumps ahead, nothing had more time because of it.

use std::time::Duration;

use sc_core::records::UnixMs;
use tokio::time::Instant;

/// The clock may be so far off the monotonic one before that is called a jump.
const SLACK: Duration = Duration::from_secs(1);

/// Compares the wall clock to the monotonic one.
#[derive(Debug, Default)]
pub struct Pace {
    /// Where both stood when they were last known to agree.
    anchor: Option<(UnixMs, Instant)>,
    /// What the wall clock showed after its latest jump; 0: there was none.
    jumped_ms: UnixMs,
}

impl Pace {
    /// Notes what both clocks show now. Gives the wall time since which the wall clock has gone evenly, as far as is
    /// known; no timeout may count from earlier. 0 before the first jump.
    pub fn even_since(&mut self, now_ms: UnixMs, now: Instant) -> UnixMs {
        let (then_ms, then) = *self.anchor.get_or_insert((now_ms, now));
        let passed = u64::try_from(now.saturating_duration_since(then).as_millis()).unwrap_or(u64::MAX);
        let off_ms = now_ms.abs_diff(then_ms.saturating_add(passed));
        if Duration::from_millis(off_ms) > SLACK {
            tracing::warn!(off_ms, "the clock jumped: timeouts begin anew");
            self.anchor = Some((now_ms, now));
            self.jumped_ms = now_ms;
        }
        self.jumped_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_told_from_a_long_wait() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let mut at = |wall_ms: u64, seconds: u64| pace.even_since(wall_ms, start + Duration::from_secs(seconds));
        assert_eq!(at(1_000_000, 0), 0);
        assert_eq!(at(1_600_400, 600), 0, "a pass that took long, and a clock that is being slewed");
        assert_eq!(at(1_622_000, 602), 1_622_000, "20 s ahead");
        assert_eq!(at(1_642_000, 622), 1_622_000);
        assert_eq!(at(1_623_000, 623), 1_623_000, "and back");
    }
}
