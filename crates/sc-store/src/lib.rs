//! The state of sc, outside every process that may die: one trait, three implementations (memory, an embedded file,
//! etcd), one conformance suite for all.
//!
//! Keys are texts below the store's prefix, values are bytes. Revisions count commits of the whole store and only grow.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;

mod disk;
#[cfg(feature = "etcd")]
mod etcd;
mod limits;
mod local;
mod log;
mod memory;
mod state;

pub use disk::Disk;
#[cfg(feature = "etcd")]
pub use etcd::{Etcd, EtcdConfig};
pub use memory::{Call, Fault, Faults, Memory};

/// The key that a [`Fence`] compares.
pub const LEADER: &str = "leader";

/// Counts commits. 0 is the empty store; a key that is absent has "revision 0".
pub type Revision = u64;

/// One key's value and the revision that last wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Arc<[u8]>,
    /// The commit that wrote it.
    pub revision: Revision,
}

/// A consistent view of all keys below a prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The revision of the whole store that this is a view of.
    pub revision: Revision,
    /// By key.
    pub entries: BTreeMap<String, Entry>,
}

/// What must hold for a commit to happen: this key was last written by this revision (0: it is absent).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    /// The key.
    pub key: String,
    /// Its revision, or 0 for absent.
    pub revision: Revision,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put {
        /// The key.
        key: String,
        /// Its new value.
        value: Vec<u8>,
        /// Goes away when this lease does.
        lease: Option<LeaseId>,
    },
    /// Deletes a key; a missing one is no error.
    Delete {
        /// The key.
        key: String,
    },
}

/// The leader's epoch: the revision of the key `leader`. A commit with a fence happens only while that is still its revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// The revision at which this manager wrote `leader`.
    pub epoch: Revision,
}

/// A lease: keys tied to it vanish when it is not renewed in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(pub i64);

/// What changed below a watched prefix, in the order of commits. One batch may hold several commits, but no part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Everything up to this revision is included.
    pub revision: Revision,
    /// Key → new entry, or none when it was deleted.
    pub keys: Vec<(String, Option<Entry>)>,
}

/// A running watch. Dropping it ends it.
#[async_trait]
pub trait Watch: Send {
    /// Waits for the next changes. Cancel-safe.
    ///
    /// # Errors
    /// When the watch broke or fell behind: load anew, then watch anew. A watch is a hint; callers re-list now and then
    /// as well.
    async fn next(&mut self) -> Result<Changes, StoreError>;
}

/// The most operations (expects and writes together, the fence aside) in one commit: etcd refuses above 128.
pub const COMMIT_MAX: usize = 100;

/// The most bytes of keys and values one commit may write: etcd refuses requests above 1.5 MiB.
pub const COMMIT_BYTES_MAX: usize = 1 << 20;

/// The state of sc.
///
/// Every call ends within a deadline of the implementation's own (a few seconds); none retries without end.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads everything below `prefix` ("" for all), linearizably.
    async fn load(&self, prefix: &str) -> Result<Snapshot, StoreError>;

    /// Does all `writes` if the fence and all `expects` hold, else nothing. Gives the new revision, or the current one
    /// when nothing changes: `writes` is empty, or only deletes what is not there. No key may be written twice.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] or [`StoreError::Fenced`] when it did not happen; [`StoreError::Unknown`] when it may have.
    async fn commit(
        &self,
        fence: Option<Fence>,
        expects: Vec<Expect>,
        writes: Vec<Write>,
    ) -> Result<Revision, StoreError>;

    /// Watches `prefix` for commits after `after`.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError>;

    /// Makes a lease of this length, rounded up to whole seconds (at least 1).
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError>;

    /// Renews a lease.
    ///
    /// # Errors
    /// [`StoreError::LeaseGone`] when it has run out.
    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Ends a lease and deletes its keys.
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// How it is by its own account.
    async fn health(&self) -> Result<Health, StoreError> {
        Ok(Health::default())
    }

    /// What it is and where, for messages: `etcd at http://127.0.0.1:2379`.
    fn describe(&self) -> String;
}

/// How a store is by its own account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Bytes on its disk; none: it does not say.
    pub bytes: Option<u64>,
    /// Bytes of these that hold something; the others are free to be written again. None: it does not say.
    pub used: Option<u64>,
    /// The most bytes there may be on its disk: at that size it refuses writes. None: no such bound, or it does not say.
    pub quota: Option<u64>,
    /// What is wrong with it, each with what to do.
    pub troubles: Vec<Trouble>,
}

/// Something that is wrong with a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What.
    pub what: String,
    /// What to do.
    pub fix: String,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another commit came first; nothing was written.
    #[error("another change came first")]
    Conflict,
    /// This manager no longer leads; nothing was written.
    #[error("another manager leads now")]
    Fenced,
    /// The commit is too large; nothing was written.
    #[error("a commit of {operations} operations is over the limit of {COMMIT_MAX}")]
    TooLarge {
        /// How many it had.
        operations: usize,
    },
    /// The commit writes too many bytes; nothing was written.
    #[error("a commit of {bytes} bytes is over the limit of {COMMIT_BYTES_MAX}")]
    TooManyBytes {
        /// How many it had, keys and values.
        bytes: usize,
    },
    /// The store is full; nothing was written. Reads go on.
    #[error("{store} is full: {hint}")]
    Full {
        /// Which.
        store: String,
        /// What to do.
        hint: String,
    },
    /// The store cannot be reached; nothing was written.
    #[error("{store} cannot be reached")]
    Unavailable {
        /// Which.
        store: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer came: the commit may or may not have happened. Load and look.
    #[error("{store} did not answer: the change may or may not have been made")]
    Unknown {
        /// Which.
        store: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// User and password, or the client certificate, were refused.
    #[error("{store} refused access: {why}")]
    Denied {
        /// Which.
        store: String,
        /// Its words.
        why: String,
    },
    /// The lease has run out.
    #[error("the lease has run out")]
    LeaseGone,
    /// The watch fell behind or broke.
    #[error("the watch has ended: load anew")]
    WatchLost,
    /// Something else.
    #[error("{store}: {what}")]
    Broken {
        /// Which.
        store: String,
        /// What.
        what: String,
    },
}
