//! What a user may ask of the scaler beyond `max`: a latency objective, and policies. Plain data.

use serde::{Deserialize, Serialize};

/// How fast answers shall be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveSpec {
    /// Milliseconds within which answers shall come, waiting in the proxy included.
    pub ms: u64,
    /// The error budget: the share of answers that may take longer, above 0 and below 1. 0.05 for a p95.
    pub budget: f64,
}

/// The error budget of an objective that names none.
pub const BUDGET: f64 = 0.01;

/// One policy. Each asks for a number of replicas; the largest wins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "metric", rename_all = "snake_case")]
pub enum PolicySpec {
    /// So many, always.
    Fixed {
        /// Replicas.
        replicas: u32,
    },
    /// Requests per second per replica.
    Rps {
        /// To aim at.
        target: f64,
    },
    /// Requests in flight or waiting per replica.
    Concurrency {
        /// To aim at.
        target: f64,
    },
    /// Open streams and connections per replica: for TCP routes and WebSockets.
    Connections {
        /// To aim at.
        target: f64,
    },
    /// CPU in use as a share of the limit.
    Cpu {
        /// To aim at, 0–1.
        target: f64,
    },
    /// Memory in use as a share of the limit.
    Memory {
        /// To aim at, 0–1.
        target: f64,
    },
    /// One more above `up`, one less below `down`, at most one step a cooldown.
    Threshold {
        /// What is compared.
        of: Resource,
        /// Above this share of the limit: one more.
        up: f64,
        /// Below this share: one less.
        down: f64,
        /// Milliseconds between two steps.
        cooldown_ms: u64,
    },
    /// At least `min` in a window of time.
    Schedule {
        /// When it begins: see [`crate::cron`].
        cron: String,
        /// How long it lasts, milliseconds.
        for_ms: u64,
        /// Fewest replicas in it.
        min: u32,
    },
    /// The one number that a Prometheus query gives.
    Prometheus {
        /// The server: `http://prometheus:9090`.
        url: String,
        /// PromQL with one value as its result.
        query: String,
        /// How much of it one replica takes.
        target: f64,
        /// Milliseconds between two queries.
        every_ms: u64,
    },
    /// The number that a URL answers with, as text.
    Http {
        /// Where to ask.
        url: String,
        /// How much of it one replica takes; none: the number is the count of replicas.
        target: Option<f64>,
        /// Milliseconds between two requests.
        every_ms: u64,
    },
}

/// What a [`PolicySpec::Threshold`] compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// CPU.
    Cpu,
    /// Memory.
    Memory,
}

impl PolicySpec {
    /// The metrics, as the app file names them.
    pub const METRICS: [&'static str; 10] =
        ["fixed", "rps", "concurrency", "connections", "cpu", "memory", "threshold", "schedule", "prometheus", "http"];

    /// Its metric's name.
    pub fn metric(&self) -> &'static str {
        let position = match self {
            Self::Fixed { .. } => 0,
            Self::Rps { .. } => 1,
            Self::Concurrency { .. } => 2,
            Self::Connections { .. } => 3,
            Self::Cpu { .. } => 4,
            Self::Memory { .. } => 5,
            Self::Threshold { .. } => 6,
            Self::Schedule { .. } => 7,
            Self::Prometheus { .. } => 8,
            Self::Http { .. } => 9,
        };
        Self::METRICS[position]
    }

    /// Where it asks for its number, and how often (ms); none: it needs no asking.
    pub fn source(&self) -> Option<(&str, u64)> {
        match self {
            Self::Prometheus { url, every_ms, .. } | Self::Http { url, every_ms, .. } => Some((url, *every_ms)),
            _ => None,
        }
    }
}
