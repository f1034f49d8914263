//! What a demo came to.

use serde::Serialize;

use super::{tally::Tally, watch::Watch};
use crate::out;

/// What a demo came to.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// Requests sent.
    pub requests: u64,
    /// Of these: not answered with 200.
    pub failed: u64,
    /// Median latency, from when a request was due to the end of its answer.
    pub p50_ms: f64,
    /// Its 99th percentile.
    pub p99_ms: f64,
    /// Most replicas ready at once.
    pub max_replicas: u32,
    /// Replicas ready at the end.
    pub final_replicas: u32,
    /// How often the count was changed.
    pub decisions: usize,
    /// Each time.
    pub decision_log: Vec<Change>,
}

/// One change of the count.
#[derive(Debug, Serialize)]
pub(super) struct Change {
    /// When, Unix ms.
    at_ms: u64,
    /// From how many replicas.
    from: u32,
    /// To how many.
    want: u32,
    /// Why.
    reason: String,
}

impl Summary {
    /// Of what was watched and counted.
    pub fn of(watch: &Watch, tally: &Tally) -> Self {
        let counts = tally.now();
        let ms = |q| (counts.latency.quantile(q).unwrap_or(0.0) * 1e5).round() / 1e2;
        let changes = watch.decisions.iter().map(|decision| Change {
            at_ms: decision.at_ms,
            from: decision.from,
            want: decision.want,
            reason: decision.reason.clone(),
        });
        Self {
            requests: counts.requests,
            failed: counts.failed,
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            max_replicas: watch.most,
            final_replicas: watch.ready,
            decisions: watch.decisions.len(),
            decision_log: changes.collect(),
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        format!(
            "{} requests, {} failed · p50 {}, p99 {} · at most {} replicas, {} at the end, {} decisions\n",
            self.requests,
            self.failed,
            out::latency(self.p50_ms),
            out::latency(self.p99_ms),
            self.max_replicas,
            self.final_replicas,
            self.decisions
        )
    }
}
