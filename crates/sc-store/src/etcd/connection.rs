//! The connection to one member at a time.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{Attempt, EtcdConfig, errors::Failure};

/// A silent connection is pinged so often, and given up when no answer comes in so long.
const PING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3));

pub(super) struct Connections {
    config: Arc<EtcdConfig>,
    current: Mutex<Option<Connection>>,
    /// Held while connecting: many calls that wait for a connection log in once.
    connecting: tokio::sync::Mutex<()>,
    /// Counts connections; taken modulo the members it says whose turn it is.
    turn: AtomicUsize,
}

/// A client of one member.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) endpoint: String,
    number: usize,
}

impl Connections {
    pub(super) fn new(config: Arc<EtcdConfig>) -> Self {
        Self { config, current: Mutex::new(None), connecting: tokio::sync::Mutex::new(()), turn: AtomicUsize::new(0) }
    }

    fn current(&self) -> MutexGuard<'_, Option<Connection>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection in use, or a new one to the member whose turn it is. A failure here means that nothing was sent.
    pub(super) async fn get(&self, until: Instant) -> Attempt<Connection> {
        if let Some(current) = self.current().clone() {
            return Ok(current);
        }
        match timeout_at(until, self.next()).await {
            Ok(connection) => connection.map_err(Failure::unsent),
            Err(_) => Err(Failure::silent(self.config.member_deadline).unsent()),
        }
    }

    async fn next(&self) -> Attempt<Connection> {
        let _one_at_a_time = self.connecting.lock().await;
        if let Some(current) = self.current().clone() {
            return Ok(current);
        }
        let number = self.turn.fetch_add(1, Ordering::Relaxed);
        let endpoint = self.config.endpoints[number % self.config.endpoints.len()].clone();
        let client = self.connect(&endpoint).await.map_err(|failure| failure.at(&endpoint))?;
        let connection = Connection { client, endpoint, number };
        *self.current() = Some(connection.clone());
        Ok(connection)
    }

    /// Gives a connection up, unless another has taken its place already.
    pub(super) fn leave(&self, connection: &Connection) {
        let mut current = self.current();
        if current.as_ref().is_some_and(|now| now.number == connection.number) {
            *current = None;
        }
    }

    async fn connect(&self, endpoint: &str) -> Attempt<Client> {
        // The client connects lazily and says little when it cannot: knock first.
        let authority = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest).trim_end_matches('/');
        drop(TcpStream::connect(authority).await.map_err(Failure::io)?);
        Ok(Client::connect([endpoint], Some(self.options()?)).await?)
    }

    fn options(&self) -> Attempt<ConnectOptions> {
        let mut options = ConnectOptions::new()
            .with_keep_alive(PING.0, PING.1)
            .with_keep_alive_while_idle(true)
            .with_connect_timeout(self.config.member_deadline)
            .with_require_leader(true);
        if let Some((user, password)) = &self.config.user {
            options = options.with_user(user, password);
        }
        if self.config.ca.is_some() || self.config.identity.is_some() {
            // Read with each connection, so that renewed certificates are taken up.
            let mut tls = TlsOptions::new();
            if let Some(ca) = &self.config.ca {
                tls = tls.ca_certificate(Certificate::from_pem(read(ca)?));
            }
            if let Some((certificate, key)) = &self.config.identity {
                tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
            }
            options = options.with_tls(tls);
        }
        Ok(options)
    }
}

fn read(path: &Path) -> Attempt<Vec<u8>> {
    std::fs::read(path).map_err(|error| Failure::io(error).at(&path.display().to_string()))
}
