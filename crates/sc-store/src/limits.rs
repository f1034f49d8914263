//! What a commit and a lease may look like: the same for every store, and refused before anything is sent.

use std::{collections::BTreeSet, time::Duration};

use crate::{COMMIT_BYTES_MAX, COMMIT_MAX, Expect, StoreError, Write};

/// Refuses what etcd could not take.
pub(crate) fn check(store: impl Fn() -> String, expects: &[Expect], writes: &[Write]) -> Result<(), StoreError> {
    let operations = expects.len() + writes.len();
    if operations > COMMIT_MAX {
        return Err(StoreError::TooLarge { operations });
    }
    let bytes = writes.iter().map(size).sum();
    if bytes > COMMIT_BYTES_MAX {
        return Err(StoreError::TooManyBytes { bytes });
    }
    let broken = |what: String| Err(StoreError::Broken { store: store(), what });
    let mut keys = writes.iter().map(key).chain(expects.iter().map(|expect| expect.key.as_str()));
    if keys.any(str::is_empty) {
        return broken("a key is empty".to_owned());
    }
    let mut written = BTreeSet::new();
    match writes.iter().map(key).find(|key| !written.insert(*key)) {
        Some(twice) => broken(format!("one commit writes the key {twice} twice")),
        None => Ok(()),
    }
}

/// A lease's length: whole seconds, rounded up, at least one.
pub(crate) fn ttl(ttl: Duration) -> Duration {
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    Duration::from_secs(seconds.max(1))
}

/// The key a write is about.
pub(crate) fn key(write: &Write) -> &str {
    match write {
        Write::Put { key, .. } | Write::Delete { key } => key,
    }
}

fn size(write: &Write) -> usize {
    match write {
        Write::Put { key, value, .. } => key.len() + value.len(),
        Write::Delete { key } => key.len(),
    }
}
