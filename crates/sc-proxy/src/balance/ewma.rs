//! How long a backend's answers take of late: a peak-sensitive, exponentially weighted mean.
//!
//! A slower answer counts at once, a faster one by the time that has passed (as Finagle's and linkerd's "peak EWMA" do):
//! a backend that stalls is left in one answer and comes back within some ten seconds. It forgets also while nothing
//! comes, so that one that was slow is tried again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// In so many milliseconds the mean forgets all but 1/e of what was.
const MEMORY_MS: f32 = 10_000.0;
/// Shorter times count as this one, in µs: differences below are the machine's noise and no reason to leave a backend.
const FLOOR: f32 = 5_000.0;

/// The mean, shared by all threads. Two that store at once lose one answer's time, which a mean can bear.
#[derive(Debug, Default)]
pub struct Ewma {
    /// The mean in µs as `f32` (0: nothing is known yet) above the millisecond of its last change.
    packed: AtomicU64,
}

impl Ewma {
    /// An answer took so many microseconds. `now`: milliseconds since any time zero, the same in all calls.
    pub fn record(&self, micros: u64, now: u64) {
        let (mean, at) = self.load();
        if mean > 0.0 && mean.max(micros as f32) <= FLOOR {
            return; // as before, for all that is told of it
        }
        let passed = since(at, now);
        let next = next(mean, passed, micros as f32);
        if next != mean || passed > 0 {
            let next = (u64::from(next.to_bits()) << 32) | (now & u64::from(u32::MAX));
            self.packed.store(next, Relaxed);
        }
    }

    /// The mean in microseconds, never below the floor; none: no answer yet.
    pub fn micros(&self, now: u64) -> Option<u32> {
        let (mean, at) = self.load();
        (mean > 0.0).then(|| if mean <= FLOOR { FLOOR } else { (mean * kept(since(at, now))).max(FLOOR) } as u32)
    }

    fn load(&self) -> (f32, u32) {
        let packed = self.packed.load(Relaxed);
        (f32::from_bits((packed >> 32) as u32), packed as u32)
    }
}

fn next(mean: f32, passed: u32, sample: f32) -> f32 {
    let sample = sample.max(1.0);
    if mean <= 0.0 || sample >= mean {
        return sample;
    }
    let kept = kept(passed);
    mean * kept + sample * (1.0 - kept)
}

/// The share of a mean that is left after so many milliseconds.
fn kept(passed: u32) -> f32 {
    (-(passed as f32) / MEMORY_MS).exp()
}

/// The clocks of two threads may be read in the other order: that is no time. The count of milliseconds wraps in 49 days.
fn since(at: u32, now: u64) -> u32 {
    let passed = (now as u32).wrapping_sub(at);
    if passed > u32::MAX / 2 { 0 } else { passed }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_with_time() {
        let ewma = Ewma::default();
        assert_eq!(ewma.micros(0), None);
        ewma.record(10_000, 0);
        ewma.record(100_000, 1);
        assert_eq!(ewma.micros(1), Some(100_000));
        ewma.record(10_000, 1);
        assert_eq!(ewma.micros(1), Some(100_000), "no time has passed");
        ewma.record(10_000, 10_001);
        assert!((42_000..44_000).contains(&ewma.micros(10_001).unwrap()), "{:?}", ewma.micros(10_001));
        assert_eq!(ewma.micros(1_000_000), Some(FLOOR as u32));
    }

    proptest! {
        #[test]
        fn it_stays_between_the_shortest_and_the_longest(times in proptest::collection::vec((1u64..1_000_000, 0u64..20_000), 1..50)) {
            let (ewma, mut now) = (Ewma::default(), u64::from(u32::MAX) - 50_000);
            for (micros, later) in &times {
                now += later;
                ewma.record(*micros, now);
            }
            let mean = ewma.micros(now).unwrap();
            let (least, most) = (times.iter().map(|t| t.0).min().unwrap(), times.iter().map(|t| t.0).max().unwrap());
            prop_assert!(u64::from(mean) + 1 >= least && u64::from(mean) <= most.max(FLOOR as u64));
        }
    }
}
