//! How a manager is set up.

use std::{net::SocketAddr, path::PathBuf};

/// How a manager's loops and interface are set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The manager's id, new with every start: `PLACE:PID:START`.
    pub id: String,
    /// What only one living manager can have (see [`crate::lead::Candidate::place`]); empty: nothing.
    pub place: String,
    /// Where its API listens, for other managers and people.
    pub api: String,
    /// The id of the store that the engine's replicas belong to ([`crate::identity`]); with any other store nothing is
    /// touched. None: not checked.
    pub store_id: Option<String>,
    /// Where blobs are.
    pub blobs: PathBuf,
    /// The most replicas one app may have.
    pub max_replicas: u32,
    /// The largest blob in bytes.
    pub blob_max: u64,
    /// Where the inputs of scaling decisions are recorded; none: nowhere.
    pub recordings: Option<PathBuf>,
    /// The file of the key that secrets in the store are sealed with; none: there can be no secrets.
    pub store_key: Option<PathBuf>,
    /// The authority that certificates are had from; none: none is.
    pub acme: Option<Acme>,
}

/// An authority, and what we are to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// The URL of its directory (RFC 8555 section 7.1.1).
    pub directory: String,
    /// Whom it writes to when something is wrong with an account or a certificate.
    pub email: String,
    /// PEM file of the authorities that its own HTTPS is known by; none: the system's.
    pub ca: Option<PathBuf>,
    /// Times and bounds.
    pub policy: sc_core::acme::Policy,
}

/// Let's Encrypt.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

impl Settings {
    /// Settings of a manager with this id that keeps its files below `data`.
    pub fn new(id: impl Into<String>, data: impl Into<PathBuf>) -> Self {
        Self {
            id: id.into(),
            place: String::new(),
            api: String::new(),
            store_id: None,
            blobs: data.into().join("blobs"),
            max_replicas: 100,
            blob_max: 1 << 30,
            recordings: None,
            store_key: None,
            acme: None,
        }
    }
}

/// How [`crate::run`] is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data folder: `token`, `blobs/`, `id`. Made when it is not there.
    pub data: PathBuf,
    /// Where the API listens on TCP. Empty: nowhere.
    pub listen: Vec<SocketAddr>,
    /// Where the API listens on a unix socket.
    pub socket: Option<PathBuf>,
    /// The most replicas one app may have.
    pub max_replicas: u32,
    /// The largest blob in bytes.
    pub blob_max: u64,
    /// The file of the key that secrets in the store are sealed with. Made when it is not there.
    pub store_key: PathBuf,
    /// The authority that certificates are had from; none: none is.
    pub acme: Option<Acme>,
}

impl Config {
    /// Everything below this data folder, the API on its `manager.sock` and on a loopback port of the system's choice.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        let data = data.into();
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            socket: Some(data.join("manager.sock")),
            max_replicas: 100,
            blob_max: 1 << 30,
            store_key: data.join("store.key"),
            acme: None,
            data,
        }
    }
}
