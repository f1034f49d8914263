//! The Docker engine: each replica is a container, each app has a bridge network of its own.
//!
//! **Guarantees.** Every call ends within a deadline; at most [`DockerConfig::concurrency`] of them are under way at
//! once; each may be repeated. Nothing is touched that does not carry the labels of this installation and this store.
//! The connection is made with the first call and again after every failure, so Docker may come and go.
//!
//! **Isolation.** Containers of two apps are on two bridges, which Docker's own firewall rules keep apart
//! (`DOCKER-ISOLATION-STAGE-1/2`); the conformance suite tries it. The host reaches every bridge.

mod attach;
mod calls;
mod connect;
mod container;
mod copy;
mod events;
mod exec;
mod image;
mod kept;
mod logs;
mod names;
mod network;
mod observe;
mod usage;

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bollard::{errors::Error, models::ContainerInspectResponse};
use sc_core::{Name, ReplicaId};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::EngineError;

/// What a Docker engine is made of.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    /// The node's name.
    pub node: Name,
    /// `unix:///path` or `tcp://host:port`; none: `DOCKER_HOST`, else `unix:///var/run/docker.sock`.
    pub host: Option<String>,
    /// The installation's name, first part of every container's and network's name.
    pub instance: String,
    /// The store's id: containers of another store are left alone.
    pub store_id: String,
    /// First address and prefix length of the pool that apps' networks come from.
    pub pool: (Ipv4Addr, u8),
    /// Containers that join every app's network: manager and proxy, where they are not on the host's network. At most
    /// as many as a network keeps addresses for ([`sc_core::plan::ranges::PARTS`]).
    pub attach: Vec<String>,
    /// The image under copied-in files.
    pub base_image: String,
    /// Where logs of removed containers are kept; none: nowhere.
    pub log_dir: Option<PathBuf>,
    /// How many calls are under way at once, at least 1.
    pub concurrency: usize,
    /// How long an ordinary call may take. Those that move data (build, pull, copy) have ten minutes.
    pub deadline: Duration,
}

impl DockerConfig {
    /// The usual values, for this installation and store.
    pub fn new(node: Name, instance: &str, store_id: &str) -> Self {
        Self {
            node,
            host: None,
            instance: instance.to_owned(),
            store_id: store_id.to_owned(),
            pool: (Ipv4Addr::new(10, 213, 0, 0), 16),
            attach: Vec::new(),
            base_image: concat!("sc/base:", env!("CARGO_PKG_VERSION")).to_owned(),
            log_dir: None,
            concurrency: 8,
            deadline: Duration::from_secs(20),
        }
    }
}

/// How long a call that moves data may take.
const LONG: Duration = Duration::from_secs(600);

/// The Docker engine.
pub struct Docker {
    inner: Arc<Inner>,
    /// Ends the watch of Docker's events with the engine.
    _end: DropGuard,
}

struct Inner {
    config: DockerConfig,
    /// Where Docker is, as a URL.
    host: String,
    link: tokio::sync::Mutex<Option<bollard::Docker>>,
    /// Docker's version once it is known.
    version: Mutex<String>,
    permits: Semaphore,
    /// For calls that take long by their nature, so that they keep no others waiting.
    slow: Semaphore,
    /// For samples, which wait up to a second for Docker's own clock and cost little meanwhile.
    sampling: Semaphore,
    changed: Notify,
    /// Replicas that a call of ours is changing: looking closely at such a container would wait for Docker to be done.
    busy: Mutex<BTreeSet<ReplicaId>>,
    /// What was last read of each container, by its id.
    inspected: Mutex<HashMap<String, observe::Inspected>>,
    /// Programs that were found in images, by the image's id and the command's first word.
    programs: Mutex<BTreeSet<(String, String)>>,
    /// One at a time makes an image or a network of a name.
    making: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Docker {
    /// An engine over the Docker of `config`. Docker need not run yet: it is reached with the first call.
    ///
    /// Must be called within a tokio runtime.
    pub fn connect(config: DockerConfig) -> Self {
        let host = config.host.clone().or_else(|| std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()));
        let inner = Arc::new(Inner {
            host: host.unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned()),
            link: tokio::sync::Mutex::default(),
            version: Mutex::default(),
            permits: Semaphore::new(config.concurrency.max(1)),
            slow: Semaphore::new(config.concurrency.max(1)),
            sampling: Semaphore::new(usage::AT_ONCE),
            changed: Notify::new(),
            busy: Mutex::default(),
            inspected: Mutex::default(),
            making: Mutex::default(),
            programs: Mutex::default(),
            config,
        });
        let end = CancellationToken::new();
        let watch = events::watch(Arc::downgrade(&inner));
        tokio::spawn(end.clone().run_until_cancelled_owned(watch));
        Self { inner, _end: end.drop_guard() }
    }
}

/// What Docker answered with an error: its status and words.
fn refusal(error: &Error) -> Option<(u16, &str)> {
    match error {
        Error::DockerResponseServerError { status_code, message } => Some((*status_code, message)),
        _ => None,
    }
}

fn is(error: &Error, status: u16) -> bool {
    refusal(error).is_some_and(|(code, _)| code == status)
}

/// What a call to Docker may end with: Docker's own answer, or none.
enum Failure {
    /// Docker answered with an error.
    Docker(Error),
    /// It did not answer, or could not be asked.
    Engine(EngineError),
}

impl Inner {
    fn failed(&self, what: impl Into<String>) -> EngineError {
        EngineError::Failed { engine: self.name(), what: what.into() }
    }

    /// Asks Docker something, within a deadline and the bound on concurrent calls.
    async fn ask<T, F>(
        &self,
        what: &str,
        deadline: Duration,
        call: impl FnOnce(bollard::Docker) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let permits = if deadline > self.config.deadline { &self.slow } else { &self.permits };
        self.ask_in(permits, what, deadline, call).await
    }

    /// Like [`Self::ask`], within a bound of its own.
    async fn ask_in<T, F>(
        &self,
        permits: &Semaphore,
        what: &str,
        deadline: Duration,
        call: impl FnOnce(bollard::Docker) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let asked = async {
            let _permit = permits.acquire().await;
            let docker = self.docker().await.map_err(Failure::Engine)?;
            call(docker).await.map_err(|error| self.sort(error, what))
        };
        match tokio::time::timeout(deadline, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::Engine(self.timed_out(what, deadline))),
        }
    }

    /// Like [`Self::ask`] with the ordinary deadline; Docker's errors become the engine's.
    async fn call<T, F>(&self, what: &str, call: impl FnOnce(bollard::Docker) -> F) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.ask(what, self.config.deadline, call).await.map_err(|failure| self.plain(what, failure))
    }

    fn plain(&self, what: &str, failure: Failure) -> EngineError {
        match failure {
            Failure::Engine(error) => error,
            Failure::Docker(error) => {
                let words = refusal(&error).map_or_else(|| error.to_string(), |(_, message)| message.trim().to_owned());
                self.failed(format!("{what}: {words}"))
            }
        }
    }

    fn timed_out(&self, what: &str, deadline: Duration) -> EngineError {
        EngineError::TimedOut { engine: self.name(), what: what.to_owned(), seconds: deadline.as_secs() }
    }

    /// A container of ours by its replica; none when there is none.
    async fn inspect(&self, replica: &ReplicaId) -> Result<Option<ContainerInspectResponse>, EngineError> {
        let found = self.named(&names::container(&self.config.instance, replica)).await?;
        Ok(found.filter(|container| self.is_of(container, replica)))
    }

    /// Whatever container has a name.
    async fn named(&self, name: &str) -> Result<Option<ContainerInspectResponse>, EngineError> {
        let what = format!("look at {name}");
        let name = name.to_owned();
        let found =
            self.ask(&what, self.config.deadline, |docker| async move { docker.inspect_container(&name, None).await });
        match found.await {
            Ok(container) => Ok(Some(container)),
            Err(Failure::Docker(error)) if is(&error, 404) => Ok(None),
            Err(failure) => Err(self.plain(&what, failure)),
        }
    }

    /// Whether a container is this replica of this store, by its labels.
    fn is_of(&self, container: &ContainerInspectResponse, replica: &ReplicaId) -> bool {
        let labels = container.config.as_ref().and_then(|config| config.labels.as_ref());
        names::ours(labels, &self.config.instance, &self.config.store_id)
            && labels.and_then(names::read).is_some_and(|read| read.replica == *replica)
    }

    /// The id of a replica's container.
    async fn find(&self, replica: &ReplicaId) -> Result<String, EngineError> {
        let found = self.inspect(replica).await?.and_then(|container| container.id);
        found.ok_or_else(|| EngineError::NoSuchReplica(replica.clone()))
    }

    /// The lock under which something of this name is made.
    fn making(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        making.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(making.entry(name.to_owned()).or_default())
    }
}
