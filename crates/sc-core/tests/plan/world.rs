//! A small world for tests of the plan: a store with revisions, an engine, proxies and an app's users, all of it data.
//! Every change of records goes through bytes and back, as it does in production.

use std::collections::{BTreeMap, BTreeSet};

use sc_core::{
    AppId, Name, ReplicaId,
    canary::Canary,
    check,
    observed::{Exit, Node, Observed, Probed, ProxySeen, Run, Seen},
    plan,
    plan::{Action, Addressing, Desired, Effects, Plan},
    records::{App, Claim, Intent, Leader, Met, Proxy, Replica, Rollout, Scale, Version, key, read, write},
    routes::{AppRoutes, publish},
    spec::{AppSpec, RouteSpec, ScaleSpec, Source},
};

/// How a version's program behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Serves.
    Good,
    /// Ends at once.
    Crashes,
    /// Runs and never answers.
    Mute,
    /// Cannot be started at all.
    Refused,
}

pub struct World {
    pub now: u64,
    pub addressing: Addressing,
    pub revision: u64,
    pub store: BTreeMap<String, (Vec<u8>, u64)>,
    pub containers: BTreeMap<ReplicaId, Seen>,
    pub probes: BTreeMap<ReplicaId, Probed>,
    pub refused: BTreeMap<ReplicaId, String>,
    /// What each proxy serves, and up to which revision.
    pub proxies: BTreeMap<String, (u64, BTreeMap<AppId, AppRoutes>)>,
    pub in_flight: BTreeMap<ReplicaId, u64>,
    pub programs: BTreeMap<(AppId, u64), Program>,
    /// Replicas whose probes fail whatever their program.
    pub sick: BTreeSet<ReplicaId>,
    pub engine_answers: bool,
    pub probing: bool,
    /// Engine calls get lost, as when the manager is killed between a commit and its call.
    pub loses_calls: bool,
    /// Starts take effect at the next tick only.
    pub starts_late: bool,
    pub pending: Vec<(ReplicaId, Replica)>,
    /// Proxies that do not take up new routes.
    pub lagging: BTreeSet<String>,
}

pub fn app_id(name: &str) -> AppId {
    AppId::in_default(name).unwrap()
}

pub fn node() -> Name {
    Name::new("here").unwrap()
}

pub fn spec(port: Option<u16>) -> AppSpec {
    let source = Source::Image("example".to_owned());
    let mut spec: AppSpec = serde_json::from_value(serde_json::json!({ "source": source })).unwrap();
    spec.port = port;
    spec
}

pub fn proxy() -> Proxy {
    serde_json::from_value(serde_json::json!({"v": 1, "stats": "", "boot": "1"})).unwrap()
}

pub fn networks() -> Addressing {
    Addressing::Networks { base: [10, 213, 0, 0].into(), bits: 16 }
}

impl World {
    pub fn new(addressing: Addressing) -> Self {
        let mut world = Self {
            now: 1_000_000,
            addressing,
            revision: 0,
            store: BTreeMap::new(),
            containers: BTreeMap::new(),
            probes: BTreeMap::new(),
            refused: BTreeMap::new(),
            proxies: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            programs: BTreeMap::new(),
            sick: BTreeSet::new(),
            engine_answers: true,
            probing: true,
            loses_calls: false,
            starts_late: false,
            pending: Vec::new(),
            lagging: BTreeSet::new(),
        };
        world.lead();
        world.add_proxy("p1");
        world
    }

    /// A manager takes over.
    pub fn lead(&mut self) {
        let leader =
            Leader { v: 1, holder: "m".to_owned(), api: String::new(), since_ms: self.now, extra: Default::default() };
        self.put(key::LEADER, &leader);
    }

    pub fn add_proxy(&mut self, id: &str) {
        self.put(&key::proxy(id), &proxy());
        self.put(&key::met(id), &Met { v: 1, gone_ms: None, ended: false, extra: Default::default() });
        self.proxies.insert(id.to_owned(), (0, BTreeMap::new()));
    }

    pub fn put<T: serde::Serialize>(&mut self, key: &str, record: &T) {
        self.revision += 1;
        self.store.insert(key.to_owned(), (write(record), self.revision));
    }

    pub fn get<T: serde::de::DeserializeOwned>(&self, key: &str) -> T {
        read(key, &self.store[key].0).unwrap()
    }

    pub fn edit<T: serde::Serialize + serde::de::DeserializeOwned>(&mut self, key: &str, edit: impl FnOnce(&mut T)) {
        let mut record: T = self.get(key);
        edit(&mut record);
        self.put(key, &record);
    }

    /// What the API does for a first or a further deploy.
    pub fn deploy(&mut self, id: &AppId, spec: AppSpec, want: u32, program: Program) -> u64 {
        let rolling = Rollout::Rolling { since_ms: self.now, progress_ms: self.now };
        let exists = self.store.contains_key(&key::app(id));
        let desired = self.desired();
        let version = match desired.apps.get(id) {
            Some(app) => app.versions.keys().next_back().unwrap() + 1,
            None => 1,
        };
        for route in &spec.routes {
            let claim = Claim { v: 1, app: id.clone(), route: route.clone(), extra: Default::default() };
            self.put(&key::claim(route), &claim);
        }
        let record = Version { v: 1, spec, created_ms: self.now, note: String::new(), extra: Default::default() };
        self.put(&key::version(id, version), &record);
        self.programs.insert((id.clone(), version), program);
        if exists {
            self.edit::<App>(&key::app(id), |app| {
                (app.version, app.rollout, app.crash) = (version, rolling, None);
            });
            return version;
        }
        let app = App {
            v: 1,
            version,
            stable: None,
            rollout: rolling,
            scale: ScaleSpec { min: 0, max: 10, ..ScaleSpec::default() },
            stopped: false,
            deleting: false,
            failed: Default::default(),
            restart: 0,
            next: desired.gone.get(id).map_or(1, |gone| gone.next),
            crash: None,
            canary: None,
            created_ms: self.now,
            extra: Default::default(),
        };
        self.put(&key::app(id), &app);
        let scale = Scale {
            v: 1,
            want,
            paused_until_ms: None,
            shed: None,
            memory: serde_json::Value::Null,
            extra: Default::default(),
        };
        self.put(&key::scale(id), &scale);
        version
    }

    /// What the API does for a deploy that is tried on a share of the requests first.
    pub fn canary(&mut self, id: &AppId, spec: AppSpec, share: &str, program: Program) -> u64 {
        let before = self.app(id);
        let version = self.deploy(id, spec, 0, program);
        let canary = Canary::new(version, share.parse().unwrap(), self.now);
        self.put(&key::app(id), &App { canary: Some(canary), ..before });
        version
    }

    /// What the API does to promote a canary.
    pub fn promote(&mut self, id: &AppId) {
        let rolling = Rollout::Rolling { since_ms: self.now, progress_ms: self.now };
        self.edit::<App>(&key::app(id), |app| {
            if let Some(canary) = app.canary.take() {
                (app.version, app.rollout, app.crash) = (canary.version, rolling, canary.crash);
            }
        });
    }

    /// The share of the requests that the published routes give to a version, in thousandths.
    pub fn share(&self, id: &AppId, version: u64) -> f64 {
        let routes: AppRoutes = self.get(&key::routes(id));
        let sum = |of: Option<u64>| -> f64 {
            let backends = routes.backends.iter().filter(|b| of.is_none_or(|version| b.version == version));
            backends.map(|backend| f64::from(backend.weight)).sum()
        };
        1_000.0 * sum(Some(version)) / sum(None)
    }

    pub fn scale(&mut self, id: &AppId, want: u32) {
        self.edit::<Scale>(&key::scale(id), |scale| scale.want = want);
    }

    pub fn desired(&self) -> Desired {
        let entries = self.store.iter().map(|(key, (value, revision))| (key.as_str(), &value[..], *revision));
        Desired::from_snapshot(self.addressing.clone(), self.revision, entries).0
    }

    pub fn observed(&self) -> Observed {
        let known =
            Node::Known { at: self.now, replicas: self.containers.clone(), taken: vec![([10, 213, 0, 0].into(), 24)] };
        let unknown = Node::Unknown { why: "it hangs".to_owned() };
        let report = |(id, (applied, _)): (&String, &(u64, _))| {
            let seen = ProxySeen { at: self.now, applied: *applied, in_flight: self.in_flight.clone(), live: true };
            (id.clone(), seen)
        };
        Observed {
            at: self.now,
            nodes: [(node(), if self.engine_answers { known } else { unknown })].into(),
            probes: self.probes.clone(),
            refused: self.refused.clone(),
            proxies: self.proxies.iter().map(report).collect(),
        }
    }

    pub fn plan(&self) -> Plan {
        plan(&self.desired(), &self.observed())
    }

    /// Commits effects; false when an expectation does not hold.
    pub fn commit(&mut self, effects: &Effects) -> bool {
        let current = |key: &str| self.store.get(key).map_or(0, |(_, revision)| *revision);
        if !effects.expects.iter().all(|expected| current(&expected.key) == expected.revision) {
            return false;
        }
        assert!(effects.operations() <= 100, "a commit of {} operations", effects.operations());
        self.revision += 1;
        for change in &effects.changes {
            match &change.put {
                Some(value) => drop(self.store.insert(change.key.clone(), (value.clone(), self.revision))),
                None => drop(self.store.remove(&change.key)),
            }
        }
        true
    }

    /// The engine's part of an action.
    pub fn call(&mut self, action: &Action, desired: &Desired) {
        if self.loses_calls || !self.engine_answers {
            return;
        }
        if let (Action::Start { replica, .. } | Action::StartAgain(replica), true) = (action, self.starts_late) {
            self.pending.extend(desired.replica(replica).map(|record| (replica.clone(), record.clone())));
            return;
        }
        match action {
            Action::Start { replica, .. } | Action::StartAgain(replica) => {
                self.start(replica, desired.replica(replica))
            }
            Action::Stop(replica) | Action::Remove(replica) => drop(self.containers.remove(replica)),
            Action::Pause(replica) => self.set(replica, Run::Paused),
            Action::Wake(replica) => self.set(replica, Run::Running { since_ms: self.now }),
            Action::Park(replica) => self.end(replica),
            Action::Revive { replica, .. } => self.revive(replica),
            _ => (),
        }
    }

    fn set(&mut self, replica: &ReplicaId, run: Run) {
        if let Some(seen) = self.containers.get_mut(replica) {
            seen.run = run;
        }
    }

    fn end(&mut self, replica: &ReplicaId) {
        let runs = |seen: &Seen| matches!(seen.run, Run::Running { .. } | Run::Paused);
        if self.containers.get(replica).is_some_and(runs) {
            self.set(replica, Run::Exited(Exit { code: 143, oom: false, error: String::new(), at_ms: self.now }));
        }
    }

    /// Docker does not start one whose address another has.
    fn revive(&mut self, id: &ReplicaId) {
        let Some(seen) = self.containers.get(id).filter(|seen| matches!(seen.run, Run::Exited(_))).cloned() else {
            return;
        };
        let by_port = matches!(self.addressing, Addressing::Ports { .. });
        let listens = |seen: &Seen| seen.addr.filter(|addr| !by_port || addr.port() != 0);
        let taken =
            self.containers.iter().find(|(other, it)| *other != id && listens(it).is_some() && it.addr == seen.addr);
        assert_eq!(taken, None, "{id} and another have one address");
        let run = match self.program(id, seen.version) {
            Program::Crashes => Run::Exited(Exit { code: 1, oom: false, error: String::new(), at_ms: self.now }),
            _ => Run::Running { since_ms: self.now },
        };
        let restarts = seen.restarts + 1;
        self.containers.insert(id.clone(), Seen { run, restarts, ..seen });
    }

    fn start(&mut self, id: &ReplicaId, record: Option<&Replica>) {
        let Some(record) = record else { return };
        let run = match self.program(id, record.version) {
            Program::Refused => return drop(self.refused.insert(id.clone(), "no such image".to_owned())),
            Program::Crashes => Run::Exited(Exit { code: 1, oom: false, error: String::new(), at_ms: self.now }),
            Program::Good | Program::Mute => Run::Running { since_ms: self.now },
        };
        let seen = Seen { run, version: record.version, addr: Some(record.addr), restarts: 0 };
        self.containers.entry(id.clone()).or_insert(seen);
    }

    fn program(&self, id: &ReplicaId, version: u64) -> Program {
        self.programs.get(&(id.app.clone(), version)).copied().unwrap_or(Program::Good)
    }

    /// Time passes: probes are sent, proxies apply what is published.
    pub fn tick(&mut self, ms: u64) {
        self.now += ms;
        for (id, record) in std::mem::take(&mut self.pending) {
            self.start(&id, Some(&record));
        }
        if self.probing {
            self.probe();
        }
        let desired = self.desired();
        let published = |(id, app): (&AppId, &sc_core::plan::DesiredApp)| {
            Some((id.clone(), app.published.as_ref()?.routes.clone()))
        };
        let routes: BTreeMap<_, _> = desired.apps.iter().filter_map(published).collect();
        for (_, (applied, table)) in self.proxies.iter_mut().filter(|(id, _)| !self.lagging.contains(*id)) {
            (*applied, *table) = (self.revision, routes.clone());
        }
    }

    fn probe(&mut self) {
        let desired = self.desired();
        // Only those that shall run are probed.
        let runs = |id: &ReplicaId| desired.replica(id).is_some_and(|replica| replica.intent == Intent::Run);
        self.probes.retain(|id, _| runs(id));
        for (id, seen) in self.containers.iter().filter(|(id, _)| runs(id)) {
            let running = matches!(seen.run, Run::Running { .. });
            let ok = running && self.program(id, seen.version) == Program::Good && !self.sick.contains(id);
            let before = self.probes.get(id).map_or(0, |probe| probe.failures);
            let (failures, error) = if ok { (0, "") } else { (before + 1, "connection refused") };
            self.probes.insert(id.clone(), Probed { at: self.now, ok, failures, error: error.to_owned() });
        }
        self.probes.retain(|id, _| self.containers.contains_key(id));
    }

    /// One pass of the manager; it is killed after `steps` steps (with as many as there are: before the routes are published). Checks every invariant after each step.
    /// Gives the number of steps planned.
    pub fn pass(&mut self, steps: usize) -> usize {
        let (mut desired, observed) = (self.desired(), self.observed());
        let plan = plan(&desired, &observed);
        for (action, why) in plan.steps.iter().take(steps) {
            self.guard(action, &desired);
            let effects = desired.take(action, why, observed.at);
            assert!(self.commit(&effects), "{action:?} conflicts with nobody");
            desired.committed(&effects, self.revision);
            let scales = |c: &sc_core::plan::Change| c.key.contains("/scale/");
            assert!(matches!(action, Action::Delete(_)) || !effects.changes.iter().any(scales), "{action:?} scales");
            self.call(action, &desired);
            self.check(&plan);
        }
        if steps > plan.steps.len() {
            self.publish();
        }
        plan.steps.len()
    }

    /// What must be so before a step is taken.
    fn guard(&self, action: &Action, desired: &Desired) {
        if let Some(replica) = action.replica() {
            assert!(self.engine_answers, "{action:?} with a hung engine");
            assert!(!desired.left_alone.contains_key(&replica.app), "{action:?} of an app left alone");
        }
        let (Action::Stop(id) | Action::Pause(id) | Action::Park(id)) = action else { return };
        let sleeps = !matches!(action, Action::Stop(_));
        let Some(Replica { intent: Intent::Drain { deadline_ms, failed: false, .. }, .. }) = desired.replica(id) else {
            return;
        };
        let alive = self.containers.get(id).is_some_and(|seen| matches!(seen.run, Run::Running { .. }));
        if alive && (sleeps || self.now < *deadline_ms) {
            let lists = |table: &BTreeMap<AppId, AppRoutes>| {
                table.values().flat_map(|routes| &routes.backends).any(|backend| backend.replica == *id)
            };
            assert_eq!(self.in_flight.get(id).copied().unwrap_or(0), 0, "{id} is stopped or frozen while it works");
            assert!(
                !self.proxies.values().any(|(_, table)| lists(table)),
                "{id} is stopped or frozen while a proxy knows it"
            );
        }
    }

    /// Publishes the routes.
    pub fn publish(&mut self) {
        let (mut desired, observed) = (self.desired(), self.observed());
        let routes = sc_core::routes(&desired, &observed);
        for effects in publish(&mut desired, &routes) {
            assert!(self.commit(&effects));
            desired.committed(&effects, self.revision);
        }
    }

    /// All invariants, those of records read back included.
    pub fn check(&self, plan: &Plan) {
        let found = check(&self.desired(), &self.observed());
        assert!(found.is_empty(), "{found:?}\nplan: {plan:#?}");
        let listed: BTreeSet<_> = self
            .proxies
            .values()
            .flat_map(|(_, table)| table.values())
            .flat_map(|r| &r.backends)
            .map(|b| &b.addr)
            .collect();
        for (id, app) in &self.desired().apps {
            for (n, replica) in &app.replicas {
                let elsewhere = |(other, routes): (&AppId, &AppRoutes)| {
                    other != id && routes.backends.iter().any(|b| b.addr == replica.addr)
                };
                let stale = listed.contains(&replica.addr)
                    && self.proxies.values().any(|(_, table)| table.iter().any(elsewhere));
                assert!(!stale, "{id}-{n} has {}, which a proxy still thinks another app's", replica.addr);
            }
        }
    }

    /// Passes until nothing is planned any more, at most `passes`, `ms` apart.
    pub fn converge(&mut self, ms: u64, passes: usize) {
        for _ in 0..passes {
            self.tick(ms);
            if self.pass(usize::MAX) == 0 && self.plan().steps.is_empty() {
                return;
            }
        }
        panic!("after {passes} passes there is still to do: {:#?}", self.plan());
    }

    pub fn app(&self, id: &AppId) -> App {
        self.get(&key::app(id))
    }

    /// Replicas that are listed in the published routes.
    pub fn listed(&self, id: &AppId) -> Vec<u64> {
        let desired = self.desired();
        let Some(published) = desired.apps.get(id).and_then(|app| app.published.clone()) else { return Vec::new() };
        published.routes.backends.iter().map(|backend| backend.replica.incarnation).collect()
    }

    /// Replicas of a version that are ready and shall run.
    pub fn ready(&self, id: &AppId) -> usize {
        let desired = self.desired();
        let Some(app) = desired.apps.get(id) else { return 0 };
        app.replicas.values().filter(|r| r.intent == Intent::Run && r.ready_ms.is_some()).count()
    }

    /// The next plan in a readable form: one line a step.
    pub fn next_steps(&self) -> String {
        render(&self.plan())
    }
}

pub fn render(plan: &Plan) -> String {
    plan.steps.iter().map(|(action, why)| format!("{action:?}: {why}\n")).collect()
}

pub fn route(host: &str) -> RouteSpec {
    RouteSpec { host: Some(host.to_owned()), path: "/".to_owned(), strip: false, redirect: None, tcp: None }
}
