//! What must hold at every moment, whatever crashed when: used by every test, by the simulator after every step, and by
//! `sc doctor`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
};

use crate::{
    names::{AppId, Name, ReplicaId},
    observed::{Node, Observed, Run},
    plan::{Action, Addressing, Desired, DesiredApp, VERSIONS_MAX, plan, ranges},
    records::{Intent, Replica, Subnet, key, write},
};

/// The most bytes of memory that the scaler may keep of one app, as JSON.
pub const SCALER_MEMORY_MAX: usize = 32 * 1024;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// By what.
    pub what: String,
}

/// The invariants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// No app has more replicas that shall run, or may still run, than its maximum and surge.
    AboveMax,
    /// An app with fewer replicas than it should have is being repaired, waits for its back-off, or cannot be repaired
    /// now (no node answers, no addresses are left).
    BelowWant,
    /// No more replicas are paused or parked than the app keeps warm, and none of an app or version that nobody will wake.
    TooWarm,
    /// Published routes list only replicas that have a record, do not sleep, are not being stopped, and listen there.
    ListedWrongly,
    /// No two replicas have one address.
    SharedAddress,
    /// A replica's address lies in a range of its app.
    ForeignAddress,
    /// No two ranges of addresses have one in common, and each app with one network has one range.
    SharedRange,
    /// Incarnations below an app's `next` only, so that none is handed out twice.
    ReusedIncarnation,
    /// One container per replica, of the version its record says.
    WrongContainer,
    /// No route leads to two apps.
    SharedRoute,
    /// The wanted version is stored, and so are the stable one and the canary's.
    MissingVersion,
    /// The scaler's memory of an app is at most 32 KiB, its versions are at most twice what is kept.
    Unbounded,
}

/// All invariants that do not hold. Apps that are left alone are not judged.
pub fn check(desired: &Desired, observed: &Observed) -> Vec<Violation> {
    let mut found = Vec::new();
    let next = plan(desired, observed);
    for (id, app) in &desired.apps {
        let steps: Vec<&Action> = next.steps.iter().map(|(a, _)| a).filter(|a| a.app() == Some(id)).collect();
        above_max(id, app, observed, &steps, &mut found);
        below_want(desired, id, app, observed, &steps, &mut found);
        too_warm(id, app, observed, &steps, &mut found);
        listed_wrongly(id, app, &mut found);
        foreign_address(desired, id, app, &mut found);
        records(id, app, &mut found);
    }
    shared_address(desired, &mut found);
    shared_range(desired, &mut found);
    wrong_container(desired, observed, &mut found);
    shared_route(desired, &mut found);
    found
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}

type Found = Vec<Violation>;

fn note(found: &mut Found, rule: Rule, what: String) {
    found.push(Violation { rule, what });
}

fn of_intent(app: &DesiredApp, accept: fn(&Intent) -> bool) -> usize {
    app.replicas.values().filter(|replica| accept(&replica.intent)).count()
}

fn shall_run(intent: &Intent) -> bool {
    *intent == Intent::Run
}

/// More than the maximum may be there for one pass, after it was lowered: then the next steps drain them, and start
/// nothing that does not fit beside those that still run.
fn above_max(id: &AppId, app: &DesiredApp, observed: &Observed, steps: &[&Action], found: &mut Found) {
    let most = app.app.scale.max.saturating_add(app.surge()) as usize;
    let unknown = app.replicas.values().any(|replica| !observed.knows(&replica.node));
    let dead = |n: &u64, replica: &Replica| {
        let run = observed.seen(&replica.node, &ReplicaId::new(id, *n)).map(|seen| &seen.run);
        matches!(run, None | Some(Run::Exited(_)))
    };
    let left = |n: &u64| {
        let leaves = |step: &&Action| matches!(step, Action::Drain { .. } | Action::Fail { .. });
        steps.iter().copied().filter(leaves).any(|step| step.replica().is_some_and(|r| r.incarnation == *n))
    };
    let counts = |(n, replica): &(&u64, &Replica)| match replica.intent {
        Intent::Run => !(left(n) && dead(n, replica)),
        Intent::Pause { .. } => false,
        Intent::Drain { .. } | Intent::Stop { .. } | Intent::Park { .. } => !dead(n, replica),
    };
    let running = app.replicas.iter().filter(counts).count();
    let stay = app.replicas.iter().filter(|(n, replica)| shall_run(&replica.intent) && !left(n)).count();
    let starts = steps.iter().filter(|step| matches!(step, Action::Start { .. })).count();
    if !unknown && (stay > most || (starts > 0 && running + starts > most)) {
        let what = format!("{running} replicas of {id} run, {stay} stay, {starts} are started; at most {most} may run");
        note(found, Rule::AboveMax, what);
    }
}

fn below_want(
    desired: &Desired,
    id: &AppId,
    app: &DesiredApp,
    observed: &Observed,
    steps: &[&Action],
    found: &mut Found,
) {
    let run = of_intent(app, shall_run);
    let waits = app.app.crash.as_ref().is_some_and(|crash| observed.at < crash.until_ms);
    let knows = observed.nodes.values().any(|node| matches!(node, Node::Known { .. }));
    let leaving = of_intent(app, |intent| matches!(intent, Intent::Drain { .. } | Intent::Stop { .. })) > 0;
    let repairs = !steps.is_empty() || waits || leaving;
    if run < app.want() as usize && knows && !repairs && !is_full(desired, id, app) {
        let what = format!("{run} replicas of {id} shall run, {} are wanted, and nothing is done", app.want());
        note(found, Rule::BelowWant, what);
    }
}

/// More may sleep for one pass, after something has changed: then the next steps take them away.
fn too_warm(id: &AppId, app: &DesiredApp, observed: &Observed, steps: &[&Action], found: &mut Found) {
    let changes = |n: &u64| steps.iter().any(|step| step.replica().is_some_and(|r| r.incarnation == *n));
    let stays =
        |(n, replica): &(&u64, &Replica)| replica.intent.is_warm() && observed.knows(&replica.node) && !changes(n);
    let asleep: Vec<_> = app.replicas.iter().filter(stays).collect();
    let parked = asleep.iter().filter(|(_, replica)| matches!(replica.intent, Intent::Park { .. })).count();
    let (warm, max) = (&app.app.scale.warm, app.app.scale.max);
    let frozen_most = app.spec().map_or(0, |spec| warm.most(&spec.resources)).min(max) as usize;
    let parked_most = app.app.scale.most_stopped().min(max) as usize;
    for (what, have, most) in [("frozen", asleep.len() - parked, frozen_most), ("parked", parked, parked_most)] {
        if have > most {
            note(found, Rule::TooWarm, format!("{have} replicas of {id} are {what}, at most {most} may be"));
        }
    }
    for (n, _) in asleep.iter().filter(|(_, r)| app.app.stopped || app.app.deleting || !app.is_current(r)) {
        note(found, Rule::TooWarm, format!("{} sleeps, and nobody will wake it", ReplicaId::new(id, **n)));
    }
}

/// Whether addresses may be what is missing.
fn is_full(desired: &Desired, id: &AppId, app: &DesiredApp) -> bool {
    let has: usize = desired.ranges(id).map(|(_, range)| ranges::capacity(range) as usize).sum();
    let network = matches!(desired.addressing, Addressing::Networks { .. });
    let no_more = (network && has > 0) || desired.unreadable_below(key::SUBNETS);
    let pool_full = desired.subnets.len() >= ranges::count(&desired.addressing) as usize / 2;
    has <= app.replicas.len() && (no_more || pool_full)
}

fn listed_wrongly(id: &AppId, app: &DesiredApp, found: &mut Found) {
    let backends = app.published.iter().flat_map(|published| &published.routes.backends);
    for backend in backends {
        let replica = Some(&backend.replica).filter(|r| r.app == *id).and_then(|r| app.replicas.get(&r.incarnation));
        let wrong = match replica {
            None => "has no record",
            Some(replica) if matches!(replica.intent, Intent::Stop { .. }) => "is being stopped",
            Some(replica) if replica.intent.is_warm() => "sleeps",
            Some(replica) if replica.addr != backend.addr => "listens elsewhere",
            Some(_) => continue,
        };
        note(found, Rule::ListedWrongly, format!("the routes of {id} list {}, which {wrong}", backend.replica));
    }
}

fn foreign_address(desired: &Desired, id: &AppId, app: &DesiredApp, found: &mut Found) {
    for (n, replica) in app.replicas.iter().filter(|(_, replica)| is_listening(desired, replica)) {
        if !desired.ranges(id).any(|(_, range)| ranges::holds(range, &replica.addr)) {
            let what = format!("{} has {}, which is in no range of its app", ReplicaId::new(id, *n), replica.addr);
            note(found, Rule::ForeignAddress, what);
        }
    }
}

/// Whether its address means anything: replicas without a port of their own on a shared address do not listen.
fn is_listening(desired: &Desired, replica: &Replica) -> bool {
    replica.addr.port() != 0 || matches!(desired.addressing, Addressing::Networks { .. })
}

fn records(id: &AppId, app: &DesiredApp, found: &mut Found) {
    if let Some(n) = app.replicas.keys().next_back().filter(|n| **n >= app.app.next) {
        note(found, Rule::ReusedIncarnation, format!("{id} has a replica {n}, but hands out {} next", app.app.next));
    }
    let canary = app.app.canary.as_ref().map(|canary| canary.version);
    for version in app.app.stable.into_iter().chain([app.app.version]).chain(canary) {
        if !app.versions.contains_key(&version) {
            note(found, Rule::MissingVersion, format!("version {version} of {id} is not stored"));
        }
    }
    let memory = write(&app.scale.memory).len();
    if memory > SCALER_MEMORY_MAX || app.versions.len() > 2 * VERSIONS_MAX {
        let versions = app.versions.len();
        note(
            found,
            Rule::Unbounded,
            format!("{id}: the scaler remembers {memory} bytes, {versions} versions are kept"),
        );
    }
}

fn shared_address(desired: &Desired, found: &mut Found) {
    let mut owners: BTreeMap<SocketAddr, ReplicaId> = BTreeMap::new();
    let listening = |replica: &&Replica| is_listening(desired, replica);
    for (id, app) in &desired.apps {
        for (n, replica) in app.replicas.iter().filter(|(_, replica)| listening(replica)) {
            let replica_id = ReplicaId::new(id, *n);
            if let Some(other) = owners.insert(replica.addr, replica_id.clone()) {
                note(found, Rule::SharedAddress, format!("{other} and {replica_id} both have {}", replica.addr));
            }
        }
    }
}

fn shared_range(desired: &Desired, found: &mut Found) {
    let all: Vec<(&u32, &Subnet)> = desired.subnets.iter().collect();
    for (i, (n, range)) in all.iter().enumerate() {
        for (m, other) in &all[i + 1..] {
            if ranges::clash(range, other) {
                note(found, Rule::SharedRange, format!("ranges {n} ({}) and {m} ({}) overlap", range.app, other.app));
            }
        }
    }
    let network = matches!(desired.addressing, Addressing::Networks { .. });
    for id in desired.apps.keys().filter(|id| network && desired.ranges(id).count() > 1) {
        note(found, Rule::SharedRange, format!("{id} has more than one network"));
    }
}

fn wrong_container(desired: &Desired, observed: &Observed, found: &mut Found) {
    let mut seen_on: BTreeMap<&ReplicaId, &Name> = BTreeMap::new();
    for (name, node) in &observed.nodes {
        let Node::Known { replicas, .. } = node else { continue };
        for (id, seen) in replicas {
            if let Some(other) = seen_on.insert(id, name) {
                note(found, Rule::WrongContainer, format!("{id} is on {other} and on {name}"));
            }
            if let Some(record) = desired.replica(id).filter(|record| record.version != seen.version) {
                let what = format!("{id} shall be of version {} and is of version {}", record.version, seen.version);
                note(found, Rule::WrongContainer, what);
            }
        }
    }
}

fn shared_route(desired: &Desired, found: &mut Found) {
    let mut owners: BTreeMap<String, &AppId> = BTreeMap::new();
    for (id, app) in &desired.apps {
        let published = app.published.iter().flat_map(|published| &published.routes.routes);
        let claims: BTreeSet<String> = published.map(key::claim).collect();
        for claim in claims {
            if let Some(other) = owners.insert(claim.clone(), id) {
                note(found, Rule::SharedRoute, format!("{other} and {id} are both published at {claim}"));
            }
        }
    }
}
