//! The store in etcd (v3 API, 3.4 and later).
//!
//! **Calls** go to one member at a time; a member that fails or does not answer is left for the next one. A call that
//! changes nothing, or that certainly was not sent, is tried on every member within its deadline; a commit that may have
//! been sent is not sent again: its outcome is [`StoreError::Unknown`], and the caller loads and looks.
//!
//! **Reads are linearizable**, also the check of a commit without writes: etcd would answer an empty transaction from a
//! member's own, perhaps stale, state, so it carries a read along.
//!
//! **Watches are hints.** Their revision is that of the last change in them, never that of a progress notification,
//! which releases before 3.4.25 may send ahead of the changes it speaks for (etcd#15220). A member that is cut off
//! or hangs is noticed by HTTP/2 pings, and `require_leader` ends the watch on one without quorum.

mod connection;
mod errors;
mod watch;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use etcd_client::{Client, Compare, CompareOp, GetOptions, LeaseGrantOptions, PutOptions, Txn, TxnOp, TxnOpResponse};
use tokio::time::{Instant, timeout_at};

use crate::{COMMIT_MAX, Entry, Expect, Fence, LEADER, LeaseId, Revision, Snapshot, Store, StoreError, Watch, Write};
use connection::Connections;
use errors::Failure;

/// How many keys are read at once.
const PAGE: i64 = 1_000;

/// Where etcd is, and how to get in.
#[derive(Debug, Clone)]
pub struct EtcdConfig {
    /// URLs of its members' client ports.
    pub endpoints: Vec<String>,
    /// All keys begin with this.
    pub prefix: String,
    /// User and password.
    pub user: Option<(String, String)>,
    /// PEM file of the authority that signed the members' certificates.
    pub ca: Option<PathBuf>,
    /// PEM files of the client's certificate and key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The longest a call may take, all members tried.
    pub deadline: Duration,
    /// The longest one member may take of that.
    pub member_deadline: Duration,
}

impl Default for EtcdConfig {
    fn default() -> Self {
        Self {
            endpoints: vec!["http://127.0.0.1:2379".to_owned()],
            prefix: "/sc/v1/".to_owned(),
            user: None,
            ca: None,
            identity: None,
            deadline: Duration::from_secs(5),
            member_deadline: Duration::from_secs(2),
        }
    }
}

/// The store in etcd. Clones share their connection.
#[derive(Clone)]
pub struct Etcd {
    config: Arc<EtcdConfig>,
    connections: Arc<Connections>,
}

/// One attempt of a call.
type Attempt<T> = Result<T, Failure>;

impl Etcd {
    /// Notes where etcd is; connects with the first call, so that a program can start while etcd is down.
    ///
    /// # Errors
    /// When an endpoint is no URL, or there is none.
    pub fn new(config: EtcdConfig) -> Result<Self, StoreError> {
        let sound = |url: &String| {
            url.split_once("://").is_some_and(|(scheme, rest)| matches!(scheme, "http" | "https") && rest.contains(':'))
        };
        if config.endpoints.is_empty() || !config.endpoints.iter().all(sound) {
            let what = "give its members as URLs with ports, like http://127.0.0.1:2379".to_owned();
            return Err(StoreError::Broken { store: name(&config), what });
        }
        let config = Arc::new(config);
        Ok(Self { connections: Arc::new(Connections::new(config.clone())), config })
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.config.prefix)
    }

    /// Tries a call on one member after the other until the deadline. `repeatable`: it may be sent twice.
    async fn call<T, F>(&self, repeatable: bool, attempt: impl Fn(Client) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Attempt<T>>,
    {
        let deadline = Instant::now() + self.config.deadline;
        let mut last = None;
        // Each member once, and the first once more: its connection may have been a dead one.
        for _ in 0..=self.config.endpoints.len() {
            let until = deadline.min(Instant::now() + self.config.member_deadline);
            if until <= Instant::now() {
                break;
            }
            let (client, number) = match self.connections.get(until).await {
                Ok(client) => client,
                Err(failure) => {
                    last = Some(failure);
                    continue;
                }
            };
            let failure = match timeout_at(until, attempt(client)).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::silent(self.config.member_deadline),
            };
            if failure.is_answer() {
                return Err(failure.into_error(&name(&self.config)));
            }
            self.connections.leave(number);
            if !repeatable && failure.may_have_happened() {
                return Err(failure.into_unknown(&name(&self.config)));
            }
            last = Some(failure);
        }
        Err(last.unwrap_or_else(|| Failure::silent(self.config.deadline)).into_error(&name(&self.config)))
    }

    fn transaction(&self, fence: Option<Fence>, expects: &[Expect], writes: &[Write]) -> Txn {
        let is =
            |key: &str, revision: Revision| Compare::mod_revision(self.key(key), CompareOp::Equal, revision as i64);
        let fence = fence.map(|fence| is(LEADER, fence.epoch));
        let compares: Vec<_> = fence.into_iter().chain(expects.iter().map(|e| is(&e.key, e.revision))).collect();
        let leader = || TxnOp::get(self.key(LEADER), Some(GetOptions::new().with_keys_only()));
        let mut operations: Vec<_> = writes.iter().map(|write| self.operation(write)).collect();
        if operations.is_empty() {
            operations.push(leader());
        }
        Txn::new().when(compares).and_then(operations).or_else([leader()])
    }

    fn operation(&self, write: &Write) -> TxnOp {
        match write {
            Write::Put { key, value, lease } => {
                let options = lease.map(|lease| PutOptions::new().with_lease(lease.0));
                TxnOp::put(self.key(key), value.clone(), options)
            }
            Write::Delete { key } => TxnOp::delete(self.key(key), None),
        }
    }
}

fn name(config: &EtcdConfig) -> String {
    format!("etcd at {}", config.endpoints.join(", "))
}

#[async_trait]
impl Store for Etcd {
    async fn load(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        let (from, cut) = (self.key(prefix), self.config.prefix.len());
        self.call(true, |client| read(client, from.clone(), cut)).await
    }

    async fn commit(
        &self,
        fence: Option<Fence>,
        expects: Vec<Expect>,
        writes: Vec<Write>,
    ) -> Result<Revision, StoreError> {
        let operations = expects.len() + writes.len();
        if operations > COMMIT_MAX {
            return Err(StoreError::TooLarge { operations });
        }
        let transaction = self.transaction(fence, &expects, &writes);
        let answer = self.call(writes.is_empty(), |mut client| {
            let transaction = transaction.clone();
            async move { Ok(client.txn(transaction).await?) }
        });
        let answer = answer.await?;
        if answer.succeeded() {
            return Ok(answer.header().map_or(0, |header| header.revision() as Revision));
        }
        let leader = answer.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(get) => Some(get.kvs().first().map_or(0, |kv| kv.mod_revision() as Revision)),
            _ => None,
        });
        match fence {
            Some(fence) if leader.unwrap_or(0) != fence.epoch => Err(StoreError::Fenced),
            _ => Err(StoreError::Conflict),
        }
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        let (from, cut) = (self.key(prefix), self.config.prefix.len());
        let watch = self.call(true, |client| watch::EtcdWatch::open(client, from.clone(), cut, after)).await?;
        Ok(Box::new(watch))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let seconds = ttl.as_secs().max(1) as i64;
        // Sent twice, a lease too many runs out by itself.
        let granted = self
            .call(true, |mut client| async move { Ok(client.lease_grant(seconds, None::<LeaseGrantOptions>).await?) });
        Ok(LeaseId(granted.await?.id()))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        // Opening the stream renews the lease once, and fails when it is gone: that is all that is wanted.
        self.call(true, |mut client| async move {
            client.lease_keep_alive(lease.0).await?;
            Ok(())
        })
        .await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        let revoked = self.call(true, |mut client| async move { Ok(client.lease_revoke(lease.0).await?) });
        match revoked.await {
            Ok(_) | Err(StoreError::LeaseGone) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn describe(&self) -> String {
        name(&self.config)
    }
}

/// Reads all keys below `from` page by page, at the revision of the first page.
async fn read(mut client: Client, from: String, cut: usize) -> Attempt<Snapshot> {
    let mut snapshot = Snapshot::default();
    let end = prefix_end(from.as_bytes());
    let mut start = from.into_bytes();
    loop {
        let options =
            GetOptions::new().with_range(end.clone()).with_limit(PAGE).with_revision(snapshot.revision as i64);
        let mut page = client.get(start, Some(options)).await?;
        if snapshot.revision == 0 {
            snapshot.revision = page.header().map_or(0, |header| header.revision() as Revision);
        }
        let more = page.more();
        start = page.kvs().last().map(|kv| [kv.key(), b"\0"].concat()).unwrap_or_default();
        for kv in page.take_kvs() {
            let key = String::from_utf8_lossy(kv.key().get(cut..).unwrap_or_default()).into_owned();
            let entry = Entry { value: kv.value().into(), revision: kv.mod_revision() as Revision };
            snapshot.entries.insert(key, entry);
        }
        if !more || start.is_empty() {
            return Ok(snapshot);
        }
    }
}

/// The first key after all that begin with `prefix`.
fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}
