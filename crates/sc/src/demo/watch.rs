//! What is going on, second by second, as the manager and the load see it.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt};
use sc_api::{
    Client,
    client::{EventsQuery, Lines},
};
use sc_core::{AppId, records::Event};
use sc_scale::Decision;

use super::tally::{Counts, Tally};

/// Seconds kept for the charts.
const KEPT: usize = 600;
/// Decisions kept.
const DECISIONS: usize = 1_000;

/// One second.
#[derive(Debug, Clone, Default)]
pub(super) struct Second {
    /// Since the beginning.
    pub at: u64,
    /// Requests that were sent in it.
    pub sent: u64,
    /// Median latency in ms of those answered in it.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Replicas that are ready.
    pub ready: u32,
    /// Requests that failed so far.
    pub failed: u64,
}

/// What is new.
#[derive(Debug, Default)]
pub(super) struct News {
    /// A second that ended.
    pub second: Option<Second>,
    /// Decisions taken.
    pub decisions: Vec<Decision>,
}

/// What is going on.
pub(super) struct Watch {
    /// The last seconds.
    pub seconds: VecDeque<Second>,
    /// Decisions that changed the count.
    pub decisions: Vec<Decision>,
    /// Most replicas ready at once.
    pub most: u32,
    /// Replicas ready now.
    pub ready: u32,
    /// Replicas wanted now.
    pub want: u32,
    /// When the load began.
    pub began: Instant,
    client: Client,
    app: AppId,
    events: Lines<Event>,
    tally: Arc<Tally>,
    before: Counts,
}

impl Watch {
    /// Begins to watch an app.
    pub async fn new(client: Client, app: AppId, tally: Arc<Tally>, began: Instant) -> anyhow::Result<Self> {
        let client = client.with_deadline(Duration::from_secs(2));
        let query = EventsQuery { follow: true, app: Some(app.clone()), ..EventsQuery::default() };
        let events = client.events(&query).await?;
        Ok(Self {
            seconds: VecDeque::new(),
            decisions: Vec::new(),
            most: 0,
            ready: 0,
            want: 0,
            began,
            client,
            app,
            events,
            tally,
            before: Counts::default(),
        })
    }

    /// Looks. Whatever cannot be seen now is as it was.
    pub async fn look(&mut self) -> News {
        if let Ok(view) = self.client.app(&self.app).await {
            (self.ready, self.want) = (view.ready, view.want);
            self.most = self.most.max(self.ready);
        }
        let decisions = self.new_decisions();
        let second = self.second();
        News { second, decisions }
    }

    /// Looks until the last decision that was told is the one that holds, for a second at the most: events come after the fact.
    pub async fn catch_up(&mut self) {
        for _ in 0..10 {
            self.look().await;
            if self.decisions.last().is_none_or(|last| last.want == self.want) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn new_decisions(&mut self) -> Vec<Decision> {
        let mut new = Vec::new();
        while let Some(Some(Ok(event))) = self.events.next().now_or_never() {
            if event.kind == "scaled"
                && let Ok(decision) = serde_json::from_value::<Decision>(event.data)
            {
                new.push(decision);
            }
        }
        if self.decisions.len() < DECISIONS {
            self.decisions.extend(new.iter().cloned());
        }
        new
    }

    /// The second that ended since the last look, if one did.
    fn second(&mut self) -> Option<Second> {
        let elapsed = self.began.elapsed();
        let last = self.seconds.back().map_or(0, |second| second.at);
        if elapsed.as_secs() <= last {
            return None;
        }
        let counts = self.tally.now();
        let latency = counts.latency.since(&self.before.latency);
        let quantile = |q| latency.quantile(q).unwrap_or(0.0) * 1e3;
        let second = Second {
            at: elapsed.as_secs(),
            sent: (counts.requests - self.before.requests) / (elapsed.as_secs() - last),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            ready: self.ready,
            failed: counts.failed,
        };
        self.before = counts;
        self.seconds.push_back(second.clone());
        if self.seconds.len() > KEPT {
            self.seconds.pop_front();
        }
        Some(second)
    }
}
