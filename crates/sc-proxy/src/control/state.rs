//! The routes as they are known, the table made from them, and which revision has been applied everywhere.

use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    sync::{Arc, atomic::Ordering::*},
    time::{Instant, SystemTime},
};

use sc_core::{
    AppId,
    routes::AppRoutes,
    stats::{AppStats, BackendStats, Frame},
};

use crate::{
    live::{Registry, Shared, Table},
    probe::Probes,
    source::Update,
};

/// All routes, by app.
pub(crate) type Routes = BTreeMap<AppId, Arc<AppRoutes>>;

/// The routes and what was made from them.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) registry: Registry,
    pub(crate) routes: Arc<Routes>,
}

impl Published {
    /// Makes the first table: of the routes kept on disk, or of none.
    pub(crate) fn first(shared: &Shared, kept: Option<Vec<AppRoutes>>) -> Self {
        let mut registry = Registry::new(shared.acknowledged.len());
        let has_table = kept.is_some();
        let routes: Routes = kept.unwrap_or_default().into_iter().map(|app| (app.app.clone(), Arc::new(app))).collect();
        let (table, _) = registry.table(&routes, &Table::default(), Instant::now());
        shared.ports.set(table.routes.ports());
        shared.table.store(Arc::new(table));
        shared.has_table.store(has_table, Release);
        Self { registry, routes: Arc::new(routes) }
    }
}

/// What the control thread knows.
pub(crate) struct State {
    id: String,
    boot: String,
    seq: u64,
    shared: Arc<Shared>,
    published: Published,
    /// What the source said last, if the table is not yet made from it.
    next: Option<Routes>,
    revision: u64,
    /// Generations that are not yet known to be applied, with the revision each stands for.
    pending: VecDeque<(u64, u64)>,
    generation: u64,
    applied: u64,
    /// The generation that is on disk; the newest there is when nothing is kept.
    saved: Option<u64>,
    /// How the reading of routes goes.
    source: SourceState,
    /// How backends are probed.
    probes: Rc<Probes>,
    /// Up to which revision certificates and challenges are in force, and what is wrong with some.
    pub(super) certs: (u64, Option<String>),
}

/// How the reading of routes goes.
#[derive(Debug, Default, Clone)]
pub(crate) struct SourceState {
    /// How often what was read was refused.
    pub(crate) errors: u64,
    /// Why the newest was, until a good one is read.
    pub(crate) broken: Option<String>,
}

impl State {
    pub(crate) fn new(id: String, boot: String, published: Published, shared: Arc<Shared>, keeps: bool) -> Self {
        let generation = shared.table.load().generation;
        let saved = keeps.then_some(0);
        let (pending, next) = (VecDeque::new(), None);
        let (source, probes) = (SourceState::default(), Rc::default());
        let (seq, revision, applied, certs) = (0, 0, 0, (0, None));
        Self {
            id,
            boot,
            seq,
            shared,
            published,
            next,
            revision,
            pending,
            generation,
            applied,
            saved,
            source,
            probes,
            certs,
        }
    }

    /// Whether what is applied must be on this process's disk. If not, another process keeps it there.
    pub(crate) fn keeps(&mut self, keeps: bool) {
        self.saved = if keeps { self.saved.or(Some(0)) } else { None };
    }

    /// Takes in what a source says.
    pub(crate) fn merge(&mut self, update: Update) {
        self.source.errors += u64::from(update.refused.is_some());
        self.source.broken = update.refused;
        if self.source.broken.is_some() {
            return;
        }
        if let Some(probes) = update.probes {
            self.probes = Rc::new(probes);
        }
        if !update.whole && update.revision < self.revision {
            return; // an echo from before the last listing
        }
        self.revision = update.revision;
        let silent = update.put.is_empty() && update.delete.is_empty() && update.keep.is_empty();
        if silent && !update.whole {
            return; // a change of other keys
        }
        let before = self.next.take().unwrap_or_else(|| Routes::clone(&self.published.routes));
        let mut next = if update.whole { Routes::new() } else { before.clone() };
        for app in update.keep {
            if let Some(routes) = before.get(&app) {
                next.insert(app, routes.clone());
            }
        }
        for app in &update.delete {
            next.remove(app);
        }
        for app in update.put {
            let same = before.get(&app.app).filter(|old| ***old == app).cloned();
            next.insert(app.app.clone(), same.unwrap_or_else(|| Arc::new(app)));
        }
        self.next = Some(next);
    }

    /// Swaps in a table of what was merged, if that changes anything. Gives its generation. All who wait look again.
    pub(crate) fn publish(&mut self, now: Instant) -> Option<u64> {
        let first = !self.shared.has_table.load(Acquire);
        let next = self.next.take().filter(|next| first || *next != *self.published.routes);
        let generation = next.map(|next| self.swap(next, now));
        match self.pending.back_mut() {
            Some(last) if last.0 == self.generation => last.1 = self.revision,
            _ => self.pending.push_back((self.generation, self.revision)),
        }
        generation
    }

    fn swap(&mut self, next: Routes, now: Instant) -> u64 {
        let previous = self.shared.table.load_full();
        let (table, clashes) = self.published.registry.table(&next, &previous, now);
        for clash in clashes {
            tracing::warn!(route = clash.route, winner = %clash.winner, loser = %clash.loser, "two apps claim one route");
        }
        self.generation = table.generation;
        self.published.routes = Arc::new(next);
        // First: a thread that sees the table takes its sockets.
        self.shared.ports.set(table.routes.ports());
        self.shared.table.store(Arc::new(table));
        self.shared.has_table.store(true, Release);
        self.published.registry.apps().filter(|live| live.has_waiting()).for_each(|live| live.wake());
        self.generation
    }

    /// Looks whether more is applied than was known.
    pub(crate) fn applied_anew(&mut self) -> bool {
        let everywhere = self.shared.generation_everywhere().min(self.saved.unwrap_or(u64::MAX));
        let before = self.applied;
        while let Some((generation, revision)) = self.pending.front().copied() {
            if generation > everywhere {
                break;
            }
            self.applied = revision;
            self.pending.pop_front();
        }
        self.applied != before
    }

    /// The routes in force and their generation.
    pub(crate) fn routes(&self) -> (u64, u64, Arc<Routes>) {
        (self.generation, self.revision, self.published.routes.clone())
    }

    /// How the reading of routes goes.
    pub(crate) fn source(&self) -> &SourceState {
        &self.source
    }

    /// How backends are probed.
    pub(crate) fn probes(&self) -> Rc<Probes> {
        self.probes.clone()
    }

    /// The routes of a generation are on disk.
    pub(crate) fn saved(&mut self, generation: u64) {
        self.saved = Some(generation);
    }

    /// Forgets what is long gone, and tries ports again that could not be opened. Whether the threads have some to take.
    pub(crate) fn sweep(&mut self, now: Instant) -> bool {
        let table = self.shared.table.load_full();
        self.published.registry.sweep(&table, now);
        self.shared.ports.set(table.routes.ports())
    }

    /// The live state of all that is known.
    pub(crate) fn registry(&self) -> &Registry {
        &self.published.registry
    }

    /// What is served and known now, as data.
    pub(crate) fn frame(&mut self, urgent: bool) -> Frame {
        self.applied_anew(); // before any count is read: see the module's promise
        self.seq += 1;
        let at_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let (proxy, boot) = (self.id.clone(), self.boot.clone());
        let (certs, certs_wrong) = self.certs.clone();
        let (seq, applied, apps) = (self.seq, self.applied, self.stats());
        Frame { proxy, boot, seq, at_ms, urgent, applied, certs, certs_wrong, apps }
    }

    fn stats(&self) -> BTreeMap<AppId, AppStats> {
        let registry = &self.published.registry;
        let mut apps: BTreeMap<_, _> = registry.apps().map(|live| (live.id.clone(), live.stats())).collect();
        let micros = || self.shared.micros(Instant::now());
        for backend in registry.backends() {
            let app = apps.entry(backend.replica.app.clone()).or_default();
            let stats = backend.stats(micros);
            match app.backends.get_mut(&backend.replica) {
                Some(sum) => add(sum, &stats),
                None => drop(app.backends.insert(backend.replica.clone(), stats)),
            }
        }
        apps
    }
}

/// A replica that has moved (only in a hand-written file) is one backend to whoever reads the frames.
fn add(sum: &mut BackendStats, other: &BackendStats) {
    sum.requests += other.requests;
    sum.completions.iter_mut().zip(other.completions).for_each(|(sum, n)| *sum += n);
    sum.in_flight += other.in_flight;
    sum.in_flight_seconds += other.in_flight_seconds;
    sum.latency.merge(&other.latency);
    sum.connect_errors += other.connect_errors;
    sum.ejected |= other.ejected;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str, stopped: bool) -> AppRoutes {
        AppRoutes { stopped, ..AppRoutes::new(AppId::in_default(name).unwrap(), vec![], vec![]) }
    }

    fn state(kept: Option<Vec<AppRoutes>>, keeps: bool) -> (State, Arc<Shared>) {
        let shared = Arc::new(Shared::new(2));
        let published = Published::first(&shared, kept);
        (State::new("p".into(), "b".into(), published, shared.clone(), keeps), shared)
    }

    fn names(state: &State) -> String {
        state.published.routes.keys().map(AppId::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn updates_are_merged_and_unreadable_ones_leave_the_last_good() {
        let (mut state, _) = state(Some(vec![app("old", false), app("bad", true)]), false);
        let now = Instant::now();
        let keep = vec![AppId::in_default("bad").unwrap(), AppId::in_default("new").unwrap()];
        state.merge(Update { revision: 5, whole: true, put: vec![app("web", false)], keep, ..Default::default() });
        assert!(state.publish(now).is_some());
        assert_eq!(names(&state), "bad web");
        assert!(state.published.routes[&AppId::in_default("bad").unwrap()].stopped);
        let delete = vec![AppId::in_default("web").unwrap()];
        state.merge(Update { revision: 4, delete: delete.clone(), ..Default::default() });
        state.merge(Update { revision: 6, put: vec![app("api", false)], ..Default::default() });
        state.merge(Update { revision: 7, delete, ..Default::default() });
        assert!(state.publish(now).is_some());
        assert_eq!(names(&state), "api bad");
        state.merge(Update { revision: 8, put: vec![app("api", false)], ..Default::default() });
        assert_eq!(state.publish(now), None, "nothing has changed");
    }

    #[test]
    fn applied_waits_for_every_thread_and_the_disk() {
        let (mut state, shared) = state(None, true);
        let acknowledge = |thread: usize, n| shared.acknowledged[thread].0.store(n, Release);
        state.merge(Update { revision: 7, whole: true, ..Default::default() });
        let generation = state.publish(Instant::now()).expect("the first table counts even if it is empty");
        let applied = |state: &mut State| state.frame(false).applied;
        assert_eq!(applied(&mut state), 0);
        acknowledge(0, generation);
        assert_eq!(applied(&mut state), 0);
        acknowledge(1, generation);
        assert_eq!(applied(&mut state), 0);
        state.saved(generation);
        assert_eq!(applied(&mut state), 7);
        state.merge(Update { revision: 9, ..Default::default() });
        assert_eq!(state.publish(Instant::now()), None);
        assert_eq!(applied(&mut state), 9, "a change of other keys moves the revision on");
    }

    #[test]
    fn frames_count_up() {
        let (mut state, _) = state(Some(vec![app("web", false)]), false);
        let (first, second) = (state.frame(false), state.frame(true));
        assert_eq!((first.seq, second.seq, second.urgent), (1, 2, true));
        assert!(first.apps.contains_key(&AppId::in_default("web").unwrap()));
    }
}
