//! What a store in one process holds: entries, leases, and the latest changes for the watchers. Pure: the time is an
//! argument.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::{COMMIT_MAX, Changes, Entry, Expect, Fence, LEADER, LeaseId, Revision, Snapshot, StoreError, Write};

/// How many changes watchers may fall behind before they must load anew.
const LOG_MAX: usize = 10_000;

#[derive(Default)]
pub(crate) struct State {
    pub(crate) revision: Revision,
    pub(crate) entries: BTreeMap<String, (Entry, Option<LeaseId>)>,
    log: VecDeque<(Revision, String, Option<Entry>)>,
    /// Changes up to this revision are no longer in the log.
    compacted: Revision,
    leases: BTreeMap<LeaseId, (Duration, Instant)>,
    last_lease: i64,
}

impl State {
    /// The state of an earlier life at this revision, still to be filled; its latest changes are forgotten.
    pub(crate) fn restored(revision: Revision) -> Self {
        Self { revision, compacted: revision, ..Self::default() }
    }

    /// Everything below a prefix.
    pub(crate) fn snapshot(&self, prefix: &str) -> Snapshot {
        let entries = self.entries.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        let entries = entries.map(|(key, (entry, _))| (key.clone(), entry.clone())).collect();
        Snapshot { revision: self.revision, entries }
    }

    pub(crate) fn revision_of(&self, key: &str) -> Revision {
        self.entries.get(key).map_or(0, |(entry, _)| entry.revision)
    }

    /// Checks and does a commit.
    pub(crate) fn commit(
        &mut self,
        fence: Option<Fence>,
        expects: &[Expect],
        writes: &[Write],
    ) -> Result<Revision, StoreError> {
        self.check(fence, expects, writes)?;
        Ok(self.apply(writes))
    }

    /// Whether a commit may happen.
    pub(crate) fn check(&self, fence: Option<Fence>, expects: &[Expect], writes: &[Write]) -> Result<(), StoreError> {
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
        Ok(())
    }

    /// Does a commit that was checked. Gives the revision after it.
    pub(crate) fn apply(&mut self, writes: &[Write]) -> Revision {
        if !writes.is_empty() {
            self.revision += 1;
        }
        for write in writes {
            self.write(write);
        }
        self.revision
    }

    /// Does one change at the current revision.
    fn write(&mut self, write: &Write) {
        let (key, entry) = match write {
            Write::Put { key, value, lease } => {
                let entry = Entry { value: value.as_slice().into(), revision: self.revision };
                self.entries.insert(key.clone(), (entry.clone(), *lease));
                (key.clone(), Some(entry))
            }
            Write::Delete { key } => match self.entries.remove(key) {
                Some(_) => (key.clone(), None),
                None => return,
            },
        };
        self.log.push_back((self.revision, key, entry));
        while self.log.len() > LOG_MAX {
            self.compacted = self.log.pop_front().map_or(self.compacted, |(revision, ..)| revision);
        }
    }

    /// The leases that have run out, with the deletion of their keys: a commit like any other.
    pub(crate) fn expired(&self, now: Instant) -> Vec<LeaseId> {
        self.leases.iter().filter(|(_, (_, end))| *end <= now).map(|(lease, _)| *lease).collect()
    }

    /// Deletes what the leases hold; empty when they hold nothing.
    pub(crate) fn deletions(&self, leases: &[LeaseId]) -> Vec<Write> {
        let held = |of: &Option<LeaseId>| of.is_some_and(|lease| leases.contains(&lease));
        let keys = self.entries.iter().filter(|(_, (_, of))| held(of)).map(|(key, _)| key.clone());
        keys.map(|key| Write::Delete { key }).collect()
    }

    /// Forgets leases, their keys deleted.
    pub(crate) fn forget(&mut self, leases: &[LeaseId]) {
        for lease in leases {
            self.leases.remove(lease);
        }
    }

    /// Makes a lease of at least a second.
    pub(crate) fn grant(&mut self, ttl: Duration, now: Instant) -> LeaseId {
        let lease = self.next_lease();
        self.adopt(lease, ttl, now);
        lease
    }

    /// The number of the next lease.
    pub(crate) fn next_lease(&self) -> LeaseId {
        LeaseId(self.last_lease + 1)
    }

    /// Takes a lease of an earlier life, with its whole length before it.
    pub(crate) fn adopt(&mut self, lease: LeaseId, ttl: Duration, now: Instant) {
        let ttl = ttl.max(Duration::from_secs(1));
        self.last_lease = self.last_lease.max(lease.0);
        self.leases.insert(lease, (ttl, now + ttl));
    }

    /// Renews a lease.
    pub(crate) fn keep_alive(&mut self, lease: LeaseId, now: Instant) -> Result<(), StoreError> {
        let (ttl, end) = self.leases.get_mut(&lease).ok_or(StoreError::LeaseGone)?;
        *end = now + *ttl;
        Ok(())
    }

    /// When the next lease runs out, unless it is renewed.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.leases.values().map(|(_, end)| *end).min()
    }

    /// What changed below a prefix after a revision; none when nothing did at all.
    pub(crate) fn changes(&self, prefix: &str, after: Revision) -> Result<Option<Changes>, StoreError> {
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
