//! Acting: engine calls, each a task of its own, so that a slow one holds up nothing else. At most one for a replica at
//! a time; bounded in number and time; a call that failed is held back for a while.
//!
//! Right before a call, after any waiting, a commit without writes makes sure that this manager still leads and that
//! the record still says what the call is for. So a manager that was stopped for a minute harms nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sc_core::{
    AppId, ReplicaId,
    plan::{Action, Addressing, Desired},
    records::{Intent, Level, key},
    spec::AppSpec,
};
use sc_engine::{EngineError, NetworkSpec, StartSpec};
use sc_store::{Expect, Fence};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::tell;
use crate::{waiting::chain, world::World};

/// Starts, wakes, pauses and further starts at once.
const STARTS: usize = 12;
/// Stops at once: most of them only wait for the replica to end.
const STOPS: usize = 48;
/// A check made so shortly ago need not be made again.
const CHECKED: Duration = Duration::from_millis(100);
/// The first and the longest pause after a call that failed.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// So many failures in a row, of a start that the engine answered, are as good as a refusal.
const GIVES_UP: u32 = 5;
/// The longest a start may take: big files go into an image first.
const START_LIMIT: Duration = Duration::from_secs(660);
/// The longest any other call may take, beside the replica's grace.
const OTHER_LIMIT: Duration = Duration::from_secs(30);
/// The grace of a replica without a record, in milliseconds.
const STRAY_GRACE_MS: u64 = 10_000;

/// What is called, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Replica(ReplicaId),
    Network(AppId),
}

/// An engine call.
#[derive(Debug, Clone)]
pub struct Call {
    subject: Subject,
    what: What,
    /// The key that must not have changed.
    key: String,
}

#[derive(Debug, Clone)]
enum What {
    Start(Box<StartSpec>),
    Stop { grace_ms: u64, stray: bool },
    Pause,
    Wake,
    Park { grace_ms: u64 },
    Revive,
    RemoveNetwork { subnet: Option<u32> },
}

impl Call {
    /// The engine call of a step whose change of records is committed, if it has one.
    pub fn of(action: &Action, desired: &Desired, blobs: &Path) -> Option<Self> {
        let (replica, what) = match action {
            Action::Start { replica, .. } | Action::StartAgain(replica) => {
                (replica, What::Start(Box::new(start_spec(desired, replica, blobs)?)))
            }
            Action::Stop(replica) => {
                let grace_ms = spec_of(desired, replica).map_or(STRAY_GRACE_MS, |spec| spec.drain.grace_ms);
                (replica, What::Stop { grace_ms, stray: false })
            }
            Action::Remove(replica) => (replica, What::Stop { grace_ms: STRAY_GRACE_MS, stray: true }),
            Action::Pause(replica) => (replica, What::Pause),
            Action::Wake(replica) => (replica, What::Wake),
            Action::Park(replica) => {
                let grace_ms = spec_of(desired, replica).map_or(STRAY_GRACE_MS, |spec| spec.drain.grace_ms);
                (replica, What::Park { grace_ms })
            }
            Action::Revive { replica, .. } => (replica, What::Revive),
            Action::Delete(app) => {
                let (subject, key) = (Subject::Network(app.clone()), key::app(app));
                return Some(Self { subject, what: What::RemoveNetwork { subnet: None }, key });
            }
            _ => return None,
        };
        Some(Self { subject: Subject::Replica(replica.clone()), what, key: key::replica(replica) })
    }

    fn op(&self) -> &'static str {
        match self.what {
            What::Start(_) => "start",
            What::Stop { .. } => "stop",
            What::Pause => "pause",
            What::Wake => "wake",
            What::Park { .. } => "park",
            What::Revive => "revive",
            What::RemoveNetwork { .. } => "remove_network",
        }
    }

    fn limit(&self) -> Duration {
        match self.what {
            What::Start(_) => START_LIMIT,
            What::Stop { grace_ms, .. } | What::Park { grace_ms } => OTHER_LIMIT + Duration::from_millis(grace_ms),
            _ => OTHER_LIMIT,
        }
    }
}

/// The running calls. Dropping it ends them (and the calls in the middle of themselves).
pub struct Acts {
    world: Arc<World>,
    tasks: JoinSet<()>,
    state: Arc<Mutex<State>>,
    starts: Arc<Semaphore>,
    stops: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    busy: BTreeSet<Subject>,
    failures: BTreeMap<Subject, Failed>,
    networks_gone: BTreeMap<u32, AppId>,
    /// Replicas whose start succeeded here.
    started: BTreeSet<ReplicaId>,
    /// Replicas that were woken here.
    woken: BTreeSet<ReplicaId>,
}

struct Failed {
    count: u32,
    not_before: Instant,
}

impl Acts {
    /// None running.
    pub fn new(world: Arc<World>) -> Self {
        let (starts, stops) = (Arc::new(Semaphore::new(STARTS)), Arc::new(Semaphore::new(STOPS)));
        Self { world, tasks: JoinSet::new(), state: Arc::default(), starts, stops }
    }

    /// Forgets those that ended.
    pub fn reap(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        let now = Instant::now();
        lock(&self.state).failures.retain(|_, failed| failed.not_before + 10 * PAUSE.1 > now);
    }

    /// The replicas whose start succeeded here and that were not seen yet, and those woken here and not ready yet: they may
    /// be probed before the engine is looked at.
    pub fn started(&self, desired: &Desired) -> BTreeSet<ReplicaId> {
        let mut state = lock(&self.state);
        state.started.retain(|id| desired.replica(id).is_some_and(|record| record.seen_ms.is_none()));
        let wakes = |r: &sc_core::records::Replica| r.intent == Intent::Run && r.ready_ms.is_none();
        state.woken.retain(|id| desired.replica(id).is_some_and(wakes));
        state.started.union(&state.woken).cloned().collect()
    }

    /// Tells of a replica that failed, once its last lines are there.
    pub fn tell_of_failure(&mut self, replica: &ReplicaId, why: &str) {
        let (world, replica, why) = (self.world.clone(), replica.clone(), why.to_owned());
        self.tasks.spawn(async move { tell::failure(&world, &replica, &why).await });
    }

    /// Whether the engine call of an action may begin: none runs for the same subject, and none failed just now.
    pub fn may_begin(&self, action: &Action) -> bool {
        let Some(replica) = action.replica() else { return true };
        let subject = Subject::Replica(replica.clone());
        let state = lock(&self.state);
        let held_back = state.failures.get(&subject).is_some_and(|failed| Instant::now() < failed.not_before);
        !state.busy.contains(&subject) && !held_back
    }

    /// Removes an app's network, in the background; once that has been done, gives the range's number.
    pub fn free_network(&mut self, app: &AppId, subnet: u32) -> Option<u32> {
        let removed = lock(&self.state).networks_gone.remove(&subnet);
        if removed.as_ref() == Some(app) {
            return Some(subnet);
        }
        let what = What::RemoveNetwork { subnet: Some(subnet) };
        let call = Call { subject: Subject::Network(app.clone()), what, key: key::subnet(subnet) };
        let fence = self.world.fence()?;
        let desired = self.world.desired()?;
        if lock(&self.state).failures.get(&call.subject).is_none_or(|failed| Instant::now() >= failed.not_before) {
            self.begin(call, fence, &desired);
        }
        None
    }

    /// Begins a call, unless one runs for the same subject.
    pub fn begin(&mut self, call: Call, fence: Fence, desired: &Desired) {
        if !lock(&self.state).busy.insert(call.subject.clone()) {
            return;
        }
        let revision = desired.revisions.get(&call.key).copied().unwrap_or(0);
        let expect = Expect { key: call.key.clone(), revision };
        let room = match call.what {
            What::Stop { .. } | What::Park { .. } => self.stops.clone(),
            _ => self.starts.clone(),
        };
        let task = Task { world: self.world.clone(), call, fence, expect, begun: Instant::now() };
        let done = Done { state: self.state.clone(), subject: task.call.subject.clone() };
        self.tasks.spawn(async move {
            let done = done;
            let Ok(_room) = room.acquire().await else { return };
            if !task.still_right().await {
                task.world.wake.notify_one();
                return;
            }
            let result = task.call_engine().await;
            task.note(result, &done.state).await;
            drop(done);
            task.world.wake.notify_one();
        });
    }
}

/// Makes the subject free again, however its task ends.
struct Done {
    state: Arc<Mutex<State>>,
    subject: Subject,
}

impl Drop for Done {
    fn drop(&mut self) {
        lock(&self.state).busy.remove(&self.subject);
    }
}

/// One call on its way.
struct Task {
    world: Arc<World>,
    call: Call,
    fence: Fence,
    expect: Expect,
    begun: Instant,
}

impl Task {
    /// Whether this manager leads and the record is as it was when the call was decided.
    async fn still_right(&self) -> bool {
        let harmless = matches!(self.call.what, What::Start(_) | What::Wake | What::Revive);
        if harmless && self.begun.elapsed() < CHECKED {
            return true;
        }
        match self.world.store.commit(Some(self.fence), vec![self.expect.clone()], Vec::new()).await {
            Ok(_) => true,
            Err(error) => {
                tracing::debug!(call = self.call.op(), key = self.call.key, error = chain(&error), "not called");
                false
            }
        }
    }

    async fn call_engine(&self) -> Result<(), EngineError> {
        let (engine, begun) = (&self.world.engine, Instant::now());
        let call = async {
            match (&self.call.what, &self.call.subject) {
                (What::Start(spec), _) => engine.start(spec).await,
                (What::Stop { grace_ms, .. }, Subject::Replica(replica)) => engine.stop(replica, *grace_ms).await,
                (What::Pause, Subject::Replica(replica)) => engine.pause(replica).await,
                (What::Wake, Subject::Replica(replica)) => engine.wake(replica).await,
                (What::Park { grace_ms }, Subject::Replica(replica)) => engine.park(replica, *grace_ms).await,
                (What::Revive, Subject::Replica(replica)) => engine.revive(replica).await,
                (_, Subject::Network(app)) => engine.remove_network(app).await,
                (What::RemoveNetwork { .. }, Subject::Replica(_)) => Ok(()),
            }
        };
        let limit = self.call.limit();
        let late = || EngineError::TimedOut {
            engine: engine.describe(),
            what: self.call.op().to_owned(),
            seconds: limit.as_secs(),
        };
        let result = timeout(limit, call).await.unwrap_or_else(|_late| Err(late()));
        let (op, word) = (self.call.op(), word(&result));
        tracing::debug!(op, word, key = self.call.key, took = ?begun.elapsed(), "an engine call");
        self.world.metrics.engine_calls.with_label_values(&[op, word]).inc();
        self.world.metrics.engine_seconds.with_label_values(&[op]).observe(begun.elapsed().as_secs_f64());
        result
    }

    async fn note(&self, result: Result<(), EngineError>, state: &Mutex<State>) {
        let error = match result {
            Ok(()) => return self.succeeded(state),
            Err(error) => error,
        };
        tracing::warn!(call = self.call.op(), key = self.call.key, error = chain(&error), "an engine call failed");
        let answered = matches!(error, EngineError::Failed { .. });
        let count = {
            let mut state = lock(state);
            let before = state.failures.get(&self.call.subject).map_or(0, |failed| failed.count);
            let pause = (PAUSE.0 * 2u32.saturating_pow(before.min(8))).min(PAUSE.1);
            let failed = Failed { count: before + 1, not_before: Instant::now() + pause };
            state.failures.insert(self.call.subject.clone(), failed);
            before + 1
        };
        let (replica, gives_up) = match (&self.call.what, &self.call.subject) {
            (What::Start(_), Subject::Replica(replica)) => (replica, GIVES_UP),
            // A new one can be had instead.
            (What::Revive, Subject::Replica(replica)) => (replica, 1),
            _ => return,
        };
        let gone = matches!(error, EngineError::NoSuchReplica(_));
        let refused = matches!(error, EngineError::Refused { .. }) || (answered || gone) && count >= gives_up;
        let why = chain(&error);
        if refused {
            self.world.refuse(replica, why.clone());
        }
        if refused || count == 1 {
            let text = format!("{replica} could not be started: {why}");
            self.world.events.add(self.world.events.of_replica(Level::Warning, "start_failed", replica, text));
        }
    }

    fn succeeded(&self, state: &Mutex<State>) {
        let mut state = lock(state);
        state.failures.remove(&self.call.subject);
        match (&self.call.what, &self.call.subject) {
            (What::Start(_), Subject::Replica(replica)) => drop(state.started.insert(replica.clone())),
            (What::Wake | What::Revive, Subject::Replica(replica)) => drop(state.woken.insert(replica.clone())),
            (What::RemoveNetwork { subnet: Some(subnet) }, Subject::Network(app)) => {
                state.networks_gone.insert(*subnet, app.clone());
            }
            (What::Stop { stray: true, .. }, Subject::Replica(replica)) => {
                let text = format!("{replica} was removed: it ran without having been asked for");
                self.world.events.add(self.world.events.of_replica(Level::Warning, "removed", replica, text));
            }
            _ => {}
        }
    }
}

fn word(result: &Result<(), EngineError>) -> &'static str {
    match result {
        Ok(()) => "ok",
        Err(EngineError::TimedOut { .. }) => "timeout",
        Err(EngineError::Refused { .. }) => "refused",
        Err(_) => "error",
    }
}

fn spec_of<'a>(desired: &'a Desired, replica: &ReplicaId) -> Option<&'a AppSpec> {
    let record = desired.replica(replica)?;
    desired.apps.get(&replica.app)?.versions.get(&record.version).map(|version| &version.spec)
}

fn start_spec(desired: &Desired, replica: &ReplicaId, blobs: &Path) -> Option<StartSpec> {
    let (record, spec) = (desired.replica(replica)?, spec_of(desired, replica)?);
    let network = match desired.addressing {
        Addressing::Networks { .. } => desired.ranges(&replica.app).next().map(|(_, range)| NetworkSpec {
            app: replica.app.clone(),
            base: range.base,
            bits: range.bits,
        }),
        Addressing::Ports { .. } => None,
    };
    Some(StartSpec {
        replica: replica.clone(),
        version: record.version,
        restart: record.restart,
        spec: spec.clone(),
        addr: record.addr,
        network,
        blobs: spec.files.iter().map(|file| (file.sha256.clone(), blobs.join(&file.sha256))).collect(),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
