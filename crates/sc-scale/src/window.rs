//! What was measured, second by second.

use std::collections::VecDeque;

use sc_core::stats::Histogram;
use serde::{Deserialize, Serialize};

/// One second of one app, summed over all proxies and replicas.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// The second's end, Unix ms.
    pub at_ms: u64,
    /// Requests that came in.
    pub arrivals: f64,
    /// Answers by class: 1xx, 2xx, 3xx, 4xx, 5xx, failed.
    pub completions: [f64; 6],
    /// Mean concurrency: ∫ in-flight dt over the second.
    pub in_flight: f64,
    /// Requests waiting at the second's end.
    pub held: f64,
    /// Streams and upgraded connections open.
    pub streams: f64,
    /// Time from sending to the response head.
    pub latency: Histogram,
    /// Time spent waiting in the proxy.
    pub queue: Histogram,
    /// Replicas that were ready.
    pub ready: u32,
    /// CPU in use by the ready replicas together, in CPUs; none: not measured this second.
    pub cpu: Option<f64>,
    /// CPU limit of the ready replicas together.
    pub cpu_limit: Option<f64>,
    /// Every registered proxy reported for this second.
    pub complete: bool,
}

/// The last 900 seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Oldest first.
    pub seconds: VecDeque<Sample>,
}
