//! A replica as it is now.

use sc_api::types::ReplicaView;
use sc_core::{
    ReplicaId,
    observed::{Node, Observed, Run},
    records::{Intent, Replica},
    warm::WarmSpec,
};

use crate::world::World;

/// A replica's state as its record alone says.
pub fn state_of_record(replica: &Replica) -> &'static str {
    match (&replica.intent, replica.ready_ms) {
        (Intent::Run, Some(_)) => "ready",
        // It has run before: the engine has seen it, and it has to prove itself again.
        (Intent::Run, None) if !replica.is_first() => "unready",
        (Intent::Run, None) => "starting",
        (Intent::Pause { .. }, _) => "paused",
        (Intent::Park { .. }, _) => "stopped",
        (Intent::Drain { .. }, _) => "draining",
        (Intent::Stop { .. }, _) => "stopping",
    }
}

/// A replica as it is now.
pub fn replica_view(world: &World, id: &ReplicaId, replica: &Replica) -> ReplicaView {
    let observed = world.observed();
    let (state, detail) = state(world, &observed, id, replica);
    let used = world.usages.of(id, world.now_ms());
    let gauges = world.reports.gauges(&id.app);
    let backend = gauges.backends.get(id);
    ReplicaView {
        replica: id.clone(),
        version: replica.version,
        node: replica.node.to_string(),
        addr: (replica.addr.port() != 0).then_some(replica.addr),
        state: state.to_owned(),
        detail,
        created_ms: replica.created_ms,
        rps: world.reports.rps(id),
        in_flight: backend.map_or(0, |b| b.in_flight),
        cpu: used.as_ref().and_then(|used| used.cpu),
        usage: used.map(|used| used.usage),
        ejected: backend.is_some_and(|b| b.ejected),
    }
}

/// The state in a word, and what it waits for.
pub(super) fn state(world: &World, observed: &Observed, id: &ReplicaId, replica: &Replica) -> (&'static str, String) {
    let by_record = state_of_record(replica);
    match &replica.intent {
        Intent::Drain { why, deadline_ms, .. } => (by_record, leaving(world, id, why, *deadline_ms)),
        Intent::Stop { why } => (by_record, format!("stopping: {why}")),
        Intent::Pause { since_ms } => (by_record, asleep(world, id, *since_ms)),
        Intent::Park { since_ms } => (by_record, parked(world, id, *since_ms)),
        Intent::Run => running(world, observed, id, replica, by_record),
    }
}

fn asleep(world: &World, id: &ReplicaId, since_ms: u64) -> String {
    let left = left(world, id, since_ms, |warm| warm.for_ms);
    format!("warm: woken when it is wanted; stopped in {left} s otherwise")
}

fn parked(world: &World, id: &ReplicaId, since_ms: u64) -> String {
    let left = left(world, id, since_ms, |warm| warm.stop_for_ms);
    format!("warm: started again when it is wanted; removed in {left} s otherwise")
}

/// Seconds until one that is kept has been kept for its time.
fn left(world: &World, id: &ReplicaId, since_ms: u64, for_ms: fn(&WarmSpec) -> u64) -> u64 {
    let desired = world.desired();
    let for_ms = desired.and_then(|desired| desired.apps.get(&id.app).map(|app| for_ms(&app.app.scale.warm)));
    since_ms.saturating_add(for_ms.unwrap_or(0)).saturating_sub(world.now_ms()).div_ceil(1_000)
}

fn leaving(world: &World, id: &ReplicaId, why: &str, deadline_ms: u64) -> String {
    let gauges = world.reports.gauges(&id.app);
    let open = gauges.backends.get(id).map_or(0, |backend| backend.in_flight);
    let left = deadline_ms.saturating_sub(world.now_ms()).div_ceil(1_000);
    format!("{why}; {open} requests in flight, at most {left} s more")
}

fn running(
    world: &World,
    observed: &Observed,
    id: &ReplicaId,
    replica: &Replica,
    by_record: &'static str,
) -> (&'static str, String) {
    if let Some(Node::Unknown { why }) = observed.nodes.get(&replica.node) {
        return ("unknown", why.clone());
    }
    if !observed.knows(&replica.node) {
        return (by_record, format!("the manager has just begun and not looked at {} yet", world.engine.describe()));
    }
    if let Some(why) = observed.refused.get(id) {
        return ("exited", why.clone());
    }
    match observed.seen(&replica.node, id).map(|seen| &seen.run) {
        Some(Run::Exited(_)) if replica.awaits_start() => (by_record, "being started again".to_owned()),
        Some(Run::Exited(exit)) => ("exited", exit.to_string()),
        Some(Run::Paused) => ("paused", "frozen by somebody else".to_owned()),
        Some(Run::Created) => (by_record, "made, not started yet".to_owned()),
        None if replica.seen_ms.is_none() => (by_record, format!("waiting for {}", world.engine.describe())),
        None => (by_record, "the engine has it no more".to_owned()),
        Some(Run::Running { .. }) if replica.ready_ms.is_some() => (by_record, canary(world, id, replica)),
        Some(Run::Running { .. }) => (by_record, probe(observed, id)),
    }
}

/// That it is of a version on trial.
fn canary(world: &World, id: &ReplicaId, replica: &Replica) -> String {
    let desired = world.desired();
    let canary = desired.as_ref().and_then(|desired| desired.apps.get(&id.app)?.app.canary.as_ref());
    let canary = canary.filter(|canary| canary.version == replica.version);
    canary.map_or_else(String::new, |canary| format!("canary: its version gets {} of the requests", canary.share))
}

fn probe(observed: &Observed, id: &ReplicaId) -> String {
    match observed.probes.get(id) {
        None => "not probed yet".to_owned(),
        Some(probed) if probed.ok => "it answers".to_owned(),
        Some(probed) => format!("probe {}", probed.error),
    }
}
