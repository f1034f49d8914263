//! Which replicas are probed, and how: those that shall run, from the moment they do. Not before: a packet to an address
//! that nobody has yet makes the kernel ask for it in vain, and then not again for a whole second.

use std::collections::{BTreeMap, BTreeSet};

use sc_core::{
    ReplicaId,
    observed::{Observed, Run},
    plan::Desired,
    records::{Intent, Replica},
};

use crate::probe::{Target, Wanted};

/// The probes that shall run. `started`: those whose start has just succeeded, before the engine is looked at.
pub fn wanted(desired: &Desired, observed: &Observed, started: &BTreeSet<ReplicaId>) -> BTreeMap<ReplicaId, Wanted> {
    let mut wanted = BTreeMap::new();
    for (id, app) in &desired.apps {
        for (n, replica) in app.replicas.iter().filter(|(_, replica)| replica.intent == Intent::Run) {
            let Some(version) = app.versions.get(&replica.version) else { continue };
            let replica_id = ReplicaId::new(id, *n);
            if !(started.contains(&replica_id) || runs(&replica_id, replica, observed)) {
                continue;
            }
            let health = version.spec.health.clone();
            let target = Target { replica: replica_id.clone(), addr: replica.addr, probe: health.probe.clone() };
            // Found unready, it is asked often again.
            wanted.insert(replica_id, Wanted { target, health, life: replica.unready_ms });
        }
    }
    wanted
}

fn runs(id: &ReplicaId, replica: &Replica, observed: &Observed) -> bool {
    let run = observed.seen(&replica.node, id).map(|seen| &seen.run);
    run.map_or(replica.seen_ms.is_some(), |run| matches!(run, Run::Running { .. }))
}
