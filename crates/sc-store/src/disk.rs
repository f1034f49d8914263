//! The store in one file (redb), for hosts where etcd would be too much. One process opens it; what was acknowledged
//! survives SIGKILL and power loss, since each commit is synced before it is answered.
//!
//! Everything is held in memory too, so reads cost no I/O and go on while the disk is full. A write that fails leaves the
//! file as it was or, at worst, in doubt: the file is opened anew and read back before the next one.
//!
//! Leases that were live when the process ended get their whole length again at the next start: their holders could not
//! renew them meanwhile.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{
    Changes, Entry, Expect, Fence, LeaseId, Revision, Snapshot, Store, StoreError, Watch, Write, state::State,
};

/// Key → revision, lease (0: none), value.
const ENTRIES: TableDefinition<'_, &str, (u64, i64, &[u8])> = TableDefinition::new("entries");
/// Lease → length in milliseconds.
const LEASES: TableDefinition<'_, i64, u64> = TableDefinition::new("leases");
/// `layout` and `revision`.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The layout this release writes.
const LAYOUT: u64 = 1;

/// The store in one file.
#[derive(Clone)]
pub struct Disk {
    shared: Arc<Shared>,
}

/// Opens the file; tests put one in its place that fails.
type Opener = Box<dyn Fn() -> Result<Database, redb::Error> + Send + Sync>;

struct Shared {
    path: PathBuf,
    state: Mutex<State>,
    /// Taken for the length of a write. None after a failed one: to be opened anew.
    database: Mutex<Option<Database>>,
    open: Opener,
    changed: Notify,
}

/// Something to write, decided under the lock.
struct Batch<'a> {
    writes: &'a [Write],
    granted: Option<(LeaseId, Duration)>,
    gone: &'a [LeaseId],
}

impl Disk {
    /// Opens the file, or makes it, with its folder.
    ///
    /// # Errors
    /// When another process has it open, when it cannot be read or written, or when a newer release wrote it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| broken(&path, &format!("its folder cannot be made: {e}")))?;
        }
        let file = path.clone();
        Self::open_with(path, Box::new(move || Database::create(&file).map_err(redb::Error::from)))
    }

    fn open_with(path: PathBuf, open: Opener) -> Result<Self, StoreError> {
        let database = open().map_err(|error| open_error(&path, &error))?;
        let state =
            read(&database).map_err(|error| open_error(&path, &error))?.map_err(|layout| newer(&path, layout))?;
        let (state, database) = (Mutex::new(state), Mutex::new(Some(database)));
        Ok(Self { shared: Arc::new(Shared { path, state, database, open, changed: Notify::new() }) })
    }

    /// Runs something that may block on the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.shared.clone();
        let done = tokio::task::spawn_blocking(move || act(&shared)).await;
        done.unwrap_or_else(|error| Err(broken(&self.shared.path, &error.to_string())))
    }

    async fn expire(&self) -> Result<(), StoreError> {
        if self.shared.state().expired(Instant::now()).is_empty() {
            return Ok(());
        }
        self.blocking(Shared::expire).await
    }
}

impl Shared {
    /// The state. A panic elsewhere left it whole: it is changed in one go, after the disk.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the file for writing, and opens it anew if the last write failed.
    fn database(&self) -> Result<MutexGuard<'_, Option<Database>>, StoreError> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if database.is_none() {
            let opened = (self.open)().map_err(|error| self.error(error))?;
            let fresh =
                read(&opened).map_err(|error| self.error(error))?.map_err(|layout| newer(&self.path, layout))?;
            let mut state = self.state();
            if fresh.revision != state.revision {
                // The write in doubt did happen: watchers must load anew.
                *state = fresh;
                self.changed.notify_waiters();
            }
            *database = Some(opened);
        }
        Ok(database)
    }

    /// Writes a batch to the file, then to memory.
    fn write(
        &self,
        database: &mut Option<Database>,
        batch: &Batch<'_>,
        finish: impl FnOnce(&mut State) -> Revision,
    ) -> Result<Revision, StoreError> {
        let Some(open) = database.as_ref() else {
            return Err(broken(&self.path, "it is not open"));
        };
        let next = self.state().revision + u64::from(!batch.writes.is_empty());
        if let Err(error) = persist(open, next, batch) {
            *database = None;
            return Err(self.error(error));
        }
        let mut state = self.state();
        let before = state.revision;
        let revision = finish(&mut state);
        let changed = state.revision != before;
        drop(state);
        if changed {
            self.changed.notify_waiters();
        }
        Ok(revision)
    }

    fn commit(&self, fence: Option<Fence>, expects: &[Expect], writes: &[Write]) -> Result<Revision, StoreError> {
        let mut database = self.database()?;
        {
            let state = self.state();
            state.check(fence, expects, writes)?;
            if writes.is_empty() {
                return Ok(state.revision);
            }
        }
        let batch = Batch { writes, granted: None, gone: &[] };
        self.write(&mut database, &batch, |state| state.apply(writes))
    }

    fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let mut database = self.database()?;
        let lease = self.state().next_lease();
        let batch = Batch { writes: &[], granted: Some((lease, ttl)), gone: &[] };
        self.write(&mut database, &batch, |state| {
            state.adopt(lease, ttl, Instant::now());
            state.revision
        })?;
        Ok(lease)
    }

    fn end(&self, database: &mut Option<Database>, leases: &[LeaseId]) -> Result<(), StoreError> {
        let writes = self.state().deletions(leases);
        let batch = Batch { writes: &writes, granted: None, gone: leases };
        self.write(database, &batch, |state| {
            state.forget(leases);
            state.apply(&writes)
        })?;
        Ok(())
    }

    fn expire(&self) -> Result<(), StoreError> {
        let mut database = self.database()?;
        // Looked up again under the lock: it may have been renewed meanwhile.
        let gone = self.state().expired(Instant::now());
        if gone.is_empty() { Ok(()) } else { self.end(&mut database, &gone) }
    }

    fn error(&self, error: redb::Error) -> StoreError {
        let store = describe(&self.path);
        match &error {
            redb::Error::Io(io) if matches!(io.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                let hint = "the disk is full; make room, the manager then goes on by itself".to_owned();
                StoreError::Full { store, hint }
            }
            _ => StoreError::Unknown { store, source: Box::new(error) },
        }
    }
}

/// Writes a batch and syncs it.
fn persist(database: &Database, revision: Revision, batch: &Batch<'_>) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut entries = transaction.open_table(ENTRIES)?;
        for write in batch.writes {
            match write {
                Write::Put { key, value, lease } => {
                    entries.insert(key.as_str(), (revision, lease.map_or(0, |lease| lease.0), value.as_slice()))?;
                }
                Write::Delete { key } => _ = entries.remove(key.as_str())?,
            }
        }
        let mut leases = transaction.open_table(LEASES)?;
        if let Some((lease, ttl)) = batch.granted {
            leases.insert(lease.0, ttl.as_millis() as u64)?;
        }
        for lease in batch.gone {
            leases.remove(lease.0)?;
        }
        transaction.open_table(META)?.insert("revision", revision)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Reads everything; the inner error is the layout of a newer release.
fn read(database: &Database) -> Result<Result<State, u64>, redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        let layout = meta.get("layout")?.map(|layout| layout.value());
        if layout.is_some_and(|layout| layout > LAYOUT) {
            return Ok(Err(layout.unwrap_or_default()));
        }
        if layout.is_none() {
            meta.insert("layout", LAYOUT)?;
        }
        transaction.open_table(ENTRIES)?;
        transaction.open_table(LEASES)?;
    }
    transaction.commit()?;
    let transaction = database.begin_read()?;
    let revision = transaction.open_table(META)?.get("revision")?.map_or(0, |revision| revision.value());
    let mut state = State::restored(revision);
    for row in transaction.open_table(ENTRIES)?.iter()? {
        let (key, value) = row?;
        let (revision, lease, value) = value.value();
        let entry = Entry { value: value.into(), revision };
        state.entries.insert(key.value().to_owned(), (entry, (lease != 0).then_some(LeaseId(lease))));
    }
    for row in transaction.open_table(LEASES)?.iter()? {
        let (lease, ttl) = row?;
        state.adopt(LeaseId(lease.value()), Duration::from_millis(ttl.value()), Instant::now());
    }
    Ok(Ok(state))
}

fn describe(path: &Path) -> String {
    format!("the store {}", path.display())
}

fn broken(path: &Path, what: &str) -> StoreError {
    StoreError::Broken { store: describe(path), what: what.to_owned() }
}

fn newer(path: &Path, layout: u64) -> StoreError {
    broken(path, &format!("a newer release wrote it (layout {layout}, this one knows {LAYOUT}); run that release"))
}

fn open_error(path: &Path, error: &redb::Error) -> StoreError {
    match error {
        redb::Error::DatabaseAlreadyOpen => {
            broken(path, "another manager has it open; stop that one, or give this one another --data folder")
        }
        _ => broken(path, &format!("it cannot be opened: {error}")),
    }
}

#[async_trait]
impl Store for Disk {
    async fn load(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        // What has run out is gone for readers only once that is on disk; a full disk does not stop them reading.
        let _ = self.expire().await;
        Ok(self.shared.state().snapshot(prefix))
    }

    async fn commit(
        &self,
        fence: Option<Fence>,
        expects: Vec<Expect>,
        writes: Vec<Write>,
    ) -> Result<Revision, StoreError> {
        self.expire().await?;
        self.blocking(move |shared| shared.commit(fence, &expects, &writes)).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        Ok(Box::new(DiskWatch { store: self.clone(), prefix: prefix.to_owned(), after }))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.blocking(move |shared| shared.grant(ttl)).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.expire().await?;
        self.shared.state().keep_alive(lease, Instant::now())
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.blocking(move |shared| shared.end(&mut *shared.database()?, &[lease])).await
    }

    fn describe(&self) -> String {
        describe(&self.shared.path)
    }
}

struct DiskWatch {
    store: Disk,
    prefix: String,
    after: Revision,
}

#[async_trait]
impl Watch for DiskWatch {
    async fn next(&mut self) -> Result<Changes, StoreError> {
        loop {
            let changed = self.store.shared.changed.notified();
            let (changes, next_expiry) = {
                let state = self.store.shared.state();
                (state.changes(&self.prefix, self.after)?, state.next_expiry())
            };
            if let Some(changes) = changes {
                self.after = changes.revision;
                if !changes.keys.is_empty() {
                    return Ok(changes);
                }
                continue;
            }
            match next_expiry {
                None => changed.await,
                Some(end) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(end) => {
                        if self.store.expire().await.is_err() {
                            // The disk is full: the deletion comes later, when there is room.
                            tokio::time::sleep(Duration::from_secs(1)).await;
                        }
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests;
