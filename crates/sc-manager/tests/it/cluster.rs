//! A store, an engine and a proxy in memory, and managers that come and go; all under paused time.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use sc_api::types::{Deploy, SetScale};
use sc_core::{
    AppId, ReplicaId,
    observed::Run,
    plan::Desired,
    records::{self, Intent, Proxy, Replica, key},
    routes::AppRoutes,
    spec::{AppSpec, DeploySpec, DrainSpec, RouteSpec, ScaleSpec},
    stats::{AppStats, BackendStats, Frame},
};
use sc_engine::{Engine, fake::Fake};
use sc_manager::{
    Parts, Reconciler, Settings, World,
    clock::TimerClock,
    commands,
    probe::{Prober, Target},
    proxies::{Frames, StatsSource},
};
use sc_store::{Call, Fault, Faults, Memory, Store, Write};
use tokio::time::{Instant, sleep};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// When everything begins, Unix ms.
pub const BEGIN_MS: u64 = 1_700_000_000_000;

/// A store that can go away.
#[derive(Default)]
pub struct Outage(AtomicBool);

impl Outage {
    pub fn set(&self, down: bool) {
        self.0.store(down, SeqCst);
    }
}

impl Faults for Outage {
    fn next(&self, _call: Call) -> Fault {
        if self.0.load(SeqCst) { Fault::Fail } else { Fault::None }
    }
}

/// Asks the fake engine whether a replica answers at its address.
pub struct FakeProber(pub Fake);

#[async_trait]
impl Prober for FakeProber {
    async fn probe(&self, target: &Target) -> Result<(), String> {
        if target.addr.port() == 0 || self.0.listening(&target.addr).as_ref() == Some(&target.replica) {
            return Ok(());
        }
        Err("connection refused".to_owned())
    }
}

/// A proxy that applies routes at once, unless it is held back, and reports what it is told to.
pub struct FakeProxy {
    store: Memory,
    /// It has applied no more than this.
    pub stuck_at: Mutex<Option<u64>>,
    /// How often it was told to read all routes anew.
    pub told: AtomicU64,
    /// It does so, and is not stuck any more.
    pub obeys: AtomicBool,
    /// Requests in flight.
    pub in_flight: Mutex<BTreeMap<ReplicaId, u64>>,
    /// Requests a second that come for an app.
    pub rps: Mutex<BTreeMap<AppId, u64>>,
    /// Requests that wait.
    pub held: Mutex<BTreeMap<AppId, u64>>,
    /// How an app's replicas do with what comes; none: they answer nothing.
    pub serves: Mutex<BTreeMap<AppId, Serves>>,
    totals: Mutex<BTreeMap<AppId, AppStats>>,
    seq: AtomicU64,
}

/// From requests a second, replicas, and whether the routes bound what one has at once, to answers a second and how many
/// seconds each takes.
pub type Serves = fn(u64, u64, bool) -> (u64, f64);

impl FakeProxy {
    fn new(store: Memory) -> Self {
        Self {
            store,
            stuck_at: Mutex::default(),
            told: AtomicU64::new(0),
            obeys: AtomicBool::new(false),
            in_flight: Mutex::default(),
            rps: Mutex::default(),
            held: Mutex::default(),
            serves: Mutex::default(),
            totals: Mutex::default(),
            seq: AtomicU64::new(0),
        }
    }

    fn frame(&self) -> Frame {
        let applied = self.store.inspect().revision;
        let mut apps: BTreeMap<AppId, AppStats> = BTreeMap::new();
        for (app, rps) in self.rps.lock().unwrap().iter() {
            let mut totals = self.totals.lock().unwrap();
            let total = totals.entry(app.clone()).or_default();
            total.arrivals += rps;
            if let Some(serves) = self.serves.lock().unwrap().get(app) {
                self.serve(app, *rps, *serves, total);
            }
            apps.insert(app.clone(), total.clone());
        }
        for (app, held) in self.held.lock().unwrap().iter() {
            apps.entry(app.clone()).or_default().held = *held;
        }
        for (replica, count) in self.in_flight.lock().unwrap().iter() {
            let stats = BackendStats { in_flight: *count, ..BackendStats::default() };
            apps.entry(replica.app.clone()).or_default().backends.insert(replica.clone(), stats);
        }
        Frame {
            proxy: "p1".to_owned(),
            boot: "one".to_owned(),
            seq: self.seq.fetch_add(1, SeqCst),
            at_ms: 0,
            urgent: false,
            applied: self.stuck_at.lock().unwrap().map_or(applied, |stuck| stuck.min(applied)),
            apps,
            ..Frame::default()
        }
    }
}

impl FakeProxy {
    /// A second of an app: its backends answer alike.
    fn serve(&self, app: &AppId, rps: u64, serves: Serves, total: &mut AppStats) {
        let snapshot = self.store.inspect();
        let entry = snapshot.entries.get(&key::routes(app));
        let routes = entry.and_then(|entry| records::read::<AppRoutes>("", &entry.value).ok());
        let Some(routes) = routes.filter(|routes| !routes.backends.is_empty()) else { return };
        let replicas = routes.backends.len() as u64;
        let (answered, seconds) = serves(rps, replicas, routes.traffic.max_in_flight.is_some());
        for (n, backend) in routes.backends.into_iter().enumerate() {
            let own = answered / replicas + u64::from((n as u64) < answered % replicas);
            let stats = total.backends.entry(backend.replica).or_default();
            stats.requests += own;
            stats.completions[1] += own;
            stats.in_flight_seconds += own as f64 * seconds;
            (0..own).for_each(|_| stats.latency.record((seconds * 1e9) as u64));
        }
    }
}

struct FakeStats(Arc<FakeProxy>);

#[async_trait]
impl StatsSource for FakeStats {
    async fn open(&self, _id: &str, _stats: &str) -> Result<Frames, String> {
        let frames = stream::unfold((self.0.clone(), false), |(proxy, begun)| async move {
            if begun {
                sleep(Duration::from_secs(1)).await;
            }
            let frame = proxy.frame();
            Some((Ok(frame), (proxy, true)))
        });
        Ok(frames.boxed())
    }

    async fn relist(&self, _stats: &str) -> Result<(), String> {
        self.0.told.fetch_add(1, SeqCst);
        if self.0.obeys.load(SeqCst) {
            *self.0.stuck_at.lock().unwrap() = None;
        }
        Ok(())
    }
}

/// A manager that runs. Dropping it is a crash.
pub struct Manager {
    pub world: Arc<World>,
    pub stop: CancellationToken,
    _task: AbortOnDropHandle<()>,
}

pub struct Cluster {
    pub store: Memory,
    pub outage: Arc<Outage>,
    pub engine: Fake,
    pub proxy: Arc<FakeProxy>,
    clock: TimerClock,
}

impl Cluster {
    /// With one proxy registered.
    pub async fn new() -> Self {
        let outage = Arc::new(Outage::default());
        let store = Memory::with_faults(outage.clone());
        let proxy = Arc::new(FakeProxy::new(store.clone()));
        let record = Proxy {
            v: 1,
            stats: "fake".to_owned(),
            boot: "one".to_owned(),
            listen: Vec::new(),
            release: String::new(),
            ended: false,
            extra: Default::default(),
        };
        let put = Write::Put { key: key::proxy("p1"), value: records::write(&record), lease: None };
        store.commit(None, Vec::new(), vec![put]).await.unwrap();
        Self { store, outage, engine: Fake::default(), proxy, clock: TimerClock::starting_at(BEGIN_MS) }
    }

    pub fn parts(&self) -> Parts {
        Parts {
            store: Arc::new(self.store.clone()),
            engine: Arc::new(self.engine.clone()),
            prober: Arc::new(FakeProber(self.engine.clone())),
            stats: Arc::new(FakeStats(self.proxy.clone())),
            clock: Arc::new(self.clock),
        }
    }

    /// A manager with this id, at a place of its own.
    pub fn manager(&self, id: &str) -> Manager {
        self.manager_with(self.parts(), id)
    }

    pub fn manager_with(&self, parts: Parts, id: &str) -> Manager {
        self.manager_set(parts, Settings::new(id, "unused"))
    }

    pub fn manager_set(&self, parts: Parts, settings: Settings) -> Manager {
        let reconciler = Reconciler::new(parts, settings);
        let (world, stop) = (reconciler.world(), CancellationToken::new());
        let task = AbortOnDropHandle::new(tokio::spawn(reconciler.run(stop.clone())));
        Manager { world, stop, _task: task }
    }

    /// A manager that leads.
    pub async fn leader(&self, id: &str) -> Manager {
        let manager = self.manager(id);
        eventually("it leads", || manager.world.fence().is_some() && manager.world.desired().is_some()).await;
        manager
    }

    pub fn desired(&self) -> Desired {
        let snapshot = self.store.inspect();
        let entries = snapshot.entries.iter().map(|(key, entry)| (key.as_str(), &entry.value[..], entry.revision));
        Desired::from_snapshot(self.engine.addressing(), snapshot.revision, entries).0
    }

    pub fn records(&self, app: &AppId) -> BTreeMap<u64, Replica> {
        self.desired().apps.get(app).map(|app| app.replicas.clone()).unwrap_or_default()
    }

    /// Replicas that run in the engine.
    pub fn running(&self, app: &AppId) -> Vec<ReplicaId> {
        let all = self.engine.containers();
        all.into_iter()
            .filter(|(id, seen)| id.app == *app && matches!(seen.run, Run::Running { .. }))
            .map(|(id, _)| id)
            .collect()
    }

    /// Backends in the published routes.
    pub fn routed(&self, app: &AppId) -> Vec<ReplicaId> {
        let desired = self.desired();
        let published = desired.apps.get(app).and_then(|app| app.published.as_ref());
        published.map(|p| p.routes.backends.iter().map(|b| b.replica.clone()).collect()).unwrap_or_default()
    }

    /// Whether exactly `count` replicas run, all of them routed, and there is nothing else.
    pub fn settled(&self, app: &AppId, count: usize) -> bool {
        let (running, routed, records) = (self.running(app), self.routed(app), self.records(app));
        let containers = self.engine.containers().into_keys().filter(|id| id.app == *app).count();
        let plain = records.values().all(|r| r.intent == Intent::Run && r.ready_ms.is_some());
        running.len() == count && running == routed && records.len() == count && containers == count && plain
    }

    pub async fn has(&self, app: &AppId, count: usize) {
        eventually(&format!("{app} has {count} replicas"), || self.settled(app, count)).await;
    }
}

/// Waits until something is so, at most two minutes of the paused clock.
pub async fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !so() {
        assert!(Instant::now() < end, "not so within two minutes: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Makes sure that something stays so for a while.
pub async fn always(what: &str, time: Duration, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        assert!(so(), "no longer so: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

pub fn app(name: &str) -> AppId {
    AppId::in_default(name).unwrap()
}

pub fn replica(name: &str) -> ReplicaId {
    name.parse().unwrap()
}

/// A version of a small web app; `mark` tells versions apart.
pub fn spec(host: &str, mark: &str) -> AppSpec {
    let json = serde_json::json!({
        "source": { "image": "web:1" },
        "port": 8080,
        "env": { "MARK": mark },
    });
    AppSpec {
        routes: vec![RouteSpec {
            host: Some(format!("{host}.localhost")),
            path: "/".to_owned(),
            strip: false,
            redirect: None,
            tcp: None,
        }],
        drain: DrainSpec { timeout_ms: 10_000, grace_ms: 2_000 },
        deploy: DeploySpec { timeout_ms: 20_000, ..DeploySpec::default() },
        ..serde_json::from_value(json).unwrap()
    }
}

pub fn deploy(spec: AppSpec, replicas: u32) -> Deploy {
    let bounds = ScaleSpec { min: 0, max: 10, ..ScaleSpec::default() };
    Deploy {
        spec,
        scale: Some(bounds),
        replicas: Some(replicas),
        note: String::new(),
        create_only: false,
        canary: None,
    }
}

impl Manager {
    pub async fn run_app(&self, name: &str, replicas: u32) -> AppId {
        let id = app(name);
        commands::deploy(&self.world, &id, &deploy(spec(name, "1"), replicas)).await.unwrap();
        id
    }

    pub async fn scale(&self, id: &AppId, count: u32) {
        let request = SetScale { count: Some(count), ..SetScale::default() };
        commands::set_scale(&self.world, id, &request).await.unwrap();
    }
}
