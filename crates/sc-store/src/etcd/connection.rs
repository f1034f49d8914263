//! The connection to one member at a time.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
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
    /// The client in use and its number.
    current: Mutex<Option<(Client, usize)>>,
    /// Counts connections; taken modulo the members it says whose turn it is.
    turn: AtomicUsize,
}

impl Connections {
    pub(super) fn new(config: Arc<EtcdConfig>) -> Self {
        Self { config, current: Mutex::new(None), turn: AtomicUsize::new(0) }
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Option<(Client, usize)>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client in use, or a new one of the member whose turn it is. A failure here means that nothing was sent.
    pub(super) async fn get(&self, until: Instant) -> Attempt<(Client, usize)> {
        if let Some(current) = self.current().clone() {
            return Ok(current);
        }
        let number = self.turn.fetch_add(1, Ordering::Relaxed);
        let endpoint = &self.config.endpoints[number % self.config.endpoints.len()];
        let client = match timeout_at(until, self.connect(endpoint)).await {
            Ok(client) => client.map_err(Failure::unsent)?,
            Err(_) => return Err(Failure::unsent(Failure::silent(self.config.member_deadline))),
        };
        *self.current() = Some((client.clone(), number));
        Ok((client, number))
    }

    /// Gives a client up, unless another has taken its place already.
    pub(super) fn leave(&self, number: usize) {
        let mut current = self.current();
        if current.as_ref().is_some_and(|(_, now)| *now == number) {
            *current = None;
        }
    }

    async fn connect(&self, endpoint: &str) -> Attempt<Client> {
        // The client connects lazily and says little when it cannot: knock first.
        let authority = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest).trim_end_matches('/');
        drop(TcpStream::connect(authority).await.map_err(|error| Failure::io(endpoint, error))?);
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
        let file =
            |path: &std::path::PathBuf| std::fs::read(path).map_err(|e| Failure::io(&path.display().to_string(), e));
        if self.config.ca.is_some() || self.config.identity.is_some() {
            // Read with each connection, so that renewed certificates are taken up.
            let mut tls = TlsOptions::new();
            if let Some(ca) = &self.config.ca {
                tls = tls.ca_certificate(Certificate::from_pem(file(ca)?));
            }
            if let Some((certificate, key)) = &self.config.identity {
                tls = tls.identity(Identity::from_pem(file(certificate)?, file(key)?));
            }
            options = options.with_tls(tls);
        }
        Ok(options)
    }
}
