//! Kubernetes' horizontal pod autoscaler v2 (`pkg/controller/podautoscaler`) with its default behaviour.

use std::collections::VecDeque;

use super::{Mean, Scaler, Seen};

/// The rule and its state.
#[derive(Debug, Clone)]
pub struct Hpa {
    /// CPU use to aim at, 0–1.
    target: f64,
    max: u32,
    cpu: Mean,
    /// What was recommended, with its second, for the stabilisation on the way down.
    recommended: VecDeque<(u64, u32)>,
    /// Wanted counts of the last 15 s, for the limit on the way up.
    before: VecDeque<(u64, u32)>,
}

/// Seconds between two decisions (`--horizontal-pod-autoscaler-sync-period`).
const SYNC: u64 = 15;
/// Seconds of the metrics' window (metrics-server).
const WINDOW: usize = 30;
/// No change within this part of the target.
const TOLERANCE: f64 = 0.1;
/// Seconds whose largest recommendation holds on the way down.
const STABILISATION: u64 = 300;

impl Hpa {
    /// Aims at this use of CPU.
    pub fn new(target: f64, max: u32) -> Self {
        Self { target, max, cpu: Mean::new(WINDOW), recommended: VecDeque::new(), before: VecDeque::new() }
    }

    fn recommendation(&self, seen: &Seen) -> u32 {
        let ready = f64::from(seen.ready.max(1));
        let ratio = self.cpu.get() / self.target;
        if (1.0 - ratio).abs() <= TOLERANCE {
            return seen.want;
        }
        if ratio < 1.0 {
            return (ratio * ready).ceil() as u32;
        }
        // Replicas that are not ready count as using nothing on the way up, and must not turn it round.
        let all = f64::from(seen.want.max(seen.ready).max(1));
        let diluted = ratio * ready / all;
        if diluted < 1.0 || (1.0 - diluted).abs() <= TOLERANCE { seen.want } else { (diluted * all).ceil() as u32 }
    }
}

impl Scaler for Hpa {
    fn step(&mut self, seen: &Seen) -> u32 {
        if !seen.blind {
            self.cpu.push(seen.cpu);
        }
        if !seen.at.is_multiple_of(SYNC) {
            return seen.want;
        }
        let now = self.recommendation(seen);
        self.recommended.push_back((seen.at, now));
        self.recommended.retain(|(at, _)| seen.at - at < STABILISATION);
        let stable = self.recommended.iter().map(|(_, n)| *n).max().unwrap_or(now);
        let want = if now >= seen.want { now } else { stable.min(seen.want) };
        let start = self.before.front().map_or(seen.want, |(_, n)| *n);
        let want = want.min((start + 4).max(start.saturating_mul(2))).clamp(1, self.max);
        self.before.push_back((seen.at, want));
        self.before.retain(|(at, _)| seen.at - at < SYNC);
        want
    }
}

#[cfg(test)]
mod tests {
    use super::super::seen;
    use super::*;

    #[test]
    fn up_by_the_ratio_in_steps_and_down_after_five_minutes() {
        let mut hpa = Hpa::new(0.5, 100);
        let mut want = 4;
        want = hpa.step(&Seen { cpu: 0.75, ..seen(0, want, 4) });
        assert_eq!(want, 6, "ceil(4 × 1.5)");
        let mut hpa = Hpa::new(0.05, 100);
        assert_eq!(hpa.step(&Seen { cpu: 1.0, ..seen(0, 2, 2) }), 6, "at most 4 more, or twice");
        let mut hpa = Hpa::new(0.5, 100);
        assert_eq!(hpa.step(&Seen { cpu: 0.54, ..seen(0, 4, 4) }), 4, "within the tolerance");
        let mut hpa = Hpa::new(0.5, 100);
        let mut want = 10;
        for at in 0..=330 {
            let cpu = if at == 0 { 0.5 } else { 0.1 };
            want = hpa.step(&Seen { cpu, ..seen(at, want, want) });
            assert!(at >= 290 || want == 10, "{at}: {want}");
        }
        assert!(want < 10);
    }
}
