//! The store in memory: for tests and the simulator. Deterministic, and its leases run on tokio's clock, so it works
//! under paused time.

use std::{
    sync::{Arc, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use crate::{
    Expect, Fence, LeaseId, Revision, Snapshot, Store, StoreError, Watch, Write, limits,
    local::{Live, Local, LocalWatch},
    state::State,
};

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
    /// It is never done, but the caller cannot know: [`StoreError::Unknown`]. A load just fails.
    LoseRequest,
    /// The caller gets [`StoreError::Unknown`] at once, and a commit is done so much later, even if the caller is dead by
    /// then. Anything else is not done.
    Late(Duration),
}

/// Decides what goes wrong; a seeded one makes a run repeatable.
pub trait Faults: Send + Sync + 'static {
    /// Called once for each call, in the order they come.
    fn next(&self, call: Call) -> Fault;
}

/// The store in memory. Clones share the same state.
#[derive(Clone)]
pub struct Memory {
    shared: Arc<Live>,
    faults: Option<Arc<dyn Faults>>,
}

/// What became of a call on its way.
#[derive(PartialEq)]
enum Fate {
    Done,
    ReplyLost,
    RequestLost,
    Late(Duration),
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
        Self { shared: Arc::default(), faults }
    }

    /// The same store as seen by one whose calls go wrong in these ways.
    pub fn seen_through(&self, faults: Arc<dyn Faults>) -> Self {
        Self { shared: self.shared.clone(), faults: Some(faults) }
    }

    /// Everything in it now, past all faults: for checks.
    pub fn inspect(&self) -> Snapshot {
        self.state().snapshot("")
    }

    /// Lets whatever fault comes happen to a call.
    async fn fault(&self, call: Call) -> Result<Fate, StoreError> {
        match self.faults.as_ref().map_or(Fault::None, |faults| faults.next(call)) {
            Fault::None => Ok(Fate::Done),
            Fault::Delay(time) => {
                sleep(time).await;
                Ok(Fate::Done)
            }
            Fault::Fail => Err(self.failed()),
            Fault::LoseReply => Ok(Fate::ReplyLost),
            Fault::LoseRequest => Ok(Fate::RequestLost),
            Fault::Late(time) => Ok(Fate::Late(time)),
        }
    }

    /// Does something to the state, if the call gets there.
    async fn lease_call<T>(&self, act: impl FnOnce(&mut State) -> T) -> Result<T, StoreError> {
        match self.fault(Call::Lease).await? {
            Fate::Done => Ok(self.change(act)),
            Fate::ReplyLost => {
                self.change(act);
                Err(self.lost())
            }
            Fate::RequestLost | Fate::Late(_) => Err(self.lost()),
        }
    }

    fn failed(&self) -> StoreError {
        StoreError::Unavailable { store: self.describe(), source: "a fault was injected".into() }
    }

    fn lost(&self) -> StoreError {
        StoreError::Unknown { store: self.describe(), source: "the reply was lost by an injected fault".into() }
    }

    /// The state, with what has expired gone.
    fn state(&self) -> MutexGuard<'_, State> {
        let expired = self.shared.lock().expired(Instant::now());
        if !expired.is_empty() {
            self.shared.change(|state| state.end(&expired));
        }
        self.shared.lock()
    }

    /// Does something to the state.
    fn change<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        drop(self.state());
        self.shared.change(act)
    }
}

#[async_trait]
impl Local for Memory {
    fn live(&self) -> &Live {
        &self.shared
    }

    async fn expire(&self) -> Result<(), StoreError> {
        drop(self.state());
        Ok(())
    }

    async fn may_tell(&self) -> Result<(), StoreError> {
        match self.fault(Call::Watch).await {
            Ok(Fate::Done) => Ok(()),
            _ => Err(StoreError::WatchLost),
        }
    }
}

#[async_trait]
impl Store for Memory {
    async fn load(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        match self.fault(Call::Load).await? {
            Fate::Done => Ok(self.state().snapshot(prefix)),
            _ => Err(self.failed()),
        }
    }

    async fn commit(
        &self,
        fence: Option<Fence>,
        expects: Vec<Expect>,
        writes: Vec<Write>,
    ) -> Result<Revision, StoreError> {
        limits::check(|| self.describe(), &expects, &writes)?;
        let fate = self.fault(Call::Commit).await?;
        let act = move |memory: &Memory| memory.change(|state| state.commit(fence, &expects, &writes));
        match fate {
            Fate::Done => return act(self),
            Fate::ReplyLost => _ = act(self),
            Fate::RequestLost => {}
            Fate::Late(time) => {
                let memory = self.clone();
                tokio::spawn(async move {
                    sleep(time).await;
                    _ = act(&memory);
                });
            }
        }
        Err(self.lost())
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        if self.fault(Call::Watch).await? != Fate::Done {
            return Err(self.failed());
        }
        Ok(Box::new(LocalWatch { store: self.clone(), prefix: prefix.to_owned(), after }))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.lease_call(|state| state.grant(ttl, Instant::now())).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.lease_call(|state| state.keep_alive(lease, Instant::now())).await?
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.lease_call(|state| _ = state.end(&[lease])).await
    }

    fn describe(&self) -> String {
        "the store in memory".to_owned()
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

    #[tokio::test(start_paused = true)]
    async fn a_late_commit_comes_after_its_caller_was_left_in_doubt() {
        struct Later;
        impl Faults for Later {
            fn next(&self, _: Call) -> Fault {
                Fault::Late(Duration::from_secs(3))
            }
        }
        let store = Memory::new();
        let late = store.seen_through(Arc::new(Later));
        assert!(matches!(late.commit(None, vec![], put("x", None)).await, Err(StoreError::Unknown { .. })));
        assert!(store.inspect().entries.is_empty());
        assert_eq!(store.watch("", 0).await.unwrap().next().await.unwrap().keys.len(), 1);
    }
}
