//! The store as one process sees it: through a network with faults, ending with the process.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sc_store::{Changes, Expect, Fence, Health, LeaseId, Revision, Snapshot, Store, StoreError, Watch, Write};
use tokio::time::sleep;

use super::{
    life::Life,
    trace::Trace,
    weather::{StoreFate, Weather},
};

/// How long a call without an answer is waited for.
const DEADLINE: Duration = Duration::from_secs(2);
/// How often a watch looks whether it shall end.
const LOOK: Duration = Duration::from_millis(200);

/// Hears of every commit that happened, at the moment it did.
pub trait OnCommit: Send + Sync + 'static {
    /// These keys were written.
    fn committed(&self, who: &str, revision: Revision, writes: &[Write]);
}

/// The store as one process sees it.
#[derive(Clone)]
pub struct StoreEdge {
    /// Whose.
    pub who: Arc<str>,
    /// The store itself.
    pub inner: Arc<dyn Store>,
    /// The process's life.
    pub life: Arc<Life>,
    /// The network's faults.
    pub weather: Arc<Weather>,
    /// What happens.
    pub trace: Arc<Trace>,
    /// Who hears of commits.
    pub on_commit: Arc<dyn OnCommit>,
    /// This process alone cannot reach it.
    pub cut: Arc<AtomicBool>,
}

impl StoreEdge {
    fn unavailable(&self) -> StoreError {
        StoreError::Unavailable { store: self.describe(), source: "the simulator says so".into() }
    }

    fn unknown(&self) -> StoreError {
        StoreError::Unknown { store: self.describe(), source: "the simulator lost the answer".into() }
    }

    /// The way there: over the network, perhaps not.
    async fn go(&self, commit: bool) -> Result<StoreFate, StoreError> {
        self.life.point().await;
        let (delay, fate) = self.weather.store_fate(commit);
        sleep(delay).await;
        if fate == StoreFate::Fails || self.cut.load(Ordering::Relaxed) {
            // Half of what is away refuses at once, the other half is silent.
            if delay.as_millis() % 2 == 1 {
                sleep(DEADLINE).await;
            }
            return Err(self.unavailable());
        }
        Ok(fate)
    }

    async fn apply(
        &self,
        fence: Option<Fence>,
        expects: Vec<Expect>,
        writes: Vec<Write>,
    ) -> Result<Revision, StoreError> {
        let result = self.inner.commit(fence, expects, writes.clone()).await;
        match &result {
            Ok(revision) if !writes.is_empty() => {
                self.tell(*revision, &writes);
                self.on_commit.committed(&self.who, *revision, &writes);
            }
            Ok(_) => {}
            Err(error) => self.trace.note(&format!("{} commit: {error}", self.who)),
        }
        result
    }

    fn tell(&self, revision: Revision, writes: &[Write]) {
        let words = writes.iter().filter_map(|write| match write {
            Write::Put { key, .. } if key.contains("/events/") => None,
            Write::Put { key, value, .. } => Some(format!("{key}={}", String::from_utf8_lossy(value))),
            Write::Delete { key } => Some(format!("-{key}")),
        });
        let words: Vec<String> = words.collect();
        if !words.is_empty() {
            self.trace.note(&format!("{} r{revision} {}", self.who, words.join(" ")));
        }
    }
}

#[async_trait]
impl Store for StoreEdge {
    async fn load(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        self.go(false).await?;
        let result = self.inner.load(prefix).await;
        self.life.point().await;
        result
    }

    async fn commit(
        &self,
        fence: Option<Fence>,
        expects: Vec<Expect>,
        writes: Vec<Write>,
    ) -> Result<Revision, StoreError> {
        match self.go(true).await? {
            StoreFate::Late(by) => {
                let late = self.clone();
                tokio::spawn(async move {
                    sleep(by).await;
                    let _ = late.apply(fence, expects, writes).await;
                });
                sleep(DEADLINE).await;
                Err(self.unknown())
            }
            fate => {
                let result = self.apply(fence, expects, writes).await;
                self.life.point().await;
                if fate == StoreFate::LosesReply {
                    sleep(DEADLINE).await;
                    return Err(self.unknown());
                }
                result
            }
        }
    }

    async fn health(&self) -> Result<Health, StoreError> {
        self.go(false).await?;
        self.inner.health().await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.go(false).await?;
        let inner = self.inner.watch(prefix, after).await?;
        Ok(Box::new(WatchEdge { inner, edge: self.clone() }))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.go(false).await?;
        let result = self.inner.grant(ttl).await;
        self.life.point().await;
        result
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.go(false).await?;
        let result = self.inner.keep_alive(lease).await;
        self.life.point().await;
        result
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.go(false).await?;
        let result = self.inner.revoke(lease).await;
        self.life.point().await;
        result
    }

    fn describe(&self) -> String {
        "the simulated store".to_owned()
    }
}

struct WatchEdge {
    inner: Box<dyn Watch>,
    edge: StoreEdge,
}

#[async_trait]
impl Watch for WatchEdge {
    async fn next(&mut self) -> Result<Changes, StoreError> {
        let edge = self.edge.clone();
        let ends = async {
            loop {
                if edge.cut.load(Ordering::Relaxed) || edge.weather.watch_ends() {
                    return;
                }
                sleep(LOOK).await;
            }
        };
        tokio::select! {
            biased;
            () = ends => Err(StoreError::WatchLost),
            changes = self.inner.next() => {
                if self.edge.weather.watches_stall() {
                    // What came is lost: a watch that says nothing any more, until somebody gives it up.
                    pending::<()>().await;
                }
                self.edge.life.point().await;
                changes
            }
        }
    }
}
