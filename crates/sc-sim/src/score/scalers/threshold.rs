//! Steps at two limits: one more above the upper, one less below the lower, then a rest. The course project's rule: 90 and 40 %.

use super::{Mean, Scaler, Seen};

/// The rule and its state.
#[derive(Debug, Clone)]
pub struct Threshold {
    upper: f64,
    lower: f64,
    max: u32,
    cpu: Mean,
    changed: Option<u64>,
}

/// Seconds over which the CPU is looked at, and between two steps.
const COOLDOWN: u64 = 60;

impl Threshold {
    /// One more above `upper`, one less below `lower`.
    pub fn new(upper: f64, lower: f64, max: u32) -> Self {
        Self { upper, lower, max, cpu: Mean::new(COOLDOWN as usize), changed: None }
    }
}

impl Scaler for Threshold {
    fn step(&mut self, seen: &Seen) -> u32 {
        if !seen.blind {
            self.cpu.push(seen.cpu);
        }
        if self.changed.is_some_and(|at| seen.at - at < COOLDOWN) || !self.cpu.full() {
            return seen.want;
        }
        let cpu = self.cpu.get();
        let want = match () {
            () if cpu > self.upper => seen.want + 1,
            () if cpu < self.lower => seen.want.saturating_sub(1),
            () => return seen.want,
        };
        self.changed = Some(seen.at);
        want.clamp(1, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::super::seen;
    use super::*;

    #[test]
    fn a_step_a_minute() {
        let mut rule = Threshold::new(0.9, 0.4, 5);
        let mut want = 1;
        let mut counts = Vec::new();
        for at in 0..300 {
            want = rule.step(&Seen { cpu: 1.0, ..seen(at, want, want) });
            if at % 60 == 59 {
                counts.push(want);
            }
        }
        assert_eq!(counts, [2, 3, 4, 5, 5]);
    }
}
