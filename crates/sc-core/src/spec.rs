//! What a user asks for: one version of an app ([`AppSpec`]) and how many replicas ([`ScaleSpec`]).
//!
//! A version is immutable once stored. What changes without a new version (the replica count, its bounds) is kept
//! apart, so that a deploy never resets it.

mod bounds;
mod clients;
mod compress;
mod protocol;
mod redirect;
mod tcp;

use std::collections::BTreeMap;

pub use bounds::Bounds;
pub use clients::{ClientKey, Rate, Sticky};
pub use compress::{Coding, Compress};
pub use protocol::{BackendTls, Protocol, Verify};
pub use redirect::Redirect;
use serde::{Deserialize, Serialize};
pub use tcp::{ProxyProtocol, TcpSpec};

pub use crate::certs::Certificate;
use crate::{
    rules::Rules,
    scaling::{ObjectiveSpec, PolicySpec},
    warm::WarmSpec,
};

/// One version of an app: everything that makes two replicas of it alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppSpec {
    /// Where the program comes from.
    pub source: Source,
    /// Program and arguments, passed without a shell. Empty: the image's own.
    #[serde(default)]
    pub command: Vec<String>,
    /// The TCP port the program listens on (1–65535), also passed to it as `PORT`. None: no traffic comes in. The
    /// process engine chooses the real port and passes that as `PORT`.
    #[serde(default)]
    pub port: Option<u16>,
    /// Environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Files placed into the replica before it starts, by content.
    #[serde(default)]
    pub files: Vec<FileSpec>,
    /// Host and path routes that lead here. Empty: reachable on its port only from inside.
    #[serde(default)]
    pub routes: Vec<RouteSpec>,
    /// When a replica counts as ready, and as unhealthy.
    #[serde(default)]
    pub health: HealthSpec,
    /// Limits of one replica.
    #[serde(default)]
    pub resources: Resources,
    /// What the replica may do beyond the safe default.
    #[serde(default)]
    pub security: Security,
    /// How one replica takes leave.
    #[serde(default)]
    pub drain: DrainSpec,
    /// How a new version replaces this one.
    #[serde(default)]
    pub deploy: DeploySpec,
    /// How the proxy treats this app's requests.
    #[serde(default)]
    pub traffic: Traffic,
    /// Docker volumes or host directories, as `SOURCE:TARGET[:ro]`.
    #[serde(default)]
    pub volumes: Vec<String>,
}

/// Where an app's program comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A container image reference.
    Image(String),
    /// Uploaded files ([`AppSpec::files`]) on a small base image; `None` is the engine's own base.
    Files {
        /// The image under the files.
        #[serde(default)]
        base: Option<String>,
    },
}

/// One file placed into a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// Lower-case hex SHA-256 of the content: the blob's name in the manager's blob store.
    pub sha256: String,
    /// Absolute path inside the replica.
    pub path: String,
    /// Unix permission bits, 0o755 for a program.
    pub mode: u32,
}

/// A route: requests of this host and path prefix, or connections to a port of the proxy, go to the app.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteSpec {
    /// Exact host name, lower case, no port; `*.example.com` for any label below; none = any host.
    #[serde(default)]
    pub host: Option<String>,
    /// Path prefix, matched by whole segments; starts with `/`.
    #[serde(default = "root_path")]
    pub path: String,
    /// Whether the prefix is taken off before the request goes to the app.
    #[serde(default)]
    pub strip: bool,
    /// Sends clients elsewhere, instead of to the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// Connections to this port of the proxy (1–65535) go to the app as they are; then host and path mean nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<u16>,
}

impl RouteSpec {
    /// A TCP route: connections to this port of the proxy.
    pub fn of_port(port: u16) -> Self {
        Self { host: None, path: root_path(), strip: false, redirect: None, tcp: Some(port) }
    }
}

fn root_path() -> String {
    "/".to_owned()
}

/// When a replica is ready, and when it is unhealthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthSpec {
    /// What is tried.
    pub probe: Probe,
    /// Milliseconds between two probes of a ready replica. One that is starting is probed every 25 ms at first.
    pub interval_ms: u64,
    /// Milliseconds one probe may take.
    pub timeout_ms: u64,
    /// How many probes in a row must fail before a ready replica is replaced.
    pub unhealthy_after: u32,
    /// Milliseconds from start to ready before a start counts as failed.
    pub start_ms: u64,
}

impl Default for HealthSpec {
    fn default() -> Self {
        Self { probe: Probe::Accept, interval_ms: 2_000, timeout_ms: 2_000, unhealthy_after: 3, start_ms: 60_000 }
    }
}

/// One way to ask a replica whether it can serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// The port accepts a TCP connection and does not close it at once; a replica without a port is ready when it runs.
    Accept,
    /// `GET path` answers 200–399.
    Http {
        /// Request target, starts with `/`.
        path: String,
    },
    /// The port accepts a TCP connection.
    Tcp,
    /// A command run inside the replica exits 0.
    Command(Vec<String>),
}

/// Limits of one replica. `None` is unlimited.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// CPUs, for example 0.5.
    pub cpus: Option<f64>,
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Processes and threads. None: 1024.
    pub pids: Option<u32>,
}

/// What a replica may do beyond the safe default (`no-new-privileges`, no capabilities).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Security {
    /// User (and group) to run as: `name`, `uid` or `uid:gid`.
    pub user: Option<String>,
    /// Root file system read-only.
    pub read_only: bool,
    /// Linux capabilities to keep, without `CAP_`.
    pub cap_add: Vec<String>,
    /// Allow set-uid programs and the like.
    pub new_privileges: bool,
}

/// How one replica takes leave: out of the routes, idle or deadline, SIGTERM, grace, SIGKILL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DrainSpec {
    /// Milliseconds that open requests get to finish.
    pub timeout_ms: u64,
    /// Milliseconds between SIGTERM and SIGKILL.
    pub grace_ms: u64,
}

impl Default for DrainSpec {
    fn default() -> Self {
        Self { timeout_ms: 30_000, grace_ms: 10_000 }
    }
}

/// How a new version replaces the old one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeploySpec {
    /// How many replicas above `want` a rollout may run (at least 1).
    pub surge: u32,
    /// Milliseconds within which the rollout must make progress (a new replica becoming ready), else it goes back.
    pub timeout_ms: u64,
    /// Milliseconds that a new replica must stay ready before the next step.
    pub settle_ms: u64,
}

impl Default for DeploySpec {
    fn default() -> Self {
        Self { surge: 1, timeout_ms: 60_000, settle_ms: 0 }
    }
}

/// How the proxy treats an app's requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Traffic {
    /// Requests one replica serves at once; further ones queue in the proxy. None: no limit.
    pub max_in_flight: Option<u32>,
    /// How many requests may wait in one proxy for this app (no backend, or all at their limit).
    pub queue_max: u32,
    /// Milliseconds a request may wait for a backend before it gets 503 with `Retry-After`.
    pub queue_timeout_ms: u64,
    /// Milliseconds for a TCP connection to a backend.
    pub connect_timeout_ms: u64,
    /// Milliseconds until the response head must have come.
    pub response_timeout_ms: u64,
    /// How a backend is chosen.
    #[serde(skip_serializing_if = "Balance::is_default")] // A proxy of the release before knows no such field.
    pub balance: Balance,
    /// Milliseconds over which a new backend's share grows to its full one; 0: it has it at once.
    #[serde(skip_serializing_if = "is_zero")]
    pub slow_start_ms: u64,
    /// What is spoken with the replicas.
    #[serde(skip_serializing_if = "Protocol::is_default")]
    pub protocol: Protocol,
    /// How the replicas are known, where that is a protocol under TLS.
    #[serde(skip_serializing_if = "BackendTls::is_default")]
    pub tls: BackendTls,
    /// What is done to requests and answers on their way.
    #[serde(skip_serializing_if = "Rules::is_default")]
    pub rules: Rules,
    /// Whether a client stays with one replica; none: each request is balanced by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// How many requests one client may send; none: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// How much and how long is borne of one request.
    #[serde(skip_serializing_if = "Bounds::is_default")]
    pub bounds: Bounds,
    /// How connections of its TCP routes are treated.
    #[serde(skip_serializing_if = "TcpSpec::is_default")]
    pub tcp: TcpSpec,
    /// Where its hosts have their certificates from; none: from those that somebody added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// Which answers the proxy compresses; none: it touches no answer's body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compress: Option<Compress>,
}

/// How a backend is chosen for a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// The cheaper of two drawn at random: the product of its answers' recent time and its requests in flight.
    #[default]
    Latency,
    /// The one of two drawn at random that has fewer requests in flight.
    InFlight,
    /// One after the other.
    RoundRobin,
}

impl Balance {
    /// The way that its name in an app file says.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "latency" => Some(Self::Latency),
            "in_flight" => Some(Self::InFlight),
            "round_robin" => Some(Self::RoundRobin),
            _ => None,
        }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            max_in_flight: None,
            queue_max: 1024,
            queue_timeout_ms: 30_000,
            connect_timeout_ms: 2_000,
            response_timeout_ms: 60_000,
            balance: Balance::default(),
            slow_start_ms: 0,
            protocol: Protocol::default(),
            tls: BackendTls::default(),
            rules: Rules::default(),
            sticky: None,
            rate: None,
            bounds: Bounds::default(),
            tcp: TcpSpec::default(),
            certificate: None,
            compress: None,
        }
    }
}

/// How many replicas an app may have, and what decides within that. Not part of a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScaleSpec {
    /// Fewest replicas while the app is not stopped (0 allows scale to zero).
    pub min: u32,
    /// Most replicas, surge of a deploy aside.
    pub max: u32,
    /// Whether the scaler decides (`--min/--max`, `--auto`) or the count stays as set (`--replicas`, `sc scale app=3`).
    pub auto: bool,
    /// Target for requests per second per replica; none: the scaler works without one.
    pub rps: Option<f64>,
    /// Target CPU use of a replica's limit, 0–1; none: 0.7.
    pub cpu: Option<f64>,
    /// Milliseconds load must stay low before replicas are taken away.
    pub hold_down_ms: u64,
    /// Milliseconds without a request before an app with `min = 0` sleeps; none: never.
    pub idle_after_ms: Option<u64>,
    /// How fast answers shall be; none: the knee of throughput and latency is looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objective: Option<ObjectiveSpec>,
    /// What else asks for replicas; the largest need wins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicySpec>,
    /// At most so many replicas more at once; none: twice as many and two more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_up: Option<u32>,
    /// At most so many replicas fewer at once; none: a tenth, at least one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_down: Option<u32>,
    /// The flap budget: after so many turns from up to down or back within an hour nothing is taken away; none: no
    /// such limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turns_an_hour: Option<u32>,
    /// Replicas that sleep until they are wanted again.
    #[serde(skip_serializing_if = "WarmSpec::is_default")]
    pub warm: WarmSpec,
}

impl ScaleSpec {
    /// How many replicas may be stopped and kept, to be started again without being made anew.
    ///
    /// If nothing is said: one, where the scaler may take the last one away. The first request after that waits for a start, and
    /// need not wait for a container to be made before it. What is kept costs no memory and no CPU, only the disk that its files
    /// and its log take, for [`WarmSpec::stop_for_ms`] at most; it is gone at once with its version, a restart, a stop, or a
    /// higher minimum. More than one would seldom be of use: the first request needs one, and meanwhile others are made. With a
    /// minimum above zero nobody waits for a start, so nothing is kept unasked.
    ///
    /// What the program wrote to its container is there again, as after `docker restart`; a program that this hinders is
    /// replaced by a new container, and that is no crash of its version (see the plan's `phase2_fail`).
    pub fn most_stopped(&self) -> u32 {
        self.warm.stopped.unwrap_or(u32::from(self.auto && self.min == 0))
    }
}

impl Default for ScaleSpec {
    fn default() -> Self {
        Self {
            min: 1,
            max: 1,
            auto: false,
            rps: None,
            cpu: None,
            hold_down_ms: 30_000,
            idle_after_ms: None,
            objective: None,
            policies: Vec::new(),
            step_up: None,
            step_down: None,
            turns_an_hour: None,
            warm: WarmSpec::default(),
        }
    }
}
