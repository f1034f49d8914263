//! Knative's pod autoscaler (knative/serving, `pkg/autoscaler/scaling/autoscaler.go`): concurrency over a stable and a panic
//! window, decided every 2 s.

use super::{Mean, Scaler, Seen};

/// The rule and its state.
#[derive(Debug, Clone)]
pub struct Kpa {
    /// Concurrency that a replica shall have, as a share of its slots (default 0.7).
    target: f64,
    max: u32,
    stable: Mean,
    panic: Mean,
    /// The last second in which the panic threshold was exceeded, while in panic.
    panicking: Option<u64>,
    most: u32,
}

/// Seconds between two decisions.
const TICK: u64 = 2;
/// Seconds that a panic lasts beyond its cause: the stable window.
const STABLE: u64 = 60;

impl Kpa {
    /// Aims at this share of the slots.
    pub fn new(target: f64, max: u32) -> Self {
        Self { target, max, stable: Mean::new(60), panic: Mean::new(6), panicking: None, most: 0 }
    }
}

impl Scaler for Kpa {
    fn step(&mut self, seen: &Seen) -> u32 {
        if !seen.blind {
            self.stable.push(seen.concurrency);
            self.panic.push(seen.concurrency);
        }
        if !seen.at.is_multiple_of(TICK) {
            return seen.want;
        }
        let target = (self.target * f64::from(seen.slots)).max(1e-9);
        let ready = f64::from(seen.ready.max(1));
        let bounded = |wanted: f64| wanted.ceil().clamp((ready / 2.0).floor(), (1_000.0 * ready).ceil());
        let (stable, panic) = (bounded(self.stable.get() / target), bounded(self.panic.get() / target));
        if (self.panic.get() / target).ceil() / ready >= 2.0 {
            self.panicking = Some(seen.at);
        } else if self.panicking.is_some_and(|since| seen.at - since > STABLE) {
            (self.panicking, self.most) = (None, 0);
        }
        let want = if self.panicking.is_some() {
            self.most = self.most.max(stable.max(panic) as u32);
            self.most
        } else {
            stable as u32
        };
        want.clamp(1, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::super::seen;
    use super::*;

    #[test]
    fn it_follows_the_stable_window_and_panics_at_twice_what_it_can_take() {
        let mut kpa = Kpa::new(0.7, 100); // 7 a replica
        let mut want = 2;
        for at in 0..60 {
            want = kpa.step(&Seen { concurrency: 14.0, ..seen(at, want, 2) });
        }
        assert_eq!(want, 2);
        // 70 for six seconds: the panic window says 10 = 5 × ready.
        for at in 60..=66 {
            want = kpa.step(&Seen { concurrency: 70.0, ..seen(at, want, 2) });
        }
        assert_eq!(want, 10);
        // It does not go down while the panic lasts: 60 s after its cause.
        for at in 67..120 {
            want = kpa.step(&Seen { concurrency: 7.0, ..seen(at, want, 10) });
        }
        assert_eq!(want, 10);
        for at in 120..150 {
            want = kpa.step(&Seen { concurrency: 7.0, ..seen(at, want, 10) });
        }
        assert_eq!(want, 5, "at most to the half at once");
    }
}
