//! Nomad autoscaler's `target-value` strategy, evaluated every 10 s, with its default cooldown of 5 minutes.

use super::{Mean, Scaler, Seen};

/// The rule and its state.
#[derive(Debug, Clone)]
pub struct Nomad {
    /// CPU use to aim at, 0–1.
    target: f64,
    max: u32,
    cpu: Mean,
    changed: Option<u64>,
}

/// Seconds between two evaluations.
const EVERY: u64 = 10;
/// Seconds after a change without another.
const COOLDOWN: u64 = 300;
/// No change within this part of the target.
const THRESHOLD: f64 = 0.01;

impl Nomad {
    /// Aims at this use of CPU.
    pub fn new(target: f64, max: u32) -> Self {
        Self { target, max, cpu: Mean::new(EVERY as usize), changed: None }
    }
}

impl Scaler for Nomad {
    fn step(&mut self, seen: &Seen) -> u32 {
        if !seen.blind {
            self.cpu.push(seen.cpu);
        }
        let cooling = self.changed.is_some_and(|at| seen.at - at < COOLDOWN);
        let factor = self.cpu.get() / self.target;
        if !seen.at.is_multiple_of(EVERY) || cooling || (factor - 1.0).abs() <= THRESHOLD {
            return seen.want;
        }
        let want = ((f64::from(seen.ready.max(1)) * factor).ceil() as u32).clamp(1, self.max);
        if want != seen.want {
            self.changed = Some(seen.at);
        }
        want
    }
}

#[cfg(test)]
mod tests {
    use super::super::seen;
    use super::*;

    #[test]
    fn by_the_ratio_and_then_not_for_five_minutes() {
        let mut nomad = Nomad::new(0.5, 100);
        assert_eq!(nomad.step(&Seen { cpu: 0.8, ..seen(10, 5, 5) }), 8);
        assert_eq!(nomad.step(&Seen { cpu: 1.0, ..seen(300, 8, 8) }), 8);
        for at in 301..310 {
            nomad.step(&Seen { cpu: 1.0, ..seen(at, 8, 8) });
        }
        assert_eq!(nomad.step(&Seen { cpu: 1.0, ..seen(310, 8, 8) }), 16);
    }
}
