//! AWS target tracking: alarms over one-minute means; three above the target scale out, fifteen below nine tenths of it
//! scale in.

use super::{Mean, Scaler, Seen};

/// The rule and its state.
#[derive(Debug, Clone)]
pub struct Aws {
    /// CPU use to aim at, 0–1.
    target: f64,
    max: u32,
    minute: Mean,
    high: u32,
    low: u32,
}

/// Minutes above the target before it scales out.
const HIGH: u32 = 3;
/// Minutes below nine tenths of it before it scales in.
const LOW: u32 = 15;

impl Aws {
    /// Aims at this use of CPU.
    pub fn new(target: f64, max: u32) -> Self {
        Self { target, max, minute: Mean::new(60), high: 0, low: 0 }
    }
}

impl Scaler for Aws {
    fn step(&mut self, seen: &Seen) -> u32 {
        if !seen.blind {
            self.minute.push(seen.cpu);
        }
        if !(seen.at + 1).is_multiple_of(60) {
            return seen.want;
        }
        let metric = self.minute.get();
        self.high = if metric > self.target { self.high + 1 } else { 0 };
        self.low = if metric < 0.9 * self.target { self.low + 1 } else { 0 };
        let wanted = (f64::from(seen.ready.max(1)) * metric / self.target).ceil() as u32;
        let want = if self.high >= HIGH {
            self.high = 0;
            wanted.max(seen.want)
        } else if self.low >= LOW {
            self.low = 0;
            wanted.min(seen.want)
        } else {
            seen.want
        };
        want.clamp(1, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::super::seen;
    use super::*;

    #[test]
    fn out_after_three_minutes_in_after_fifteen() {
        let mut aws = Aws::new(0.5, 100);
        let mut want = 4;
        for at in 0..180 {
            assert_eq!(want, 4, "{at}");
            want = aws.step(&Seen { cpu: 1.0, ..seen(at, want, 4) });
        }
        assert_eq!(want, 8);
        for at in 180..1_079 {
            want = aws.step(&Seen { cpu: 0.25, ..seen(at, want, 8) });
            assert_eq!(want, 8, "{at}");
        }
        assert_eq!(aws.step(&Seen { cpu: 0.25, ..seen(1_079, want, 8) }), 4);
    }
}
