//! What the proxies watch: per app its routes and its backends, as plain data; and how it follows from the records.

use std::{cmp::Ordering, collections::BTreeMap, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{
    canary::Share,
    names::{AppId, ReplicaId},
    observed::{Observed, Run},
    plan::{Desired, DesiredApp, Effects, Published, Slot},
    records::{Extra, Intent, Replica, Rollout, Shed},
    spec::{AppSpec, DrainSpec, RouteSpec, Traffic},
};

/// Value of `routes/{project}/{app}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppRoutes {
    /// Layout version, 1.
    pub v: u32,
    /// The app.
    pub app: AppId,
    /// Which requests are the app's.
    pub routes: Vec<RouteSpec>,
    /// Where they may go. Empty: they are held.
    pub backends: Vec<BackendRoute>,
    /// How they are treated.
    #[serde(default)]
    pub traffic: Traffic,
    /// Set when the app is stopped: requests get 503 at once instead of being held.
    #[serde(default)]
    pub stopped: bool,
    /// Backends of one version together get what their weights add up to, whichever of them is then chosen in whatever way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_version: bool,
    /// How long a backend that is no longer listed may still take, in milliseconds: `drain.timeout`.
    #[serde(default = "drain_ms", skip_serializing_if = "is_drain_ms")]
    pub drain_ms: u64,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// One backend of an app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendRoute {
    /// The replica. In a hand-written routes file a made-up one, numbered from 1.
    pub replica: ReplicaId,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Share of the traffic relative to others.
    #[serde(default = "one")]
    pub weight: u32,
    /// Version it runs, for the stats.
    #[serde(default)]
    pub version: u64,
}

impl AppRoutes {
    /// An app's routes and backends, all else as it is where nothing was asked for.
    pub fn new(app: AppId, routes: Vec<RouteSpec>, backends: Vec<BackendRoute>) -> Self {
        Self {
            v: 1,
            app,
            routes,
            backends,
            traffic: Traffic::default(),
            stopped: false,
            by_version: false,
            drain_ms: drain_ms(),
            extra: Extra::default(),
        }
    }
}

fn one() -> u32 {
    1
}

fn drain_ms() -> u64 {
    DrainSpec::default().timeout_ms
}

fn is_drain_ms(ms: &u64) -> bool {
    *ms == drain_ms()
}

/// What the proxies shall be told of every app: its backends are the replicas that shall run, are ready, and are not
/// known to be anything but running. Apps that are left alone are not in it: what is published of them stays.
pub fn routes(desired: &Desired, observed: &Observed) -> BTreeMap<AppId, AppRoutes> {
    let proxies = desired.proxies.len();
    desired.apps.iter().map(|(id, app)| (id.clone(), app_routes(id, app, observed, proxies))).collect()
}

/// Makes the published documents so, here, and says what that means for the store: one change for each document that
/// differs, none when all are as they should be. Documents of apps that do not exist are deleted.
pub fn publish(desired: &mut Desired, routes: &BTreeMap<AppId, AppRoutes>) -> Vec<Effects> {
    let differs = |(id, new): &(&AppId, &AppRoutes)| match desired.apps.get(*id) {
        Some(app) => app.published.as_ref().is_none_or(|published| published.routes != **new),
        None => false,
    };
    let changed: Vec<_> = routes.iter().filter(differs).map(|(id, new)| (id.clone(), new.clone())).collect();
    let stray: Vec<_> = desired.stray_routes.keys().cloned().collect();
    let puts = changed.into_iter().map(|(id, new)| (id, Some(new)));
    let deletes = stray.into_iter().map(|id| (id, None));
    puts.chain(deletes).map(|(id, new)| publish_one(desired, &id, new)).collect()
}

fn publish_one(desired: &mut Desired, id: &AppId, new: Option<AppRoutes>) -> Effects {
    desired.change(&[Slot::App(id.clone()), Slot::Routes(id.clone())], |desired| match new {
        None => drop(desired.stray_routes.remove(id)),
        Some(routes) => {
            if let Some(app) = desired.apps.get_mut(id) {
                // Until it is committed, nobody can have applied it.
                app.published = Some(Published { routes, revision: u64::MAX });
            }
        }
    })
}

fn app_routes(id: &AppId, app: &DesiredApp, observed: &Observed, proxies: usize) -> AppRoutes {
    let spec = serving_spec(app);
    let listed = |(n, replica): (&u64, &Replica)| {
        let replica_id = ReplicaId::new(id, *n);
        serves(&replica_id, replica, observed).then(|| BackendRoute {
            replica: replica_id,
            addr: replica.addr,
            weight: one(),
            version: replica.version,
        })
    };
    let mut backends: Vec<_> = app.replicas.iter().filter_map(listed).collect();
    let by_version = share_out(app, &mut backends);
    let mut traffic = spec.map(|spec| spec.traffic.clone()).unwrap_or_default();
    // Without a backend requests wait for one as always.
    if let Some(shed) = app.scale.shed.filter(|_| app.app.scale.auto && !backends.is_empty()) {
        bound(&mut traffic, &shed, proxies);
    }
    AppRoutes {
        v: 1,
        app: id.clone(),
        routes: spec.map(|spec| spec.routes.clone()).unwrap_or_default(),
        backends,
        traffic,
        stopped: app.app.stopped || app.app.deleting,
        by_version,
        drain_ms: spec.map_or_else(drain_ms, |spec| spec.drain.timeout_ms),
        extra: app.published.as_ref().map(|published| published.routes.extra.clone()).unwrap_or_default(),
    }
}

/// Gives the canary's backends together its share of all weights, and the others the rest: proxies choose the version by
/// these sums. While the canary has fewer replicas than its share needs it gets less, in proportion. While it has more,
/// since its share was lowered, it still gets what the others cannot take. False: there is nothing to share out.
fn share_out(app: &DesiredApp, backends: &mut [BackendRoute]) -> bool {
    let Some(canary) = &app.app.canary else { return false };
    let is_canary = |backend: &BackendRoute| backend.version == canary.version;
    let (of_canary, want) = (backends.iter().filter(|b| is_canary(b)).count() as u32, app.want());
    let (others, needs) = (backends.len() as u32 - of_canary, app.canary_want());
    if of_canary == 0 || others == 0 || needs == 0 {
        return false;
    }
    let asked = canary.share.permille();
    let share = match of_canary.cmp(&needs) {
        Ordering::Less => (asked * of_canary / needs).max(1),
        Ordering::Equal => asked,
        Ordering::Greater => asked.max(Share::WHOLE - Share::WHOLE * others.min(want) / want).min(Share::WHOLE - 1),
    };
    let (mine, theirs) = (share * others, (Share::WHOLE - share) * of_canary);
    let common = gcd(mine, theirs);
    for backend in backends {
        backend.weight = if is_canary(backend) { mine } else { theirs } / common;
    }
    true
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

/// Narrows what the user set to what sheds the load in time. Each proxy counts for itself, and gets its part.
fn bound(traffic: &mut Traffic, shed: &Shed, proxies: usize) {
    let each = shed.in_flight.div_ceil(u32::try_from(proxies).unwrap_or(u32::MAX).max(1)).max(1);
    traffic.max_in_flight = Some(traffic.max_in_flight.map_or(each, |given| given.min(each)));
    traffic.queue_timeout_ms = traffic.queue_timeout_ms.min(shed.queue_ms);
}

/// Whether requests may go to a replica.
fn serves(id: &ReplicaId, replica: &Replica, observed: &Observed) -> bool {
    let runs = observed.seen(&replica.node, id).is_none_or(|seen| matches!(seen.run, Run::Running { .. }));
    replica.intent == Intent::Run && replica.ready_ms.is_some() && replica.addr.port() != 0 && runs
}

/// The version whose routes hold: the wanted one, but while it is being rolled out and only replicas of the stable one
/// are ready, the stable one, so that a deploy that fails changes nothing for anybody.
fn serving_spec(app: &DesiredApp) -> Option<&AppSpec> {
    let serves = |version| app.replicas.values().any(|r| r.version == version && r.ready_ms.is_some());
    let rolling = matches!(app.app.rollout, Rollout::Rolling { .. }) && !serves(app.app.version);
    let stable = app.app.stable.filter(|stable| rolling && serves(*stable)).and_then(|n| app.versions.get(&n));
    stable.map(|version| &version.spec).or(app.spec())
}
