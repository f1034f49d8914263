//! The command line of `sc-manager`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use clap::{Parser, ValueEnum};
use sc_core::acme::Policy;
use sc_manager::{Acme, Config};

/// The daemon of sc, the simple cloud: it looks, plans and acts.
///
/// It keeps its state in etcd or in a file of its own, runs replicas on Docker or as child processes, and serves the
/// API that `sc` uses. Stopping it stops nothing that it runs.
#[derive(Debug, Parser)]
#[command(name = "sc-manager", version)]
pub struct Flags {
    /// Folder for the token, uploads, logs and the embedded store.
    #[arg(long, env = "SC_DATA", default_value = "/var/lib/sc")]
    pub data: PathBuf,
    /// Where the state is kept.
    #[arg(long, env = "SC_STORE", value_enum, default_value_t = StoreKind::Embedded)]
    pub store: StoreKind,
    /// etcd's endpoints, separated by commas.
    #[arg(long, env = "SC_ETCD", value_name = "URL", value_delimiter = ',', default_value = "http://127.0.0.1:2379")]
    pub etcd: Vec<String>,
    /// etcd user.
    #[arg(long, env = "SC_ETCD_USER", value_name = "USER", requires = "etcd_password_file")]
    pub etcd_user: Option<String>,
    /// File with the etcd user's password.
    #[arg(long, env = "SC_ETCD_PASSWORD_FILE", value_name = "FILE")]
    pub etcd_password_file: Option<PathBuf>,
    /// Certificate authority for etcd (PEM).
    #[arg(long, env = "SC_ETCD_CA", value_name = "FILE")]
    pub etcd_ca: Option<PathBuf>,
    /// Client certificate for etcd (PEM).
    #[arg(long, env = "SC_ETCD_CERT", value_name = "FILE", requires = "etcd_key")]
    pub etcd_cert: Option<PathBuf>,
    /// Key of the client certificate (PEM).
    #[arg(long, env = "SC_ETCD_KEY", value_name = "FILE", requires = "etcd_cert")]
    pub etcd_key: Option<PathBuf>,
    /// What all keys in etcd begin with.
    #[arg(long, env = "SC_STORE_PREFIX", value_name = "PREFIX", default_value = "/sc/v1/")]
    pub store_prefix: String,
    /// File of the key that private keys in the store are sealed with, made if it is not there; else store.key in the data
    /// folder. Proxies that read etcd need it too, and so does every manager of this store.
    #[arg(long, env = "SC_STORE_KEY", value_name = "FILE")]
    pub store_key: Option<PathBuf>,
    /// Have certificates from an authority (ACME) for apps that ask for them; it writes to this address.
    #[arg(long, env = "SC_ACME_EMAIL", value_name = "ADDRESS")]
    pub acme_email: Option<String>,
    /// The authority: the URL of its directory.
    #[arg(long, env = "SC_ACME_DIRECTORY", value_name = "URL", default_value = sc_manager::LETS_ENCRYPT, requires = "acme_email")]
    pub acme_directory: String,
    /// PEM file of the authorities that its own HTTPS is known by; else the system's.
    #[arg(long, env = "SC_ACME_CA", value_name = "FILE", requires = "acme_email")]
    pub acme_ca: Option<PathBuf>,
    /// Wait after a first failed attempt at a certificate; after each further one four times as long, at most a day.
    #[arg(long, env = "SC_ACME_RETRY", value_name = "TIME", default_value = "1m", value_parser = sc_core::units::parse_duration)]
    pub acme_retry: u64,
    /// What runs replicas.
    #[arg(long, env = "SC_ENGINE", value_enum, default_value_t = EngineKind::default())]
    pub engine: EngineKind,
    /// Docker's address; else DOCKER_HOST, else unix:///var/run/docker.sock.
    #[arg(long, env = "SC_DOCKER_HOST", value_name = "URL")]
    pub docker_host: Option<String>,
    /// Name of this installation: several can share a Docker engine.
    #[arg(long, env = "SC_INSTANCE", value_name = "NAME", default_value = "sc")]
    pub instance: String,
    /// Name of this node.
    #[arg(long, env = "SC_NODE", value_name = "NAME", default_value = "local")]
    pub node: sc_core::Name,
    /// Address of the API on TCP; may be given several times.
    #[arg(long, env = "SC_LISTEN", value_name = "ADDR", value_delimiter = ',', default_value = "127.0.0.1:7700")]
    pub listen: Vec<SocketAddr>,
    /// Unix socket of the API; else manager.sock in the data folder.
    #[arg(long, env = "SC_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Addresses for the apps' networks on Docker: at most a /20, in CIDR form.
    #[arg(long, env = "SC_POOL", value_name = "CIDR", default_value = "10.213.0.0/16")]
    pub pool: Pool,
    /// Containers that join every app's network on Docker: this one and the proxy's, where they have networks of their own.
    #[arg(long, env = "SC_ATTACH", value_name = "NAME", value_delimiter = ',')]
    pub attach: Vec<String>,
    /// Ports for replicas that are child processes.
    #[arg(long, env = "SC_PORTS", value_name = "FIRST-LAST", default_value = "20000-29999")]
    pub ports: Ports,
    /// Image under copied-in files.
    #[arg(long, env = "SC_BASE_IMAGE", value_name = "IMAGE", default_value = concat!("sc/base:", env!("CARGO_PKG_VERSION")))]
    pub base_image: String,
    /// The most replicas one app may have.
    #[arg(long, env = "SC_MAX_REPLICAS", value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub max_replicas: u32,
    /// The largest upload: bytes, or with KiB, MiB, GiB.
    #[arg(long, env = "SC_BLOB_MAX", value_name = "SIZE", default_value = "1GiB")]
    pub blob_max: Size,
    /// How log lines look.
    #[arg(long, env = "SC_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Where the state is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StoreKind {
    /// A file in the data folder.
    Embedded,
    /// etcd.
    Etcd,
}

/// What runs replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineKind {
    /// Docker.
    Docker,
    /// Child processes of this host.
    Process,
}

impl Default for EngineKind {
    fn default() -> Self {
        if cfg!(feature = "docker") { Self::Docker } else { Self::Process }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool(pub Ipv4Addr, pub u8);

impl FromStr for Pool {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no range like 10.213.0.0/16");
        let (base, bits) = text.split_once('/').ok_or_else(wrong)?;
        let pool = Self(base.parse().map_err(|_| wrong())?, bits.parse().map_err(|_| wrong())?);
        if !(8..=20).contains(&pool.1) {
            return Err(format!("{text}: a prefix length of 8 to 20 is needed, each app takes a part of it"));
        }
        Ok(pool)
    }
}

/// A range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports(pub u16, pub u16);

impl FromStr for Ports {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no range like 20000-29999");
        let (first, last) = text.split_once('-').ok_or_else(wrong)?;
        let ports = Self(first.trim().parse().map_err(|_| wrong())?, last.trim().parse().map_err(|_| wrong())?);
        if ports.0 < 1024 || u32::from(ports.1) + 1 < u32::from(ports.0) + 64 {
            return Err(format!("{text}: at least 64 ports, none below 1024, are needed"));
        }
        Ok(ports)
    }
}

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        sc_core::units::parse_size(text).map(Self).map_err(|error| error.to_string())
    }
}

impl Flags {
    /// What they mean for the library.
    pub fn config(&self) -> Config {
        let socket = self.socket.clone().unwrap_or_else(|| self.data.join("manager.sock"));
        let policy = Policy { first_wait_ms: self.acme_retry.max(1), ..Policy::default() };
        let acme =
            |email: String| Acme { directory: self.acme_directory.clone(), email, ca: self.acme_ca.clone(), policy };
        Config {
            acme: self.acme_email.clone().map(acme),
            data: self.data.clone(),
            listen: self.listen.clone(),
            socket: Some(socket),
            max_replicas: self.max_replicas,
            blob_max: self.blob_max.0,
            store_key: self.store_key.clone().unwrap_or_else(|| self.data.join("store.key")),
        }
    }
}
