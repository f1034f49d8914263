//! Proxies: they register, watch the routes, send requests to what their tables say, and report. What they do is
//! simple; that they may be late, cut off or killed is the point.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::StreamExt;
use sc_core::{
    AppId, ReplicaId,
    observed::ProxySeen,
    records::{self, Proxy, key},
    routes::{AppRoutes, BackendRoute},
    stats::{AppStats, Frame},
};
use sc_engine::fake::Fake;
use sc_manager::proxies::{Frames, StatsSource};
use sc_store::{Changes, Entry, Snapshot, Store, StoreError, Write};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{store::StoreEdge, trace::Trace};
use crate::dice::Dice;

const LEASE: Duration = Duration::from_secs(10);
const RENEW: Duration = Duration::from_secs(3);
/// Shorter than the time to drain of the apps here (10 s), with room for a slow list: a proxy whose watch lost an event learns of it
/// before a replica is stopped at its deadline. So it is with the real proxy's 13 to 20 s and the 30 s that are the default.
const RELIST: Duration = Duration::from_secs(6);
const HOLD: Duration = Duration::from_secs(30);

/// One proxy.
pub struct SimProxy {
    id: String,
    fake: Fake,
    trace: Arc<Trace>,
    dice: Dice,
    store: StoreEdge,
    /// Its stats reach nobody.
    deaf: AtomicBool,
    state: Mutex<State>,
    tasks: Mutex<Vec<AbortOnDropHandle<()>>>,
}

#[derive(Default)]
struct State {
    boots: u64,
    alive: bool,
    seq: u64,
    applied: u64,
    table: BTreeMap<AppId, AppRoutes>,
    stats: BTreeMap<AppId, AppStats>,
    listeners: Vec<mpsc::Sender<Result<Frame, String>>>,
    registered_until: Option<Instant>,
    /// Requests that came to a wrong end, in words.
    failed: Vec<String>,
    sent: u64,
}

impl SimProxy {
    /// One that does not run yet.
    pub fn new(id: &str, fake: Fake, trace: Arc<Trace>, dice: Dice, store: StoreEdge) -> Arc<Self> {
        let (deaf, state, tasks) = (AtomicBool::new(false), Mutex::default(), Mutex::default());
        Arc::new(Self { id: id.to_owned(), fake, trace, dice, store, deaf, state, tasks })
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Starts it with the table it had.
    pub fn start(self: &Arc<Self>) {
        {
            let mut state = self.state();
            (state.alive, state.seq) = (true, 0);
            state.boots += 1;
            state.stats.clear();
        }
        self.trace.note(&format!("{} starts", self.id));
        let (a, b, c, d) = (self.clone(), self.clone(), self.clone(), self.clone());
        let spawn = |task: futures_util::future::BoxFuture<'static, ()>| AbortOnDropHandle::new(tokio::spawn(task));
        *self.tasks.lock().unwrap_or_else(PoisonError::into_inner) = vec![
            spawn(Box::pin(async move { a.register().await })),
            spawn(Box::pin(async move { b.follow().await })),
            spawn(Box::pin(async move { c.traffic().await })),
            spawn(Box::pin(async move { d.report().await })),
        ];
    }

    /// Kills it. Its table is on disk.
    pub fn kill(&self) {
        self.trace.note(&format!("{} dies", self.id));
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let mut state = self.state();
        state.alive = false;
        state.listeners.clear();
        state.stats.clear();
    }

    /// Cuts it off from the store, and its stats off from the managers; or no longer.
    pub fn cut(&self, store: bool, stats: bool) {
        self.trace.note(&format!("{} cut off: store {store}, stats {stats}", self.id));
        self.store.cut.store(store, Ordering::Relaxed);
        self.deaf.store(stats, Ordering::Relaxed);
        if stats {
            self.state().listeners.clear();
        }
    }

    /// Whether it runs.
    pub fn is_alive(&self) -> bool {
        self.state().alive
    }

    /// Whether its entry is in the store, as far as it knows.
    pub fn is_registered(&self) -> bool {
        let state = self.state();
        state.alive && state.registered_until.is_some_and(|until| Instant::now() < until)
    }

    /// What it would report.
    pub fn seen(&self, at: u64) -> ProxySeen {
        let state = self.state();
        let in_flight = state.stats.values().flat_map(|app| &app.backends);
        let in_flight = in_flight.filter(|(_, b)| b.in_flight > 0).map(|(id, b)| (id.clone(), b.in_flight));
        ProxySeen { at, applied: state.applied, in_flight: in_flight.collect(), live: state.alive }
    }

    /// Requests now with a replica.
    pub fn in_flight(&self, replica: &ReplicaId) -> u64 {
        let state = self.state();
        let app = state.stats.get(&replica.app);
        app.and_then(|app| app.backends.get(replica)).map_or(0, |backend| backend.in_flight)
    }

    /// The backends it would send an app's requests to.
    pub fn backends(&self, app: &AppId) -> Vec<ReplicaId> {
        let state = self.state();
        let routes = state.table.get(app);
        routes.map(|routes| routes.backends.iter().map(|b| b.replica.clone()).collect()).unwrap_or_default()
    }

    /// Requests that came to a wrong end, and how many there were in all.
    pub fn outcome(&self) -> (Vec<String>, u64) {
        let state = self.state();
        (state.failed.clone(), state.sent)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn register(&self) {
        loop {
            if let Err(error) = self.registered().await {
                self.trace.note(&format!("{} is not registered: {error}", self.id));
            }
            sleep(Duration::from_millis(700)).await;
        }
    }

    /// Registers, and renews that until it fails.
    async fn registered(&self) -> Result<(), StoreError> {
        let asked = Instant::now();
        let lease = self.store.grant(LEASE).await?;
        let record = Proxy {
            v: 1,
            stats: format!("sim:{}", self.id),
            boot: self.state().boots.to_string(),
            listen: Vec::new(),
            release: String::new(),
            ended: false,
            extra: Default::default(),
        };
        let put = Write::Put { key: key::proxy(&self.id), value: records::write(&record), lease: Some(lease) };
        self.store.commit(None, Vec::new(), vec![put]).await?;
        self.state().registered_until = Some(asked + LEASE);
        loop {
            sleep(RENEW).await;
            let asked = Instant::now();
            match self.store.keep_alive(lease).await {
                Ok(()) => self.state().registered_until = Some(asked + LEASE),
                Err(StoreError::LeaseGone) => return Err(StoreError::LeaseGone),
                Err(_) => {}
            }
        }
    }

    async fn follow(&self) {
        loop {
            let _ = self.followed().await;
            sleep(Duration::from_millis(500)).await;
        }
    }

    async fn followed(&self) -> Result<(), StoreError> {
        let snapshot = self.store.load(key::ROUTES).await?;
        let mut watch = self.store.watch(key::ROUTES, snapshot.revision).await?;
        self.take_all(&snapshot);
        let relist = Instant::now() + RELIST;
        loop {
            let Ok(changes) = timeout(relist - Instant::now().min(relist), watch.next()).await else { return Ok(()) };
            let changes = changes?;
            let slow = if self.dice.chance(30) { 2_000 } else { 30 };
            sleep(self.dice.millis(0, slow)).await;
            self.take(changes);
        }
    }

    fn take_all(&self, snapshot: &Snapshot) {
        let mut state = self.state();
        if snapshot.revision < state.applied {
            return;
        }
        state.table = snapshot.entries.iter().filter_map(|(key, entry)| routes(key, entry)).collect();
        state.applied = snapshot.revision;
        state.keep_stats();
    }

    fn take(&self, changes: Changes) {
        let mut state = self.state();
        if changes.revision <= state.applied {
            return;
        }
        for (key, entry) in changes.keys {
            if let Some((app, routes)) = entry.and_then(|entry| routes(&key, &entry)) {
                state.table.insert(app, routes);
            } else if let Some(app) = key::app_of_routes(&key) {
                state.table.remove(&app);
            }
        }
        state.applied = changes.revision;
        state.keep_stats();
    }

    async fn report(&self) {
        loop {
            sleep(Duration::from_secs(1)).await;
            self.send_frame(false);
        }
    }

    fn send_frame(&self, urgent: bool) {
        let mut state = self.state();
        state.seq += 1;
        let frame = Frame {
            proxy: self.id.clone(),
            boot: state.boots.to_string(),
            seq: state.seq,
            at_ms: self.fake.now_ms(),
            urgent,
            applied: state.applied,
            apps: state.stats.clone(),
            ..Frame::default()
        };
        state.listeners.retain(|listener| listener.try_send(Ok(frame.clone())).is_ok());
    }

    async fn traffic(self: &Arc<Self>) {
        let mut requests: Vec<AbortOnDropHandle<()>> = Vec::new();
        loop {
            sleep(self.dice.millis(30, 400)).await;
            requests.retain(|request| !request.is_finished());
            if requests.len() > 200 {
                continue;
            }
            let apps: Vec<AppId> = self.state().table.keys().cloned().collect();
            let Some(app) = self.dice.pick(&apps).cloned() else { continue };
            let proxy = self.clone();
            requests.push(AbortOnDropHandle::new(tokio::spawn(async move { proxy.request(&app).await })));
        }
    }

    /// One request: held until there is a backend, sent, answered after a while.
    async fn request(&self, app: &AppId) {
        self.app(app, |stats| stats.arrivals += 1);
        let Some(backend) = self.hold(app).await else { return };
        let replica = backend.replica.clone();
        let lasts = self.dice.millis(5, if self.dice.chance(100) { 4_000 } else { 300 });
        self.backend(&replica, |stats| {
            stats.requests += 1;
            stats.in_flight += 1;
        });
        self.state().sent += 1;
        let sent = Instant::now();
        let arrived = self.arrive(&backend);
        if arrived {
            sleep(lasts).await;
        }
        let done = arrived && self.fake.listening(&backend.addr).as_ref() == Some(&replica);
        if arrived && !done {
            self.fail(format!("{}: a request to {replica} was cut short", self.id));
        }
        self.backend(&replica, |stats| {
            stats.in_flight = stats.in_flight.saturating_sub(1);
            stats.in_flight_seconds += sent.elapsed().as_secs_f64();
            stats.completions[if done { 1 } else { 5 }] += 1;
            if done {
                stats.latency.record(lasts.as_nanos() as u64);
            }
        });
        self.state().keep_stats();
    }

    /// Waits for a backend, as the real one does; tells the managers at once.
    async fn hold(&self, app: &AppId) -> Option<BackendRoute> {
        let until = Instant::now() + HOLD;
        let mut held = false;
        let found = loop {
            let choice = {
                let state = self.state();
                let routes = state.table.get(app).filter(|routes| !routes.stopped);
                routes.map(|routes| self.dice.pick(&routes.backends).cloned())
            };
            match choice {
                None => break None,
                Some(Some(backend)) => break Some(backend),
                Some(None) if Instant::now() >= until => break None,
                Some(None) => {}
            }
            if !std::mem::replace(&mut held, true) {
                self.app(app, |stats| {
                    stats.held += 1;
                    stats.held_total += 1;
                });
                self.send_frame(true);
            }
            sleep(Duration::from_millis(100)).await;
        };
        if held {
            self.app(app, |stats| stats.held = stats.held.saturating_sub(1));
        }
        found
    }

    /// Whether somebody answers there; somebody else's app never may.
    fn arrive(&self, backend: &BackendRoute) -> bool {
        let replica = &backend.replica;
        match self.fake.listening(&backend.addr) {
            Some(there) if there.app != replica.app => {
                self.trace.violation(&format!("{}: a request for {} reached {there}", self.id, replica.app));
                false
            }
            Some(there) if there == *replica => true,
            Some(there) => {
                self.fail(format!("{}: a request to {replica} reached {there}", self.id));
                false
            }
            None => {
                self.fail(format!("{}: nobody answered for {replica}", self.id));
                false
            }
        }
    }

    fn fail(&self, text: String) {
        self.trace.note(&text);
        let mut state = self.state();
        if state.failed.len() < 100 {
            state.failed.push(text);
        }
    }

    fn app(&self, app: &AppId, change: impl FnOnce(&mut AppStats)) {
        change(self.state().stats.entry(app.clone()).or_default());
    }

    fn backend(&self, replica: &ReplicaId, change: impl FnOnce(&mut sc_core::stats::BackendStats)) {
        self.app(&replica.app, |app| change(app.backends.entry(replica.clone()).or_default()));
    }
}

impl State {
    /// Forgets what is neither routed nor busy.
    fn keep_stats(&mut self) {
        let table = &self.table;
        for (app, stats) in &mut self.stats {
            let routes = table.get(app);
            let listed = |id: &ReplicaId| routes.is_some_and(|r| r.backends.iter().any(|b| b.replica == *id));
            stats.backends.retain(|id, backend| backend.in_flight > 0 || listed(id));
        }
        self.stats.retain(|app, stats| table.contains_key(app) || stats.held > 0 || !stats.backends.is_empty());
    }
}

fn routes(key: &str, entry: &Entry) -> Option<(AppId, AppRoutes)> {
    let app = key::app_of_routes(key)?;
    Some((app, records::read(key, &entry.value).ok()?))
}

/// The stats streams of all proxies.
pub struct Fleet(pub Vec<Arc<SimProxy>>);

#[async_trait]
impl StatsSource for Fleet {
    async fn open(&self, id: &str, _stats: &str) -> Result<Frames, String> {
        sleep(Duration::from_millis(2)).await;
        let proxy = self.0.iter().find(|proxy| proxy.id == id).ok_or("no such proxy")?;
        if !proxy.is_alive() || proxy.deaf.load(Ordering::Relaxed) {
            return Err("connection refused".to_owned());
        }
        let (sender, receiver) = mpsc::channel(16);
        proxy.state().listeners.push(sender);
        Ok(tokio_stream_of(receiver))
    }

    async fn relist(&self, _stats: &str) -> Result<(), String> {
        Err("not simulated: a proxy that has lost an event looks by itself".to_owned())
    }
}

fn tokio_stream_of(receiver: mpsc::Receiver<Result<Frame, String>>) -> Frames {
    futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|frame| (frame, receiver))
    })
    .boxed()
}
