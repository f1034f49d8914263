//! What the user asks of the scaler.

use sc_core::{scaling::PolicySpec, spec::ScaleSpec};
use serde::{Deserialize, Serialize};

/// What the user asks of the scaler. Only `max` is needed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Fewest replicas.
    pub min: u32,
    /// Most replicas. Wins over `min` where they contradict.
    pub max: u32,
    /// Requests per second per replica to aim at; none: learned from live traffic.
    pub rps: Option<f64>,
    /// How fast answers shall be; none: faster than [`crate::capacity::KNEE`] times the time at low load.
    pub objective: Option<Objective>,
    /// Share of a replica's CPU limit to aim at, 0–1; none: 0.7.
    pub cpu: Option<f64>,
    /// Milliseconds the need must stay lower before replicas are taken away; none: by the start time, see
    /// [`crate::guards::hold_ms`].
    pub hold_down_ms: Option<u64>,
    /// Milliseconds without a request before an app with `min = 0` sleeps; none: never.
    pub idle_after_ms: Option<u64>,
    /// What else asks for replicas.
    pub policies: Vec<PolicySpec>,
    /// At most so many more at once; none: see [`crate::guards::step_up`].
    pub step_up: Option<u32>,
    /// At most so many fewer at once; none: see [`crate::guards::step_down`].
    pub step_down: Option<u32>,
    /// After so many turns within an hour nothing is taken away; none: no such limit.
    pub turns_an_hour: Option<u32>,
}

impl Policy {
    /// Whether what a replica takes is learned and acted upon: where the user gave an objective, or nothing else that
    /// says how much load a replica shall have.
    pub fn learns(&self) -> bool {
        let load = |one: &PolicySpec| !matches!(one, PolicySpec::Schedule { .. } | PolicySpec::Fixed { .. });
        self.objective.is_some() || (self.rps.is_none() && !self.policies.iter().any(load))
    }
}

/// A latency objective.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// Seconds within which answers shall come, waiting in the proxy included.
    pub seconds: f64,
    /// The share of answers that may take longer, above 0: 0.05 for a p95.
    pub budget: f64,
}

/// The share of its CPU limit a replica should use: far enough below 1 that a second's burst is not throttled.
pub const CPU_TARGET: f64 = 0.7;

/// The same where a latency objective is given: answers themselves then show when a burst is throttled, so CPU only says
/// that a replica is full. With the usual target an app that meets its objective at 90 % would pay for a third more.
pub const CPU_FULL: f64 = 0.95;

impl Default for Policy {
    fn default() -> Self {
        Self::from(&ScaleSpec::default())
    }
}

impl From<&ScaleSpec> for Policy {
    fn from(spec: &ScaleSpec) -> Self {
        Self {
            min: spec.min,
            max: spec.max,
            rps: spec.rps,
            objective: spec.objective.map(|o| Objective { seconds: o.ms as f64 / 1e3, budget: o.budget }),
            policies: spec.policies.clone(),
            step_up: spec.step_up,
            step_down: spec.step_down,
            turns_an_hour: spec.turns_an_hour,
            cpu: spec.cpu,
            hold_down_ms: Some(spec.hold_down_ms).filter(|ms| *ms != ScaleSpec::default().hold_down_ms),
            idle_after_ms: spec.idle_after_ms,
        }
    }
}
