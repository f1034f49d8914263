//! What a minute of an app was like, in 64 bytes: so that a fortnight of them is small enough to keep for every app.

use sc_core::stats::Histogram;
use serde::{Deserialize, Serialize};

use crate::{Window, window::Sample};

/// Milliseconds of a minute.
pub const MINUTE_MS: u64 = 60_000;
/// How many are kept: 14 days.
pub const MINUTES: u64 = 14 * 24 * 60;
/// Bytes of one, as it is kept.
pub const BYTES: usize = 64;
/// The numbers of a [`Minute`], in the order in which they are kept.
const NUMBERS: usize = 14;
/// What a number is that is not known.
const NONE: f32 = -1.0;

/// A minute of an app: means per second, unless it says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Minute {
    /// Its begin, Unix ms.
    pub at_ms: u64,
    /// Seconds of it that were measured.
    pub seconds: u16,
    /// Requests that came in.
    pub arrivals: f32,
    /// Requests that came in in its busiest second.
    pub peak: f32,
    /// Answers.
    pub completed: f32,
    /// Answers of class 5xx and failures.
    pub failed: f32,
    /// Requests and streams at work.
    pub in_flight: f32,
    /// Requests waiting in the proxies, at most.
    pub held: f32,
    /// Open streams, at most.
    pub streams: f32,
    /// Seconds from sending to the answer's head, mean; none: nothing was answered.
    pub mean_seconds: Option<f32>,
    /// The same, 95th of a hundred.
    pub p95_seconds: Option<f32>,
    /// The same, 99th of a hundred.
    pub p99_seconds: Option<f32>,
    /// Replicas that were ready.
    pub ready: f32,
    /// Replicas wanted at its end.
    pub want: f32,
    /// CPUs in use by the ready ones together; none: not measured.
    pub cpu: Option<f32>,
    /// Bytes in use by them together; none: not measured.
    pub memory: Option<f32>,
}

impl Minute {
    /// The minute that ended at `end_ms` (or within it, the part that was measured). None: nothing was.
    pub fn of(window: &Window, end_ms: u64, want: u32) -> Option<Self> {
        let begin_ms = end_ms.saturating_sub(MINUTE_MS);
        let within = |sample: &&Sample| sample.at_ms > begin_ms && sample.at_ms <= end_ms;
        let samples: Vec<&Sample> = window.seconds.iter().rev().take(2 * 60).filter(within).collect();
        if samples.is_empty() {
            return None;
        }
        let mean = |value: fn(&Sample) -> f64| samples.iter().map(|s| value(s)).sum::<f64>() / samples.len() as f64;
        let most = |value: fn(&Sample) -> f64| samples.iter().map(|s| value(s)).fold(0.0, f64::max) as f32;
        let known = |value: fn(&Sample) -> Option<f64>| {
            let all: Vec<f64> = samples.iter().filter_map(|s| value(s)).collect();
            (!all.is_empty()).then(|| (all.iter().sum::<f64>() / all.len() as f64) as f32)
        };
        let mut latency = Histogram::default();
        samples.iter().for_each(|sample| latency.merge(&sample.latency));
        let answered = latency.count();
        Some(Self {
            at_ms: begin_ms,
            seconds: samples.len().min(60) as u16,
            arrivals: mean(|s| s.arrivals) as f32,
            peak: most(|s| s.arrivals),
            completed: mean(Sample::completed) as f32,
            failed: mean(|s| s.completions[4] + s.completions[5]) as f32,
            in_flight: mean(|s| s.in_flight) as f32,
            held: most(|s| s.held),
            streams: most(|s| s.streams),
            mean_seconds: (answered > 0).then(|| (latency.sum_seconds / answered as f64) as f32),
            p95_seconds: latency.quantile(0.95).map(|seconds| seconds as f32),
            p99_seconds: latency.quantile(0.99).map(|seconds| seconds as f32),
            ready: mean(|s| f64::from(s.ready)) as f32,
            want: want as f32,
            cpu: known(|s| s.cpu),
            memory: known(|s| s.memory),
        })
    }

    /// As it is kept: its number since 1970 (4 bytes), the seconds measured (2), the layout's version (2), 14 numbers; all
    /// with the lowest byte first.
    pub fn to_bytes(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..4].copy_from_slice(&((self.at_ms / MINUTE_MS) as u32).to_le_bytes());
        bytes[4..6].copy_from_slice(&self.seconds.to_le_bytes());
        bytes[6..8].copy_from_slice(&1u16.to_le_bytes());
        let or_none = |number: Option<f32>| number.unwrap_or(NONE);
        let numbers: [f32; NUMBERS] = [
            self.arrivals,
            self.peak,
            self.completed,
            self.failed,
            self.in_flight,
            self.held,
            self.streams,
            or_none(self.mean_seconds),
            or_none(self.p95_seconds),
            or_none(self.p99_seconds),
            self.ready,
            self.want,
            or_none(self.cpu),
            or_none(self.memory),
        ];
        for (place, number) in bytes[8..].chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// Reads one. None: it was never written, or another release wrote it.
    pub fn from_bytes(bytes: &[u8; BYTES]) -> Option<Self> {
        let word = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let (number, seconds) = (u32::from_le_bytes(word(0)), u16::from_le_bytes([bytes[4], bytes[5]]));
        if number == 0 || u16::from_le_bytes([bytes[6], bytes[7]]) != 1 {
            return None;
        }
        let all: Vec<f32> = (0..NUMBERS).map(|n| f32::from_le_bytes(word(8 + 4 * n))).collect();
        let known = |n: usize| Some(all[n]).filter(|number| *number >= 0.0);
        all.iter().all(|number| number.is_finite()).then(|| Self {
            at_ms: u64::from(number) * MINUTE_MS,
            seconds,
            arrivals: all[0],
            peak: all[1],
            completed: all[2],
            failed: all[3],
            in_flight: all[4],
            held: all[5],
            streams: all[6],
            mean_seconds: known(7),
            p95_seconds: known(8),
            p99_seconds: known(9),
            ready: all[10],
            want: all[11],
            cpu: known(12),
            memory: known(13),
        })
    }

    /// Where it is kept among [`MINUTES`]: in the place of the one a fortnight before.
    pub fn place(at_ms: u64) -> u64 {
        at_ms / MINUTE_MS % MINUTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute() -> Minute {
        let mut window = Window::default();
        for second in 1..=130u64 {
            let mut latency = Histogram::default();
            latency.record(second * 1_000_000);
            let completions = [0.0, 9.0, 0.0, 0.0, 1.0, 0.0];
            let (arrivals, held) = (second as f64, (second % 7) as f64);
            let at_ms = 3_600_000 + second * 1_000;
            window.push(Sample { at_ms, arrivals, completions, held, latency, ready: 2, ..Sample::default() });
        }
        Minute::of(&window, 3_600_000 + 120_000, 3).unwrap()
    }

    #[test]
    fn a_minute_is_what_its_seconds_were() {
        let minute = minute();
        assert_eq!((minute.at_ms, minute.seconds), (3_660_000, 60));
        assert_eq!((minute.arrivals, minute.peak, minute.completed, minute.failed), (90.5, 120.0, 10.0, 1.0));
        assert_eq!((minute.held, minute.ready, minute.want, minute.cpu), (6.0, 2.0, 3.0, None));
        assert!(minute.p95_seconds.is_some_and(|p95| (0.105..0.13).contains(&p95)), "{minute:?}");
        assert_eq!(Minute::of(&Window::default(), 60_000, 1), None);
    }

    #[test]
    fn it_is_kept_whole_and_a_fortnight_later_its_place_is_taken() {
        let minute = minute();
        assert_eq!(Minute::from_bytes(&minute.to_bytes()), Some(minute));
        assert_eq!(Minute::from_bytes(&[0; BYTES]), None);
        let mut newer = minute.to_bytes();
        newer[6] = 9;
        assert_eq!(Minute::from_bytes(&newer), None);
        let fortnight = MINUTES * MINUTE_MS;
        assert_eq!(Minute::place(minute.at_ms), Minute::place(minute.at_ms + fortnight));
        assert_ne!(Minute::place(minute.at_ms), Minute::place(minute.at_ms + fortnight - MINUTE_MS));
    }
}
