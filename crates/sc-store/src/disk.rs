//! The store in one file (redb), for hosts where etcd would be too much. One process opens it; what was acknowledged
//! survives SIGKILL and power loss, since each commit is synced before it is answered.
//!
//! Everything is held in memory too, so reads cost no I/O and go on while the disk is full. After a write that failed the
//! file is opened anew and read back: what is in it then is what counts. Only when that is not possible, the outcome is
//! [`StoreError::Unknown`].
//!
//! Leases that were live when the process ended get their whole length again at the next start: their holders could not
//! renew them meanwhile.

mod file;
mod layout;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use redb::Database;
use tokio::time::{Instant, timeout};

use crate::{
    Expect, Fence, LeaseId, Revision, Snapshot, Store, StoreError, Watch, Write, limits,
    local::{Live, Local, LocalWatch},
    state::State,
};
use layout::{Batch, Failure, LAYOUT, persist, read};

/// The longest a call waits for a disk that does not answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// What to do about a full disk.
const FULL: &str = "its disk is full; make room, then it goes on by itself";

/// The store in one file.
#[derive(Clone)]
pub struct Disk {
    shared: Arc<Shared>,
}

/// Opens the file; tests put one in its place that fails.
type Opener = Box<dyn Fn() -> Result<Database, redb::Error> + Send + Sync>;

struct Shared {
    path: PathBuf,
    live: Live,
    /// Taken for the length of a write. None after a failed one: to be opened anew.
    database: Mutex<Option<Database>>,
    open: Opener,
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
        Self::open_with(path, Box::new(move || file::open(&file)))
    }

    fn open_with(path: PathBuf, open: Opener) -> Result<Self, StoreError> {
        let database = open().map_err(|error| open_error(&path, &error))?;
        let state =
            read(&database).map_err(|error| open_error(&path, &error))?.map_err(|layout| newer(&path, layout))?;
        let (live, database) = (Live::new(state), Mutex::new(Some(database)));
        Ok(Self { shared: Arc::new(Shared { path, live, database, open }) })
    }

    /// Runs something that may block on the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.shared.clone();
        match timeout(DEADLINE, tokio::task::spawn_blocking(move || act(&shared))).await {
            Ok(Ok(result)) => result,
            Ok(Err(panicked)) => Err(self.shared.unknown(panicked.to_string())),
            Err(_) => Err(self.shared.unknown(format!("no answer from its disk within {} s", DEADLINE.as_secs()))),
        }
    }
}

#[async_trait]
impl Local for Disk {
    fn live(&self) -> &Live {
        &self.shared.live
    }

    async fn expire(&self) -> Result<(), StoreError> {
        if self.shared.state().expired(Instant::now()).is_empty() {
            return Ok(());
        }
        self.blocking(Shared::expire).await
    }
}

impl Shared {
    /// The state. It is changed after the disk.
    fn state(&self) -> MutexGuard<'_, State> {
        self.live.lock()
    }

    /// Locks the file for writing, and opens it anew if the last write failed.
    fn database(&self) -> Result<MutexGuard<'_, Option<Database>>, StoreError> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if database.is_none() {
            self.reopen(&mut database)?;
        }
        Ok(database)
    }

    /// Opens the file anew, and takes what is in it for the truth.
    fn reopen(&self, database: &mut Option<Database>) -> Result<(), StoreError> {
        let opened = (self.open)().map_err(|error| self.failed(&error))?;
        let fresh = read(&opened).map_err(|error| self.failed(&error))?.map_err(|layout| newer(&self.path, layout))?;
        let same = {
            let state = self.state();
            fresh.revision == state.revision && fresh.has_leases_of(&state)
        };
        if !same {
            // The write in doubt did happen: watchers must load anew.
            self.live.replace(fresh);
        }
        *database = Some(opened);
        Ok(())
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
        let before = self.state().revision;
        let next = self.state().revision_after(batch.writes);
        if let Err(Failure { error, in_doubt }) = persist(open, next, batch) {
            *database = None;
            let known = self.reopen(database).is_ok() && next != before && self.state().revision == before;
            return Err(if in_doubt && !known { self.unknown(text(&error)) } else { self.failed(&error) });
        }
        Ok(self.live.change(finish))
    }

    fn commit(&self, fence: Option<Fence>, expects: &[Expect], writes: &[Write]) -> Result<Revision, StoreError> {
        let mut database = self.database()?;
        {
            let state = self.state();
            state.check(fence, expects, writes)?;
            if state.revision_after(writes) == state.revision {
                return Ok(state.revision);
            }
        }
        let batch = Batch { writes, ..Batch::default() };
        self.write(&mut database, &batch, |state| state.apply(writes))
    }

    fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let mut database = self.database()?;
        let lease = self.state().next_lease();
        let batch = Batch { granted: Some((lease, ttl)), ..Batch::default() };
        self.write(&mut database, &batch, |state| {
            state.adopt(lease, ttl, Instant::now());
            state.revision
        })?;
        Ok(lease)
    }

    fn end(&self, database: &mut Option<Database>, leases: &[LeaseId]) -> Result<(), StoreError> {
        let writes = self.state().deletions(leases);
        let batch = Batch { writes: &writes, gone: leases, ..Batch::default() };
        self.write(database, &batch, |state| state.end(leases))?;
        Ok(())
    }

    fn expire(&self) -> Result<(), StoreError> {
        let mut database = self.database()?;
        // Looked up again under the lock: it may have been renewed meanwhile.
        let gone = self.state().expired(Instant::now());
        if gone.is_empty() { Ok(()) } else { self.end(&mut database, &gone) }
    }

    /// Nothing was written.
    fn failed(&self, error: &redb::Error) -> StoreError {
        let store = describe(&self.path);
        match is_full(error) {
            true => StoreError::Full { store, hint: FULL.to_owned() },
            false => StoreError::Unavailable { store, source: text(error).into() },
        }
    }

    fn unknown(&self, why: String) -> StoreError {
        StoreError::Unknown { store: describe(&self.path), source: why.into() }
    }
}

fn is_full(error: &redb::Error) -> bool {
    matches!(error, redb::Error::Io(io) if matches!(io.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

fn text(error: &redb::Error) -> String {
    if is_full(error) { FULL.to_owned() } else { error.to_string() }
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
        limits::check(|| self.describe(), &expects, &writes)?;
        self.expire().await?;
        self.blocking(move |shared| shared.commit(fence, &expects, &writes)).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        Ok(Box::new(LocalWatch { store: self.clone(), prefix: prefix.to_owned(), after }))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.blocking(move |shared| shared.grant(limits::ttl(ttl))).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        // Needs no disk: a full one must cost nobody's lease.
        self.shared.state().keep_alive(lease, Instant::now())
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.blocking(move |shared| shared.end(&mut *shared.database()?, &[lease])).await
    }

    fn describe(&self) -> String {
        describe(&self.shared.path)
    }
}

#[cfg(test)]
mod tests;
