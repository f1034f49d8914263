//! A watch on one member.

use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{Client, EventType, WatchOptions, WatchResponse, WatchStream};
use tokio::time::{Instant, timeout_at};

use super::{ANSWER_BYTES_MAX, Attempt, errors::Failure};
use crate::{Changes, Entry, Revision, StoreError, Watch};

pub(super) struct EtcdWatch {
    stream: WatchStream,
    /// How much of each key is the store's prefix.
    cut: usize,
    after: Revision,
    silence: Duration,
    /// When to ask for a sign of life, or, once asked, to give up.
    until: Instant,
    asked: bool,
}

impl EtcdWatch {
    pub(super) async fn open(
        client: Client,
        from: String,
        cut: usize,
        after: Revision,
        silence: Duration,
    ) -> Attempt<Self> {
        let mut client = client.watch_client().max_decoding_message_size(ANSWER_BYTES_MAX);
        let options = WatchOptions::new().with_prefix().with_start_revision(after as i64 + 1);
        let stream = client.watch(from, Some(options)).await?;
        Ok(Self { stream, cut, after, silence, until: Instant::now() + silence, asked: false })
    }

    async fn changes(&mut self) -> Attempt<Changes> {
        loop {
            let response = self.response().await?;
            if response.canceled() || response.compact_revision() > 0 {
                return Err(Failure::cancelled(response.cancel_reason(), response.compact_revision() > 0));
            }
            let now = response.header().map_or(0, |header| header.revision() as Revision);
            if response.created() && now < self.after {
                return Err(Failure::cancelled("etcd is older than what was seen of it", false));
            }
            let keys = self.keys(&response);
            if !keys.is_empty() {
                return Ok(Changes { revision: self.after, keys });
            }
        }
    }

    /// The next response. A silent etcd is asked for its progress; one that does not answer has lost the watch.
    async fn response(&mut self) -> Attempt<WatchResponse> {
        loop {
            if let Ok(response) = timeout_at(self.until, self.stream.message()).await {
                let response = response?.ok_or_else(|| Failure::cancelled("the stream ended", false))?;
                self.wait(false);
                return Ok(response);
            }
            if self.asked {
                return Err(Failure::silent(self.silence));
            }
            let ask = self.stream.request_progress();
            timeout_at(Instant::now() + self.silence, ask).await.map_err(|_| Failure::silent(self.silence))??;
            self.wait(true);
        }
    }

    fn wait(&mut self, asked: bool) {
        self.until = Instant::now() + self.silence;
        self.asked = asked;
    }

    fn keys(&mut self, response: &WatchResponse) -> Vec<(String, Option<Entry>)> {
        let mut keys = Vec::with_capacity(response.events().len());
        for event in response.events() {
            let Some(kv) = event.kv() else { continue };
            let key = String::from_utf8_lossy(kv.key().get(self.cut..).unwrap_or_default()).into_owned();
            let revision = kv.mod_revision() as Revision;
            self.after = self.after.max(revision);
            let entry = Entry { value: kv.value().into(), revision };
            keys.push((key, (event.event_type() == EventType::Put).then_some(entry)));
        }
        keys
    }
}

#[async_trait]
impl Watch for EtcdWatch {
    async fn next(&mut self) -> Result<Changes, StoreError> {
        self.changes().await.map_err(|_lost| StoreError::WatchLost)
    }
}
