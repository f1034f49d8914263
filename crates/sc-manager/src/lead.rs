//! Who acts: one manager at a time holds the leased key `leader`. The revision of that key is the epoch, which every
//! commit compares; so a manager that only believes it leads writes nothing and, since engine calls are checked by a
//! commit, breaks nothing.

use std::{sync::Arc, time::Duration};

use sc_core::records::{self, Leader, key};
use sc_store::{Expect, Fence, LeaseId, Revision, Store, StoreError, Write};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{clock::Clock, mirror::Mirror, waiting::chain};

/// How long the leader's lease lasts without renewal.
pub const TTL: Duration = Duration::from_secs(5);

/// One manager's candidacy.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The manager's id: `PLACE:PID:START`.
    pub id: String,
    /// What only one living manager can have: its data folder, which it holds locked. A leader of the same place is
    /// dead, so its lease need not be waited for. Empty: no such thing.
    pub place: String,
    /// Where its API listens.
    pub api: String,
}

/// An epoch won.
struct Won {
    fence: Fence,
    lease: LeaseId,
}

impl Candidate {
    /// Stands for leader again and again; `fence` says whether it leads, and in which epoch. Ends only by being dropped.
    pub async fn run(
        &self,
        store: Arc<dyn Store>,
        mirror: &Mirror,
        clock: Arc<dyn Clock>,
        fence: &watch::Sender<Option<Fence>>,
    ) {
        loop {
            match self.campaign(store.as_ref(), clock.as_ref()).await {
                Ok(Some(won)) => {
                    tracing::info!(epoch = won.fence.epoch, "this manager leads");
                    fence.send_replace(Some(won.fence));
                    let _lost = LostOnDrop(fence);
                    hold(store.as_ref(), mirror, &won).await;
                    tracing::warn!(epoch = won.fence.epoch, "this manager no longer leads");
                }
                Ok(None) => vacancy(mirror).await,
                Err(error) => {
                    mirror.note(&error);
                    tracing::debug!(error = chain(&error), "could not stand for leader");
                    sleep(TTL / 10).await;
                }
            }
        }
    }

    /// Takes the key if it is free, or if its holder is dead for sure.
    async fn campaign(&self, store: &dyn Store, clock: &dyn Clock) -> Result<Option<Won>, StoreError> {
        let before = store.load(key::LEADER).await?;
        let held = before.entries.get(key::LEADER);
        if held.is_some_and(|entry| !self.may_replace(&entry.value)) {
            return Ok(None);
        }
        let lease = store.grant(TTL).await?;
        let expect = Expect { key: key::LEADER.to_owned(), revision: held.map_or(0, |entry| entry.revision) };
        let record = Leader {
            v: 1,
            holder: self.id.clone(),
            api: self.api.clone(),
            since_ms: clock.now_ms(),
            extra: Default::default(),
        };
        let write = Write::Put { key: key::LEADER.to_owned(), value: records::write(&record), lease: Some(lease) };
        match store.commit(None, vec![expect], vec![write]).await {
            Ok(epoch) => Ok(Some(Won { fence: Fence { epoch }, lease })),
            Err(StoreError::Unknown { .. }) => match self.look(store).await {
                Ok(Some(epoch)) => Ok(Some(Won { fence: Fence { epoch }, lease })),
                not_mine => {
                    // Nor does a commit that comes late make it leader then: it fails without its lease.
                    give_back(store, lease).await;
                    not_mine.map(|_| None)
                }
            },
            Err(error) => {
                give_back(store, lease).await;
                if matches!(error, StoreError::Conflict) { Ok(None) } else { Err(error) }
            }
        }
    }

    /// After a commit without an answer: the epoch, if it was made.
    async fn look(&self, store: &dyn Store) -> Result<Option<Revision>, StoreError> {
        let now = store.load(key::LEADER).await?;
        let entry = now.entries.get(key::LEADER);
        Ok(entry.filter(|e| self.holder_of(&e.value).as_deref() == Some(&self.id)).map(|e| e.revision))
    }

    fn may_replace(&self, value: &[u8]) -> bool {
        let holder = self.holder_of(value).unwrap_or_default();
        !self.place.is_empty() && holder.strip_prefix(&self.place).is_some_and(|rest| rest.starts_with(':'))
    }

    fn holder_of(&self, value: &[u8]) -> Option<String> {
        records::read::<Leader>(key::LEADER, value).ok().map(|leader| leader.holder)
    }
}

/// Ends a lease that holds nothing. Where that does not work, it runs out by itself.
async fn give_back(store: &dyn Store, lease: LeaseId) {
    let _ = timeout(TTL / 5, store.revoke(lease)).await;
}

/// Says that nobody leads here, also when the candidacy is dropped in the middle.
struct LostOnDrop<'a>(&'a watch::Sender<Option<Fence>>);

impl Drop for LostOnDrop<'_> {
    fn drop(&mut self) {
        self.0.send_replace(None);
    }
}

/// Renews the lease until it cannot be relied on any more.
async fn hold(store: &dyn Store, mirror: &Mirror, won: &Won) {
    let mut renewed = Instant::now();
    let mut changes = mirror.changes();
    let mut next = renewed + TTL / 3;
    loop {
        tokio::select! {
            biased;
            () = changes.next() => {
                if replaced(mirror, won.fence) {
                    return;
                }
                continue;
            }
            () = tokio::time::sleep_until(next) => {}
        }
        let asked = Instant::now();
        match timeout(TTL / 3, store.keep_alive(won.lease)).await {
            Ok(Ok(())) => renewed = asked,
            Ok(Err(StoreError::LeaseGone)) => return,
            Ok(Err(error)) => mirror.note(&error),
            Err(_late) => {}
        }
        // Given up before the lease can have run out: two managers may both think they lead, but not for long.
        if renewed.elapsed() >= TTL - TTL / 5 {
            return;
        }
        next = Instant::now() + if renewed == asked { TTL / 3 } else { TTL / 10 };
    }
}

fn replaced(mirror: &Mirror, fence: Fence) -> bool {
    let Some(snapshot) = mirror.snapshot() else { return false };
    let epoch = snapshot.entries.get(key::LEADER).map_or(0, |entry| entry.revision);
    snapshot.revision >= fence.epoch && epoch != fence.epoch
}

/// Waits until the key may be free.
async fn vacancy(mirror: &Mirror) {
    let mut changes = mirror.changes();
    let gone = async {
        loop {
            changes.next().await;
            if mirror.snapshot().is_some_and(|s| !s.entries.contains_key(key::LEADER)) {
                return;
            }
        }
    };
    let _ = timeout(TTL / 3, gone).await;
}

/// Lets go of leadership at a graceful end, so that the next one need not wait for the lease to run out.
pub async fn resign(store: &dyn Store, fence: Fence) {
    let expect = Expect { key: key::LEADER.to_owned(), revision: fence.epoch };
    let gone = Write::Delete { key: key::LEADER.to_owned() };
    let _ = timeout(Duration::from_secs(1), store.commit(Some(fence), vec![expect], vec![gone])).await;
}
