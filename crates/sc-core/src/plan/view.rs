//! One app as the phases look at it.

use super::{Desired, DesiredApp};
use crate::{
    names::{AppId, ReplicaId},
    observed::{Exit, Node, Observed, Probed, Run},
    records::{CrashLoop, Intent, Replica, Rollout, UnixMs},
    spec::AppSpec,
};

/// One app, and everything else that a decision about it may depend on.
pub(super) struct View<'a> {
    pub id: &'a AppId,
    pub app: &'a DesiredApp,
    pub desired: &'a Desired,
    pub observed: &'a Observed,
}

/// One of the versions that shall run: the wanted one, or the canary.
pub(super) struct Side<'a> {
    pub version: u64,
    /// How many replicas of it there shall be now.
    pub want: u32,
    pub spec: Option<&'a AppSpec>,
    pub crash: Option<&'a CrashLoop>,
}

/// What the engine has of a replica.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Life<'a> {
    /// Its node did not answer: nothing may be concluded, nothing done.
    Unknown,
    /// It is not there.
    Absent,
    Created,
    Running,
    Paused,
    Exited(&'a Exit),
}

/// How far a replica that shall run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// On its way: it was started, woken or restarted and is not ready yet.
    Starting,
    /// It was ready and is no longer.
    Sick,
    /// It serves.
    Ready,
}

/// The stage of a replica that shall run, by its record and its latest probe.
pub fn stage(replica: &Replica, probe: Option<&Probed>, spec: &AppSpec) -> Stage {
    let failing = probe.is_some_and(|probe| probe.failures >= spec.health.unhealthy_after.max(1));
    match replica.ready_ms {
        Some(_) => Stage::Ready,
        None if failing && !replica.is_first() => Stage::Sick,
        None => Stage::Starting,
    }
}

impl<'a> View<'a> {
    pub(super) fn now(&self) -> UnixMs {
        self.observed.at
    }

    pub(super) fn replica_id(&self, n: u64) -> ReplicaId {
        ReplicaId::new(self.id, n)
    }

    /// All its replicas.
    pub(super) fn replicas(&self) -> impl Iterator<Item = (ReplicaId, &'a Replica)> + use<'a> {
        let id = self.id;
        self.app.replicas.iter().map(move |(n, replica)| (ReplicaId::new(id, *n), replica))
    }

    /// Those that shall run.
    pub(super) fn running(&self) -> impl Iterator<Item = (ReplicaId, &'a Replica)> + use<'a> {
        self.replicas().filter(|(_, replica)| replica.intent == Intent::Run)
    }

    /// Those on their way out.
    pub(super) fn leaving(&self) -> impl Iterator<Item = (ReplicaId, &'a Replica)> + use<'a> {
        self.replicas().filter(|(_, replica)| matches!(replica.intent, Intent::Drain { .. } | Intent::Stop { .. }))
    }

    /// Whether it drains only because it is not wanted: it served well until then, and could again.
    pub(super) fn is_sound(&self, id: &ReplicaId, replica: &Replica) -> bool {
        let drains = matches!(replica.intent, Intent::Drain { failed: false, .. });
        let passes = self.probe(id).is_none_or(|probe| probe.ok);
        let runs = self.life(id, replica) == Life::Running;
        drains && passes && runs && replica.ready_ms.is_some() && self.app.is_wanted(replica)
    }

    /// The versions that shall run. Those of the wanted one give way to the canary's as those come to serve.
    pub(super) fn sides(&self) -> impl Iterator<Item = Side<'a>> + use<'a> {
        let app = self.app;
        let settled = self.running().filter(|(_, r)| app.is_canary(r) && self.is_settled(r)).count() as u32;
        let wanted = Side {
            version: app.app.version,
            want: app.want().saturating_sub(settled.min(app.gives_way())),
            spec: app.spec(),
            crash: app.app.crash.as_ref().filter(|crash| crash.version == app.app.version),
        };
        let canary = app.app.canary.as_ref().map(|canary| Side {
            version: canary.version,
            want: app.canary_want(),
            spec: app.versions.get(&canary.version).map(|version| &version.spec),
            crash: canary.crash.as_ref(),
        });
        [Some(wanted), canary].into_iter().flatten()
    }

    /// The replicas of a side that shall run.
    pub(super) fn of(&self, side: &Side) -> impl Iterator<Item = (ReplicaId, &'a Replica)> + use<'a> {
        let (app, version) = (self.app, side.version);
        self.running().filter(move |(_, replica)| replica.version == version && app.is_wanted(replica))
    }

    /// How many of a side are ready, and how many of these have been so for long enough.
    pub(super) fn ready(&self, side: &Side) -> (usize, usize) {
        let ready = self.of(side).filter(|(_, replica)| replica.ready_ms.is_some());
        ready
            .fold((0, 0), |(ready, settled), (_, replica)| (ready + 1, settled + usize::from(self.is_settled(replica))))
    }

    pub(super) fn life(&self, id: &ReplicaId, replica: &Replica) -> Life<'a> {
        let Some(Node::Known { replicas, .. }) = self.observed.nodes.get(&replica.node) else { return Life::Unknown };
        match replicas.get(id).map(|seen| &seen.run) {
            None => Life::Absent,
            Some(Run::Created) => Life::Created,
            Some(Run::Running { .. }) => Life::Running,
            Some(Run::Paused) => Life::Paused,
            Some(Run::Exited(exit)) => Life::Exited(exit),
        }
    }

    /// Whether the engine answered for its node, so that something may be done with it.
    pub(super) fn knows(&self, replica: &Replica) -> bool {
        self.observed.knows(&replica.node)
    }

    /// Whether all engines that hold replicas of the app answered, and at least one that could start more.
    pub(super) fn knows_all(&self) -> bool {
        let any = self.observed.nodes.values().any(|node| matches!(node, Node::Known { .. }));
        any && self.app.replicas.values().all(|replica| self.knows(replica))
    }

    pub(super) fn probe(&self, id: &ReplicaId) -> Option<&'a Probed> {
        self.observed.probes.get(id)
    }

    /// The spec of the version a replica runs; the wanted one's where that is forgotten.
    pub(super) fn spec_of(&self, replica: &Replica) -> Option<&'a AppSpec> {
        self.app.versions.get(&replica.version).map(|version| &version.spec).or(self.app.spec())
    }

    pub(super) fn stage(&self, id: &ReplicaId, replica: &Replica) -> Stage {
        let spec = self.spec_of(replica);
        spec.map_or(Stage::Starting, |spec| stage(replica, self.probe(id), spec))
    }

    /// Whether it has had longer than `health.start_ms` to become ready. What was before this leader is not held
    /// against it, since nobody may have looked.
    pub(super) fn is_late(&self, replica: &Replica) -> bool {
        let limit = self.spec_of(replica).map_or(u64::MAX, |spec| spec.health.start_ms);
        let since = replica.unready_ms.max(replica.seen_ms.unwrap_or(self.now())).max(self.desired.leads_since_ms);
        replica.ready_ms.is_none() && self.now() >= since.saturating_add(limit)
    }

    /// Whether it has been ready for long enough to rely on it.
    pub(super) fn is_settled(&self, replica: &Replica) -> bool {
        let settle_ms = self.spec_of(replica).map_or(0, |spec| spec.deploy.settle_ms);
        replica.ready_ms.is_some_and(|ready_ms| self.now() >= ready_ms.saturating_add(settle_ms))
    }

    /// Until when a replica that drains from now on may take.
    pub(super) fn drain_deadline(&self, replica: &Replica) -> UnixMs {
        self.now().saturating_add(self.spec_of(replica).map_or(0, |spec| spec.drain.timeout_ms))
    }

    pub(super) fn is_rolling(&self) -> bool {
        matches!(self.app.app.rollout, Rollout::Rolling { .. })
    }

    /// Whether the routes that stand published list it.
    pub(super) fn is_listed(&self, id: &ReplicaId) -> bool {
        let published = self.app.published.as_ref();
        published.is_some_and(|published| published.routes.backends.iter().any(|backend| backend.replica == *id))
    }
}
