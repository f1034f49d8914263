//! What this manager knows now: shared by its loops and its HTTP interface. Data and its doors only; nothing here runs
//! by itself.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sc_core::{
    AppId, ReplicaId,
    certs::{ACME, CERTS, Certificates},
    observed::Observed,
    plan::Desired,
    records::UnixMs,
};
use sc_engine::Engine;
use sc_scale::Decision;
use sc_store::{Fence, Snapshot, Store};
use sc_vault::KeyFile;
use tokio::sync::{Notify, watch};

use crate::{
    clock::Clock, events::Events, metrics::Metrics, mirror::Mirror, outside::Sources, probe::Answers, proxies::Reports,
    record::Recorder, settings::Settings, usage::Usages, waiting::Waiting,
};

/// What this manager knows now.
pub struct World {
    /// How it was set up.
    pub settings: Settings,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The state.
    pub store: Arc<dyn Store>,
    /// What runs replicas.
    pub engine: Arc<dyn Engine>,
    /// What is missing.
    pub waiting: Arc<Waiting>,
    /// What happened.
    pub events: Arc<Events>,
    /// The store's copy.
    pub mirror: Arc<Mirror>,
    /// The epoch in which this manager leads, if it does.
    pub lead: watch::Sender<Option<Fence>>,
    /// What the replicas answered to probes.
    pub answers: Arc<Answers>,
    /// What the proxies reported.
    pub reports: Arc<Reports>,
    /// What the replicas use.
    pub usages: Usages,
    /// What the sources of scaling policies say.
    pub outside: Sources,
    /// What scaling decisions were made from.
    pub recorder: Recorder,
    /// Opens and seals what is secret in the store.
    pub vault: KeyFile,
    /// Numbers for Prometheus.
    pub metrics: Metrics,
    /// Asks for a pass of the reconciler.
    pub wake: Notify,
    refused: Mutex<BTreeMap<ReplicaId, String>>,
    observed: Mutex<Arc<Observed>>,
    decisions: Mutex<BTreeMap<AppId, Decision>>,
    parsed: Mutex<Option<(Arc<Snapshot>, Arc<Desired>)>>,
    certificates: Mutex<Option<(Arc<Snapshot>, Arc<Certificates>)>>,
    acme_trouble: Mutex<Option<String>>,
}

impl World {
    /// Knows nothing yet.
    pub fn new(settings: Settings, store: Arc<dyn Store>, engine: Arc<dyn Engine>, clock: Arc<dyn Clock>) -> Self {
        let waiting = Arc::new(Waiting::default());
        let events = Arc::new(Events::new(clock.clone()));
        Self {
            mirror: Arc::new(Mirror::new(store.clone(), events.clone(), waiting.clone())),
            reports: Arc::new(Reports::new(clock.clone())),
            lead: watch::Sender::new(None),
            answers: Arc::default(),
            usages: Usages::default(),
            outside: Sources::default(),
            recorder: Recorder::start(settings.recordings.clone()),
            metrics: Metrics::new(),
            wake: Notify::new(),
            refused: Mutex::default(),
            observed: Mutex::default(),
            decisions: Mutex::default(),
            parsed: Mutex::default(),
            certificates: Mutex::default(),
            acme_trouble: Mutex::default(),
            vault: KeyFile::new(settings.store_key.clone()),
            settings,
            clock,
            store,
            engine,
            waiting,
            events,
        }
    }

    /// The time.
    pub fn now_ms(&self) -> UnixMs {
        self.clock.now_ms()
    }

    /// The epoch in which this manager leads, if it does.
    pub fn fence(&self) -> Option<Fence> {
        *self.lead.borrow()
    }

    /// The store's state as far as it is known; none before the first load.
    pub fn desired(&self) -> Option<Arc<Desired>> {
        let snapshot = self.mirror.snapshot()?;
        Some(self.parse(&snapshot))
    }

    /// A snapshot, typed. The latest one is remembered.
    pub fn parse(&self, snapshot: &Arc<Snapshot>) -> Arc<Desired> {
        let mut parsed = lock(&self.parsed);
        if let Some((known, desired)) = parsed.as_ref()
            && Arc::ptr_eq(known, snapshot)
        {
            return desired.clone();
        }
        let entries = snapshot.entries.iter().map(|(key, entry)| (key.as_str(), &entry.value[..], entry.revision));
        let (desired, errors) = Desired::from_snapshot(self.engine.addressing(), snapshot.revision, entries);
        for error in errors {
            tracing::warn!(%error, "a record is left alone");
        }
        let desired = Arc::new(desired);
        *parsed = Some((snapshot.clone(), desired.clone()));
        desired
    }

    /// What the store says of certificates, as far as it is known; none before the first load.
    pub fn certificates(&self) -> Option<Arc<Certificates>> {
        let snapshot = self.mirror.snapshot()?;
        Some(self.certificates_of(&snapshot))
    }

    /// What a snapshot says of certificates. The latest one is remembered.
    pub fn certificates_of(&self, snapshot: &Arc<Snapshot>) -> Arc<Certificates> {
        let mut known = lock(&self.certificates);
        if let Some((seen, certificates)) = known.as_ref()
            && Arc::ptr_eq(seen, snapshot)
        {
            return certificates.clone();
        }
        let mut certificates = Certificates { revision: snapshot.revision, ..Certificates::default() };
        for prefix in [CERTS, ACME] {
            let below = snapshot.entries.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
            below.for_each(|(key, entry)| certificates.entry(key, &entry.value, entry.revision));
        }
        let certificates = Arc::new(certificates);
        *known = Some((snapshot.clone(), certificates.clone()));
        certificates
    }

    /// What stands in the way of all certificates from the authority.
    pub fn acme_trouble(&self) -> Option<String> {
        lock(&self.acme_trouble).clone()
    }

    /// Notes it. True when that is new.
    pub(crate) fn set_acme_trouble(&self, trouble: Option<String>) -> bool {
        let mut known = lock(&self.acme_trouble);
        let new = *known != trouble;
        *known = trouble;
        new
    }

    /// What the latest pass saw.
    pub fn observed(&self) -> Arc<Observed> {
        lock(&self.observed).clone()
    }

    pub(crate) fn saw(&self, observed: Arc<Observed>) {
        *lock(&self.observed) = observed;
    }

    /// Starts that the engine refused for good.
    pub fn refused(&self) -> BTreeMap<ReplicaId, String> {
        lock(&self.refused).clone()
    }

    pub(crate) fn refuse(&self, replica: &ReplicaId, why: String) {
        lock(&self.refused).insert(replica.clone(), why);
    }

    pub(crate) fn keep_refused(&self, keep: impl Fn(&ReplicaId) -> bool) {
        lock(&self.refused).retain(|replica, _| keep(replica));
    }

    /// The scaler's latest decision on an app.
    pub fn decision(&self, app: &AppId) -> Option<Decision> {
        lock(&self.decisions).get(app).cloned()
    }

    pub(crate) fn decided(&self, app: &AppId, decision: Decision) {
        lock(&self.decisions).insert(app.clone(), decision);
    }

    pub(crate) fn keep_decisions(&self, keep: impl Fn(&AppId) -> bool) {
        lock(&self.decisions).retain(|app, _| keep(app));
    }
}

/// Locks. A thread that died with the lock held left nothing half-done here: every change is one insert or swap.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
