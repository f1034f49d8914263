//! React (Chieu et al. 2009): compares the demand, in replicas, with the supply. It is told the true capacity.

use super::{Mean, Scaler, Seen};

/// The rule and its state.
#[derive(Debug, Clone)]
pub struct React {
    /// Requests per second that a replica is loaded with.
    per_replica: f64,
    max: u32,
    rate: Mean,
}

/// Seconds between two decisions.
const EVERY: u64 = 10;

impl React {
    /// Loads replicas with this rate.
    pub fn new(per_replica: f64, max: u32) -> Self {
        Self { per_replica, max, rate: Mean::new(EVERY as usize) }
    }
}

impl Scaler for React {
    fn step(&mut self, seen: &Seen) -> u32 {
        if !seen.blind {
            self.rate.push(seen.arrivals);
        }
        if !seen.at.is_multiple_of(EVERY) {
            return seen.want;
        }
        let (demand, supply) = (self.rate.get() / self.per_replica, f64::from(seen.want));
        let want = if demand > supply {
            supply + (1.2 * (demand - supply)).floor().max(1.0)
        } else if 1.1 * demand < supply {
            (1.2 * demand).ceil().min(supply)
        } else {
            supply
        };
        (want as u32).clamp(1, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::super::seen;
    use super::*;

    #[test]
    fn a_fifth_more_than_is_missing_and_a_fifth_of_room_on_the_way_down() {
        assert_eq!(React::new(10.0, 100).step(&Seen { arrivals: 200.0, ..seen(0, 10, 10) }), 22);
        assert_eq!(React::new(10.0, 100).step(&Seen { arrivals: 50.0, ..seen(0, 10, 10) }), 6);
        assert_eq!(React::new(10.0, 100).step(&Seen { arrivals: 95.0, ..seen(0, 10, 10) }), 10);
    }
}
