//! The store in memory: for tests and the simulator. Deterministic, and its leases run on tokio's clock, so it works
//! under paused time.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use crate::{COMMIT_MAX, Changes, Entry, Expect, Fence, LeaseId, Revision, Snapshot, Store, StoreError, Watch, Write};

/// The key that a [`Fence`] compares.
const LEADER: &str = "leader";

/// How many changes watchers may fall behind before they must load anew.
const LOG_MAX: usize = 10_000;

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

#[derive(Default)]
struct State {
    revision: Revision,
    entries: BTreeMap<String, (Entry, Option<LeaseId>)>,
    log: VecDeque<(Revision, String, Option<Entry>)>,
    /// Changes up to this revision are no longer in the log.
    compacted: Revision,
    leases: BTreeMap<LeaseId, (Duration, Instant)>,
    last_lease: i64,
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
        let before = state.revision;
        state.expire(Instant::now());
        if state.revision != before {
            self.changed.notify_waiters();
        }
        state
    }
}

impl State {
    fn snapshot(&self, prefix: &str) -> Snapshot {
        let entries = self.entries.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        let entries = entries.map(|(key, (entry, _))| (key.clone(), entry.clone())).collect();
        Snapshot { revision: self.revision, entries }
    }

    fn revision_of(&self, key: &str) -> Revision {
        self.entries.get(key).map_or(0, |(entry, _)| entry.revision)
    }

    fn commit(&mut self, fence: Option<Fence>, expects: &[Expect], writes: Vec<Write>) -> Result<Revision, StoreError> {
        let operations = expects.len() + writes.len();
        if operations > COMMIT_MAX {
            return Err(StoreError::TooLarge { operations });
        }
        if fence.is_some_and(|fence| self.revision_of(LEADER) != fence.epoch) {
            return Err(StoreError::Fenced);
        }
        if expects.iter().any(|expect| self.revision_of(&expect.key) != expect.revision) {
            return Err(StoreError::Conflict);
        }
        let leases = writes.iter().filter_map(|write| match write {
            Write::Put { lease, .. } => *lease,
            Write::Delete { .. } => None,
        });
        if leases.into_iter().any(|lease| !self.leases.contains_key(&lease)) {
            return Err(StoreError::LeaseGone);
        }
        if writes.is_empty() {
            return Ok(self.revision);
        }
        self.revision += 1;
        for write in writes {
            self.write(write);
        }
        Ok(self.revision)
    }

    /// Does one change at the current revision.
    fn write(&mut self, write: Write) {
        let (key, entry) = match write {
            Write::Put { key, value, lease } => {
                let entry = Entry { value: value.into(), revision: self.revision };
                self.entries.insert(key.clone(), (entry.clone(), lease));
                (key, Some(entry))
            }
            Write::Delete { key } => match self.entries.remove(&key) {
                Some(_) => (key, None),
                None => return,
            },
        };
        self.log.push_back((self.revision, key, entry));
        while self.log.len() > LOG_MAX {
            self.compacted = self.log.pop_front().map_or(self.compacted, |(revision, ..)| revision);
        }
    }

    fn expire(&mut self, now: Instant) {
        let gone: Vec<_> = self.leases.iter().filter(|(_, (_, end))| *end <= now).map(|(lease, _)| *lease).collect();
        for lease in gone {
            self.drop_lease(lease);
        }
    }

    fn drop_lease(&mut self, lease: LeaseId) {
        self.leases.remove(&lease);
        let keys: Vec<_> =
            self.entries.iter().filter(|(_, (_, of))| *of == Some(lease)).map(|(key, _)| key.clone()).collect();
        if keys.is_empty() {
            return;
        }
        self.revision += 1;
        for key in keys {
            self.write(Write::Delete { key });
        }
    }

    fn changes(&self, prefix: &str, after: Revision) -> Result<Option<Changes>, StoreError> {
        if after < self.compacted {
            return Err(StoreError::WatchLost);
        }
        if after >= self.revision {
            return Ok(None);
        }
        let keys = self.log.iter().filter(|(revision, key, _)| *revision > after && key.starts_with(prefix));
        let keys = keys.map(|(_, key, entry)| (key.clone(), entry.clone())).collect();
        Ok(Some(Changes { revision: self.revision, keys }))
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
        let result = self.change(|state| state.commit(fence, &expects, writes));
        if lost { Err(self.lost()) } else { result }
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.fault(Call::Watch).await?;
        Ok(Box::new(MemoryWatch { store: self.clone(), prefix: prefix.to_owned(), after }))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let lost = self.fault(Call::Lease).await?;
        let ttl = ttl.max(Duration::from_secs(1));
        let lease = self.change(|state| {
            state.last_lease += 1;
            let lease = LeaseId(state.last_lease);
            state.leases.insert(lease, (ttl, Instant::now() + ttl));
            lease
        });
        if lost { Err(self.lost()) } else { Ok(lease) }
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        let lost = self.fault(Call::Lease).await?;
        let renewed = self.change(|state| match state.leases.get_mut(&lease) {
            Some((ttl, end)) => {
                *end = Instant::now() + *ttl;
                Ok(())
            }
            None => Err(StoreError::LeaseGone),
        });
        if lost { Err(self.lost()) } else { renewed }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        let lost = self.fault(Call::Lease).await?;
        self.change(|state| state.drop_lease(lease));
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
                (state.changes(&self.prefix, self.after)?, state.leases.values().map(|(_, end)| *end).min())
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
