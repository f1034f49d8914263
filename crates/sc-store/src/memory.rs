//! The store in memory: for tests and the simulator. Deterministic, and its leases run on tokio's clock, so it works
//! under paused time.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use crate::{Changes, Expect, Fence, LeaseId, Revision, Snapshot, Store, StoreError, Watch, Write, state::State};

/// What a call is about to do, for [`Faults`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// [`Store::load`].
    Load,
    /// [`Store::commit`].
    Commit,
    /// [`Store::watch`], or the next changes of one.
    Watch,
    /// [`Store::grant`], [`Store::keep_alive`] or [`Store::revoke`].
    Lease,
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It takes so long.
    Delay(Duration),
    /// It fails before anything is done (a watch: it breaks).
    Fail,
    /// It is done, but the answer is lost: [`StoreError::Unknown`]. A load just fails.
    LoseReply,
}

/// Decides what goes wrong; a seeded one makes a run repeatable.
pub trait Faults: Send + Sync + 'static {
    /// Called once for each call, in the order they come.
    fn next(&self, call: Call) -> Fault;
}

/// The store in memory. Clones share the same state.
#[derive(Clone)]
pub struct Memory {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
    faults: Option<Arc<dyn Faults>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::build(None)
    }

    /// An empty store whose calls may go wrong.
    pub fn with_faults(faults: Arc<dyn Faults>) -> Self {
        Self::build(Some(faults))
    }

    fn build(faults: Option<Arc<dyn Faults>>) -> Self {
        Self { shared: Arc::new(Shared { state: Mutex::default(), changed: Notify::new(), faults }) }
    }

    /// Everything in it now, past all faults: for checks.
    pub fn inspect(&self) -> Snapshot {
        self.shared.lock().snapshot("")
    }

    /// Lets whatever fault comes happen to a call. True: its answer is lost after it was done.
    async fn fault(&self, call: Call) -> Result<bool, StoreError> {
        match self.shared.faults.as_ref().map_or(Fault::None, |faults| faults.next(call)) {
            Fault::None => Ok(false),
            Fault::Delay(time) => {
                sleep(time).await;
                Ok(false)
            }
            Fault::Fail => {
                Err(StoreError::Unavailable { store: self.describe(), source: "a fault was injected".into() })
            }
            Fault::LoseReply => Ok(true),
        }
    }

    fn lost(&self) -> StoreError {
        StoreError::Unknown { store: self.describe(), source: "the reply was lost by an injected fault".into() }
    }

    /// Does something to the state and tells the watchers if it changed.
    fn change<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.shared.lock();
        let before = state.revision;
        let result = act(&mut state);
        let changed = state.revision != before;
        drop(state);
        if changed {
            self.shared.changed.notify_waiters();
        }
        result
    }
}

impl Shared {
    /// The state, with what has expired gone. A panic elsewhere left it whole: every change is made in one go.
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let expired = state.expired(Instant::now());
        if !expired.is_empty() {
            let deletions = state.deletions(&expired);
            state.apply(&deletions);
            state.forget(&expired);
            self.changed.notify_waiters();
        }
        state
    }
}

#[async_trait]
impl Store for Memory {
    async fn load(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        if self.fault(Call::Load).await? {
            return Err(StoreError::Unavailable { store: self.describe(), source: "a fault was injected".into() });
        }
        Ok(self.shared.lock().snapshot(prefix))
    }

    async fn commit(
        &self,
        fence: Option<Fence>,
        expects: Vec<Expect>,
        writes: Vec<Write>,
    ) -> Result<Revision, StoreError> {
        let lost = self.fault(Call::Commit).await?;
        let result = self.change(|state| state.commit(fence, &expects, &writes));
        if lost { Err(self.lost()) } else { result }
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.fault(Call::Watch).await?;
        Ok(Box::new(MemoryWatch { store: self.clone(), prefix: prefix.to_owned(), after }))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let lost = self.fault(Call::Lease).await?;
        let lease = self.change(|state| state.grant(ttl, Instant::now()));
        if lost { Err(self.lost()) } else { Ok(lease) }
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        let lost = self.fault(Call::Lease).await?;
        let renewed = self.change(|state| state.keep_alive(lease, Instant::now()));
        if lost { Err(self.lost()) } else { renewed }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        let lost = self.fault(Call::Lease).await?;
        self.change(|state| {
            let deletions = state.deletions(&[lease]);
            state.apply(&deletions);
            state.forget(&[lease]);
        });
        if lost { Err(self.lost()) } else { Ok(()) }
    }

    fn describe(&self) -> String {
        "the store in memory".to_owned()
    }
}

struct MemoryWatch {
    store: Memory,
    prefix: String,
    after: Revision,
}

#[async_trait]
impl Watch for MemoryWatch {
    async fn next(&mut self) -> Result<Changes, StoreError> {
        loop {
            let changed = self.store.shared.changed.notified();
            let (changes, next_expiry) = {
                let state = self.store.shared.lock();
                (state.changes(&self.prefix, self.after)?, state.next_expiry())
            };
            if let Some(changes) = changes {
                if changes.keys.is_empty() {
                    self.after = changes.revision;
                    continue;
                }
                if self.store.fault(Call::Watch).await.is_err() {
                    return Err(StoreError::WatchLost);
                }
                // Only now, so that a caller who gave up waiting misses nothing.
                self.after = changes.revision;
                return Ok(changes);
            }
            match next_expiry {
                Some(end) => tokio::select! { () = changed => {}, () = sleep_until(end) => {} },
                None => changed.await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, lease: Option<LeaseId>) -> Vec<Write> {
        vec![Write::Put { key: key.into(), value: key.into(), lease }]
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_runs_out_takes_its_keys_and_wakes_the_watch() {
        let store = Memory::new();
        let lease = store.grant(Duration::from_secs(5)).await.unwrap();
        let revision = store.commit(None, vec![], put("a/x", Some(lease))).await.unwrap();
        let mut watch = store.watch("a/", revision).await.unwrap();
        let changes = watch.next().await.unwrap();
        assert_eq!(changes.keys, [("a/x".to_owned(), None)]);
        assert!(matches!(store.keep_alive(lease).await, Err(StoreError::LeaseGone)));
        assert!(store.inspect().entries.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_whose_reply_is_lost_has_happened() {
        struct LoseCommits;
        impl Faults for LoseCommits {
            fn next(&self, call: Call) -> Fault {
                if call == Call::Commit { Fault::LoseReply } else { Fault::None }
            }
        }
        let store = Memory::with_faults(Arc::new(LoseCommits));
        assert!(matches!(store.commit(None, vec![], put("x", None)).await, Err(StoreError::Unknown { .. })));
        assert_eq!(store.load("").await.unwrap().entries.len(), 1);
    }
}
