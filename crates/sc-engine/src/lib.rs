//! What runs replicas: one trait, three implementations (a fake, child processes, Docker), one conformance suite.
//!
//! An engine is told what to do and says what it sees; it decides nothing. Every call is idempotent and ends within a
//! deadline of its own.

#[cfg(feature = "docker")]
pub mod docker;
mod error;
pub mod fake;
pub mod process;
mod stored;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use sc_core::{AppId, Name, ReplicaId, observed::Node, plan::Addressing, spec::AppSpec, stats::Usage};
use tokio::sync::watch;

#[cfg(feature = "docker")]
pub use docker::Docker;
pub use error::EngineError;
pub use fake::Fake;
pub use process::Process;

/// Everything needed to make one replica.
#[derive(Debug, Clone, PartialEq)]
pub struct StartSpec {
    /// Which.
    pub replica: ReplicaId,
    /// Its version's number, for its label.
    pub version: u64,
    /// [`sc_core::records::App::restart`], for its label.
    pub restart: u64,
    /// What to run.
    pub spec: AppSpec,
    /// Where it shall listen. Port 0: it listens nowhere.
    pub addr: SocketAddr,
    /// The app's network: name, first address and prefix length; none for engines without networks.
    pub network: Option<NetworkSpec>,
    /// Where the content of each of `spec.files` lies on this host, by SHA-256.
    pub blobs: BTreeMap<String, PathBuf>,
}

/// One app's bridge network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// The owner.
    pub app: AppId,
    /// First address of its range; the next one is the gateway's.
    pub base: Ipv4Addr,
    /// Prefix length in bits.
    pub bits: u8,
}

/// Which log lines are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Go on as lines come.
    pub follow: bool,
    /// Only lines since then.
    pub since_ms: Option<u64>,
    /// Only the last so many of what is there.
    pub tail: Option<usize>,
}

/// One line a replica wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// Standard error rather than standard output.
    pub stderr: bool,
    /// The line without its newline, lossily UTF-8, at most 16 KiB.
    pub text: String,
}

/// A program run inside a replica.
pub struct ExecSession {
    /// What it writes.
    pub output: BoxStream<'static, Result<ExecOutput, EngineError>>,
    /// Its standard input; closing it is end of file.
    pub input: Box<dyn tokio::io::AsyncWrite + Send + Unpin>,
    /// Its terminal's columns and rows: what is sent here becomes its size. Nothing comes of it where there is no terminal.
    pub size: watch::Sender<(u16, u16)>,
}

/// Sets a terminal's size each time that another one is sent, until the sender is gone.
pub(crate) fn resized_by<F>(mut set: impl FnMut(u16, u16) -> F + Send + 'static) -> watch::Sender<(u16, u16)>
where
    F: Future<Output = ()> + Send,
{
    let (sender, mut sizes) = watch::channel((0, 0));
    tokio::spawn(async move {
        while sizes.changed().await.is_ok() {
            let (columns, rows) = *sizes.borrow_and_update();
            set(columns, rows).await;
        }
    });
    sender
}

/// Something a program run inside a replica said, or how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecOutput {
    /// Standard output (everything, on a terminal).
    Stdout(Bytes),
    /// Standard error.
    Stderr(Bytes),
    /// The end: its exit status.
    Exit(i32),
}

/// How a program is run inside a replica.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecSpec {
    /// Program and arguments, without a shell.
    pub command: Vec<String>,
    /// Give it a terminal of this many columns and rows.
    pub tty: Option<(u16, u16)>,
}

/// What runs replicas on one node.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// The node's name.
    fn node(&self) -> Name;

    /// What addresses its replicas get.
    fn addressing(&self) -> Addressing;

    /// What it is and where, for messages: `Docker 20.10.24 at unix:///var/run/docker.sock`.
    fn describe(&self) -> String;

    /// Says whether this engine can ever run a spec, before anything is made of it.
    ///
    /// # Errors
    /// [`EngineError::Refused`], with what to do instead.
    fn check(&self, _spec: &AppSpec) -> Result<(), EngineError> {
        Ok(())
    }

    /// What a spec asks for that this engine takes and does not keep, each in a sentence for people.
    fn warnings(&self, _spec: &AppSpec) -> Vec<String> {
        Vec::new()
    }

    /// Everything of this store that the engine has. Always [`Node::Known`]; an engine that does not answer is an error.
    async fn observe(&self) -> Result<Node, EngineError>;

    /// Makes and starts a replica. One that exists already is left as it is, running or not; one that was made but never
    /// started is started.
    ///
    /// # Errors
    /// [`EngineError::Refused`] when it can never work as asked: say so to the user. When the program is missing or not
    /// executable, the replica is seen from then on as ended with exit status 127 or 126 and the reason as its error;
    /// in other cases (no such image, an option this engine has not) nothing was made.
    async fn start(&self, spec: &StartSpec) -> Result<(), EngineError>;

    /// Stops a replica (SIGTERM, `grace_ms`, SIGKILL) and removes it, its log kept. One that does not exist is fine.
    async fn stop(&self, replica: &ReplicaId, grace_ms: u64) -> Result<(), EngineError>;

    /// Freezes a replica.
    async fn pause(&self, replica: &ReplicaId) -> Result<(), EngineError>;

    /// Unfreezes a replica.
    async fn wake(&self, replica: &ReplicaId) -> Result<(), EngineError>;

    /// Stops a replica (SIGTERM, `grace_ms`, SIGKILL) and keeps it: its files, its log, and the address it was given, which
    /// is nobody's meanwhile. One that has ended already is fine.
    async fn park(&self, replica: &ReplicaId, grace_ms: u64) -> Result<(), EngineError>;

    /// Starts a replica again that has ended. One that runs is left as it is. [`sc_core::observed::Seen::restarts`] is
    /// another number from then on.
    async fn revive(&self, replica: &ReplicaId) -> Result<(), EngineError>;

    /// Removes an app's network once nothing is in it. One that does not exist is fine.
    async fn remove_network(&self, app: &AppId) -> Result<(), EngineError>;

    /// One sample of every running replica.
    async fn usage(&self) -> Result<BTreeMap<ReplicaId, Usage>, EngineError>;

    /// Log lines of a replica, also of one that is gone while its log is kept.
    async fn logs(
        &self,
        replica: &ReplicaId,
        query: &LogQuery,
    ) -> Result<BoxStream<'static, Result<LogLine, EngineError>>, EngineError>;

    /// The replicas of an app that have logs, those that are gone included, oldest first.
    async fn logged(&self, app: &AppId) -> Result<Vec<ReplicaId>, EngineError>;

    /// Runs a program inside a replica.
    async fn exec(&self, replica: &ReplicaId, spec: &ExecSpec) -> Result<ExecSession, EngineError>;

    /// A path out of a replica, as a tar stream.
    async fn copy_out(
        &self,
        replica: &ReplicaId,
        path: &str,
    ) -> Result<BoxStream<'static, Result<Bytes, EngineError>>, EngineError>;

    /// A tar stream into a directory of a replica.
    async fn copy_in(
        &self,
        replica: &ReplicaId,
        directory: &str,
        tar: BoxStream<'static, std::io::Result<Bytes>>,
    ) -> Result<(), EngineError>;

    /// Waits until something may have changed (a replica ended, say). A hint only; may return early. Cancel-safe.
    async fn changed(&self);

    /// Removes images, layers and logs that nothing uses any more. `blobs` are the digests still referred to by any version.
    async fn collect_garbage(&self, blobs: &[String]) -> Result<(), EngineError>;
}

/// The environment a replica gets on every engine: what the user asked for, and who it is.
pub(crate) fn environment(spec: &StartSpec) -> BTreeMap<String, String> {
    let replica = &spec.replica;
    let mut env = spec.spec.env.clone();
    env.extend([
        ("SC_PROJECT".to_owned(), replica.app.project.to_string()),
        ("SC_APP".to_owned(), replica.app.name.to_string()),
        ("SC_REPLICA".to_owned(), replica.to_string()),
        ("SC_VERSION".to_owned(), spec.version.to_string()),
    ]);
    if spec.addr.port() != 0 {
        env.insert("PORT".to_owned(), spec.addr.port().to_string());
    }
    env
}

/// The path of the only file of a spec that may be executed.
pub(crate) fn only_program(spec: &AppSpec) -> Option<&str> {
    let mut programs = spec.files.iter().filter(|f| f.mode & 0o111 != 0);
    programs.next().filter(|_| programs.next().is_none()).map(|f| f.path.as_str())
}

/// Unix milliseconds by this host's clock.
pub(crate) fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
