//! What a proxy reports once a second, as data. All counters are cumulative since the proxy's boot; gauges say so.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::{AppId, ReplicaId};

/// One second's report of one proxy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// The proxy's id, as in its `proxies/{id}` record.
    pub proxy: String,
    /// Changes with every start of the proxy; counters begin at zero then.
    pub boot: String,
    /// Counts up by one with each frame of this boot.
    pub seq: u64,
    /// Unix milliseconds by the proxy's clock.
    pub at_ms: u64,
    /// Sent out of turn: a request came for an app that has no backend.
    #[serde(default)]
    pub urgent: bool,
    /// The store revision whose routes are being served: everything up to it has been applied on every thread.
    pub applied: u64,
    /// The store revision up to which certificates and challenges are in force; 0: this proxy follows none.
    #[serde(default)]
    pub certs: u64,
    /// What is wrong with certificates of the store, if something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certs_wrong: Option<String>,
    /// By app; also apps whose backends are gone, while anything of theirs is in flight.
    pub apps: BTreeMap<AppId, AppStats>,
}

/// One app, as one proxy sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AppStats {
    /// Requests that came in for the app.
    pub arrivals: u64,
    /// Gauge: requests now waiting for a backend.
    pub held: u64,
    /// Requests that ever had to wait for a backend.
    pub held_total: u64,
    /// Requests answered by the proxy itself for want of a backend, room or time.
    pub rejected: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Gauge: upgraded connections and other streams open.
    pub streams: u64,
    /// Time spent waiting for a backend.
    pub queue: Histogram,
    /// By backend.
    pub backends: BTreeMap<ReplicaId, BackendStats>,
}

/// One backend, as one proxy sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackendStats {
    /// Requests sent to it.
    pub requests: u64,
    /// Answers by status class: 1xx, 2xx, 3xx, 4xx, 5xx; then failures without a response.
    pub completions: [u64; 6],
    /// Gauge: requests and upgraded connections now with it.
    pub in_flight: u64,
    /// ∫ in-flight dt, in seconds: divided by a span it is the mean concurrency.
    pub in_flight_seconds: f64,
    /// Time from sending the request to the response head.
    pub latency: Histogram,
    /// Connections that could not be made.
    pub connect_errors: u64,
    /// Gauge: passed over because of failures seen on the request path.
    pub ejected: bool,
}

/// A mergeable histogram with logarithmic buckets: 16 per doubling, so a bucket is 4.4 % wide. Durations from 1 µs to
/// about 70 s; shorter and longer ones fall in the first and last bucket.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Histogram {
    /// Bucket number → count; empty buckets left out.
    pub buckets: BTreeMap<u16, u64>,
    /// Sum of the durations, in seconds.
    pub sum_seconds: f64,
}

/// How many buckets there are.
pub const BUCKETS: usize = 16 * 26 + 1;

/// The bucket of a duration in nanoseconds. Integer arithmetic only: linear within a doubling.
pub fn bucket_of(nanos: u64) -> u16 {
    let micros16 = nanos.saturating_mul(16) / 1_000; // sixteenths of a microsecond
    if micros16 < 16 {
        return 0;
    }
    let exponent = 63 - micros16.leading_zeros() as u64; // >= 4
    let within = (micros16 >> (exponent - 4)) & 15;
    let bucket = (exponent - 4) * 16 + within + 1;
    bucket.min(BUCKETS as u64 - 1) as u16
}

/// The largest duration, in seconds, that falls in a bucket (the last bucket has no end and gives its start).
pub fn bucket_end_seconds(bucket: u16) -> f64 {
    if bucket == 0 {
        return 1e-6;
    }
    let (doubling, within) = ((bucket - 1) / 16, (bucket - 1) % 16);
    let last = usize::from(bucket) == BUCKETS - 1;
    let step = f64::from(within + u16::from(!last));
    (1u64 << doubling) as f64 * (1.0 + step / 16.0) * 1e-6
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, nanos: u64) {
        *self.buckets.entry(bucket_of(nanos)).or_default() += 1;
        self.sum_seconds += nanos as f64 * 1e-9;
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.buckets {
            *self.buckets.entry(*bucket).or_default() += count;
        }
        self.sum_seconds += other.sum_seconds;
    }

    /// What came in since `earlier`, an older state of the same histogram. A count that went down (the proxy started
    /// anew) is taken whole.
    pub fn since(&self, earlier: &Self) -> Self {
        let restarted = earlier.buckets.iter().any(|(b, n)| self.buckets.get(b).copied().unwrap_or(0) < *n);
        if restarted {
            return self.clone();
        }
        let buckets = self.buckets.iter().map(|(b, n)| (*b, n - earlier.buckets.get(b).copied().unwrap_or(0)));
        Self {
            buckets: buckets.filter(|(_, n)| *n > 0).collect(),
            sum_seconds: (self.sum_seconds - earlier.sum_seconds).max(0.0),
        }
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.values().sum()
    }

    /// The duration in seconds that the share `q` (0–1) of those counted does not exceed; none when empty.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = (q.clamp(0.0, 1.0) * self.count() as f64).max(1.0);
        let mut seen = 0;
        self.buckets.iter().find_map(|(bucket, count)| {
            seen += count;
            (seen as f64 >= rank - 1e-9).then(|| bucket_end_seconds(*bucket))
        })
    }

    /// The share of durations above `seconds`; 0 when empty. Exact to one bucket.
    pub fn share_above(&self, seconds: f64) -> f64 {
        let total = self.count();
        if total == 0 {
            return 0.0;
        }
        let limit = bucket_of((seconds * 1e9) as u64);
        let above: u64 = self.buckets.range(limit + 1..).map(|(_, n)| n).sum();
        above as f64 / total as f64
    }
}

/// One replica's resources, from the engine. Counters are cumulative since the replica started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Unix milliseconds when the engine took the sample.
    pub at_ms: u64,
    /// CPU time used, in seconds.
    pub cpu_seconds: f64,
    /// CPU limit in CPUs; none: the whole machine.
    pub cpu_limit: Option<f64>,
    /// Seconds the replica was held back by its CPU limit.
    pub throttled_seconds: f64,
    /// Memory in use in bytes, page cache left out.
    pub memory: u64,
    /// Memory limit in bytes.
    pub memory_limit: Option<u64>,
    /// Bytes received over the network.
    pub network_received: u64,
    /// Bytes sent over the network.
    pub network_sent: u64,
    /// Processes and threads.
    pub pids: u64,
}
