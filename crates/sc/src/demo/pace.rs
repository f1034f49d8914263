//! How the load rises and falls.

use std::time::Duration;

/// Requests one replica of the demo serves at once.
pub(super) const SLOTS: u32 = 4;
/// Milliseconds each request waits in its slot.
pub(super) const WAIT_MS: u64 = 80;
/// The side of the matrices: little work, so that the demo is light on a busy machine.
pub(super) const SIDE: u32 = 24;
/// Requests per second that one replica can take: 4 slots, 80 ms each.
pub(super) const ONE_REPLICA: f64 = 1_000.0 / WAIT_MS as f64 * SLOTS as f64;
/// One rise and fall, where no length is given.
const ROUND: Duration = Duration::from_secs(60);

/// Points of one round: share of its time, load as a multiple of what one replica can take.
const SHAPE: [(f64, f64); 7] = [(0.0, 0.4), (0.15, 0.4), (0.3, 2.8), (0.5, 2.8), (0.58, 1.2), (0.65, 0.3), (1.0, 0.3)];

/// The load over time: rounds of rising and falling.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    round: Duration,
}

impl Pace {
    /// One round in a demo of a given length, as long as it is not too long.
    pub fn new(length: Option<Duration>) -> Self {
        let length = length.unwrap_or(ROUND);
        let rounds = (length.as_secs_f64() / (2.0 * ROUND.as_secs_f64())).ceil().max(1.0);
        Self { round: length.div_f64(rounds) }
    }

    /// Requests per second, so long after the beginning.
    pub fn rps(&self, since: Duration) -> f64 {
        let at = (since.as_secs_f64() / self.round.as_secs_f64()).fract();
        let pair = SHAPE.windows(2).find(|pair| at < pair[1].0).unwrap_or(&SHAPE[SHAPE.len() - 2..]);
        let ((from, low), (to, high)) = (pair[0], pair[1]);
        ONE_REPLICA * (low + (high - low) * ((at - from) / (to - from)).clamp(0.0, 1.0))
    }

    /// How long the load must stay low before a replica goes: a tenth of a round.
    pub fn hold_down_ms(&self) -> u64 {
        ((self.round.as_millis() / 10) as u64).clamp(1_000, 8_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_above_one_replica_and_falls_below() {
        let pace = Pace::new(Some(Duration::from_secs(60)));
        let at = |s| pace.rps(Duration::from_secs(s)) / ONE_REPLICA;
        assert!(at(0) < 0.5 && at(8) < 0.5);
        assert!(at(20) > 2.0 && at(29) > 2.0);
        assert!(at(45) < 0.5 && at(59) < 0.5);
        assert!((0..600).all(|s| at(s) > 0.0), "rounds without end");
        assert_eq!(Pace::new(None).round, ROUND);
        assert_eq!(Pace::new(Some(4 * ROUND)).round, 2 * ROUND);
    }
}
