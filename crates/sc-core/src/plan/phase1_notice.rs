//! Phase 1: write down what was seen: a replica is there, is ready, is no longer ready.

use super::{
    Action, Steps,
    view::{Life, View},
};
use crate::{
    names::ReplicaId,
    observed::Run,
    records::{Intent, Replica},
};

pub(super) fn notice(view: &View) -> Steps {
    let mut steps = Steps::new();
    for (id, replica) in view.replicas() {
        let Some(seen) = view.observed.seen(&replica.node, &id) else { continue };
        let restarts = seen.restarts;
        let stays = matches!(replica.intent, Intent::Run | Intent::Pause { .. });
        // One that is made and not started yet counts as seen from its start on, which is no restart then.
        let anew = replica.seen_ms.is_none() || replica.awaits_start() && restarts != replica.restarts;
        if stays && anew && seen.run != Run::Created {
            steps.push((Action::MarkSeen { replica: id.clone(), restarts }, "the engine has it".to_owned()));
        }
    }
    for (id, replica) in view.running() {
        let restarts = view.observed.seen(&replica.node, &id).map_or(replica.restarts, |seen| seen.restarts);
        if let Some(why) = doubt(view, &id, replica, restarts) {
            steps.push((Action::MarkUnready { replica: id, restarts }, why));
        } else if proves_ready(view, &id, replica) {
            let why = if replica.addr.port() == 0 { "it runs".to_owned() } else { "it passed its probe".to_owned() };
            steps.push((Action::MarkReady(id), why));
        }
    }
    steps
}

/// Why a replica cannot be called ready any more (or its probes so far do not count).
fn doubt(view: &View, id: &ReplicaId, replica: &Replica, restarts: u64) -> Option<String> {
    let life = view.life(id, replica);
    if replica.awaits_start() {
        return None;
    }
    if replica.seen_ms.is_some() && restarts != replica.restarts && !matches!(life, Life::Exited(_)) {
        return Some("it was restarted by somebody else".to_owned());
    }
    let ready_ms = replica.ready_ms?;
    match life {
        // The next phase gives those up that ended or vanished.
        Life::Unknown | Life::Absent | Life::Exited(_) => None,
        Life::Paused => Some("it was paused by somebody else".to_owned()),
        Life::Created => Some("it does not run".to_owned()),
        Life::Running => {
            let probe = view.probe(id).filter(|probe| !probe.ok && probe.at > ready_ms)?;
            let limit = view.spec_of(replica)?.health.unhealthy_after.max(1);
            let failed = || format!("{} probes in a row failed: {}", probe.failures, probe.error);
            (probe.failures >= limit).then(failed)
        }
    }
}

/// Whether a probe sent since it was asked for, woken or found unready says that it can serve.
fn proves_ready(view: &View, id: &ReplicaId, replica: &Replica) -> bool {
    let passed = || view.probe(id).is_some_and(|probe| probe.ok && probe.at > replica.unready_ms);
    replica.ready_ms.is_none() && view.life(id, replica) == Life::Running && passed()
}
