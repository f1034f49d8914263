//! What a store in one process holds: entries, leases, and the latest changes for the watchers. Pure: the time is an
//! argument.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::{Changes, Entry, Expect, Fence, LEADER, LeaseId, Revision, Snapshot, StoreError, Write, limits, log::Log};

#[derive(Default)]
pub(crate) struct State {
    pub(crate) revision: Revision,
    pub(crate) entries: BTreeMap<String, (Entry, Option<LeaseId>)>,
    log: Log,
    leases: BTreeMap<LeaseId, (Duration, Instant)>,
    last_lease: i64,
}

impl State {
    /// The state of an earlier life, its entries still to be filled in; its latest changes are forgotten. No lease gets
    /// a number up to `last_lease`.
    pub(crate) fn restored(revision: Revision, last_lease: i64) -> Self {
        Self { revision, last_lease, log: Log::after(revision), ..Self::default() }
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

    /// The revision after these writes: the same as now when they change nothing.
    pub(crate) fn revision_after(&self, writes: &[Write]) -> Revision {
        let changes = |write: &Write| match write {
            Write::Put { .. } => true,
            Write::Delete { key } => self.entries.contains_key(key),
        };
        self.revision + u64::from(writes.iter().any(changes))
    }

    /// Does a commit that was checked. Gives the revision after it.
    pub(crate) fn apply(&mut self, writes: &[Write]) -> Revision {
        self.revision = self.revision_after(writes);
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
        self.log.push(self.revision, key, entry);
    }

    /// The leases that have run out.
    pub(crate) fn expired(&self, now: Instant) -> Vec<LeaseId> {
        self.leases.iter().filter(|(_, (_, end))| *end <= now).map(|(lease, _)| *lease).collect()
    }

    /// Deletes what the leases hold; empty when they hold nothing.
    pub(crate) fn deletions(&self, leases: &[LeaseId]) -> Vec<Write> {
        let held = |of: &Option<LeaseId>| of.is_some_and(|lease| leases.contains(&lease));
        let keys = self.entries.iter().filter(|(_, (_, of))| held(of)).map(|(key, _)| key.clone());
        keys.map(|key| Write::Delete { key }).collect()
    }

    /// Ends leases: their keys are deleted. Gives the revision after it.
    pub(crate) fn end(&mut self, leases: &[LeaseId]) -> Revision {
        let deletions = self.deletions(leases);
        self.leases.retain(|lease, _| !leases.contains(lease));
        self.apply(&deletions)
    }

    /// Makes a lease.
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
        let ttl = limits::ttl(ttl);
        self.last_lease = self.last_lease.max(lease.0);
        self.leases.insert(lease, (ttl, now + ttl));
    }

    /// Renews a lease.
    pub(crate) fn keep_alive(&mut self, lease: LeaseId, now: Instant) -> Result<(), StoreError> {
        let (ttl, end) = self.leases.get_mut(&lease).ok_or(StoreError::LeaseGone)?;
        if *end <= now {
            return Err(StoreError::LeaseGone);
        }
        *end = now + *ttl;
        Ok(())
    }

    /// When the next lease runs out, unless it is renewed.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.leases.values().map(|(_, end)| *end).min()
    }

    /// What changed below a prefix after a revision; none when nothing did at all.
    pub(crate) fn changes(&self, prefix: &str, after: Revision) -> Result<Option<Changes>, StoreError> {
        // From the future: it speaks of another store.
        if after > self.revision {
            return Err(StoreError::WatchLost);
        }
        let keys = self.log.since(prefix, after).ok_or(StoreError::WatchLost)?;
        Ok((after < self.revision).then_some(Changes { revision: self.revision, keys }))
    }

    /// The same leases, whenever they end.
    pub(crate) fn has_leases_of(&self, other: &State) -> bool {
        self.leases.keys().eq(other.leases.keys())
    }
}
