//! A watch on one member.

use async_trait::async_trait;
use etcd_client::{Client, EventType, WatchOptions, WatchStream};

use super::{Attempt, errors::Failure};
use crate::{Changes, Entry, Revision, StoreError, Watch};

pub(super) struct EtcdWatch {
    stream: WatchStream,
    /// How much of each key is the store's prefix.
    cut: usize,
    after: Revision,
}

impl EtcdWatch {
    pub(super) async fn open(mut client: Client, from: String, cut: usize, after: Revision) -> Attempt<Self> {
        let options = WatchOptions::new().with_prefix().with_start_revision(after as i64 + 1);
        let stream = client.watch(from, Some(options)).await?;
        Ok(Self { stream, cut, after })
    }

    async fn changes(&mut self) -> Attempt<Changes> {
        loop {
            let response = self.stream.message().await?.ok_or_else(|| Failure::cancelled("the stream ended", false))?;
            if response.canceled() || response.compact_revision() > 0 {
                return Err(Failure::cancelled(response.cancel_reason(), response.compact_revision() > 0));
            }
            let mut keys = Vec::new();
            for event in response.events() {
                let Some(kv) = event.kv() else { continue };
                let key = String::from_utf8_lossy(kv.key().get(self.cut..).unwrap_or_default()).into_owned();
                let revision = kv.mod_revision() as Revision;
                self.after = self.after.max(revision);
                let entry = Entry { value: kv.value().into(), revision };
                keys.push((key, (event.event_type() == EventType::Put).then_some(entry)));
            }
            if !keys.is_empty() {
                return Ok(Changes { revision: self.after, keys });
            }
        }
    }
}

#[async_trait]
impl Watch for EtcdWatch {
    async fn next(&mut self) -> Result<Changes, StoreError> {
        self.changes().await.map_err(|_lost| StoreError::WatchLost)
    }
}
