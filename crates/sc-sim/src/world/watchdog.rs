//! What must never happen, looked for after every commit and every step; and what must have become of everything at
//! the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use sc_core::{
    AppId, ReplicaId,
    observed::{Node, Observed, Probed},
    plan::{Action, Desired},
    records::{Intent, Replica, Rollout},
};
use sc_engine::{Engine, fake::Fake};
use sc_store::{Memory, Revision, Write};

use super::{engine::OnStop, proxy::Fleet, store::OnCommit, trace::Trace, users};

/// Looks at everything.
pub struct Watchdog {
    fake: Fake,
    store: Memory,
    trace: Arc<Trace>,
    fleet: OnceLock<Arc<Fleet>>,
    state: Mutex<State>,
    /// Whether a replica with requests may never be stopped before its deadline: all clocks are right.
    strict: bool,
}

#[derive(Default)]
struct State {
    /// Replicas that drain: until when, and whether they had failed.
    drains: BTreeMap<ReplicaId, (u64, bool)>,
    stops: u64,
}

impl Watchdog {
    /// One that has seen nothing.
    pub fn new(fake: Fake, store: Memory, trace: Arc<Trace>, strict: bool) -> Arc<Self> {
        Arc::new(Self { fake, store, trace, fleet: OnceLock::new(), state: Mutex::default(), strict })
    }

    /// Lets it see the proxies.
    pub fn watch_fleet(&self, fleet: &Arc<Fleet>) {
        let _ = self.fleet.set(fleet.clone());
    }

    /// The store's state.
    pub fn desired(&self) -> Desired {
        let snapshot = self.store.inspect();
        let entries = snapshot.entries.iter().filter(|(key, _)| !key.contains("/events/"));
        let entries = entries.map(|(key, entry)| (key.as_str(), &entry.value[..], entry.revision));
        Desired::from_snapshot(self.fake.addressing(), snapshot.revision, entries).0
    }

    /// Everything as it truly is.
    pub fn observed(&self) -> Observed {
        let at = self.fake.now_ms();
        let replicas = self.fake.containers();
        let probes = replicas.iter().filter_map(|(id, seen)| {
            let ok = self.fake.listening(&seen.addr?).as_ref() == Some(id);
            Some((id.clone(), Probed { at, ok, failures: u32::from(!ok), error: String::new() }))
        });
        let proxies = self.fleet.get().map(|fleet| fleet.0.iter().map(|p| (p.id().to_owned(), p.seen(at))).collect());
        Observed {
            at,
            probes: probes.collect(),
            proxies: proxies.unwrap_or_default(),
            nodes: BTreeMap::from([(self.fake.node(), Node::Known { at, replicas, taken: Vec::new() })]),
            refused: BTreeMap::new(),
        }
    }

    /// The invariants of the core, now.
    pub fn check(&self) {
        let desired = self.desired();
        for violation in sc_core::check::check(&desired, &self.observed()) {
            self.trace.violation(&violation.to_string());
        }
        for (id, app) in &desired.apps {
            let stable = app.app.stable.and_then(|n| app.versions.get(&n));
            if stable.is_some_and(|version| !users::can_serve(&version.spec)) {
                self.trace.violation(&format!("{id}: a version that never served is the stable one"));
            }
        }
    }

    /// How many engine calls of managers changed something so far.
    pub fn stops(&self) -> u64 {
        self.state().stops
    }

    /// What is not yet as it shall be at the end.
    pub fn unsettled(&self) -> Vec<String> {
        let (desired, observed) = (self.desired(), self.observed());
        let mut found = Vec::new();
        let mut recorded = BTreeSet::new();
        for (id, app) in &desired.apps {
            recorded.extend(app.replicas.keys().map(|n| ReplicaId::new(id, *n)));
            self.app_unsettled(id, app, &mut found);
        }
        let containers = self.fake.containers();
        let seen = containers.keys().filter(|id| !recorded.contains(*id));
        found.extend(seen.map(|id| format!("{id} has no record")));
        found.extend(desired.left_alone.iter().map(|(id, why)| format!("{id} is left alone: {why}")));
        for step in sc_core::plan::plan(&desired, &observed).steps {
            let unsound = |id: &AppId| desired.apps.get(id).is_some_and(|app| !users::all_sound(app));
            if !matters_not(&step.0) && !step.0.app().is_some_and(unsound) {
                found.push(format!("still planned: {step:?}"));
            }
        }
        found
    }

    fn app_unsettled(&self, id: &AppId, app: &sc_core::plan::DesiredApp, found: &mut Vec<String>) {
        if app.app.deleting {
            found.push(format!("{id} is being deleted"));
        }
        let failed = matches!(app.app.rollout, Rollout::Failed { .. });
        if failed || !users::all_sound(app) {
            return; // Tried on with back-off, for ever.
        }
        if app.app.rollout != Rollout::Settled && !matches!(app.app.rollout, Rollout::RolledBack { .. }) {
            found.push(format!("{id}: {:?}", app.app.rollout));
        }
        let ready: Vec<(&u64, &Replica)> = app.replicas.iter().filter(|(_, r)| is_ready(r)).collect();
        let asleep = app.replicas.values().filter(|r| r.intent.is_warm()).count();
        let want = app.want() - app.gives_way() + app.canary_want();
        if ready.len() != want as usize || app.replicas.len() != ready.len() + asleep {
            let (have, all) = (ready.len(), app.replicas.len());
            found.push(format!("{id} wants {want} and has {have} ready of {all}, {asleep} sleep"));
        }
        let ready: Vec<ReplicaId> = ready.into_iter().map(|(n, _)| ReplicaId::new(id, *n)).collect();
        for replica in &ready {
            let addr = self.fake.containers().get(replica).and_then(|seen| seen.addr);
            if addr.and_then(|addr| self.fake.listening(&addr)).as_ref() != Some(replica) {
                found.push(format!("{replica} does not answer"));
            }
        }
        for proxy in self.fleet.get().iter().flat_map(|fleet| &fleet.0) {
            let mut backends = proxy.backends(id);
            backends.sort();
            if backends != ready {
                found.push(format!("{} sends {id} to {backends:?}, ready are {ready:?}", proxy.id()));
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_ready(replica: &Replica) -> bool {
    replica.intent == Intent::Run && replica.ready_ms.is_some()
}

/// What a settled world may still plan: cleaning up with long delays.
fn matters_not(action: &Action) -> bool {
    matches!(action, Action::Recovered { .. } | Action::Purge(_) | Action::Release { .. } | Action::Prune { .. })
}

impl OnCommit for Watchdog {
    fn committed(&self, _who: &str, _revision: Revision, writes: &[Write]) {
        let mut matters = false;
        for write in writes {
            let (key, value) = match write {
                Write::Put { key, value, .. } => (key, Some(value)),
                Write::Delete { key } => (key, None),
            };
            matters |= !key.contains("/events/");
            self.state().note_drain(key, value);
        }
        if matters {
            self.check();
        }
    }
}

impl State {
    fn note_drain(&mut self, key: &str, value: Option<&Vec<u8>>) {
        let Some((project, rest)) = key.split_once("/replicas/") else { return };
        let Some((app, n)) = rest.split_once('/') else { return };
        let Ok(id) = format!("{project}/{app}-{n}").parse::<ReplicaId>() else { return };
        let Some(value) = value else { return };
        let Ok(record) = sc_core::records::read::<Replica>(key, value) else { return };
        match record.intent {
            Intent::Drain { deadline_ms, failed, .. } => drop(self.drains.insert(id, (deadline_ms, failed))),
            Intent::Run | Intent::Pause { .. } | Intent::Park { .. } => drop(self.drains.remove(&id)),
            Intent::Stop { .. } => {}
        }
    }
}

impl OnStop for Watchdog {
    fn stopping(&self, who: &str, replica: &ReplicaId) {
        self.state().stops += 1;
        if !self.strict {
            return;
        }
        let seen = self.fake.containers().get(replica).and_then(|seen| seen.addr);
        let serves = seen.is_some_and(|addr| self.fake.listening(&addr).as_ref() == Some(replica));
        let drain = self.state().drains.get(replica).copied();
        let (deadline_ms, failed) = drain.unwrap_or((u64::MAX, false));
        if !serves || failed || self.fake.now_ms() >= deadline_ms {
            return;
        }
        for proxy in self.fleet.get().iter().flat_map(|fleet| &fleet.0).filter(|proxy| proxy.is_registered()) {
            let (open, listed) = (proxy.in_flight(replica), proxy.backends(&replica.app).contains(replica));
            if open > 0 || listed {
                let id = proxy.id();
                let text = format!(
                    "{who} stops or freezes {replica} while {id} lists it ({listed}) or has {open} requests there"
                );
                self.trace.violation(&text);
            }
        }
    }
}
