//! Recorded inputs of [`decide()`], and deciding again from them.
//!
//! A recording is a row of segments. Each begins with what the decider knew ([`Start`]) and goes on with what came to be
//! known before each decision ([`Row`]), the decision itself as a digest only: it follows from the inputs. A segment that
//! goes on where the one before it ended leaves the window out, since that one's rows hold it.
//!
//! ```text
//!  Start { memory, window } Row Row Row … │ Start { memory } Row Row Row … │ Start { memory } …
//!                                         └ goes on: its window is made of the rows before
//! ```

use serde::{Deserialize, Serialize};

use crate::{Decision, Memory, Now, Outside, Policy, Sample, Window, decide};

/// The version of the decider: it counts up with each change after which equal inputs may give another decision. What
/// another version decided cannot be proven by this one.
pub const DECIDER: u32 = 6;

/// What a segment begins with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The [`DECIDER`] that decided.
    pub decider: u32,
    /// What was asked for.
    pub policy: Policy,
    /// What was remembered.
    pub memory: Memory,
    /// What had been measured; none: what the segment before and its rows hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
}

/// One decision: what is new since the one before, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// How things stood.
    #[serde(rename = "n")]
    pub now: Now,
    /// Seconds that were closed since.
    #[serde(rename = "s", default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Sample>,
    /// What the sources of policies say; none: what they said before.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<Vec<Outside>>,
    /// What is asked for; none: what was asked for before.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// The count decided.
    #[serde(rename = "w", default)]
    pub want: u32,
    /// The decision's [`digest`].
    #[serde(rename = "d", default)]
    pub digest: String,
}

/// Follows an app's decisions and says what is new for each.
#[derive(Debug, Clone)]
pub struct Taker {
    policy: Policy,
    outside: Vec<Outside>,
    last_ms: u64,
}

impl Taker {
    /// Begins a recording.
    pub fn begin(policy: &Policy, window: &Window, memory: &Memory) -> (Self, Start) {
        let last_ms = newest(window).unwrap_or_default();
        let start =
            Start { decider: DECIDER, policy: policy.clone(), memory: memory.clone(), window: Some(window.clone()) };
        (Self { policy: policy.clone(), outside: window.outside.clone(), last_ms }, start)
    }

    /// Begins another segment where the last one ends. That one must be at least as long as a window.
    pub fn go_on(&self, memory: &Memory) -> Start {
        Start { decider: DECIDER, policy: self.policy.clone(), memory: memory.clone(), window: None }
    }

    /// What is new. None: the seconds do not go on from the last ones (the clock was set back): a new recording has to
    /// begin.
    pub fn take(&mut self, policy: &Policy, now: &Now, window: &Window) -> Option<Row> {
        let newest = newest(window).unwrap_or(self.last_ms);
        if newest < self.last_ms {
            return None;
        }
        let new = window.seconds.iter().rev().take_while(|sample| sample.at_ms > self.last_ms);
        let mut samples: Vec<Sample> = new.cloned().collect();
        samples.reverse();
        self.last_ms = newest;
        let outside = (self.outside != window.outside).then(|| window.outside.clone());
        let policy = (self.policy != *policy).then(|| policy.clone());
        self.outside.clone_from(&window.outside);
        if let Some(policy) = &policy {
            self.policy.clone_from(policy);
        }
        Some(Row { now: *now, samples, outside, policy, want: 0, digest: String::new() })
    }
}

impl Row {
    /// With what came of it.
    pub fn decided(self, decision: &Decision) -> Self {
        Self { want: decision.want, digest: digest(decision), ..self }
    }
}

/// Decides again.
#[derive(Debug, Clone)]
pub struct Replay {
    policy: Policy,
    window: Window,
    memory: Memory,
}

impl Replay {
    /// At the beginning of a segment. `before`: the rows of the segment before, for one that goes on.
    pub fn begin(start: Start, before: Option<(Window, &[Row])>) -> Self {
        let window = start.window.unwrap_or_else(|| before.map(|(window, rows)| run(window, rows)).unwrap_or_default());
        Self { policy: start.policy, window, memory: start.memory }
    }

    /// The next decision.
    pub fn step(&mut self, row: &Row) -> Decision {
        follow(&mut self.window, row);
        if let Some(policy) = &row.policy {
            self.policy.clone_from(policy);
        }
        let (decision, memory) = decide(&self.policy, &row.now, &self.window, std::mem::take(&mut self.memory));
        self.memory = memory;
        decision
    }
}

fn run(window: Window, rows: &[Row]) -> Window {
    rows.iter().fold(window, |mut window, row| {
        follow(&mut window, row);
        window
    })
}

fn follow(window: &mut Window, row: &Row) {
    row.samples.iter().for_each(|sample| window.push(sample.clone()));
    if let Some(outside) = &row.outside {
        window.outside.clone_from(outside);
    }
}

fn newest(window: &Window) -> Option<u64> {
    window.seconds.back().map(|sample| sample.at_ms)
}

/// 64 bits of a decision's JSON (FNV-1a), as hex: two decisions with equal bytes have equal digests.
pub fn digest(decision: &Decision) -> String {
    let bytes = serde_json::to_vec(decision).unwrap_or_default();
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}
