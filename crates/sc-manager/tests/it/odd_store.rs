//! A store with a quota, and with a count of what becomes of its leases.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use async_trait::async_trait;
use sc_core::records::key;
use sc_store::{Expect, Fence, Health, LeaseId, Memory, Revision, Snapshot, Store, StoreError, Trouble, Watch, Write};

pub struct OddStore {
    inner: Memory,
    /// Above so many bytes nothing more is put, as in etcd.
    pub quota: AtomicUsize,
    /// Something was refused for want of room; until it is disarmed.
    pub alarm: AtomicBool,
    /// The next commit that writes the leader's key gets lost, with a "don't know" for an answer.
    pub loses_campaign: AtomicBool,
    pub granted: AtomicUsize,
    pub revoked: AtomicUsize,
}

impl OddStore {
    pub fn new() -> Self {
        let (granted, revoked) = Default::default();
        let alarm = AtomicBool::default();
        Self { inner: Memory::new(), quota: usize::MAX.into(), alarm, loses_campaign: false.into(), granted, revoked }
    }

    /// What is in it, in bytes.
    pub fn bytes(&self) -> usize {
        self.inner.inspect().entries.iter().map(|(key, entry)| key.len() + entry.value.len()).sum()
    }

    fn full(&self) -> StoreError {
        StoreError::Full { store: self.describe(), hint: "give it a larger quota".to_owned() }
    }

    fn lost(&self) -> StoreError {
        StoreError::Unknown { store: self.describe(), source: "the test lost it".into() }
    }
}

#[async_trait]
impl Store for OddStore {
    async fn load(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        self.inner.load(prefix).await
    }

    async fn commit(
        &self,
        fence: Option<Fence>,
        expects: Vec<Expect>,
        writes: Vec<Write>,
    ) -> Result<Revision, StoreError> {
        let put = |write: &Write| match write {
            Write::Put { key, value, .. } => key.len() + value.len(),
            Write::Delete { .. } => 0,
        };
        let more: usize = writes.iter().map(put).sum();
        if more > 0 && self.bytes() + more > self.quota.load(SeqCst) {
            self.alarm.store(true, SeqCst);
            return Err(self.full());
        }
        let campaigns = writes.iter().any(|write| matches!(write, Write::Put { key, .. } if key == key::LEADER));
        if campaigns && self.loses_campaign.swap(false, SeqCst) {
            return Err(self.lost());
        }
        self.inner.commit(fence, expects, writes).await
    }

    async fn health(&self) -> Result<Health, StoreError> {
        let (bytes, quota) = (self.bytes() as u64, self.quota.load(SeqCst) as u64);
        let full = self.alarm.load(SeqCst);
        let trouble = Trouble { what: "alarm: NOSPACE".to_owned(), fix: "make room".to_owned() };
        let quota = (quota < usize::MAX as u64).then_some(quota);
        let troubles = full.then_some(trouble).into_iter().collect();
        Ok(Health { bytes: Some(bytes), used: Some(bytes), quota, troubles })
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.inner.watch(prefix, after).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.granted.fetch_add(1, SeqCst);
        self.inner.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.revoked.fetch_add(1, SeqCst);
        self.inner.revoke(lease).await
    }

    fn describe(&self) -> String {
        "the test's store".to_owned()
    }
}
