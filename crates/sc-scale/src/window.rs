//! What was measured, second by second, and the means that decisions are made from.

use std::collections::VecDeque;

use sc_core::stats::Histogram;
use serde::{Deserialize, Serialize};

/// Seconds kept.
pub const SECONDS: usize = 900;

/// Data older than this (ms) is stale: it may hold or raise the count, never lower it.
pub const STALE_MS: u64 = 5_000;

/// Seconds without a sample of what the replicas use after which that is not known: as many as the mean that is taken of it.
const UNMEASURED: u64 = 10;

/// One second of one app, summed over all proxies and replicas. What is zero or none is left out of its JSON: a day of
/// them is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// The second's end, Unix ms.
    pub at_ms: u64,
    /// Requests that came in.
    #[serde(skip_serializing_if = "is_default")]
    pub arrivals: f64,
    /// Answers by class: 1xx, 2xx, 3xx, 4xx, 5xx, failed.
    #[serde(skip_serializing_if = "is_default")]
    pub completions: [f64; 6],
    /// Mean concurrency: ∫ in-flight dt over the second, streams included.
    #[serde(skip_serializing_if = "is_default")]
    pub in_flight: f64,
    /// Requests waiting at the second's end.
    #[serde(skip_serializing_if = "is_default")]
    pub held: f64,
    /// Streams and upgraded connections open.
    #[serde(skip_serializing_if = "is_default")]
    pub streams: f64,
    /// Time from sending to the response head.
    #[serde(skip_serializing_if = "is_default")]
    pub latency: Histogram,
    /// Time spent waiting in the proxy.
    #[serde(skip_serializing_if = "is_default")]
    pub queue: Histogram,
    /// Replicas that were ready.
    #[serde(skip_serializing_if = "is_default")]
    pub ready: u32,
    /// CPU in use, in CPUs, by the ready replicas past their warm-up together; none: not measured this second.
    #[serde(skip_serializing_if = "is_default")]
    pub cpu: Option<f64>,
    /// CPU limit of those replicas together; none: they have no limit.
    #[serde(skip_serializing_if = "is_default")]
    pub cpu_limit: Option<f64>,
    /// Memory in use by those replicas together, bytes; none: not measured.
    #[serde(skip_serializing_if = "is_default")]
    pub memory: Option<f64>,
    /// Their memory limit together, bytes; none: they have no limit.
    #[serde(skip_serializing_if = "is_default")]
    pub memory_limit: Option<f64>,
    /// How many replicas `cpu` and `cpu_limit` speak of. 0: all that were ready.
    #[serde(skip_serializing_if = "is_default")]
    pub cpu_replicas: u32,
    /// Replicas of more than one version were ready: nothing is to be learned from it of what one of a version takes.
    #[serde(skip_serializing_if = "is_default")]
    pub mixed: bool,
    /// Every registered proxy reported for this second.
    #[serde(skip_serializing_if = "is_default")]
    pub complete: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Sample {
    /// Answers and failures together.
    pub fn completed(&self) -> f64 {
        self.completions.iter().sum()
    }

    /// Whether anything was going on: a request, one held, an open stream.
    pub fn busy(&self) -> bool {
        self.arrivals > 0.0 || self.in_flight > 0.0 || self.held > 0.0 || self.streams > 0.0
    }
}

/// The last [`SECONDS`] seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Oldest first.
    pub seconds: VecDeque<Sample>,
    /// What the sources of policies answered last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outside: Vec<Outside>,
}

/// The last answer of a policy's source.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Outside {
    /// The policy's place in the list.
    pub policy: u16,
    /// When it came, Unix ms.
    pub at_ms: u64,
    /// The number.
    pub value: f64,
}

impl Window {
    /// Adds a second. Samples that are not older than it go: the clock went back, or the second came again.
    pub fn push(&mut self, sample: Sample) {
        while self.seconds.back().is_some_and(|last| last.at_ms >= sample.at_ms) {
            self.seconds.pop_back();
        }
        let oldest = sample.at_ms.saturating_sub(SECONDS as u64 * 1_000);
        self.seconds.push_back(sample);
        while self.seconds.len() > SECONDS || self.seconds.front().is_some_and(|first| first.at_ms <= oldest) {
            self.seconds.pop_front();
        }
    }

    /// The samples of the last `seconds` before `at_ms`, newest first.
    pub fn last(&self, at_ms: u64, seconds: u64) -> impl Iterator<Item = &Sample> {
        let after = at_ms.saturating_sub(seconds * 1_000);
        self.seconds.iter().rev().take_while(move |sample| sample.at_ms > after)
    }

    /// The mean of `value` over the last `seconds`, over the samples that have one; none when there is none.
    pub fn mean(&self, at_ms: u64, seconds: u64, value: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        let (sum, n) = self.last(at_ms, seconds).filter_map(value).fold((0.0, 0u32), |(sum, n), v| (sum + v, n + 1));
        (n > 0).then(|| sum / f64::from(n))
    }

    /// Why nothing may be lowered now: there is no data, it is stale, a proxy's part is missing, or what the replicas use was
    /// measured and is no longer, so that what asked for replicas by that asks no more. None: all is well.
    pub fn doubt(&self, at_ms: u64) -> Option<String> {
        let Some(last) = self.seconds.back() else {
            return Some("no data yet: never lower".to_owned());
        };
        let age = at_ms.saturating_sub(last.at_ms);
        if age > STALE_MS {
            return Some(format!("data is {} s old: never lower", age / 1_000));
        }
        if !last.complete {
            return Some("not every proxy has reported: never lower".to_owned());
        }
        if !last.arrivals.is_finite() {
            return Some("the count of requests is no number: never lower".to_owned());
        }
        let vanished = |measured: fn(&Sample) -> bool| {
            last.ready > 0 && !self.last(at_ms, UNMEASURED).any(measured) && self.seconds.iter().any(measured)
        };
        (vanished(|sample| sample.cpu.is_some()) || vanished(|sample| sample.memory.is_some()))
            .then(|| format!("what the replicas use was not measured for {UNMEASURED} s: never lower"))
    }
}

/// Seconds from asking for a replica to its serving, until it is learned per app: a cold start on Docker with a quick app.
pub const START_SECONDS: f64 = 2.0;

/// Three standard deviations of a mean of independent arrivals (Poisson) at this rate over so many seconds.
pub fn noise(rate: f64, seconds: u64) -> f64 {
    3.0 * (rate.max(0.0) / seconds.max(1) as f64).sqrt()
}
