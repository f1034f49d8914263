//! A copy of the store in memory: loaded whole, then kept up to date by a watch, and loaded whole again now and then,
//! since a watch is only a hint.
//!
//! The copy is always one consistent state of the store, perhaps an old one. That is safe, because nothing is decided
//! on it alone: every write compares revisions and the leader's epoch.

use std::{sync::Arc, time::Duration};

use sc_store::{Expect, Fence, Revision, Snapshot, Store, StoreError, Write};
use tokio::{
    sync::Notify,
    time::{Instant, interval_at, sleep, timeout},
};

use crate::{
    events::Events,
    latest::{Changes, Latest},
    waiting::{Waiting, chain},
};

/// How often everything is loaded anew.
pub const RELIST: Duration = Duration::from_secs(10);
/// How long after a failure the store is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// How long to wait for the watch to tell of a commit of our own before loading.
const REACH: Duration = Duration::from_millis(250);

/// The name of this part in [`Waiting`].
pub const STORE: &str = "store";
/// And of its room.
const ROOM: &str = "room in the store";

/// The copy.
pub struct Mirror {
    store: Arc<dyn Store>,
    events: Arc<Events>,
    waiting: Arc<Waiting>,
    state: Latest<Copy>,
    lost: Notify,
}

/// One state of the copy.
#[derive(Debug, Clone, Default)]
struct Copy {
    /// Everything but the events.
    snapshot: Arc<Snapshot>,
    /// Whether anything was ever loaded.
    loaded: bool,
    /// How long the last whole load took.
    load_time: Duration,
}

impl Mirror {
    /// An empty copy; [`Mirror::run`] fills it. Events found in the store go to `events`.
    pub fn new(store: Arc<dyn Store>, events: Arc<Events>, waiting: Arc<Waiting>) -> Self {
        Self { store, events, waiting, state: Latest::new(Copy::default()), lost: Notify::new() }
    }

    /// The latest state known; none before the first load.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.state.read(|state| state.loaded.then(|| state.snapshot.clone()))
    }

    /// How long the last whole load took.
    pub fn load_time(&self) -> Duration {
        self.state.read(|state| state.load_time)
    }

    /// Tells of each change from now on.
    pub fn changes(&self) -> Changed {
        Changed(self.state.changes())
    }

    /// Loads everything now.
    ///
    /// # Errors
    /// The store's. It is also noted as what the manager waits for.
    pub async fn reload(&self) -> Result<Arc<Snapshot>, StoreError> {
        let (start, before) = (Instant::now(), self.state.read(|state| state.snapshot.revision));
        match self.store.load("").await {
            Ok(snapshot) => {
                self.present();
                Ok(self.replace(snapshot, before, start.elapsed()))
            }
            Err(error) => {
                self.note(&error);
                Err(error)
            }
        }
    }

    /// The state at `revision` or later: waits a little for the watch to bring it, else loads.
    ///
    /// # Errors
    /// The store's, when it had to be loaded.
    pub async fn reach(&self, revision: Revision) -> Result<Arc<Snapshot>, StoreError> {
        let seen = |state: &Copy| (state.loaded && state.snapshot.revision >= revision).then(|| state.snapshot.clone());
        if let Ok(snapshot) = timeout(REACH, self.state.wait(seen)).await {
            return Ok(snapshot);
        }
        self.lost.notify_one();
        self.reload().await
    }

    /// Commits; notes when the store cannot be reached or is full, and when it has room again.
    ///
    /// # Errors
    /// The store's.
    pub async fn commit(
        &self,
        fence: Option<Fence>,
        expects: Vec<Expect>,
        writes: Vec<Write>,
    ) -> Result<Revision, StoreError> {
        let puts = writes.iter().any(|write| matches!(write, Write::Put { .. }));
        let result = self.store.commit(fence, expects, writes).await;
        match &result {
            Ok(_) if puts && self.waiting.present(ROOM) => {
                self.events.info("store_room", None, format!("{} has room again", self.store.describe()));
            }
            Ok(_) => {}
            Err(error) => self.note(error),
        }
        result
    }

    /// Notes an error of the store: when it cannot be reached, that is what is waited for.
    pub fn note(&self, error: &StoreError) {
        if matches!(error, StoreError::Full { .. }) {
            let why = chain(error);
            if self.waiting.missing(ROOM, why.clone()) {
                self.events.warn("store_full", None, why);
            }
            return;
        }
        let gone = matches!(
            error,
            StoreError::Unavailable { .. }
                | StoreError::Unknown { .. }
                | StoreError::Denied { .. }
                | StoreError::Broken { .. }
        );
        if !gone {
            return;
        }
        let why = chain(error);
        if self.waiting.missing(STORE, why.clone()) {
            tracing::warn!(why, "the store is missing; apps run on, changes wait");
        }
    }

    fn present(&self) {
        if self.waiting.present(STORE) {
            tracing::info!(store = self.store.describe(), "the store is back");
            self.events.info("store_back", None, format!("{} is back", self.store.describe()));
        }
    }

    /// Keeps the copy up to date, for ever.
    pub async fn run(&self) {
        loop {
            if let Err(error) = self.follow().await {
                self.note(&error);
                tracing::debug!(error = chain(&error), "the store's watch ended");
            }
            sleep(RETRY).await;
        }
    }

    async fn follow(&self) -> Result<(), StoreError> {
        let snapshot = self.reload().await?;
        let mut watch = self.store.watch("", snapshot.revision).await?;
        let mut relist = interval_at(Instant::now() + RELIST, RELIST);
        loop {
            tokio::select! {
                biased;
                changes = watch.next() => self.apply(changes?),
                () = self.lost.notified() => return Ok(()),
                _ = relist.tick() => drop(self.reload().await?),
            }
        }
    }

    /// `before`: what was known when the load began. One that is older than that comes from a store that was set back
    /// (restored from a backup): then that is the truth.
    fn replace(&self, snapshot: Snapshot, before: Revision, load_time: Duration) -> Arc<Snapshot> {
        let set_back = snapshot.revision < before;
        if set_back {
            let text = format!("{} went back from revision {before} to {}", self.store.describe(), snapshot.revision);
            self.events.warn("store_set_back", None, text);
        }
        let (events, entries) = snapshot.entries.into_iter().partition(|(key, _)| Events::owns(key));
        self.events.loaded(events);
        let loaded = Arc::new(Snapshot { revision: snapshot.revision, entries });
        self.state.change(|state| {
            state.load_time = load_time;
            // An answer may be overtaken by the watch.
            let newer = !state.loaded || set_back || loaded.revision > state.snapshot.revision;
            if newer || loaded.revision == state.snapshot.revision && loaded.entries != state.snapshot.entries {
                state.snapshot = loaded.clone();
                state.loaded = true;
                return true;
            }
            false
        });
        self.state.read(|state| state.snapshot.clone())
    }

    fn apply(&self, changes: sc_store::Changes) {
        self.state.change(|state| {
            if changes.revision <= state.snapshot.revision {
                return false;
            }
            let snapshot = Arc::make_mut(&mut state.snapshot);
            snapshot.revision = changes.revision;
            let mut matters = false;
            for (key, entry) in changes.keys {
                if Events::owns(&key) {
                    self.events.changed(&key, entry);
                    continue;
                }
                matters = true;
                match entry {
                    // A whole load may have brought a later one already.
                    Some(new) if snapshot.entries.get(&key).is_some_and(|old| old.revision > new.revision) => {}
                    Some(new) => drop(snapshot.entries.insert(key, new)),
                    None => drop(snapshot.entries.remove(&key)),
                }
            }
            matters
        });
    }
}

/// Waits for changes of a [`Mirror`].
pub struct Changed(Changes<Copy>);

impl Changed {
    /// Waits for the next change. Cancel-safe.
    pub async fn next(&mut self) {
        self.0.next().await;
    }
}
