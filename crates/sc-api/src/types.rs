//! Bodies of requests and answers. Unknown fields are ignored on reading, so that neighbouring releases work together.

use std::{collections::BTreeMap, net::SocketAddr};

use sc_core::{
    AppId, ReplicaId,
    canary::{Canary, Share},
    records::{Rollout, UnixMs},
    routes::AppRoutes,
    spec::{AppSpec, RouteSpec, ScaleSpec},
    stats::Usage,
};
use serde::{Deserialize, Serialize};

/// `GET /v1/version`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// The manager's release.
    pub release: String,
    /// Its id.
    pub manager: String,
    /// Whether it leads; only the leader acts. Another's API forwards to it.
    pub leads: bool,
    /// What it keeps its state in.
    pub store: String,
    /// What it runs replicas on.
    pub engine: String,
    /// What it is waiting for, if something is missing: `etcd at http://… cannot be reached`.
    #[serde(default)]
    pub waiting_for: Option<String>,
}

/// Makes or changes an app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deploy {
    /// The version to run. A spec equal to the wanted version's makes no new one.
    pub spec: AppSpec,
    /// Bounds and mode of the count. Left out: as they are (for a new app: one replica).
    #[serde(default)]
    pub scale: Option<ScaleSpec>,
    /// How many replicas a *new* app begins with. An app that exists keeps its count.
    #[serde(default)]
    pub replicas: Option<u32>,
    /// The command that asked for it, for `sc history`.
    #[serde(default)]
    pub note: String,
    /// Refuse if the app exists already.
    #[serde(default)]
    pub create_only: bool,
    /// Give a new version only this share of the requests, beside the wanted one. Of an app that has no version that was
    /// rolled out yet nothing is to be shared: then it is an ordinary deploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Share>,
}

/// A command was stored; the manager will make it so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    /// The app, or the app of the replica.
    pub app: AppId,
    /// The wanted version now.
    pub version: u64,
    /// The store's revision of the command.
    pub revision: u64,
    /// False when everything was so already.
    pub changed: bool,
    /// What was asked for and will not be kept, such as a limit that the engine does not enforce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How many replicas.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SetScale {
    /// This many, no scaler.
    pub count: Option<u32>,
    /// Let the scaler decide between min and max.
    pub auto: bool,
    /// New lower bound.
    pub min: Option<u32>,
    /// New upper bound.
    pub max: Option<u32>,
    /// At most so many replicas sleep, ready to be woken.
    pub warm: Option<u32>,
    /// At most so many more are kept stopped, ready to be started again.
    pub stopped: Option<u32>,
    /// The scaler holds still for so many milliseconds (0: goes on at once).
    pub pause_ms: Option<u64>,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// Back to an earlier version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rollback {
    /// Which; none: the one before the wanted one.
    pub version: Option<u64>,
}

/// Another share for the version that is on trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetCanary {
    /// Its share of the requests.
    pub share: Share,
}

/// An app as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppView {
    /// Its name.
    pub app: AppId,
    /// The wanted version.
    pub version: u64,
    /// The last version that was rolled out whole.
    pub stable: Option<u64>,
    /// What the wanted version is.
    pub spec: AppSpec,
    /// Bounds and mode of the count.
    pub scale: ScaleSpec,
    /// Replicas wanted.
    pub want: u32,
    /// Replicas that run (intent `Run`, seen).
    pub have: u32,
    /// Replicas that are ready.
    pub ready: u32,
    /// What happens between versions.
    pub rollout: Rollout,
    /// The new version that gets a share of the requests, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// By `sc stop`.
    pub stopped: bool,
    /// By `sc rm`.
    pub deleting: bool,
    /// Everything is as wanted: count, version, readiness, and nothing more is on its way out.
    pub converged: bool,
    /// What is being waited for, or what is wrong, in a sentence; empty when converged.
    pub status: String,
    /// Where it is reached.
    pub routes: Vec<RouteSpec>,
    /// Requests per second, over the last 10 s.
    pub rps: f64,
    /// 99th percentile of the latency in milliseconds, over the last 10 s.
    pub p99_ms: Option<f64>,
    /// Requests waiting for a backend.
    pub held: u64,
    /// What of the spec is not kept here, such as a limit that the engine does not enforce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// When it was made.
    pub created_ms: UnixMs,
}

/// A replica as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaView {
    /// Its name.
    pub replica: ReplicaId,
    /// The version it runs.
    pub version: u64,
    /// The node it is on.
    pub node: String,
    /// Where it listens.
    pub addr: Option<SocketAddr>,
    /// `starting`, `ready`, `unready`, `draining`, `stopping`, `paused`, `stopped`, `exited`, `unknown`.
    pub state: String,
    /// More on the state: what it waits for, why it is stopped, the last probe's error.
    pub detail: String,
    /// When it was asked for.
    pub created_ms: UnixMs,
    /// Requests per second, over the last 10 s.
    pub rps: f64,
    /// Requests in flight.
    pub in_flight: u64,
    /// CPU in use, in CPUs, over the last samples.
    pub cpu: Option<f64>,
    /// Latest sample of its resources.
    pub usage: Option<Usage>,
    /// Passed over by the proxies because of failures.
    pub ejected: bool,
}

/// A stored version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionView {
    /// Its number.
    pub version: u64,
    /// What it is.
    pub spec: AppSpec,
    /// When it was deployed.
    pub created_ms: UnixMs,
    /// The command that made it.
    pub note: String,
    /// `wanted`, `stable`, `canary` with its share, `failed` or empty.
    pub mark: String,
}

/// Why an app has as many replicas as it has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhyView {
    /// The app.
    pub app: AppId,
    /// Replicas wanted.
    pub want: u32,
    /// In a few sentences.
    pub text: String,
    /// The scaler's latest decision (at or before the time asked for), if it decides.
    pub decision: Option<sc_scale::Decision>,
    /// When that was.
    pub at_ms: UnixMs,
    /// What that minute was like, where an earlier time was asked for and is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minute: Option<sc_scale::minutes::Minute>,
    /// How deciding again went, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayView>,
}

/// How deciding again from recorded inputs went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplayView {
    /// How many decisions were decided again.
    pub decisions: u64,
    /// How many of them came out with other bytes than were recorded.
    pub differing: u64,
    /// The decider's version that decided then.
    pub decider: u32,
}

/// One log line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogRecord {
    /// Who wrote it.
    pub replica: ReplicaId,
    /// When.
    pub at_ms: UnixMs,
    /// Standard error.
    pub stderr: bool,
    /// What.
    pub text: String,
}

/// A program to run inside a replica. The upgraded connection carries frames both ways: one byte kind, four bytes
/// big-endian length, content. From the client: 0 input, 1 end of input, 2 resize (two big-endian u16: columns, rows).
/// From the manager: 1 standard output, 2 standard error, 3 exit (big-endian i32), 4 error (text).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exec {
    /// Program and arguments, without a shell.
    pub command: Vec<String>,
    /// Columns and rows of a terminal, if one is wanted.
    #[serde(default)]
    pub tty: Option<(u16, u16)>,
}

/// A proxy as the manager sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProxyView {
    /// Its id.
    pub id: String,
    /// Where its stats stream is.
    pub stats: String,
    /// Where it takes traffic.
    pub listen: Vec<SocketAddr>,
    /// Its release.
    pub release: String,
    /// Milliseconds since its last report; none: there was none.
    pub report_age_ms: Option<u64>,
    /// The revision it serves.
    pub applied: u64,
}

/// One line of the routes stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoutesUpdate {
    /// Everything up to this revision is included.
    pub revision: u64,
    /// These are all the routes there are; else only the changed ones follow.
    pub whole: bool,
    /// New or changed.
    pub put: Vec<AppRoutes>,
    /// Gone.
    pub delete: Vec<AppId>,
}

/// A certificate with its private key: `PUT /v1/certs/{name}`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutCert {
    /// The host's certificate, then those that lead to its authority, as PEM.
    pub chain: String,
    /// Its private key, as PEM without a password.
    pub key: String,
}

/// A command about a certificate was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertAccepted {
    /// The certificate's name.
    pub name: String,
    /// The host names in it.
    pub names: Vec<String>,
    /// Until when it is good.
    pub not_after_ms: UnixMs,
    /// The store's revision of the command.
    pub revision: u64,
    /// False when everything was so already.
    pub changed: bool,
}

/// A certificate of the store, or one that is being had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CertView {
    /// Its name; `acme:HOST` for one that an authority gives.
    pub name: String,
    /// The host names in it.
    pub names: Vec<String>,
    /// From when it is good; none: there is none yet.
    pub not_before_ms: Option<UnixMs>,
    /// Until when.
    pub not_after_ms: Option<UnixMs>,
    /// `added` or `acme`.
    pub source: String,
    /// `ok`, `ends soon`, `expired`, `not yet good`, `broken`; without one yet: `waiting`, `ordering`, `failed`, `refused`.
    pub state: String,
    /// More on the state: when it is renewed, why the last attempt failed, when the next one begins.
    pub detail: String,
    /// The app whose route asks for it.
    #[serde(default)]
    pub app: Option<AppId>,
}

/// One line of the stream of certificates for proxies without access to the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CertsUpdate {
    /// Everything up to this revision is included.
    pub revision: u64,
    /// All there is; none: as before.
    #[serde(default)]
    pub all: Option<OpenedCerts>,
}

/// All certificates, opened.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OpenedCerts {
    /// By name.
    pub certs: BTreeMap<String, OpenedCert>,
    /// Those that cannot be opened, and why.
    pub broken: BTreeMap<String, String>,
    /// What authorities are to find, by token.
    pub challenges: BTreeMap<String, String>,
}

/// A certificate, opened.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedCert {
    /// Its chain, as PEM.
    pub chain: String,
    /// Its private key, as PEM.
    pub key: String,
}

/// The key is not shown.
impl std::fmt::Debug for PutCert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PutCert").field("chain", &self.chain).finish_non_exhaustive()
    }
}

/// The key is not shown.
impl std::fmt::Debug for OpenedCert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenedCert").field("chain", &self.chain).finish_non_exhaustive()
    }
}

/// Something `sc doctor` found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// `ok`, `warning` or `error`.
    pub level: String,
    /// What was looked at.
    pub what: String,
    /// What was found.
    pub found: String,
    /// How to mend it; empty when ok.
    pub fix: String,
}
