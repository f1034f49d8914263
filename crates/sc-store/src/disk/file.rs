//! The file under redb: private, and with its room on the disk taken when it grows. So a full disk shows itself while a
//! commit is prepared, where it does no harm, hardly ever in the middle of one.

use std::{
    fs::{File, OpenOptions},
    io,
    ops::Bound,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use redb::{BackendError, Database, StorageBackend, backends::FileBackend};
use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

/// redb's page cache: everything is held in memory beside it, and it is read only at the start.
const CACHE_BYTES: usize = 8 << 20;

/// Opens the database on a backend.
pub(super) fn database(backend: impl StorageBackend) -> Result<Database, redb::Error> {
    Ok(Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend)?)
}

/// Opens the file, or makes it.
pub(super) fn open(path: &Path) -> Result<Database, redb::Error> {
    let new = !path.exists();
    // It holds what the apps' owners consider theirs: not for other users' eyes.
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if new && let Some(folder) = path.parent() {
        // A file is only as durable as its name.
        File::open(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })?.sync_all()?;
    }
    database(Reserving { room: file.try_clone()?, inner: FileBackend::new(file)? })
}

#[derive(Debug)]
struct Reserving {
    inner: FileBackend,
    /// The same file.
    room: File,
}

impl Reserving {
    fn reserve(&self, before: u64, len: u64) -> io::Result<()> {
        match fallocate(&self.room, FallocateFlags::empty(), before, len - before) {
            // The file system cannot: then a full disk shows itself later.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl StorageBackend for Reserving {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let before = self.inner.len()?;
        if len > before {
            self.reserve(before, len)?;
        }
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
