//! What a proxy is told at its start.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use sc_core::routes::AppRoutes;
use sc_store::Store;

use crate::{access::AccessLog, admin::LogFilter, tls::TlsConfig};

/// Everything a proxy needs to start.
#[derive(Clone)]
pub struct Config {
    /// Addresses that take HTTP traffic; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Where and how HTTPS is taken.
    pub tls: TlsConfig,
    /// Worker threads; 0: as many as this process may use CPUs (cgroup quota and affinity counted).
    pub threads: usize,
    /// Where the routes come from.
    pub source: Source,
    /// The file of the key that private keys in the store are sealed with; it may come later than the proxy. None: the store's
    /// certificates cannot be used.
    pub store_key: Option<PathBuf>,
    /// Certificates given in process, for those that come with the routes.
    pub given_certs: Option<tokio::sync::watch::Receiver<crate::source::Stored>>,
    /// Where the last table and the proxy's id are kept; none: nowhere.
    pub data: Option<PathBuf>,
    /// The proxy's id; none: the one kept in `data`, or a random one. Letters, digits, `.`, `_` and `-`.
    pub id: Option<String>,
    /// Where stats, metrics and the admin API are served.
    pub admin: Admin,
    /// Peers whose `X-Forwarded-*` are believed.
    pub trust: Vec<Cidr>,
    /// Peers whose connections begin with a PROXY header, which is then believed.
    pub relays: Vec<Cidr>,
    /// Where the ports of TCP routes are; none: at the first address that takes HTTP or HTTPS.
    pub tcp_listen: Option<IpAddr>,
    /// Bounds of size and time.
    pub limits: Limits,
    /// How long running requests may go on after a stop.
    pub grace: Duration,
    /// Who speaks HTTP/1.1 with clients.
    pub http1: Http1,
    /// A line for each request; none: no log.
    pub access_log: Option<AccessLog>,
    /// What this process logs, to be read and set by the admin API; none: that is not the proxy's to say.
    pub log: Option<LogFilter>,
}

impl Config {
    /// One listener on a free loopback port, the admin API on another, and defaults for all else.
    pub fn new(source: Source) -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            listen: vec![loopback],
            tls: TlsConfig::default(),
            threads: 0,
            source,
            store_key: None,
            given_certs: None,
            data: None,
            id: None,
            admin: Admin::Tcp(loopback),
            trust: Vec::new(),
            relays: Vec::new(),
            tcp_listen: None,
            limits: Limits::default(),
            grace: Duration::from_secs(30),
            http1: Http1::default(),
            access_log: None,
            log: None,
        }
    }
}

/// Who speaks HTTP/1.1 with clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Http1 {
    /// The proxy's own code, for all that is plain; the rest is handed to hyper before a byte of it has gone on.
    #[default]
    Fast,
    /// hyper, for everything.
    Hyper,
}

impl FromStr for Http1 {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "fast" => Ok(Self::Fast),
            "hyper" => Ok(Self::Hyper),
            _ => Err(format!("{text:?} is neither fast nor hyper")),
        }
    }
}

/// Where the routes come from.
#[derive(Clone)]
pub enum Source {
    /// The store itself: watched, and listed whole now and then. The proxy also registers there.
    Store(Arc<dyn Store>),
    /// The manager's stream of routes, for a store that only the manager opens. The proxy registers with it.
    Manager {
        /// `http://HOST:PORT` or `unix:PATH`.
        url: String,
        /// The bearer token, if one is needed.
        token: Option<String>,
    },
    /// A TOML file, watched.
    File(PathBuf),
    /// Whatever this process says.
    Given(tokio::sync::watch::Receiver<Given>),
}

/// Routes given in process.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Counts the changes; only grows.
    pub revision: u64,
    /// All routes.
    pub apps: Vec<AppRoutes>,
}

/// Where the admin API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admin {
    /// On a TCP address; keep it on loopback.
    Tcp(SocketAddr),
    /// On a unix socket.
    Unix(PathBuf),
}

impl FromStr for Admin {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        let addr = text.parse().map_err(|_| format!("{text:?} is neither IP:PORT nor unix:PATH"))?;
        Ok(Self::Tcp(addr))
    }
}

/// Bounds of size and time. What an app can choose itself is in [`sc_core::spec::Traffic`].
#[derive(Debug, Clone)]
pub struct Limits {
    /// Time for a request's head, from its first byte.
    pub head_timeout: Duration,
    /// Time a client's connection may be idle.
    pub idle_timeout: Duration,
    /// Time that nothing may come of a request's body while it is waited for; once the answer has begun, that nothing may pass
    /// either way. An app can choose another one.
    pub body_timeout: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Fields of a request's head.
    pub head_fields: usize,
    /// Time an upstream connection may be idle and still be used. Requests that must not be sent twice use only those
    /// idle for less than a second.
    pub upstream_idle: Duration,
    /// Idle upstream connections per backend and thread.
    pub upstream_idle_max: usize,
    /// Time without a word on an upstream HTTP/2 connection with requests after which the backend must answer a PING.
    /// gRPC servers close connections that ask more often than every five minutes.
    pub upstream_ping: Duration,
    /// How much of a request's body is kept so that it can be sent again.
    pub replay_bytes: usize,
    /// Client connections in all; further ones wait in the listen queue.
    pub connections: usize,
    /// Client connections of one address (of IPv6: a /64); further ones are closed at once. None: half of `connections`, so
    /// that nobody shuts out all others, but not less than 256. Peers that speak for others are exempt: trusted ones, and those of PROXY headers, whose
    /// clients are counted instead.
    pub connections_per_address: Option<usize>,
    /// Bytes of a request's target; a longer one gets 414.
    pub uri_bytes: usize,
    /// Requests at once on one HTTP/2 connection of a client.
    pub h2_streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(65),
            body_timeout: Duration::from_secs(60),
            head_bytes: 64 * 1024,
            head_fields: 100,
            upstream_idle: Duration::from_secs(30),
            upstream_idle_max: 1024,
            upstream_ping: Duration::from_secs(5 * 60 + 1),
            replay_bytes: 64 * 1024,
            connections: 65_536,
            connections_per_address: None,
            uri_bytes: 16 * 1024,
            h2_streams: 128,
        }
    }
}

/// Connections that one address has room for unless told otherwise: those of a browser or of another proxy, several times over.
const LEAST_PER_ADDRESS: usize = 256;

impl Limits {
    /// Client connections of one address.
    pub fn per_address(&self) -> usize {
        self.connections_per_address.unwrap_or((self.connections / 2).max(LEAST_PER_ADDRESS))
    }
}

/// A range of IP addresses, such as `10.0.0.0/8`; a bare address is a range of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Whether the range has the address. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, addr: IpAddr) -> bool {
        let high = |value: u128, width: u8| value >> (width - self.bits).min(127);
        match (self.base, addr.to_canonical()) {
            _ if self.bits == 0 => self.base.is_ipv4() == addr.to_canonical().is_ipv4(),
            (IpAddr::V4(base), IpAddr::V4(addr)) => high(base.to_bits().into(), 32) == high(addr.to_bits().into(), 32),
            (IpAddr::V6(base), IpAddr::V6(addr)) => high(base.to_bits(), 128) == high(addr.to_bits(), 128),
            _ => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no range of addresses: write it like 10.0.0.0/8");
        let (base, bits) = text.split_once('/').map_or((text, None), |(base, bits)| (base, Some(bits)));
        let base: IpAddr = base.parse().map_err(|_| bad())?;
        let width = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(width), |bits| bits.parse().map_err(|_| bad()))?;
        if bits > width { Err(bad()) } else { Ok(Self { base, bits }) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_its_addresses_and_no_others() {
        let has = |range: &str, addr: &str| range.parse::<Cidr>().unwrap().contains(addr.parse().unwrap());
        assert!(has("10.0.0.0/8", "10.255.1.2"));
        assert!(!has("10.0.0.0/8", "11.0.0.0"));
        assert!(has("10.0.0.1", "10.0.0.1"));
        assert!(!has("10.0.0.1", "10.0.0.2"));
        assert!(has("0.0.0.0/0", "1.2.3.4"));
        assert!(!has("0.0.0.0/0", "::1"));
        assert!(has("127.0.0.0/8", "::ffff:127.0.0.1"));
        assert!(has("fd00::/8", "fdff::1"));
        assert!("10.0.0.0/33".parse::<Cidr>().is_err());
        assert!("ten".parse::<Cidr>().is_err());
    }
}
