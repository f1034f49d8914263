//! Who decides how many: ours, and the rules of its peers as they are published.

pub mod aws;
pub mod constant;
pub mod hpa;
pub mod kpa;
pub mod nomad;
pub mod oracle;
pub mod react;
pub mod sc;
pub mod threshold;

use sc_core::stats::Histogram;

/// What a scaler sees at the end of a second.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The second, from 0.
    pub at: u64,
    /// Replicas wanted so far.
    pub want: u32,
    /// Replicas that are ready.
    pub ready: u32,
    /// Request slots of one replica: what a user of a peer writes down as its limit. Ours does not look.
    pub slots: u32,
    /// Requests that came.
    pub arrivals: f64,
    /// Requests that were answered.
    pub completed: f64,
    /// Requests waiting at the end.
    pub queue: f64,
    /// Mean of the requests in replicas and waiting.
    pub concurrency: f64,
    /// Mean share of the ready replicas' CPU in use, 0–1.
    pub cpu: f64,
    /// Response times, for those that ask.
    pub latency: Histogram,
    /// The version that runs.
    pub version: u64,
    /// Nothing was measured in this second: all but `at`, `want`, `ready` is worth nothing.
    pub blind: bool,
}

/// A rule.
pub trait Scaler {
    /// How many replicas to want from now on.
    fn step(&mut self, seen: &Seen) -> u32;

    /// Whether it looks at response times (they cost the simulator time).
    fn wants_latency(&self) -> bool {
        false
    }

    /// Requests per second that one replica takes, if it has learned that.
    fn learned(&self) -> Option<f64> {
        None
    }

    /// Why it wants what it wants, for stories.
    fn reason(&self) -> String {
        String::new()
    }

    /// The states it would alert somebody to, for stories.
    fn alerts(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

/// A mean over the newest `n` numbers.
#[derive(Debug, Clone)]
pub struct Mean {
    values: std::collections::VecDeque<f64>,
    n: usize,
}

impl Mean {
    /// Over `n` numbers, at least 1.
    pub fn new(n: usize) -> Self {
        Self { values: Default::default(), n: n.max(1) }
    }

    /// Takes another one in.
    pub fn push(&mut self, value: f64) {
        self.values.push_back(value);
        if self.values.len() > self.n {
            self.values.pop_front();
        }
    }

    /// Their mean; 0 of none.
    pub fn get(&self) -> f64 {
        if self.values.is_empty() { 0.0 } else { self.values.iter().sum::<f64>() / self.values.len() as f64 }
    }

    /// Whether as many as asked for are in.
    pub fn full(&self) -> bool {
        self.values.len() == self.n
    }
}

#[cfg(test)]
pub(crate) fn seen(at: u64, want: u32, ready: u32) -> Seen {
    Seen {
        at,
        want,
        ready,
        slots: 10,
        arrivals: 0.0,
        completed: 0.0,
        queue: 0.0,
        concurrency: 0.0,
        cpu: 0.0,
        latency: Histogram::default(),
        version: 1,
        blind: false,
    }
}
