//! What the proxies report: one streaming connection to each, its latest frame, and per app one [`Sample`] a second.

mod connect;
mod lag;
mod samples;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
pub use connect::HttpStats;
use futures_util::{StreamExt, stream::BoxStream};
pub use lag::Lag;
use samples::Samples;
use sc_core::{
    AppId, ReplicaId,
    observed::ProxySeen,
    plan::PROXY_KEPT_MS,
    records::{Proxy, UnixMs},
    stats::{AppStats, Frame},
};
use sc_scale::{Outside, Sample, Window};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use crate::clock::Clock;

/// A stream that says nothing for so long is opened anew.
const SILENCE: Duration = Duration::from_secs(5);
/// Time between two attempts to open a stream, growing to four times this.
const RETRY: Duration = Duration::from_millis(250);

/// The frames of one proxy, as they come. It ends with the connection.
pub type Frames = BoxStream<'static, Result<Frame, String>>;

/// Opens stats streams.
#[async_trait]
pub trait StatsSource: Send + Sync + 'static {
    /// The stream at `stats`, the address in the proxy's record.
    ///
    /// # Errors
    /// What went wrong, for people.
    async fn open(&self, id: &str, stats: &str) -> Result<Frames, String>;

    /// Asks the proxy there to read all routes anew.
    async fn relist(&self, stats: &str) -> Result<(), String>;
}

/// Everything the proxies said, shared with everybody.
pub struct Reports {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// A frame came that the reconciler may be waiting for.
    pub applied: Notify,
    /// A request came for an app without backends.
    pub urgent: Notify,
    /// A frame came.
    pub framed: Notify,
}

#[derive(Default)]
struct State {
    proxies: BTreeMap<String, Reported>,
    samples: Samples,
}

/// One proxy.
#[derive(Debug, Clone, Default)]
struct Reported {
    frame: Option<Frame>,
    at: UnixMs,
    /// When its lease was found gone.
    gone_ms: Option<UnixMs>,
    error: String,
}

/// A proxy's latest report, for people.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// When the latest frame came; none: there was none.
    pub at: Option<UnixMs>,
    /// The proxy's clock in that frame.
    pub proxy_clock: UnixMs,
    /// The revision it serves.
    pub applied: u64,
    /// Up to which revision it has certificates and challenges.
    pub certs: u64,
    /// What is wrong with some.
    pub certs_wrong: Option<String>,
    /// Why there is no stream, if there is none.
    pub error: String,
}

impl Reports {
    /// None yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default(), applied: Notify::new(), urgent: Notify::new(), framed: Notify::new() }
    }

    /// What the reconciler needs of each proxy.
    pub fn seen(&self) -> BTreeMap<String, ProxySeen> {
        let state = self.lock();
        let reported = state.proxies.iter();
        reported.map(|(id, proxy)| (id.clone(), proxy.seen())).collect()
    }

    /// The latest report of a proxy.
    pub fn report(&self, id: &str) -> Report {
        let state = self.lock();
        let Some(proxy) = state.proxies.get(id) else { return Report::default() };
        let frame = proxy.frame.as_ref();
        Report {
            at: frame.map(|_| proxy.at),
            proxy_clock: frame.map_or(0, |f| f.at_ms),
            applied: frame.map_or(0, |f| f.applied),
            certs: frame.map_or(0, |f| f.certs),
            certs_wrong: frame.and_then(|f| f.certs_wrong.clone()),
            error: proxy.error.clone(),
        }
    }

    /// Looks at the seconds of one app.
    pub fn with_window<T>(&self, app: &AppId, look: impl FnOnce(&Window) -> T) -> T {
        look(self.lock().samples.window(app).unwrap_or(&Window::default()))
    }

    /// What was measured of an app before this manager started.
    pub fn remember(&self, app: AppId, window: Window) {
        self.lock().samples.remember(app, window);
    }

    /// Notes what the sources of an app's policies say.
    pub fn note_outside(&self, app: &AppId, outside: Vec<Outside>) {
        self.lock().samples.note_outside(app, outside);
    }

    /// The last `seconds` of one app, and of one of its replicas: requests per second.
    pub fn recent(&self, app: &AppId, seconds: usize) -> Vec<Sample> {
        self.lock().samples.recent(app, seconds)
    }

    /// Requests per second of one replica, over the last seconds.
    pub fn rps(&self, replica: &ReplicaId) -> f64 {
        self.lock().samples.rps(replica)
    }

    /// An app's or replica's gauges, summed over the proxies that are alive.
    pub fn gauges(&self, app: &AppId) -> AppStats {
        let state = self.lock();
        let mut sum = AppStats::default();
        for stats in state.live().filter_map(|frame| frame.apps.get(app)) {
            sum.held += stats.held;
            sum.streams += stats.streams;
            for (id, backend) in &stats.backends {
                let all = sum.backends.entry(id.clone()).or_default();
                all.in_flight += backend.in_flight;
                all.ejected |= backend.ejected;
            }
        }
        sum
    }

    /// Closes the second that is running if it is over; `ready` and `usage` complete the samples. True when it was.
    pub fn close_second(&self, facts: &BTreeMap<AppId, Facts>) -> bool {
        let now = self.clock.now_ms();
        let mut state = self.lock();
        let State { proxies, samples } = &mut *state;
        let live = proxies.iter().filter(|(_, p)| p.gone_ms.is_none()).map(|(id, _)| id.as_str());
        let live: BTreeSet<&str> = live.collect();
        samples.close_if_over(now, &live, facts)
    }

    fn take(&self, id: &str, frame: Frame) {
        let now = self.clock.now_ms();
        let mut state = self.lock();
        let State { proxies, samples } = &mut *state;
        let Some(proxy) = proxies.get_mut(id) else { return };
        samples.add(id, &frame, now);
        let urgent = frame.urgent;
        let matters = proxy.differs(&frame);
        proxy.at = now;
        proxy.error.clear();
        proxy.frame = Some(frame);
        drop(state);
        self.framed.notify_one();
        if matters {
            self.applied.notify_one();
        }
        if urgent {
            self.urgent.notify_one();
        }
    }

    fn failed(&self, id: &str, why: String) {
        if let Some(proxy) = self.lock().proxies.get_mut(id) {
            proxy.error = why;
        }
    }

    /// Makes the known proxies those registered and those whose lease ended lately.
    fn sync(&self, registered: &BTreeMap<String, Proxy>) {
        let now = self.clock.now_ms();
        let mut state = self.lock();
        for id in registered.keys() {
            state.proxies.entry(id.clone()).or_default().gone_ms = None;
        }
        for (id, proxy) in &mut state.proxies {
            if !registered.contains_key(id) {
                proxy.gone_ms.get_or_insert(now);
            }
        }
        state.proxies.retain(|_, proxy| proxy.gone_ms.is_none_or(|gone| now < gone + PROXY_KEPT_MS));
        let State { proxies, samples } = &mut *state;
        samples.keep_only(|id| proxies.contains_key(id));
    }

    /// Forgets the seconds of apps that are gone.
    pub fn keep_apps(&self, keep: impl Fn(&AppId) -> bool) {
        self.lock().samples.keep_apps(keep);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn live(&self) -> impl Iterator<Item = &Frame> {
        self.proxies.values().filter(|p| p.gone_ms.is_none()).filter_map(|p| p.frame.as_ref())
    }
}

impl Reported {
    fn seen(&self) -> ProxySeen {
        let frame = self.frame.as_ref();
        ProxySeen {
            at: self.at,
            applied: frame.map_or(0, |f| f.applied),
            in_flight: frame.map(in_flight).unwrap_or_default(),
            live: self.gone_ms.is_none(),
        }
    }

    /// Whether a drain may go on because of this frame.
    fn differs(&self, new: &Frame) -> bool {
        let Some(old) = &self.frame else { return true };
        old.applied != new.applied || in_flight(old).keys().ne(in_flight(new).keys())
    }
}

fn in_flight(frame: &Frame) -> BTreeMap<ReplicaId, u64> {
    let backends = frame.apps.values().flat_map(|app| &app.backends);
    backends.filter(|(_, b)| b.in_flight > 0).map(|(id, b)| (id.clone(), b.in_flight)).collect()
}

/// What the manager itself knows of an app in the second that ends.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// Replicas that are ready.
    pub ready: u32,
    /// They are of more than one version.
    pub mixed: bool,
    /// CPU in use by them together.
    pub cpu: Option<f64>,
    /// Their CPU limit together.
    pub cpu_limit: Option<f64>,
    /// Memory in use by them together, bytes.
    pub memory: Option<f64>,
    /// Their memory limit together, bytes.
    pub memory_limit: Option<f64>,
    /// How many replicas those speak of.
    pub cpu_replicas: u32,
}

/// The running connections. Dropping it ends them.
pub struct Connections {
    source: Arc<dyn StatsSource>,
    reports: Arc<Reports>,
    tasks: BTreeMap<String, (String, AbortOnDropHandle<()>)>,
    /// Those who are being told something; one at a time each.
    told: BTreeMap<String, AbortOnDropHandle<()>>,
}

impl Connections {
    /// None yet.
    pub fn new(source: Arc<dyn StatsSource>, reports: Arc<Reports>) -> Self {
        Self { source, reports, tasks: BTreeMap::new(), told: BTreeMap::new() }
    }

    /// Makes the connections those of the registered proxies; one that moved or started anew is connected to anew.
    pub fn sync(&mut self, registered: &BTreeMap<String, Proxy>) {
        self.reports.sync(registered);
        let place = |proxy: &Proxy| format!("{} {}", proxy.stats, proxy.boot);
        self.tasks.retain(|id, (at, _)| registered.get(id).is_some_and(|proxy| place(proxy) == *at));
        for (id, proxy) in registered {
            if !self.tasks.contains_key(id) {
                let task = listen(self.source.clone(), self.reports.clone(), id.clone(), proxy.stats.clone());
                self.tasks.insert(id.clone(), (place(proxy), AbortOnDropHandle::new(tokio::spawn(task))));
            }
        }
    }

    /// Tells these proxies that they have missed a change of the routes. One of a release that does not understand it goes on
    /// looking by itself.
    pub fn relist(&mut self, late: &[String], registered: &BTreeMap<String, Proxy>) {
        self.told.retain(|_, task| !task.is_finished());
        for id in late.iter().filter(|id| !self.told.contains_key(*id)).cloned().collect::<Vec<_>>() {
            let Some(proxy) = registered.get(&id) else { continue };
            let task = tell(self.source.clone(), id.clone(), proxy.stats.clone());
            self.told.insert(id, AbortOnDropHandle::new(tokio::spawn(task)));
        }
    }
}

async fn tell(source: Arc<dyn StatsSource>, id: String, stats: String) {
    match timeout(SILENCE, source.relist(&stats)).await {
        Ok(Ok(())) => tracing::info!(proxy = id, "it lacks routes published seconds ago: told to read them anew"),
        Ok(Err(error)) => tracing::debug!(proxy = id, error, "it lacks routes and cannot be told"),
        Err(_late) => tracing::debug!(proxy = id, "it lacks routes and does not answer"),
    }
}

async fn listen(source: Arc<dyn StatsSource>, reports: Arc<Reports>, id: String, stats: String) {
    let mut wait = RETRY;
    loop {
        match timeout(SILENCE, source.open(&id, &stats)).await {
            Ok(Ok(frames)) => {
                let why = drink(frames, &reports, &id, &mut wait).await;
                reports.failed(&id, why);
            }
            Ok(Err(why)) => reports.failed(&id, why),
            Err(_late) => reports.failed(&id, format!("{stats} did not answer")),
        }
        sleep(wait).await;
        wait = (wait * 2).min(RETRY * 4);
    }
}

/// Reads frames until the stream ends or is silent; says why.
async fn drink(mut frames: Frames, reports: &Reports, id: &str, wait: &mut Duration) -> String {
    loop {
        match timeout(SILENCE, frames.next()).await {
            Ok(Some(Ok(frame))) => {
                // While a proxy is upgraded, the new process may answer for the old one, which still has requests in flight.
                if !frame.proxy.is_empty() && frame.proxy != id {
                    return format!("another proxy answers there: {}", frame.proxy);
                }
                *wait = RETRY;
                reports.take(id, frame);
            }
            Ok(Some(Err(why))) => return why,
            Ok(None) => return "the stream ended".to_owned(),
            Err(_late) => return format!("nothing came for {} s", SILENCE.as_secs()),
        }
    }
}
