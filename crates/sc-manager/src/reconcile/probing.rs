//! Which replicas are probed, and how: those that shall run. The question starts with the start itself, so that the
//! first answer is not missed; it counts only once the engine says the replica runs.

use std::collections::BTreeMap;

use sc_core::{ReplicaId, plan::Desired, records::Intent};

use crate::probe::{Target, Wanted};

/// The probes that shall run.
pub fn wanted(desired: &Desired) -> BTreeMap<ReplicaId, Wanted> {
    let mut wanted = BTreeMap::new();
    for (id, app) in &desired.apps {
        for (n, replica) in app.replicas.iter().filter(|(_, replica)| replica.intent == Intent::Run) {
            let Some(version) = app.versions.get(&replica.version) else { continue };
            let replica_id = ReplicaId::new(id, *n);
            let health = version.spec.health.clone();
            let target = Target { replica: replica_id.clone(), addr: replica.addr, probe: health.probe.clone() };
            // Found unready, it is asked often again.
            wanted.insert(replica_id, Wanted { target, health, life: replica.unready_ms });
        }
    }
    wanted
}
