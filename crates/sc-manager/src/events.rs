//! What happened, for people: kept in memory for those who follow, written to the store in batches, bounded in both.
//! A store that is full or away costs events, nothing else.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sc_core::{
    AppId, Name, ReplicaId,
    certs::CERTS,
    names::DEFAULT_PROJECT,
    records::{self, Event, Level, UnixMs, key},
};
use sc_store::{COMMIT_BYTES_MAX, Entry, StoreError, Write};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};

use crate::{clock::Clock, mirror::Mirror, waiting::chain};

/// Events kept in the store for each project.
pub const KEPT: usize = 2_000;
/// Events kept in memory for all projects.
const REMEMBERED: usize = 5_000;
/// Events waiting to be written; beyond, the oldest are dropped.
const PENDING: usize = 1_000;
/// The longest text of one, in bytes.
const TEXT: usize = 4_096;
/// The largest data of one, in bytes of JSON.
const DATA: usize = 16_384;
/// Events written by one commit.
const BATCH: usize = 50;

/// The events.
pub struct Events {
    clock: Arc<dyn Clock>,
    kept: Mutex<Kept>,
    /// The number of the latest event in memory.
    latest: watch::Sender<u64>,
    pending: Notify,
}

#[derive(Default)]
struct Kept {
    /// Newest last, each with its number: by it a follower knows where it was.
    ring: VecDeque<(u64, Arc<Event>)>,
    /// The keys of the events in `ring`.
    ring_keys: VecDeque<String>,
    known: BTreeSet<String>,
    /// Written by the batch to come.
    unwritten: VecDeque<(String, Arc<Event>)>,
    /// All keys in the store.
    stored: BTreeSet<String>,
    /// Counts events of one millisecond apart.
    counter: u32,
    number: u64,
}

/// Which events are wanted.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Only of this app.
    pub app: Option<AppId>,
    /// Only since then.
    pub since_ms: Option<UnixMs>,
}

impl EventQuery {
    fn wants(&self, event: &Event) -> bool {
        self.since_ms.is_none_or(|since| event.at_ms >= since)
            && self.app.as_ref().is_none_or(|app| event.app.as_ref() == Some(app))
    }
}

impl Events {
    /// None yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, kept: Mutex::default(), latest: watch::Sender::new(0), pending: Notify::new() }
    }

    /// Whether a key of the store is an event's.
    pub fn owns(key: &str) -> bool {
        !key.starts_with(key::ROUTES) && !key.starts_with(CERTS) && key.split('/').nth(1) == Some("events")
    }

    /// An ordinary event.
    pub fn info(&self, kind: &str, app: Option<&AppId>, text: String) {
        self.add(self.event(Level::Info, kind, app, text));
    }

    /// Something somebody should look at.
    pub fn warn(&self, kind: &str, app: Option<&AppId>, text: String) {
        self.add(self.event(Level::Warning, kind, app, text));
    }

    /// An event of now, to be completed and added.
    pub fn event(&self, level: Level, kind: &str, app: Option<&AppId>, text: String) -> Event {
        let (app, kind) = (app.cloned(), kind.to_owned());
        Event { v: 1, at_ms: self.clock.now_ms(), level, app, replica: None, kind, text, data: Default::default() }
    }

    /// One about a replica.
    pub fn of_replica(&self, level: Level, kind: &str, replica: &ReplicaId, text: String) -> Event {
        Event { replica: Some(replica.clone()), ..self.event(level, kind, Some(&replica.app), text) }
    }

    /// Adds one.
    pub fn add(&self, mut event: Event) {
        shorten(&mut event);
        tracing::info!(app = event.app.as_ref().map(tracing::field::display), kind = event.kind, "{}", event.text);
        let mut kept = self.lock();
        kept.counter = (kept.counter + 1) % 10_000;
        let key = key::event(&project_of(&event), event.at_ms, kept.counter);
        let event = Arc::new(event);
        kept.remember(key.clone(), event.clone());
        kept.unwritten.push_back((key, event));
        if kept.unwritten.len() > PENDING {
            kept.unwritten.pop_front();
        }
        let number = kept.number;
        drop(kept);
        self.latest.send_replace(number);
        self.pending.notify_one();
    }

    /// The store was loaded: these are all events in it.
    pub(crate) fn loaded(&self, entries: BTreeMap<String, Entry>) {
        let mut kept = self.lock();
        kept.stored = entries.keys().cloned().collect();
        for (key, entry) in entries {
            kept.remember_stored(&key, &entry);
        }
        let number = kept.number;
        drop(kept);
        self.latest.send_if_modified(|latest| std::mem::replace(latest, number) != number);
    }

    /// The store's watch told of this event.
    pub(crate) fn changed(&self, key: &str, entry: Option<Entry>) {
        let mut kept = self.lock();
        match entry {
            Some(entry) => {
                kept.stored.insert(key.to_owned());
                kept.remember_stored(key, &entry);
            }
            None => drop(kept.stored.remove(key)),
        }
        let number = kept.number;
        drop(kept);
        self.latest.send_if_modified(|latest| std::mem::replace(latest, number) != number);
    }

    /// Those in memory that are wanted, numbered above `after`, oldest first; and the number to go on from.
    pub fn since(&self, after: u64, query: &EventQuery) -> (Vec<Arc<Event>>, u64) {
        let kept = self.lock();
        let newer = kept.ring.iter().filter(|(number, _)| *number > after);
        let found = newer.filter(|(_, event)| query.wants(event)).map(|(_, event)| event.clone()).collect();
        (found, kept.number)
    }

    /// The latest one that `pick` accepts.
    pub fn last(&self, pick: impl Fn(&Event) -> bool) -> Option<Arc<Event>> {
        self.lock().ring.iter().rev().map(|(_, event)| event).find(|event| pick(event)).cloned()
    }

    /// Waits until there is one numbered above `after`. Cancel-safe.
    pub async fn wait(&self, after: u64) {
        let mut latest = self.latest.subscribe();
        let _ = latest.wait_for(|number| *number > after).await;
    }

    /// Writes what comes in to the store, for ever, and deletes what is too old.
    pub async fn write(&self, store: &Mirror) {
        loop {
            self.pending.notified().await;
            // Some more may come at once; they go together.
            sleep(Duration::from_millis(100)).await;
            while let Err(error) = self.write_batch(store).await {
                tracing::debug!(error = chain(&error), "events wait");
                sleep(Duration::from_secs(2)).await;
            }
        }
    }

    async fn write_batch(&self, store: &Mirror) -> Result<(), StoreError> {
        loop {
            self.prune(store).await?;
            let batch = self.lock().batch();
            if batch.is_empty() {
                return Ok(());
            }
            let written: BTreeSet<String> = batch.iter().map(|(key, _)| key.clone()).collect();
            let put = |(key, value)| Write::Put { key, value, lease: None };
            store.commit(None, Vec::new(), batch.into_iter().map(put).collect()).await?;
            let mut kept = self.lock();
            kept.unwritten.retain(|(key, _)| !written.contains(key));
            kept.stored.extend(written);
        }
    }

    async fn prune(&self, store: &Mirror) -> Result<(), StoreError> {
        let old = self.lock().too_old();
        if old.is_empty() {
            return Ok(());
        }
        let writes = old.iter().map(|key| Write::Delete { key: key.clone() }).collect();
        store.commit(None, Vec::new(), writes).await?;
        let mut kept = self.lock();
        for key in &old {
            kept.stored.remove(key);
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// What the next commit writes: the oldest, as many as it takes. Escapes may make one six times as long as its text.
    fn batch(&self) -> Vec<(String, Vec<u8>)> {
        let mut bytes = 0;
        let values =
            self.unwritten.iter().take(BATCH).map(|(key, event)| (key.clone(), records::write(event.as_ref())));
        let fits = |(key, value): &(String, Vec<u8>)| {
            bytes += key.len() + value.len();
            bytes <= COMMIT_BYTES_MAX
        };
        values.take_while(fits).collect()
    }

    fn remember_stored(&mut self, key: &str, entry: &Entry) {
        if self.known.contains(key) {
            return;
        }
        if let Ok(event) = records::read::<Event>(key, &entry.value) {
            self.remember(key.to_owned(), Arc::new(event));
        }
    }

    fn remember(&mut self, key: String, event: Arc<Event>) {
        self.number += 1;
        self.known.insert(key.clone());
        self.ring.push_back((self.number, event));
        self.ring_keys.push_back(key);
        if self.ring.len() > REMEMBERED {
            self.ring.pop_front();
            if let Some(key) = self.ring_keys.pop_front() {
                self.known.remove(&key);
            }
        }
    }

    /// Keys above the bound of one project, at most what one commit can delete. A tenth of room is made at a time.
    fn too_old(&self) -> Vec<String> {
        let mut start = self.stored.iter().next();
        while let Some(first) = start {
            let project = first.split('/').next().unwrap_or_default();
            let (from, end) = (format!("{project}/events/"), format!("{project}/events0"));
            let count = self.stored.range(from.clone()..end.clone()).count();
            if count > KEPT {
                let excess = (count - KEPT).clamp(KEPT / 40, 90);
                return self.stored.range(from..end).take(excess).cloned().collect();
            }
            start = self.stored.range(end..).next();
        }
        Vec::new()
    }
}

fn project_of(event: &Event) -> Name {
    let default = || Name::new(DEFAULT_PROJECT).expect("the default project's name is valid");
    event.app.as_ref().map_or_else(default, |app| app.project.clone())
}

fn shorten(event: &mut Event) {
    if event.text.len() > TEXT {
        event.text = crate::waiting::shortened(std::mem::take(&mut event.text), TEXT);
    }
    if event.data.to_string().len() > DATA {
        event.data = serde_json::json!({ "left_out": "too large" });
    }
}
