//! The autoscaler as pure functions: what was measured ([`Window`]), how things stand ([`Now`]), what is asked for
//! ([`Policy`]), what was learned ([`Memory`]) → how many replicas, and why ([`Decision`]). It knows no containers,
//! no clock and no dice: equal inputs give equal bytes.
//!
//! | step | where |
//! |---|---|
//! | seconds → means, freshness | [`window`] |
//! | what comes in now, and will when a replica asked for now serves | [`demand`] |
//! | how long that takes | [`starts`] |
//! | how far the forecast is to be trusted | [`margin`] |
//! | whether to follow a load or to stand ready for all of its noise | [`hindsight`] |
//! | what one replica can take, learned from live traffic | [`capacity`] |
//! | what is no fault of the load | [`spell`] |
//! | what each signal asks for | [`needs`] |
//! | what limits the largest of them | [`guards`] |
//! | all of it in order, and in words | [`mod@decide`] |
//! | a minute in 64 bytes, for a fortnight of them | [`minutes`] |
//! | what becomes of the load that `max` cannot take | [`overload`] |
//! | recorded inputs, and deciding again from them | [`replay`] |

pub mod capacity;
pub mod decide;
pub mod demand;
pub mod guards;
pub mod hindsight;
pub mod margin;
pub mod minutes;
pub mod needs;
pub mod overload;
mod policy;
pub mod replay;
pub mod spell;
pub mod starts;
pub mod window;

use serde::{Deserialize, Serialize};

pub use capacity::Capacity;
pub use decide::decide;
pub use policy::{Objective, Policy};
pub use window::{Outside, Sample, Window};

/// How things stand at the moment of the decision: what is not a mean over time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Now {
    /// The time, Unix ms, by the clock that also stamped the [`Sample`]s.
    pub at_ms: u64,
    /// The count wanted so far (`Scale::want` in the store).
    pub want: u32,
    /// Replicas that are ready.
    pub ready: u32,
    /// Requests waiting in the proxies by their latest frames, urgent ones included: newer than the window's last second.
    pub held: u64,
    /// The version being served. What a replica can take is learned per version.
    pub version: u64,
    /// Replicas of it that sleep and can be woken.
    pub warm: u32,
    /// Replicas of it that were stopped and kept, and can be started again.
    #[serde(skip_serializing_if = "is_0")]
    pub stopped: u32,
}

fn is_0(n: &u32) -> bool {
    *n == 0
}

/// What the scaler remembers from call to call, opaque to others, a few KiB as JSON. Store it with `want`; one that is
/// some seconds old (a manager died) does no harm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Largest needs of the hold time with their times (Unix ms), each larger than all after it.
    pub recent: Vec<(u64, u32)>,
    /// Since when needs were taken down with no gap longer than [`guards::GAP_MS`]; 0: not yet.
    pub watched_ms: u64,
    /// When a need was last taken down.
    pub noted_ms: u64,
    /// When the count last went up.
    pub raised_ms: u64,
    /// When the count last went down.
    pub lowered_ms: u64,
    /// The load when the count last went down, requests per second.
    pub lowered_load: f64,
    /// How many steps down had to be taken back lately: each doubles the hold time.
    pub flaps: u32,
    /// When the last of them was.
    pub flapped_ms: u64,
    /// When the count turned from up to down or back in the last hour, Unix ms.
    pub turns: Vec<u64>,
    /// When the app was last busy, or nobody could tell.
    pub busy_ms: u64,
    /// What one replica can take.
    pub capacity: Capacity,
    /// How much more than the forecast to be ready for.
    pub margin: margin::Margin,
    /// Whether to follow the load.
    pub hindsight: hindsight::Hindsight,
    /// How long starts take.
    pub starts: starts::Starts,
    /// The last rise for the sake of latency, to see whether it helped.
    pub tried: Option<needs::Tried>,
}

/// What one signal asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Need {
    /// The signal: `min`, `rps`, `cpu`, `capacity`, `latency`, `held`, ….
    pub signal: String,
    /// The replicas it asks for.
    pub replicas: u32,
    /// The formula with its numbers, for people: `ceil(182.4 rps ÷ 50 rps per replica) = 4`.
    pub formula: String,
}

/// A state that no number of replicas within the bounds mends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "alert")]
pub enum Alert {
    /// The load needs more than `max`.
    MaxReached {
        /// How many more.
        missing: u32,
    },
    /// More replicas did not make answers faster: something behind them is the bottleneck.
    NoHelp,
    /// Answers are later than the objective at any load: by the app's own work.
    Unreachable,
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
    /// What somebody should know.
    #[serde(default)]
    pub alerts: Vec<Alert>,
    /// Whether [`Decision::capacity_rps`] is known to be the most; else it is a lower bound: more was never tried.
    #[serde(default)]
    pub capacity_sure: bool,
    /// Requests per second that one replica is known to take within the objective; none: not learned yet.
    #[serde(default)]
    pub capacity_rps: Option<f64>,
}
