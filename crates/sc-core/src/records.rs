//! What the store holds: one JSON value per key, each with a version field `v`; unknown fields are kept, so that an
//! older manager rewrites a newer one's record without loss.
//!
//! Keys (below the store's prefix `/sc/v1/`):
//!
//! | key | value | written by |
//! |---|---|---|
//! | `{project}/apps/{app}` | [`App`] | users' commands, rollouts |
//! | `{project}/versions/{app}/{n}` | [`Version`] | deploys; never changed |
//! | `{project}/scale/{app}` | [`Scale`] | `sc scale`, the scaler |
//! | `{project}/replicas/{app}/{incarnation}` | [`Replica`] | the reconciler |
//! | `routes/{project}/{app}` | [`crate::routes::AppRoutes`] | the reconciler; proxies watch `routes/`, `certs/` and read nothing else |
//! | `{project}/gone/{app}` | [`Gone`] | the reconciler: which incarnations a deleted app has used up |
//! | `{project}/claims/{host,path}`, `…/tcp:{port}` | [`Claim`] | deploys: one owner per route |
//! | `proxies/{id}` | [`Proxy`], leased | proxies |
//! | `met/{id}` | [`Met`]: proxies that may serve, also for a while after their leases ended | the reconciler |
//! | `certs/…`, `acme/…` | see [`crate::certs`] | `sc cert`, the leader |
//! | `leader` | [`Leader`], leased | managers; its revision is the fence |
//! | `subnets/{n}` | [`Subnet`] | the reconciler: which app has, or had, which addresses |
//! | `{project}/events/{time}-{n}` | [`Event`], bounded | the manager |

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    canary::Canary,
    names::{AppId, Name, ReplicaId},
    spec::{AppSpec, RouteSpec, ScaleSpec},
};

/// Unix time in milliseconds, always an argument here.
pub type UnixMs = u64;

/// Fields of a newer release, kept as they are.
pub type Extra = BTreeMap<String, serde_json::Value>;

/// An app: which version is wanted, and what is going on with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct App {
    /// Layout version of this record, 1.
    pub v: u32,
    /// The version that should run.
    pub version: u64,
    /// The last version that was rolled out whole: where a failed rollout goes back to.
    #[serde(default)]
    pub stable: Option<u64>,
    /// What happens between versions.
    #[serde(default)]
    pub rollout: Rollout,
    /// Stored versions whose last rollout failed: nobody goes back to one of these unless it is named.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub failed: BTreeSet<u64>,
    /// Bounds and mode of the count; the live count is in [`Scale`].
    #[serde(default)]
    pub scale: ScaleSpec,
    /// `sc stop`: keep everything, run nothing.
    #[serde(default)]
    pub stopped: bool,
    /// `sc rm`: drain and stop all, then forget the app.
    #[serde(default)]
    pub deleting: bool,
    /// Counts `sc restart`: replicas of a lower number are replaced as in a rollout.
    #[serde(default)]
    pub restart: u64,
    /// The next incarnation; only grows.
    pub next: u64,
    /// Crashes in a row, while there are any.
    #[serde(default)]
    pub crash: Option<CrashLoop>,
    /// A new version that gets a share of the requests beside the wanted one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// When the app was made.
    pub created_ms: UnixMs,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What happens between an app's versions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Rollout {
    /// All replicas are of the wanted version and ready, or none is wanted.
    #[default]
    Settled,
    /// Replicas of another version are being replaced, or the first ones made.
    Rolling {
        /// When it began.
        since_ms: UnixMs,
        /// When it last came a step further; the deploy timeout counts from here.
        progress_ms: UnixMs,
    },
    /// The wanted version did not become healthy; [`App::version`] is the stable one again. Or the canary did not, or not
    /// stay so; it is withdrawn.
    RolledBack {
        /// The version that failed.
        failed: u64,
        /// Why, with the last log lines where there were any.
        cause: String,
        /// When.
        at_ms: UnixMs,
    },
    /// The first version did not become healthy and there is none to go back to; it is tried on with back-off.
    Failed {
        /// Why, with the last log lines where there were any.
        cause: String,
        /// When.
        at_ms: UnixMs,
    },
}

/// Crashes in a row: the next start waits until `until_ms`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CrashLoop {
    /// The version that crashes.
    pub version: u64,
    /// How many in a row.
    pub count: u32,
    /// No start before this time.
    pub until_ms: UnixMs,
    /// What the last one ended with.
    pub last: String,
}

/// One stored version of an app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Layout version, 1.
    pub v: u32,
    /// What it is.
    pub spec: AppSpec,
    /// When it was deployed.
    pub created_ms: UnixMs,
    /// The command that made it, for `sc history`.
    #[serde(default)]
    pub note: String,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The live count of an app, apart from everything a deploy writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// Layout version, 1.
    pub v: u32,
    /// Replicas wanted now.
    pub want: u32,
    /// The scaler holds still until then.
    #[serde(default)]
    pub paused_until_ms: Option<UnixMs>,
    /// Set by the scaler while the load is more than the maximum takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shed: Option<Shed>,
    /// The scaler's memory, at most 32 KiB as JSON.
    #[serde(default)]
    pub memory: serde_json::Value,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// How load is shed that the maximum of replicas does not take, so that what is accepted is answered in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shed {
    /// Requests and streams that one replica has at once, from all proxies together; above 0.
    pub in_flight: u32,
    /// Milliseconds that a request waits for a place; then it gets 503.
    pub queue_ms: u64,
}

/// One replica that was asked for. Made by the commit that allocates its incarnation, before the engine hears of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replica {
    /// Layout version, 1.
    pub v: u32,
    /// The version it runs.
    pub version: u64,
    /// [`App::restart`] when it was asked for.
    #[serde(default)]
    pub restart: u64,
    /// The node it runs on.
    pub node: Name,
    /// Where it listens (port 0: it does not). Chosen by the plan.
    pub addr: SocketAddr,
    /// What the manager means to do with it; the engine is touched only as this says.
    pub intent: Intent,
    /// Passed its probe and not failed it since: listed in the routes.
    #[serde(default)]
    pub ready_ms: Option<UnixMs>,
    /// When it was first seen in the engine: if it is absent after that, it is gone for good.
    #[serde(default)]
    pub seen_ms: Option<UnixMs>,
    /// Since when it has to prove itself: asked for, woken, or found unready. Only a probe sent after this counts.
    #[serde(default)]
    pub unready_ms: UnixMs,
    /// How often the engine said it was restarted behind our back when its readiness was last judged.
    #[serde(default)]
    pub restarts: u64,
    /// When it was last to be started again after it had been parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revived: Option<Revived>,
    /// A new one shall take its place, as in a rollout (`sc restart app/3`).
    #[serde(default)]
    pub replace: bool,
    /// When it was asked for.
    pub created_ms: UnixMs,
    /// The leader's epoch at the last write.
    pub epoch: u64,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Replica {
    /// Whether it is to be started again after it was parked, and its engine has not shown that yet: its old end says nothing.
    pub fn awaits_start(&self) -> bool {
        self.intent == Intent::Run && self.revived.is_some_and(|revived| revived.restarts == self.restarts)
    }

    /// Whether it was started again after it was parked, and has not been ready since: what its last run left in its files
    /// may be what keeps it from that.
    pub fn comes_back(&self) -> bool {
        self.revived.is_some() && self.ready_ms.is_none() && self.is_first()
    }

    /// Whether it comes up for the first time since it was started: never ready, woken or restarted behind our back since.
    pub fn is_first(&self) -> bool {
        self.unready_ms <= self.revived.map_or(self.created_ms, |revived| revived.at_ms.max(self.created_ms))
    }
}

/// A parked replica that is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revived {
    /// When.
    pub at_ms: UnixMs,
    /// [`crate::observed::Seen::restarts`] before: another number means that it was started.
    pub restarts: u64,
}

/// What the manager means to do with a replica. Only ever moves towards `Stop`, but for waking a paused one, starting a parked
/// one again, and taking back a sound one that drains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Intent {
    /// It shall run.
    Run,
    /// It shall sleep, ready to be woken.
    Pause {
        /// Since when.
        #[serde(default)]
        since_ms: UnixMs,
    },
    /// It shall be stopped and kept, ready to be started again.
    Park {
        /// Since when.
        #[serde(default)]
        since_ms: UnixMs,
    },
    /// It gets no new work; what it has may finish.
    Drain {
        /// Why, for people.
        why: String,
        /// Since when.
        since_ms: UnixMs,
        /// When it is stopped whatever it still does.
        deadline_ms: UnixMs,
        /// Whether it leaves room for another (scale-in, replacement) or is one that failed.
        #[serde(default)]
        failed: bool,
    },
    /// It shall be stopped and removed; then its record goes.
    Stop {
        /// Why, for people.
        why: String,
    },
}

impl Intent {
    /// Whether it is kept, not running, to be woken or started again.
    pub fn is_warm(&self) -> bool {
        matches!(self, Self::Pause { .. } | Self::Park { .. })
    }
}

/// A proxy that serves the routes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proxy {
    /// Layout version, 1.
    pub v: u32,
    /// Where its stats stream and admin API listen: `http://127.0.0.1:9901` or `unix:/path`.
    pub stats: String,
    /// Changes with every start.
    pub boot: String,
    /// Where it takes HTTP traffic, for `sc doctor`.
    #[serde(default)]
    pub listen: Vec<SocketAddr>,
    /// Its release.
    #[serde(default)]
    pub release: String,
    /// The last word of a process that has handed over to another one: it has ended, with nothing in flight. The lease runs
    /// out on its own, so that the manager has some seconds to read this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A proxy that the manager has met. Outlives its lease, so that a manager that takes over meanwhile knows of a proxy that
/// is cut off and may still send requests by an old table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Met {
    /// Layout version, 1.
    pub v: u32,
    /// When its lease was found gone; none while it is registered.
    #[serde(default)]
    pub gone_ms: Option<UnixMs>,
    /// It said itself that it has ended, with nothing in flight: drains do not wait for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The manager that acts. The revision of this key is the epoch: it grows with every take-over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leader {
    /// Layout version, 1.
    pub v: u32,
    /// The manager's id (host, process, start).
    pub holder: String,
    /// Where its API listens.
    #[serde(default)]
    pub api: String,
    /// Since when.
    pub since_ms: UnixMs,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Who owns a route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Layout version, 1.
    pub v: u32,
    /// The owner.
    pub app: AppId,
    /// What is claimed.
    pub route: RouteSpec,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A range of addresses that belongs to one app: a /25 of the pool on Docker, a block of 64 ports where all replicas
/// share one address. Kept after the app is gone until no proxy's table can still name an address of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subnet {
    /// Layout version, 1.
    pub v: u32,
    /// First address.
    pub base: Ipv4Addr,
    /// Prefix length in bits.
    pub bits: u8,
    /// First and last port, where it is a block of ports of one address; none: any port of every address.
    #[serde(default)]
    pub ports: Option<(u16, u16)>,
    /// The owner.
    pub app: AppId,
    /// Set when the app is gone: the time and the routes revision from which no table names it.
    #[serde(default)]
    pub retired: Option<Retired>,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What is left of a deleted app: its name may come back, its incarnations must not, since a late engine call could
/// still bring an old replica to life. A new app of the same name begins at [`Gone::next`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gone {
    /// Layout version, 1.
    pub v: u32,
    /// The first incarnation never handed out.
    pub next: u64,
    /// When the app was deleted; the record goes a week later.
    pub at_ms: UnixMs,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Since when addresses are out of use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// When.
    pub at_ms: UnixMs,
    /// Every proxy that has applied this revision has forgotten them.
    pub revision: u64,
}

/// Something that happened, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Layout version, 1.
    pub v: u32,
    /// When.
    pub at_ms: UnixMs,
    /// How grave.
    pub level: Level,
    /// The app, if it is about one.
    #[serde(default)]
    pub app: Option<AppId>,
    /// The replica, if it is about one.
    #[serde(default)]
    pub replica: Option<ReplicaId>,
    /// A short constant word for filters: `scaled`, `started`, `crashed`, `rolled_back`, ….
    pub kind: String,
    /// What happened and why, in a sentence.
    pub text: String,
    /// Further data, such as a scaling decision.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub data: serde_json::Value,
}

/// How grave an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Ordinary.
    Info,
    /// Somebody should look.
    Warning,
    /// Something failed.
    Error,
}

/// Keys, without the store's prefix.
pub mod key {
    use super::*;

    /// The leader's key.
    pub const LEADER: &str = "leader";
    /// Prefix of all routes: all that proxies read.
    pub const ROUTES: &str = "routes/";
    /// Prefix of all proxies.
    pub const PROXIES: &str = "proxies/";
    /// Prefix of all proxies ever met and not forgotten.
    pub const MET: &str = "met/";
    /// Prefix of all subnets.
    pub const SUBNETS: &str = "subnets/";

    /// Key of an app.
    pub fn app(id: &AppId) -> String {
        format!("{}/apps/{}", id.project, id.name)
    }
    /// Key of a version.
    pub fn version(id: &AppId, n: u64) -> String {
        format!("{}/versions/{}/{n}", id.project, id.name)
    }
    /// Key of an app's live count.
    pub fn scale(id: &AppId) -> String {
        format!("{}/scale/{}", id.project, id.name)
    }
    /// Key of a replica.
    pub fn replica(id: &ReplicaId) -> String {
        format!("{}/replicas/{}/{}", id.app.project, id.app.name, id.incarnation)
    }
    /// Key of an app's routes.
    pub fn routes(id: &AppId) -> String {
        format!("{ROUTES}{}/{}", id.project, id.name)
    }
    /// The app whose routes a key holds.
    pub fn app_of_routes(key: &str) -> Option<AppId> {
        let (project, name) = key.strip_prefix(ROUTES)?.split_once('/')?;
        Some(AppId { project: Name::new(project).ok()?, name: Name::new(name).ok()? })
    }
    /// Key of what is left of a deleted app.
    pub fn gone(id: &AppId) -> String {
        format!("{}/gone/{}", id.project, id.name)
    }
    /// Key of a route's claim. Claims live in the `default` project, since hosts are shared by all.
    pub fn claim(route: &RouteSpec) -> String {
        if let Some(port) = route.tcp {
            return format!("{}/claims/tcp:{port}", crate::names::DEFAULT_PROJECT);
        }
        let path = route.path.trim_end_matches('/').replace('%', "%25").replace('/', "%2F");
        format!("{}/claims/{},{path}", crate::names::DEFAULT_PROJECT, route.host.as_deref().unwrap_or("*"))
    }
    /// Key of a proxy.
    pub fn proxy(id: &str) -> String {
        format!("{PROXIES}{id}")
    }
    /// Key of what is remembered of a proxy.
    pub fn met(id: &str) -> String {
        format!("{MET}{id}")
    }
    /// Key of a subnet, by its number in the pool.
    pub fn subnet(n: u32) -> String {
        format!("{SUBNETS}{n:05}")
    }
    /// Key of an event: sorts by time.
    pub fn event(project: &Name, at_ms: UnixMs, n: u32) -> String {
        format!("{project}/events/{at_ms:013}-{n:04}")
    }
}

/// A record that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the record at {key:?} is not readable: {source}. Another release may have written it, or a person")]
pub struct RecordError {
    /// Its key.
    pub key: String,
    /// What is wrong.
    #[source]
    pub source: serde_json::Error,
}

/// Reads a record.
///
/// # Errors
/// When the value is not of that type; the key is named.
pub fn read<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, RecordError> {
    serde_json::from_slice(value).map_err(|source| RecordError { key: key.to_owned(), source })
}

/// Writes a record.
pub fn write<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).expect("records hold only what JSON can say")
}
