//! The store in etcd (v3 API, 3.4 and later).
//!
//! **Calls** go to one member at a time; a member that fails or does not answer is left for the next one. A call that
//! changes nothing, or that certainly was not sent, is tried on every member within its deadline; a commit that may have
//! been sent is not sent again: its outcome is [`StoreError::Unknown`], and the caller loads and looks. etcd does the commit
//! that crosses its quota and calls it refused all the same: so one that was refused for want of space is looked after.
//!
//! **Reads are linearizable**, also the check of a commit without writes: etcd would answer an empty transaction from a
//! member's own, perhaps stale, state, so it carries a read along.
//!
//! **Watches are hints.** Their revision is that of the last change in them, never that of a progress notification,
//! which releases before 3.4.25 may send ahead of the changes it speaks for (etcd#15220). A watch that is silent is asked
//! for its progress, and lost when it does not answer; `require_leader` ends the watch on a member without quorum.

mod connection;
mod errors;
mod quota;
mod watch;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use etcd_client::{
    AlarmAction, AlarmType, Client, Compare, CompareOp, GetOptions, LeaseGrantOptions, PutOptions, Txn, TxnOp,
    TxnOpResponse,
};
use tokio::time::{Instant, timeout_at};

use crate::{
    COMMIT_BYTES_MAX, Entry, Expect, Fence, Health, LEADER, LeaseId, Revision, Snapshot, Store, StoreError, Trouble,
    Watch, Write, limits,
};
use connection::Connections;
use errors::Failure;
use watch::EtcdWatch;

/// How many keys are read at once.
const PAGE: i64 = 250;

/// The largest answer taken: a page of the largest values there can be.
const ANSWER_BYTES_MAX: usize = PAGE as usize * (COMMIT_BYTES_MAX + 4096);

/// Where etcd is, and how to get in.
#[derive(Clone)]
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
    /// The longest a watch may be silent before etcd is asked whether it still watches, and the longest that the answer
    /// may take.
    pub watch_silence: Duration,
}

impl std::fmt::Debug for EtcdConfig {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdConfig")
            .field("endpoints", &self.endpoints)
            .field("prefix", &self.prefix)
            .field("user", &self.user.as_ref().map(|(user, _)| user))
            .finish_non_exhaustive()
    }
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
            watch_silence: Duration::from_secs(5),
        }
    }
}

/// The store in etcd. Clones share their connection.
#[derive(Clone)]
pub struct Etcd {
    config: Arc<EtcdConfig>,
    connections: Arc<Connections>,
    /// The highest revision that etcd is known to have reached.
    seen: Arc<AtomicU64>,
}

/// One attempt of a call.
type Attempt<T> = Result<T, Failure>;

/// How a call may be repeated.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// It changes nothing: at will.
    Read,
    /// It changes something, but twice is as good as once.
    Repeatable,
    /// It is not sent again once it may have been.
    Once,
}

impl Etcd {
    /// Notes where etcd is; connects with the first call, so that a program can start while etcd is down.
    ///
    /// # Errors
    /// When an endpoint is no URL, or there is none, or an authority is missing for https.
    pub fn new(config: EtcdConfig) -> Result<Self, StoreError> {
        let sound = |url: &String| {
            url.split_once("://").is_some_and(|(scheme, rest)| matches!(scheme, "http" | "https") && rest.contains(':'))
        };
        if config.endpoints.is_empty() || !config.endpoints.iter().all(sound) {
            let what = "give its members as URLs with ports, like http://127.0.0.1:2379".to_owned();
            return Err(StoreError::Broken { store: name(&config), what });
        }
        if config.ca.is_none() && config.endpoints.iter().any(|url| url.starts_with("https://")) {
            let what = "https needs the certificate of the authority that signed its members' certificates".to_owned();
            return Err(StoreError::Broken { store: name(&config), what });
        }
        let config = Arc::new(config);
        Ok(Self { connections: Arc::new(Connections::new(config.clone())), config, seen: Arc::default() })
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.config.prefix)
    }

    /// Tries a call on one member after the other until the deadline.
    async fn call<T, F>(&self, kind: Kind, attempt: impl Fn(Client) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Attempt<T>>,
    {
        let deadline = Instant::now() + self.config.deadline;
        let mut failed = Vec::new();
        // Each member once, and the first once more: its connection may have been a dead one.
        for _ in 0..=self.config.endpoints.len() {
            let until = deadline.min(Instant::now() + self.config.member_deadline);
            if until <= Instant::now() {
                break;
            }
            match self.attempt(until, &attempt).await {
                Ok(value) => return Ok(value),
                Err(failure) if failure.is_answer() => return Err(failure.into_error(&name(&self.config))),
                Err(failure) => failed.push(failure),
            }
            if kind == Kind::Once && failed.last().is_some_and(Failure::may_have_happened) {
                break;
            }
        }
        let in_doubt = kind != Kind::Read && failed.iter().any(Failure::may_have_happened);
        let last = failed.pop().unwrap_or_else(|| Failure::silent(self.config.deadline));
        let name = name(&self.config);
        Err(if in_doubt { last.into_unknown(&name) } else { last.into_error(&name) })
    }

    /// Tries a call on one member, and leaves that one if it fails to answer.
    async fn attempt<T, F>(&self, until: Instant, attempt: impl Fn(Client) -> F) -> Attempt<T>
    where
        F: Future<Output = Attempt<T>>,
    {
        let connection = self.connections.get(until).await?;
        let failure = match timeout_at(until, attempt(connection.client.clone())).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(failure)) => failure,
            Err(_) => Failure::silent(self.config.member_deadline),
        };
        if !failure.is_answer() {
            self.connections.leave(&connection);
        }
        let bare = connection.endpoint.starts_with("https://") && self.config.identity.is_none();
        let place = if bare { " (asked without a client certificate)" } else { "" };
        Err(failure.at(&format!("{}{place}", connection.endpoint)))
    }

    fn transaction(&self, fence: Option<Fence>, expects: &[Expect], writes: &[Write]) -> Txn {
        let is =
            |key: &str, revision: Revision| Compare::mod_revision(self.key(key), CompareOp::Equal, revision as i64);
        let compares: Vec<_> = fence
            .map(|fence| is(LEADER, fence.epoch))
            .into_iter()
            .chain(expects.iter().map(|e| is(&e.key, e.revision)))
            .collect();
        let get = |key: &str| TxnOp::get(self.key(key), Some(GetOptions::new().with_keys_only()));
        let mut operations: Vec<_> = writes.iter().map(|write| self.operation(write)).collect();
        if operations.is_empty() {
            // A key that is touched anyway: a user with few rights may read no other.
            let expected = expects.first().map(|expect| expect.key.as_str());
            operations.push(get(expected.unwrap_or(LEADER)));
        }
        let why: Vec<_> = fence.iter().map(|_| get(LEADER)).collect();
        Txn::new().when(compares).and_then(operations).or_else(why)
    }

    async fn send(&self, fence: Option<Fence>, expects: &[Expect], writes: &[Write]) -> Result<Revision, StoreError> {
        let transaction = self.transaction(fence, expects, writes);
        let kind = if writes.is_empty() { Kind::Read } else { Kind::Once };
        let answer = self.call(kind, |mut client| {
            let transaction = transaction.clone();
            async move { Ok(client.txn(transaction).await?) }
        });
        let answer = answer.await?;
        let revision = self.note(answer.header().map_or(0, |header| header.revision() as Revision));
        if answer.succeeded() {
            return Ok(revision);
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

    /// Whether a commit that was refused for want of space has left no trace in one key of it. Before it was sent, etcd
    /// had reached the revision `before`, so what it wrote is newer.
    async fn has_no_trace(&self, writes: &[Write], before: Revision) -> bool {
        let is_put = |write: &&Write| matches!(write, Write::Put { .. });
        let Some(write) = writes.iter().find(is_put).or(writes.first()) else { return true };
        let key = self.key(limits::key(write));
        let read = self.call(Kind::Read, |mut client| {
            let (key, options) = (key.clone(), GetOptions::new().with_keys_only());
            async move { Ok(client.get(key, Some(options)).await?) }
        });
        let Ok(answer) = read.await else { return false };
        match answer.kvs().first() {
            Some(kv) => kv.mod_revision() as Revision <= before,
            None => is_put(&write),
        }
    }

    /// The space quota as one of the members tells it.
    async fn quota(&self) -> Option<u64> {
        for endpoint in &self.config.endpoints {
            if let Some(quota) = quota::quota(endpoint).await {
                return Some(quota);
            }
        }
        None
    }

    /// Notes how far etcd has come, as an answer says it.
    fn note(&self, revision: Revision) -> Revision {
        self.seen.fetch_max(revision, Ordering::Relaxed);
        revision
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
        let snapshot = self.call(Kind::Read, |client| read(client, from.clone(), cut)).await?;
        self.note(snapshot.revision);
        Ok(snapshot)
    }

    async fn commit(
        &self,
        fence: Option<Fence>,
        expects: Vec<Expect>,
        writes: Vec<Write>,
    ) -> Result<Revision, StoreError> {
        limits::check(|| self.describe(), &expects, &writes)?;
        let before = self.seen.load(Ordering::Relaxed);
        match self.send(fence, &expects, &writes).await {
            Err(StoreError::Full { store, .. }) if !self.has_no_trace(&writes, before).await => {
                Err(StoreError::Unknown { store, source: errors::FULL.into() })
            }
            result => result,
        }
    }

    async fn health(&self) -> Result<Health, StoreError> {
        let alarms = self.call(Kind::Read, |mut client| async move {
            Ok(client.alarm(AlarmAction::Get, AlarmType::None, None).await?)
        });
        let troubles = alarms.await?.alarms().iter().filter_map(|a| trouble(a.alarm(), a.member_id())).collect();
        let status = self.call(Kind::Read, |mut client| async move { Ok(client.status().await?) }).await?;
        let known = |bytes: i64| u64::try_from(bytes).ok().filter(|bytes| *bytes > 0);
        let quota = match known(status.db_size_quota()) {
            Some(quota) => Some(quota),
            None => self.quota().await,
        };
        Ok(Health { bytes: known(status.db_size()), used: known(status.raft_used_db_size()), quota, troubles })
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        let (from, cut) = (self.key(prefix), self.config.prefix.len());
        let silence = self.config.watch_silence;
        let open = |client| EtcdWatch::open(client, from.clone(), cut, after, silence);
        Ok(Box::new(self.call(Kind::Read, open).await?))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let seconds = limits::ttl(ttl).as_secs() as i64;
        // Sent twice, a lease too many runs out by itself.
        let granted = self.call(Kind::Repeatable, |mut client| async move {
            Ok(client.lease_grant(seconds, None::<LeaseGrantOptions>).await?)
        });
        Ok(LeaseId(granted.await?.id()))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        // Opening the stream renews the lease once, and fails when it is gone: that is all that is wanted.
        self.call(Kind::Repeatable, |mut client| async move {
            client.lease_keep_alive(lease.0).await?;
            Ok(())
        })
        .await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        let revoked = self.call(Kind::Repeatable, |mut client| async move { Ok(client.lease_revoke(lease.0).await?) });
        match revoked.await {
            Ok(_) | Err(StoreError::LeaseGone) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn describe(&self) -> String {
        name(&self.config)
    }
}

/// An alarm that is raised, and what ends it.
fn trouble(alarm: AlarmType, member: u64) -> Option<Trouble> {
    let (what, fix) = match alarm {
        AlarmType::None => return None,
        AlarmType::Nospace => ("NOSPACE: its space quota is used up, nothing can be written", errors::MAKE_ROOM),
        AlarmType::Corrupt => {
            ("CORRUPT: its data differs from the other members'", "replace that member: see etcd's disaster recovery")
        }
    };
    Some(Trouble { what: format!("alarm of member {member:x}, {what}"), fix: fix.to_owned() })
}

/// Reads all keys below `from` page by page, at the revision of the first page.
async fn read(client: Client, from: String, cut: usize) -> Attempt<Snapshot> {
    let mut client = client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX);
    let mut snapshot = Snapshot::default();
    let end = prefix_end(from.as_bytes());
    let mut start = from.into_bytes();
    loop {
        let options =
            GetOptions::new().with_range(end.clone()).with_limit(PAGE).with_revision(snapshot.revision as i64);
        let mut page = client.get(start, Some(options)).await.map_err(|error| Failure::from(error).or_again())?;
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
