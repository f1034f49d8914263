//! Which replicas are probed, and how: those that shall run. The question starts with the start itself, so that the
//! first answer is not missed; it counts only once the engine says the replica runs.

use std::collections::BTreeMap;

use sc_core::{
    ReplicaId,
    observed::Observed,
    plan::Desired,
    records::{Intent, Replica},
};

use crate::probe::{Target, Wanted};

/// The probes that shall run.
pub fn wanted(desired: &Desired, observed: &Observed) -> BTreeMap<ReplicaId, Wanted> {
    let mut wanted = BTreeMap::new();
    for (id, app) in &desired.apps {
        for (n, replica) in app.replicas.iter().filter(|(_, replica)| replica.intent == Intent::Run) {
            let Some(version) = app.versions.get(&replica.version) else { continue };
            let replica_id = ReplicaId::new(id, *n);
            let health = version.spec.health.clone();
            let target = Target { replica: replica_id.clone(), addr: replica.addr, probe: health.probe.clone() };
            let life = life(&replica_id, replica, observed);
            wanted.insert(replica_id, Wanted { target, health, life });
        }
    }
    wanted
}

fn life(id: &ReplicaId, replica: &Replica, observed: &Observed) -> u64 {
    observed.seen(&replica.node, id).map_or(replica.restarts, |seen| seen.restarts)
}
