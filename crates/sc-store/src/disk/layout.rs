//! What the file holds, and how a batch gets into it.

use std::time::Duration;

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use tokio::time::Instant;

use crate::{Entry, LeaseId, Revision, Write, state::State};

/// Key → revision, lease (0: none), value.
const ENTRIES: TableDefinition<'_, &str, (u64, i64, &[u8])> = TableDefinition::new("entries");
/// Lease → length in milliseconds.
const LEASES: TableDefinition<'_, i64, u64> = TableDefinition::new("leases");
/// `layout`, `revision`, and `lease`, the last number given to one.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The layout this release writes.
pub(super) const LAYOUT: u64 = 1;

/// Something to write, decided under the lock.
#[derive(Default)]
pub(super) struct Batch<'a> {
    pub(super) writes: &'a [Write],
    pub(super) granted: Option<(LeaseId, Duration)>,
    pub(super) gone: &'a [LeaseId],
}

/// Why a batch was not written.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: redb::Error,
    /// It failed so late that it may be in the file all the same.
    pub(super) in_doubt: bool,
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.into(), in_doubt: false }
    }
}

/// Writes a batch and syncs it.
pub(super) fn persist(database: &Database, revision: Revision, batch: &Batch<'_>) -> Result<(), Failure> {
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
        let mut meta = transaction.open_table(META)?;
        if let Some((lease, ttl)) = batch.granted {
            leases.insert(lease.0, ttl.as_millis() as u64)?;
            meta.insert("lease", lease.0 as u64)?;
        }
        for lease in batch.gone {
            leases.remove(lease.0)?;
        }
        meta.insert("layout", LAYOUT)?;
        meta.insert("revision", revision)?;
    }
    transaction.commit().map_err(|error| Failure { error: error.into(), in_doubt: true })
}

/// Reads everything, and writes nothing: so that it works on a full disk. The inner error is the layout of a newer
/// release.
pub(super) fn read(database: &Database) -> Result<Result<State, u64>, redb::Error> {
    let transaction = database.begin_read()?;
    let layout = number(&transaction, "layout")?;
    if layout > LAYOUT {
        return Ok(Err(layout));
    }
    if layout == 0 {
        return Ok(Ok(State::default()));
    }
    let mut state = State::restored(number(&transaction, "revision")?, number(&transaction, "lease")? as i64);
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

/// A number in [`META`]; 0 while there is none.
fn number(transaction: &ReadTransaction, name: &str) -> Result<u64, redb::Error> {
    match transaction.open_table(META) {
        Ok(meta) => Ok(meta.get(name)?.map_or(0, |number| number.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
