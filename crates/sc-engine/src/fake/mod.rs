//! An engine in memory, for tests and the simulator: no I/O, no clock but tokio's (so it runs under paused time), the
//! same calls always giving the same effects.
//!
//! It behaves as Docker does where that matters: an effect asked for goes on when the caller is dropped, a stop cut in
//! half leaves an ended container behind, an address is taken only once, and names are never given twice. [`Fake`] is a
//! handle; clones share the containers, as a restarted manager's engine would.

mod calls;
mod faults;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use sc_core::{
    AppId, Name, ReplicaId,
    observed::{Exit, Run, Seen},
    plan::Addressing,
    stats::Usage,
};
use tokio::{sync::Notify, time::Instant};

pub use faults::{Call, Fate, Fault, Faults};
use world::{Effect, World};

use crate::{ExecOutput, ExecSpec, StartSpec};

/// How the program of a fake replica behaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Behaviour {
    /// From the call to the running process.
    pub start_delay: Duration,
    /// From the running process to an answer at its address.
    pub listen_after: Duration,
    /// Whether it ever answers there.
    pub healthy: bool,
    /// How its process ends.
    pub end: End,
    /// From SIGTERM to its end; longer than the grace time, it is killed.
    pub stop_delay: Duration,
    /// CPUs it uses while it runs.
    pub cpus: f64,
    /// Lines it writes when it begins to run.
    pub says: Vec<String>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            start_delay: Duration::from_millis(300),
            listen_after: Duration::from_millis(20),
            healthy: true,
            end: End::Never,
            stop_delay: Duration::from_millis(50),
            cpus: 0.0,
            says: Vec::new(),
        }
    }
}

/// How the process of a fake replica ends.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// Only when it is stopped.
    Never,
    /// By itself.
    Exit {
        /// After it began to run.
        after: Duration,
        /// Exit status.
        code: i32,
    },
    /// Killed for want of memory.
    OutOfMemory {
        /// After it began to run.
        after: Duration,
    },
    /// It is made, but its program cannot be started: the start is refused, and the replica is seen as ended with exit
    /// status 127 and this text.
    CannotStart(String),
    /// The engine refuses to make it, with this text.
    Refused(String),
}

/// What a fake replica answers to an exec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecAnswer {
    /// This output, at once.
    Say(Vec<ExecOutput>),
    /// Its own input, and exit status 0 at the end of it.
    Echo,
    /// The first new size of its terminal, as `100x40`, and exit status 0.
    Size,
}

/// What a fake engine is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct FakeConfig {
    /// The node's name.
    pub node: Name,
    /// What addresses its replicas get.
    pub addressing: Addressing,
    /// Unix milliseconds at the moment the fake is made; from there on tokio's clock counts.
    pub start_ms: u64,
    /// How long a call that hangs is waited for.
    pub deadline: Duration,
}

impl Default for FakeConfig {
    fn default() -> Self {
        Self {
            node: Name::new("local").expect("a constant"),
            addressing: Addressing::Networks { base: Ipv4Addr::new(10, 213, 0, 0), bits: 16 },
            start_ms: 1_700_000_000_000,
            deadline: Duration::from_secs(10),
        }
    }
}

type OnExec = dyn Fn(&ReplicaId, &ExecSpec) -> ExecAnswer + Send + Sync;

/// The fake engine. Cloning gives another handle to the same containers.
#[derive(Clone)]
pub struct Fake(Arc<Inner>);

struct Inner {
    config: FakeConfig,
    origin: Instant,
    world: Mutex<World>,
    knobs: Mutex<Knobs>,
    changed: Notify,
}

struct Knobs {
    down: bool,
    faults: Option<Arc<dyn Faults>>,
    default: Behaviour,
    by_app: BTreeMap<AppId, Behaviour>,
    by_version: BTreeMap<(AppId, u64), Behaviour>,
    on_exec: Arc<OnExec>,
}

impl Default for Fake {
    fn default() -> Self {
        Self::new(FakeConfig::default())
    }
}

impl Fake {
    /// A fake that has nothing yet and whose replicas all start well.
    pub fn new(config: FakeConfig) -> Self {
        let knobs = Knobs {
            down: false,
            faults: None,
            default: Behaviour::default(),
            by_app: BTreeMap::new(),
            by_version: BTreeMap::new(),
            on_exec: Arc::new(|_: &ReplicaId, _: &ExecSpec| ExecAnswer::Say(vec![ExecOutput::Exit(0)])),
        };
        Self(Arc::new(Inner {
            config,
            origin: Instant::now(),
            world: Mutex::default(),
            knobs: Mutex::new(knobs),
            changed: Notify::new(),
        }))
    }

    /// The fake's clock, Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.0.config.start_ms + self.0.origin.elapsed().as_millis() as u64
    }

    fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.0.world.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        world.settle(self.now_ms());
        world
    }

    fn knobs(&self) -> MutexGuard<'_, Knobs> {
        self.0.knobs.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn touch(&self) {
        self.0.changed.notify_waiters();
        self.0.changed.notify_one();
    }

    /// Changes what has no behaviour of its own set.
    pub fn behave(&self, behaviour: Behaviour) {
        self.knobs().default = behaviour;
    }

    /// Sets how replicas of an app that are made from now on behave.
    pub fn behave_app(&self, app: &AppId, behaviour: Behaviour) {
        self.knobs().by_app.insert(app.clone(), behaviour);
    }

    /// Sets how replicas of one version that are made from now on behave.
    pub fn behave_version(&self, app: &AppId, version: u64, behaviour: Behaviour) {
        self.knobs().by_version.insert((app.clone(), version), behaviour);
    }

    /// Lets `faults` choose the fate of every call from now on; none: all go well.
    pub fn set_faults(&self, faults: Option<Arc<dyn Faults>>) {
        self.knobs().faults = faults;
    }

    /// While down, every call fails at once as unreachable; what runs runs on.
    pub fn set_down(&self, down: bool) {
        self.knobs().down = down;
    }

    /// Sets what execs answer. Without it: exit status 0 and no output.
    pub fn on_exec(&self, answer: impl Fn(&ReplicaId, &ExecSpec) -> ExecAnswer + Send + Sync + 'static) {
        self.knobs().on_exec = Arc::new(answer);
    }

    /// IPv4 ranges the host is said to route already.
    pub fn set_taken(&self, taken: Vec<(Ipv4Addr, u8)>) {
        self.world().taken = taken;
    }

    /// Every container, running or not, without going through [`crate::Engine::observe`].
    pub fn containers(&self) -> BTreeMap<ReplicaId, Seen> {
        self.world().containers.iter().map(|(id, c)| (id.clone(), c.seen())).collect()
    }

    /// What a container was made from.
    pub fn spec(&self, replica: &ReplicaId) -> Option<StartSpec> {
        self.world().containers.get(replica).map(|c| c.spec.clone())
    }

    /// The replica that answers at an address now.
    pub fn listening(&self, addr: &SocketAddr) -> Option<ReplicaId> {
        let now = self.now_ms();
        let world = self.world();
        world.containers.iter().find(|(_, c)| c.spec.addr == *addr && c.listens(now)).map(|(id, _)| id.clone())
    }

    /// The apps that have a network.
    pub fn networks(&self) -> BTreeSet<AppId> {
        self.world().networks.clone()
    }

    /// The latest calls (at most 10,000) with their times, also those that failed.
    pub fn calls(&self) -> Vec<(u64, Call)> {
        self.world().calls.iter().cloned().collect()
    }

    /// How often `call` was made, of the latest 10,000 calls.
    pub fn count(&self, call: &Call) -> usize {
        self.world().calls.iter().filter(|(_, c)| c == call).count()
    }

    /// Sets a replica's sample; its time is that of the call.
    pub fn set_usage(&self, replica: &ReplicaId, usage: Usage) {
        if let Some(container) = self.world().containers.get_mut(replica) {
            container.usage = Some(usage);
        }
    }

    /// Lets a replica write a line.
    pub fn write_log(&self, replica: &ReplicaId, text: &str) {
        let now = self.now_ms();
        self.world().log(replica, now, text);
        self.touch();
    }

    /// Lets a replica stop or begin again to answer at its address.
    pub fn set_healthy(&self, replica: &ReplicaId, healthy: bool) {
        if let Some(container) = self.world().containers.get_mut(replica) {
            container.behaviour.healthy = healthy;
        }
    }

    /// Ends a replica's process. False: it had none.
    pub fn crash(&self, replica: &ReplicaId, code: i32) -> bool {
        let at_ms = self.now_ms();
        let ended = self.world().end(replica, Exit { code, oom: false, error: String::new(), at_ms });
        self.touch();
        ended
    }

    /// Removes a container behind the manager's back (`docker rm -f`). False: there was none.
    pub fn vanish(&self, replica: &ReplicaId) -> bool {
        let gone = self.world().containers.remove(replica).is_some();
        self.touch();
        gone
    }

    /// Restarts a container behind the manager's back (`docker restart`). False: there is none.
    pub fn restart(&self, replica: &ReplicaId) -> bool {
        let at_ms = self.now_ms();
        let mut world = self.world();
        world.end(replica, Exit { code: 143, oom: false, error: String::new(), at_ms });
        let Some(container) = world.containers.get_mut(replica) else { return false };
        container.restarts += 1;
        container.begin(at_ms);
        drop(world);
        self.touch();
        true
    }

    /// Lets a running container appear that nobody asked for (a left-over of this store).
    pub fn appear(&self, spec: &StartSpec) {
        let (now, behaviour) = (self.now_ms(), self.behaviour(spec));
        let mut world = self.world();
        let behaviour = Behaviour { start_delay: Duration::ZERO, ..behaviour };
        let _ = world.apply(&Effect::Start(Box::new(spec.clone()), behaviour), now);
        drop(world);
        self.touch();
    }

    /// Waits until no container is being started and no late effect is under way.
    pub async fn quiet(&self) {
        loop {
            let next = {
                let world = self.world();
                let starting = world.containers.values().filter_map(|c| c.starts_at);
                starting.chain(world.later.iter().map(|(at, _)| *at)).max()
            };
            let Some(next) = next else { return };
            tokio::time::sleep(Duration::from_millis(next.saturating_sub(self.now_ms()).max(1))).await;
        }
    }

    fn behaviour(&self, spec: &StartSpec) -> Behaviour {
        let knobs = self.knobs();
        let app = &spec.replica.app;
        let own = knobs.by_version.get(&(app.clone(), spec.version)).or_else(|| knobs.by_app.get(app));
        own.unwrap_or(&knobs.default).clone()
    }

    fn run_of(&self, replica: &ReplicaId) -> Option<Run> {
        self.world().containers.get(replica).map(|c| c.run.clone())
    }
}
