//! What the fake has, and how it changes with time. Pure: the time is an argument.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sc_core::{
    AppId, ReplicaId,
    observed::{Exit, Run, Seen},
    stats::Usage,
};

use super::{Behaviour, End};
use crate::{LogLine, StartSpec};

/// Log lines kept per replica.
const LINES_MAX: usize = 1_000;
/// Logs of replicas that are gone, and calls, kept at most.
const KEPT_MAX: usize = 10_000;

/// One container of the fake.
#[derive(Debug, Clone)]
pub(super) struct Container {
    /// As it was asked for.
    pub spec: StartSpec,
    /// How its program behaves.
    pub behaviour: Behaviour,
    /// As [`World::settle`] left it.
    pub run: Run,
    /// When it becomes running, while it is being started.
    pub starts_at: Option<u64>,
    /// When and how its program ends by itself.
    pub ends_at: Option<(u64, Exit)>,
    /// [`Seen::restarts`].
    pub restarts: u64,
    /// Running time in milliseconds before the current run.
    pub ran_ms: u64,
    /// Files put into it.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Set by a test; else made up from the behaviour.
    pub usage: Option<Usage>,
}

/// An effect that comes later than its call.
#[derive(Debug, Clone)]
pub(super) enum Effect {
    Start(Box<StartSpec>, Behaviour),
    Stop(ReplicaId),
    Pause(ReplicaId),
    Wake(ReplicaId),
    Park(ReplicaId),
    Revive(ReplicaId),
    RemoveNetwork(AppId),
}

/// Everything the fake has.
#[derive(Debug, Default)]
pub(super) struct World {
    pub containers: BTreeMap<ReplicaId, Container>,
    pub networks: BTreeSet<AppId>,
    pub logs: BTreeMap<ReplicaId, VecDeque<LogLine>>,
    pub later: Vec<(u64, Effect)>,
    pub taken: Vec<(std::net::Ipv4Addr, u8)>,
    pub calls: VecDeque<(u64, super::Call)>,
}

impl World {
    /// Lets everything happen that is due at `now`, in the order of its time.
    pub fn settle(&mut self, now: u64) {
        while let Some(at) = self.next_event().filter(|at| *at <= now) {
            while let Some(i) = self.later.iter().position(|(t, _)| *t <= at) {
                let (_, effect) = self.later.remove(i);
                // An effect that comes too late to work is lost, as its answer was.
                let _ = self.apply(&effect, at);
            }
            for (id, container) in &mut self.containers {
                for line in container.settle(at) {
                    log(&mut self.logs, id, at, &line);
                }
            }
        }
    }

    /// When something happens by itself next.
    pub fn next_event(&self) -> Option<u64> {
        let containers = self.containers.values().filter_map(Container::next_event);
        containers.chain(self.later.iter().map(|(at, _)| *at)).min()
    }

    /// Does what a call asks for.
    pub fn apply(&mut self, effect: &Effect, now: u64) -> Result<(), String> {
        match effect {
            Effect::Start(spec, behaviour) => self.start(spec, behaviour, now),
            Effect::Stop(id) => {
                self.containers.remove(id);
                Ok(())
            }
            Effect::Pause(id) => self.freeze(id, now, true),
            Effect::Wake(id) => self.freeze(id, now, false),
            Effect::Park(id) => {
                self.end(id, Exit { code: 143, oom: false, error: String::new(), at_ms: now });
                Ok(())
            }
            Effect::Revive(id) => self.revive(id, now),
            Effect::RemoveNetwork(app) => {
                if self.containers.keys().any(|id| id.app == *app) {
                    return Err(format!("network of {app} has active endpoints"));
                }
                self.networks.remove(app);
                Ok(())
            }
        }
    }

    fn start(&mut self, spec: &StartSpec, behaviour: &Behaviour, now: u64) -> Result<(), String> {
        self.make(spec, behaviour)?;
        if let Some(container) = self.containers.get_mut(&spec.replica)
            && container.run == Run::Created
            && container.starts_at.is_none()
        {
            container.starts_at = Some(now + behaviour.start_delay.as_millis() as u64);
            for line in container.settle(now) {
                log(&mut self.logs, &spec.replica, now, &line);
            }
        }
        Ok(())
    }

    /// Makes a container without starting it. One that exists is left as it is.
    pub fn make(&mut self, spec: &StartSpec, behaviour: &Behaviour) -> Result<(), String> {
        if self.containers.contains_key(&spec.replica) {
            return Ok(());
        }
        let clash = |c: &&Container| spec.addr.port() != 0 && c.spec.addr == spec.addr && c.alive();
        if let Some(other) = self.containers.values().find(clash) {
            return Err(format!("address {} is already in use by {}", spec.addr, other.spec.replica));
        }
        if spec.network.is_some() {
            self.networks.insert(spec.replica.app.clone());
        }
        let container = Container::new(spec, behaviour);
        self.containers.insert(spec.replica.clone(), container);
        self.logs.entry(spec.replica.clone()).or_default();
        while self.logs.len() > KEPT_MAX {
            let gone = self.logs.keys().find(|id| !self.containers.contains_key(id)).cloned();
            let Some(gone) = gone else { break };
            self.logs.remove(&gone);
        }
        Ok(())
    }

    fn freeze(&mut self, id: &ReplicaId, now: u64, pause: bool) -> Result<(), String> {
        let container = self.containers.get_mut(id).ok_or_else(|| format!("no such container: {id}"))?;
        match (&container.run, pause) {
            (Run::Running { since_ms }, true) => {
                container.ran_ms += now.saturating_sub(*since_ms);
                container.run = Run::Paused;
            }
            (Run::Paused, false) => container.run = Run::Running { since_ms: now },
            (Run::Paused, true) | (Run::Running { .. }, false) => {}
            _ => return Err(format!("{id} is not running")),
        }
        Ok(())
    }

    fn revive(&mut self, id: &ReplicaId, now: u64) -> Result<(), String> {
        let spec = self.containers.get(id).map(|container| container.spec.clone());
        let spec = spec.ok_or_else(|| format!("no such container: {id}"))?;
        let clash = |(other, c): &(&ReplicaId, &Container)| {
            *other != id && spec.addr.port() != 0 && c.spec.addr == spec.addr && c.alive()
        };
        if let Some((other, _)) = self.containers.iter().find(clash) {
            return Err(format!("address {} is already in use by {other}", spec.addr));
        }
        let Some(container) = self.containers.get_mut(id).filter(|container| !container.alive()) else { return Ok(()) };
        container.run = Run::Created;
        container.restarts += 1;
        container.starts_at = Some(now + container.behaviour.start_delay.as_millis() as u64);
        for line in container.settle(now) {
            log(&mut self.logs, id, now, &line);
        }
        Ok(())
    }

    /// Ends a container's program, as a signal or a crash does.
    pub fn end(&mut self, id: &ReplicaId, exit: Exit) -> bool {
        let Some(container) = self.containers.get_mut(id).filter(|c| c.alive()) else { return false };
        let (at, line) = (exit.at_ms, format!("ended: {exit}"));
        container.end(exit);
        log(&mut self.logs, id, at, &line);
        true
    }

    pub fn log(&mut self, id: &ReplicaId, now: u64, text: &str) {
        log(&mut self.logs, id, now, text);
    }

    pub fn record(&mut self, now: u64, call: super::Call) {
        if self.calls.len() == KEPT_MAX {
            self.calls.pop_front();
        }
        self.calls.push_back((now, call));
    }
}

fn log(logs: &mut BTreeMap<ReplicaId, VecDeque<LogLine>>, id: &ReplicaId, at_ms: u64, text: &str) {
    let lines = logs.entry(id.clone()).or_default();
    if lines.len() == LINES_MAX {
        lines.pop_front();
    }
    lines.push_back(LogLine { at_ms, stderr: false, text: text.to_owned() });
}

impl Container {
    fn new(spec: &StartSpec, behaviour: &Behaviour) -> Self {
        Self {
            spec: spec.clone(),
            behaviour: behaviour.clone(),
            run: Run::Created,
            starts_at: None,
            ends_at: None,
            restarts: 0,
            ran_ms: 0,
            files: BTreeMap::new(),
            usage: None,
        }
    }

    /// Whether its process exists or is about to.
    pub fn alive(&self) -> bool {
        matches!(self.run, Run::Running { .. } | Run::Paused) || self.starts_at.is_some()
    }

    fn next_event(&self) -> Option<u64> {
        match self.run {
            Run::Created => self.starts_at,
            Run::Running { .. } => self.ends_at.as_ref().map(|(at, _)| *at),
            _ => None,
        }
    }

    /// Lets what is due at `now` happen; gives the lines its program writes about it.
    pub fn settle(&mut self, now: u64) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(at) = self.starts_at.filter(|at| *at <= now) {
            self.starts_at = None;
            self.begin(at);
            lines.extend(self.behaviour.says.clone());
        }
        if let (Run::Running { .. }, Some((at, exit))) = (&self.run, self.ends_at.clone())
            && at <= now
        {
            lines.push(format!("ended: {exit}"));
            self.end(exit);
        }
        lines
    }

    /// Its program begins to run.
    pub fn begin(&mut self, at: u64) {
        self.run = Run::Running { since_ms: at };
        self.ends_at = match &self.behaviour.end {
            End::Never | End::Refused(_) => None,
            End::Exit { after, code } => {
                let at_ms = at + after.as_millis() as u64;
                Some((at_ms, Exit { code: *code, oom: false, error: String::new(), at_ms }))
            }
            End::OutOfMemory { after } => {
                let at_ms = at + after.as_millis() as u64;
                Some((at_ms, Exit { code: 137, oom: true, error: String::new(), at_ms }))
            }
            End::CannotStart(why) => Some((at, Exit { code: 127, oom: false, error: why.clone(), at_ms: at })),
        };
    }

    /// Its program ends.
    pub fn end(&mut self, exit: Exit) {
        if let Run::Running { since_ms } = self.run {
            self.ran_ms += exit.at_ms.saturating_sub(since_ms);
        }
        self.run = Run::Exited(exit);
        self.starts_at = None;
        self.ends_at = None;
    }

    pub fn seen(&self) -> Seen {
        Seen { run: self.run.clone(), version: self.spec.version, addr: Some(self.spec.addr), restarts: self.restarts }
    }

    /// Whether its program answers at its address at `now`.
    pub fn listens(&self, now: u64) -> bool {
        let Run::Running { since_ms } = self.run else { return false };
        self.behaviour.healthy && now >= since_ms + self.behaviour.listen_after.as_millis() as u64
    }

    pub fn usage(&self, now: u64) -> Option<Usage> {
        let Run::Running { since_ms } = self.run else { return None };
        let resources = &self.spec.spec.resources;
        let made_up = || Usage {
            cpu_seconds: self.behaviour.cpus * (self.ran_ms + now.saturating_sub(since_ms)) as f64 / 1e3,
            cpu_limit: resources.cpus,
            memory: 1 << 20,
            memory_limit: resources.memory,
            pids: 1,
            ..Usage::default()
        };
        Some(Usage { at_ms: now, ..self.usage.clone().unwrap_or_else(made_up) })
    }
}
