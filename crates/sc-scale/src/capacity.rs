//! What one replica can take, learned from live traffic.
//!
//! No target is given, so the knee is looked for: the load per replica (requests answered per second) beyond which
//! the time to answer, waiting included, is more than twice what it is at low load. Every second of traffic is one
//! observation "at this load it was good" or "… bad", counted in logarithmic bins of load; the capacity is the load
//! that separates the two with the fewest contradictions. A slow minute at a load known to be good changes nothing;
//! an app that really became slower is believed within minutes, and acted upon at once (see [`Reading::over`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::window::{Sample, Window};

/// Latency above this multiple of the low-load latency is over the knee: in most queueing models the load there is
/// 50–95 % of the most that is possible, and beyond it latency grows without doing more work.
pub const KNEE: f64 = 2.0;

/// The share of the learned capacity to aim at: the rest is for bursts within a second and uneven balancing.
pub const AIM: f64 = 0.8;

/// Requests being served or waiting per replica below which it cannot be overloaded, however slow it is.
const BUSY: f64 = 1.2;

/// Arrivals above this multiple of the answers: requests pile up.
pub const PILING_UP: f64 = 1.1;

/// Answers that a reading must rest upon.
const ANSWERS_MIN: f64 = 5.0;

/// Bins per doubling of load: 9 % wide.
const BINS: f64 = 8.0;

/// Seconds of observations a bin remembers: new ones outweigh old ones within some minutes of being there again.
const BIN_SECONDS: f64 = 300.0;

/// A bad second counts for this many good ones: few are ever seen, since they are ended by a rise at once.
const BAD_WEIGHT: f64 = 5.0;

/// Weight of the bad seconds beyond the knee from which it is believed: two of them.
const SURE: f64 = 2.0 * BAD_WEIGHT;

/// What was learned of one version's replicas.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capacity {
    /// The version it was learned from.
    pub version: u64,
    /// Seconds to answer at low load.
    pub low_load_seconds: Option<f64>,
    /// Load bin → seconds observed there.
    pub bins: BTreeMap<i16, Bin>,
    /// Readings over the knee in a row.
    pub over: u32,
    /// The last sample learned from, Unix ms.
    pub learned_ms: u64,
}

/// Seconds observed at one load per replica, weighted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// At or below the knee.
    pub good: f64,
    /// Over it.
    pub bad: f64,
}

/// The recent past in four numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Requests per second coming in.
    pub arrivals: f64,
    /// Answers per second, all replicas together.
    pub throughput: f64,
    /// Seconds from arrival to the response head, waiting included; none: nothing was answered.
    pub seconds: Option<f64>,
    /// Requests being served or waiting (streams left out).
    pub inside: f64,
    /// Ready replicas, mean.
    pub ready: f64,
}

impl Reading {
    /// Reads the last `seconds` before `at_ms`. None without data or without a ready replica.
    pub fn take(window: &Window, at_ms: u64, seconds: u64) -> Option<Self> {
        let mean = |value: fn(&Sample) -> f64| window.mean(at_ms, seconds, |s| Some(value(s)));
        let ready = mean(|s| f64::from(s.ready)).filter(|ready| *ready > 0.0)?;
        let inside = mean(|s| (s.in_flight - s.streams).max(0.0) + s.held)?;
        Some(Self {
            arrivals: mean(|s| s.arrivals)?,
            throughput: mean(Sample::completed)?,
            seconds: answer_seconds(window, at_ms, seconds),
            inside,
            ready,
        })
    }

    /// Whether the replicas are over the knee: enough requests are inside to make waiting possible, and answers take
    /// more than [`KNEE`] times `low_load` seconds.
    pub fn over(&self, low_load: f64) -> bool {
        self.inside > BUSY * self.ready && self.seconds.is_some_and(|seconds| seconds > KNEE * low_load)
    }

    /// Requests waiting somewhere beyond those that low-load service would have inside (Little's law).
    pub fn backlog(&self, low_load: f64) -> f64 {
        (self.inside - self.throughput * low_load).max(0.0)
    }
}

/// Mean seconds to the response head plus mean seconds of waiting in the proxy, by what was counted.
fn answer_seconds(window: &Window, at_ms: u64, seconds: u64) -> Option<f64> {
    let (mut answered, mut served, mut arrived, mut waited) = (0u64, 0.0, 0.0, 0.0);
    for sample in window.last(at_ms, seconds) {
        answered += sample.latency.count();
        served += sample.latency.sum_seconds;
        arrived += sample.arrivals;
        waited += sample.queue.sum_seconds;
    }
    let queue = waited / f64::max(arrived, answered as f64).max(1.0);
    (answered > 0).then(|| served / answered as f64 + queue)
}

impl Capacity {
    /// Requests per second one replica takes before its latency doubles; none until it was seen at both sides of that.
    pub fn rps(&self) -> Option<f64> {
        let bad: f64 = self.bins.values().map(|bin| bin.bad).sum();
        // Walk the border upwards: what lies below it should be good, what lies above it bad.
        let (mut cost, mut bad_above) = (self.bins.values().map(|bin| bin.good).sum::<f64>(), bad);
        let (mut best, mut border, mut sure) = (cost, self.bins.keys().next().copied()?, bad_above);
        for (bin, seen) in &self.bins {
            cost += seen.bad - seen.good;
            bad_above -= seen.bad;
            if cost <= best {
                (best, border, sure) = (cost, bin + 1, bad_above);
            }
        }
        (sure >= SURE - 0.1 * BAD_WEIGHT).then(|| load_of(border))
    }

    /// Learns from the samples that are new since last time, and forgets most when another version serves.
    pub(crate) fn learn(&mut self, window: &Window, at_ms: u64, version: u64) {
        if self.version != version {
            self.begin(version);
        }
        let from = self.learned_ms.max(at_ms.saturating_sub(10_000));
        let fresh = window.last(at_ms, 10).filter(|s| s.at_ms > from).map(|s| s.at_ms);
        let mut fresh: Vec<u64> = fresh.collect();
        fresh.reverse();
        for at in fresh {
            self.learn_second(window, at);
            self.learned_ms = at;
        }
        self.learned_ms = self.learned_ms.min(at_ms); // A clock that went back must not stop the learning.
    }

    /// A new version starts with a tenth of its parent's evidence: a first guess that its own soon outweighs.
    fn begin(&mut self, version: u64) {
        if self.version != 0 {
            for bin in self.bins.values_mut() {
                (bin.good, bin.bad) = (bin.good / 10.0, bin.bad / 10.0);
            }
        }
        (self.version, self.over) = (version, 0);
    }

    fn learn_second(&mut self, window: &Window, at: u64) {
        let steady = {
            let mut ready = window.last(at, 2).map(|s| s.ready);
            let first = ready.next().unwrap_or(0);
            first > 0 && ready.all(|r| r == first)
        };
        let Some(reading) = Reading::take(window, at, 2).filter(|r| r.throughput * 2.0 >= ANSWERS_MIN) else {
            self.over = 0;
            return;
        };
        let Some(seconds) = reading.seconds else { return };
        let low_load = self.low_load(seconds, &reading);
        let over = reading.over(low_load);
        self.over = if over { self.over.saturating_add(1) } else { 0 };
        let load = reading.throughput / reading.ready;
        if steady && (!over || self.load_is_why(load, &reading)) {
            self.observe(load, over);
        }
    }

    /// Whether slow answers come from the load: more comes in than goes out, or it is more than was ever found good.
    /// At a load known to be good they come from elsewhere (a database, a neighbour), and say nothing of the capacity.
    fn load_is_why(&self, load: f64, reading: &Reading) -> bool {
        let good = self.bins.iter().rev().find(|(_, bin)| bin.good > bin.bad);
        reading.arrivals > PILING_UP * reading.throughput || good.is_none_or(|(bin, _)| load >= load_of(*bin))
    }

    /// Follows the latency at low load: down at once by half, up slowly, and only while it cannot be from overload.
    fn low_load(&mut self, seconds: f64, reading: &Reading) -> f64 {
        let old = self.low_load_seconds.unwrap_or(seconds);
        let share = match seconds < old {
            true => 0.5,
            false if reading.inside <= 0.8 * reading.ready => 0.05,
            false if !reading.over(old) => 1.0 / 600.0,
            false => 0.0,
        };
        let new = (old + share * (seconds - old)).max(1e-6);
        self.low_load_seconds = Some(new);
        new
    }

    /// A step down to this load per replica had to be taken back at once: that weighs more than all the good seconds
    /// there (a queue can take minutes to build up at a load just over the most that is possible).
    pub(crate) fn regret(&mut self, load: f64) {
        let Some(border) = bin_of(load) else { return };
        self.bins.entry(border).or_default();
        for bin in self.bins.range_mut(border..).map(|(_, bin)| bin) {
            bin.bad = bin.bad.max(bin.good) + SURE;
        }
    }

    fn observe(&mut self, load: f64, over: bool) {
        let Some(bin) = bin_of(load) else { return };
        let bin = self.bins.entry(bin).or_default();
        let keep = 1.0 - 1.0 / BIN_SECONDS;
        (bin.good, bin.bad) = (bin.good * keep, bin.bad * keep);
        match over {
            true => bin.bad += BAD_WEIGHT,
            false => bin.good += 1.0,
        }
    }
}

/// The bin of a load per replica; none for none.
fn bin_of(load: f64) -> Option<i16> {
    // From one request in 17 minutes to a million a second: at most 240 bins.
    (load > 0.0).then(|| (libm::log2(load.clamp(1e-3, 1e6)) * BINS).floor() as i16)
}

/// The least load that falls in a bin.
fn load_of(bin: i16) -> f64 {
    libm::exp2(f64::from(bin) / BINS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(observations: &[(f64, bool, u32)]) -> Option<f64> {
        let mut capacity = Capacity::default();
        for (load, over, times) in observations {
            (0..*times).for_each(|_| capacity.observe(*load, *over));
        }
        capacity.rps()
    }

    #[test]
    fn good_alone_is_a_lower_bound_only() {
        assert_eq!(learned(&[(50.0, false, 100)]), None);
    }

    #[test]
    fn the_border_lies_between_good_and_bad() {
        let rps = learned(&[(50.0, false, 60), (70.0, false, 20), (80.0, true, 10)]).unwrap();
        assert!(rps > 70.0 && rps <= 80.0, "{rps}");
    }

    #[test]
    fn a_slow_spell_at_a_load_known_to_be_good_changes_nothing() {
        let before = learned(&[(70.0, false, 200), (80.0, true, 10)]);
        assert_eq!(learned(&[(70.0, false, 200), (80.0, true, 10), (60.0, true, 8)]), before);
    }

    #[test]
    fn an_app_that_became_slower_is_believed() {
        let rps = learned(&[(70.0, false, 200), (80.0, true, 10), (40.0, true, 60)]).unwrap();
        assert!(rps <= 40.0, "{rps}");
    }

    #[test]
    fn bins_hold_what_they_say() {
        for load in [0.003, 0.7, 1.0, 50.0, 123_456.0] {
            let bin = bin_of(load).unwrap();
            assert!(load_of(bin) <= load * 1.000_001 && load < load_of(bin + 1), "{load}");
        }
    }
}
