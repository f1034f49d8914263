//! One second of the app, whichever way it is computed.

use sc_core::stats::Histogram;

use super::app::App;

/// What happened in a second.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Second {
    /// Requests that came.
    pub arrivals: f64,
    /// Requests that were answered.
    pub completed: f64,
    /// Of the requests that came (or are known now): later than the objective.
    pub late: f64,
    /// Requests turned away: they waited for too long.
    pub rejected: f64,
    /// Requests that had to wait for a slot.
    pub held: f64,
    /// Requests that wait at the second's end.
    pub queue: f64,
    /// Mean of the requests in a replica and waiting.
    pub concurrency: f64,
    /// Mean of the slots in use.
    pub busy: f64,
    /// Response times, waiting included; empty unless asked for.
    pub latency: Histogram,
}

/// What holds in a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conditions {
    /// Requests per second, as a mean.
    pub rate: f64,
    /// Replicas that serve; less than whole ones when starting replicas eat of their CPU.
    pub replicas: f64,
    /// How many times as long the work takes now.
    pub slowness: f64,
    /// Whether the response times are wanted.
    pub latency: bool,
}

/// The app as it runs.
pub trait Plant {
    /// Lives through a second.
    fn second(&mut self, app: &App, now: Conditions) -> Second;
}

/// Seconds that a request waits for a slot at most: the proxy's `queue_timeout`.
pub const PATIENCE: f64 = 30.0;
