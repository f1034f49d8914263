//! Users: their commands, through the managers' own command code, and what must have become of them.
//!
//! A command that was answered must be found at the end, unless a later one changed the same thing. One without an
//! answer may or may not have happened, perhaps late. So for each thing that commands change, a set of possible values
//! is kept: an answered command that changed it makes it one value, an unanswered one adds a value.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use sc_api::{
    Problem,
    types::{Accepted, Deploy, Rollback, SetCanary, SetScale},
};
use sc_core::{
    AppId, ReplicaId,
    canary::Share,
    plan::{Desired, DesiredApp},
    spec::{AppSpec, ScaleSpec},
    warm::WarmSpec,
};
use sc_manager::{World, commands};

/// The variable in an app's environment that says which deploy a version is from.
pub const MARK: &str = "MARK";
/// The variable that says how a version behaves: see [`super::engine`].
pub const BEHAVES: &str = "BEHAVES";

/// What a user can ask for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// A new version (or app), of this many replicas if new.
    Deploy {
        /// Which deploy.
        mark: u64,
        /// How it behaves; empty: well.
        behaves: String,
        /// Replicas of a new app.
        replicas: u32,
        /// Let the scaler decide.
        auto: bool,
        /// Try it on this share of the requests, in percent.
        canary: Option<u8>,
    },
    /// Another share for what is on trial, in percent.
    Share(u8),
    /// Roll out what is on trial.
    Promote,
    /// Back to the version before, or withdraw what is on trial.
    RollBack,
    /// So many replicas.
    Scale(u32),
    /// So many may sleep.
    Warm(u32),
    /// Run nothing.
    Stop,
    /// Run again.
    Start,
    /// Replace all.
    Restart,
    /// Forget.
    Remove,
    /// Stop one replica.
    StopOne(u64),
    /// Replace one replica.
    RestartOne(u64),
}

/// What may be the case of an app.
#[derive(Debug, Clone, Default)]
struct Belief {
    exists: BTreeSet<bool>,
    stopped: BTreeSet<bool>,
    /// Of an app that does not scale by itself.
    want: BTreeSet<u32>,
    /// How many may sleep; empty: nobody said.
    warm: BTreeSet<u32>,
    mark: BTreeSet<u64>,
    /// Deploys that do not behave: the app may have gone back from them.
    unsound: BTreeSet<u64>,
    /// What may be on trial.
    trial: BTreeSet<Option<u64>>,
    /// All that was ever deployed of it.
    seen: BTreeSet<u64>,
    auto: bool,
}

/// All users.
#[derive(Default)]
pub struct Users(Mutex<BTreeMap<AppId, Belief>>);

/// What became of a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Accepted.
    Accepted(Accepted),
    /// Refused for sure.
    Refused(String),
    /// It may have happened.
    Unknown(String),
}

impl From<Result<Accepted, Problem>> for Answer {
    fn from(result: Result<Accepted, Problem>) -> Self {
        match result {
            Ok(accepted) => Self::Accepted(accepted),
            Err(problem) if problem.status < 500 => Self::Refused(problem.detail),
            Err(problem) => Self::Unknown(problem.detail),
        }
    }
}

/// Runs a command on a manager.
pub async fn run(world: &World, app: &AppId, command: &Command) -> Answer {
    let one = |n: &u64| ReplicaId::new(app, *n);
    match command {
        Command::Deploy { mark, behaves, replicas, auto, canary } => {
            let warm = WarmSpec { size: 2, for_ms: 8_000, memory: None, stopped: Some(2), stop_for_ms: 12_000 };
            let bounds = ScaleSpec { min: 1, max: 5, auto: true, hold_down_ms: 5_000, warm, ..Default::default() };
            let scale = auto.then_some(bounds);
            let replicas = (!auto).then_some(*replicas);
            let spec = spec(app, *mark, behaves);
            let canary = canary.as_ref().map(share);
            let request = Deploy { spec, scale, replicas, note: String::new(), create_only: false, canary };
            commands::deploy(world, app, &request).await
        }
        Command::Scale(n) => {
            let request = SetScale { count: Some(*n), ..SetScale::default() };
            commands::set_scale(world, app, &request).await
        }
        Command::Warm(n) => {
            let request = SetScale { warm: Some(*n), ..SetScale::default() };
            commands::set_scale(world, app, &request).await
        }
        Command::Share(percent) => commands::set_canary(world, app, &SetCanary { share: share(percent) }).await,
        Command::Promote => commands::promote(world, app).await,
        Command::RollBack => commands::rollback(world, app, &Rollback::default()).await,
        Command::Stop => commands::stop(world, app).await,
        Command::Start => commands::start(world, app).await,
        Command::Restart => commands::restart(world, app).await,
        Command::Remove => commands::remove(world, app).await,
        Command::StopOne(n) => commands::stop_replica(world, &one(n)).await,
        Command::RestartOne(n) => commands::restart_replica(world, &one(n)).await,
    }
    .into()
}

fn share(percent: &u8) -> Share {
    format!("{percent}%").parse().expect("the simulator's shares are valid")
}

/// A version. Times are short, so that a run sees much.
fn spec(app: &AppId, mark: u64, behaves: &str) -> AppSpec {
    let spec = serde_json::json!({
        "source": { "image": "sim" },
        "port": 8080,
        "env": { (MARK): mark.to_string(), (BEHAVES): behaves },
        "routes": [{ "host": format!("{}.sim", app.name) }],
        "health": { "interval_ms": 1_000, "timeout_ms": 500, "start_ms": 15_000 },
        "drain": { "timeout_ms": 10_000, "grace_ms": 2_000 },
        "deploy": { "timeout_ms": 25_000 },
    });
    serde_json::from_value(spec).expect("the simulator's apps are valid")
}

/// Whether a version behaves well.
pub fn is_sound(spec: &AppSpec) -> bool {
    spec.env.get(BEHAVES).is_none_or(String::is_empty)
}

/// Whether all versions that an app shall run behave well.
pub fn all_sound(app: &DesiredApp) -> bool {
    let canary = app.app.canary.as_ref().and_then(|canary| app.versions.get(&canary.version));
    app.spec().is_some_and(is_sound) && canary.is_none_or(|version| is_sound(&version.spec))
}

/// Whether a replica of a version may become ready at all.
pub fn can_serve(spec: &AppSpec) -> bool {
    !spec.env.get(BEHAVES).is_some_and(|behaves| ["deaf", "refused"].contains(&behaves.as_str()))
}

impl Users {
    /// Notes what became of a command.
    pub fn note(&self, app: &AppId, command: &Command, answer: &Answer) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let belief =
            all.entry(app.clone()).or_insert_with(|| Belief { exists: BTreeSet::from([false]), ..Belief::default() });
        let sure = match answer {
            Answer::Refused(_) => return,
            // Not changed: it was so already, perhaps by this very command, whose first try got no answer.
            Answer::Accepted(accepted) => accepted.changed,
            Answer::Unknown(_) => false,
        };
        belief.take(command, sure);
    }

    /// What of it is not so.
    pub fn lost(&self, desired: &Desired) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        for (id, belief) in all.iter() {
            belief.lost(id, desired, &mut found);
        }
        found
    }
}

fn set<T: Ord>(values: &mut BTreeSet<T>, value: T, sure: bool) {
    if sure {
        values.clear();
    }
    values.insert(value);
}

impl Belief {
    fn take(&mut self, command: &Command, sure: bool) {
        match command {
            Command::Deploy { mark, replicas, auto, behaves, canary } => {
                if self.exists.contains(&false) {
                    // A new app, or perhaps one.
                    self.auto |= *auto;
                    self.want.insert(*replicas);
                    self.warm.insert(0);
                    if self.exists.len() == 1 {
                        (self.auto, self.want) = (*auto, BTreeSet::from([*replicas]));
                        self.mark.clear();
                        self.trial.clear();
                        self.seen.clear();
                        self.stopped.clear();
                        self.warm.clear();
                        self.warm.insert(0);
                    }
                } else {
                    self.auto |= *auto;
                }
                set(&mut self.exists, true, sure);
                set(&mut self.stopped, false, sure);
                // Beside nothing that was rolled out it is an ordinary deploy: so it may be either.
                set(&mut self.mark, *mark, sure && canary.is_none());
                set(&mut self.trial, canary.map(|_| *mark), sure);
                self.trial.extend(canary.map(|_| None));
                self.seen.insert(*mark);
                if !behaves.is_empty() {
                    self.unsound.insert(*mark);
                }
            }
            Command::Scale(n) => set(&mut self.want, *n, sure),
            Command::Warm(n) => set(&mut self.warm, *n, sure),
            Command::Stop => set(&mut self.stopped, true, sure),
            Command::Start => set(&mut self.stopped, false, sure),
            Command::Remove => set(&mut self.exists, false, sure),
            // A stopped app keeps the count it will have again.
            Command::StopOne(_) if self.stopped.iter().all(|stopped| *stopped) => {}
            Command::StopOne(_) => {
                let lower: BTreeSet<u32> = self.want.iter().map(|n| n.saturating_sub(1)).collect();
                // One that is kept warm is not counted, and only the engine knows which those are.
                let counted = self.warm.iter().all(|most| *most == 0);
                if sure && counted && !self.stopped.contains(&true) {
                    self.want.clear();
                }
                self.want.extend(lower);
            }
            Command::Promote => {
                let promoted: Vec<u64> = self.trial.iter().flatten().copied().collect();
                if sure {
                    self.mark.clear();
                }
                self.mark.extend(promoted);
                set(&mut self.trial, None, sure);
            }
            // Where nothing was on trial, it is at any version before.
            Command::RollBack => {
                self.mark.extend(self.seen.iter().copied());
                set(&mut self.trial, None, sure);
            }
            Command::Share(_) | Command::Restart | Command::RestartOne(_) => {}
        }
    }

    fn lost(&self, id: &AppId, desired: &Desired, found: &mut Vec<String>) {
        let app = desired.apps.get(id);
        if !self.exists.contains(&app.is_some()) {
            found.push(format!("{id} exists: {}, may be: {:?}", app.is_some(), self.exists));
        }
        let Some(app) = app else { return };
        if !self.stopped.contains(&app.app.stopped) {
            found.push(format!("{id} is stopped: {}, may be: {:?}", app.app.stopped, self.stopped));
        }
        if !self.auto && !self.want.contains(&app.scale.want) {
            found.push(format!("{id} wants {}, may want: {:?}", app.scale.want, self.want));
        }
        let warm = app.app.scale.warm.size;
        if !self.auto && !self.warm.is_empty() && !self.warm.contains(&warm) {
            found.push(format!("{id} keeps {warm} warm, may keep: {:?}", self.warm));
        }
        let mark_of = |spec: &AppSpec| spec.env.get(MARK).and_then(|mark| mark.parse().ok());
        let mark = app.spec().and_then(mark_of).unwrap_or(0);
        let trial = app.app.canary.as_ref().and_then(|canary| mark_of(&app.versions.get(&canary.version)?.spec));
        // One that failed is withdrawn by itself.
        let failed = trial.is_none() && self.trial.iter().flatten().any(|mark| self.unsound.contains(mark));
        if !failed && !self.trial.is_empty() && !self.trial.contains(&trial) {
            found.push(format!("{id} has {trial:?} on trial, may have: {:?}", self.trial));
        }
        let back = self.mark.intersection(&self.unsound).next().is_some();
        if !back && !self.mark.contains(&mark) {
            found.push(format!("{id} runs deploy {mark}, may run: {:?}", self.mark));
        }
    }
}
