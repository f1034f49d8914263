//! The autoscaler as pure functions: what was measured ([`window`]), what is asked for ([`Policy`]), what was learned
//! ([`Memory`]) → how many replicas, and why ([`Decision`]). It knows no containers, no clock and no dice.

pub mod window;

use serde::{Deserialize, Serialize};
pub use window::{Sample, Window};

/// What the user asks of the scaler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Fewest replicas.
    pub min: u32,
    /// Most replicas.
    pub max: u32,
    /// Requests per second per replica to aim at; none: not used.
    pub rps: Option<f64>,
    /// Share of a replica's CPU limit to aim at, 0–1; none: not used.
    pub cpu: Option<f64>,
    /// Milliseconds the need must stay lower before replicas are taken away.
    pub hold_down_ms: u64,
    /// Milliseconds without a request before an app with `min = 0` sleeps.
    pub idle_after_ms: Option<u64>,
}

/// What the scaler remembers from call to call, opaque to others, at most 32 KiB as JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Recent needs with their times (Unix ms), for the hold time: the largest of the hold time counts.
    pub recent: Vec<(u64, u32)>,
    /// When the count last changed.
    pub changed_ms: u64,
    /// When a request was last seen.
    pub busy_ms: u64,
}

/// What one signal asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Need {
    /// The signal: `rps`, `cpu`, `concurrency`, `queue`, `min`, ….
    pub signal: String,
    /// The replicas it asks for.
    pub replicas: u32,
    /// The formula with its numbers, for people: `ceil(182.4 rps × 1.10 ÷ 50 rps per replica) = 5`.
    pub formula: String,
}

/// How many replicas, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When, Unix ms.
    pub at_ms: u64,
    /// The count before.
    pub from: u32,
    /// The count decided.
    pub want: u32,
    /// What each signal asked for.
    pub needs: Vec<Need>,
    /// The signal that won.
    pub winner: String,
    /// What changed the largest need, in order: `max 10`, `hold: was 6 within the last 30 s`, `data is 7 s old: never lower`.
    pub guards: Vec<String>,
    /// The whole in a sentence.
    pub reason: String,
    /// What would change it: `below 140 rps for 30 s: 4`.
    pub would_change: String,
}
