//! Phase 4: which replicas are no longer wanted.
//!
//! - Of an old version (or restart): at once when it is not ready, else as far as ready replicas remain for the wanted
//!   count, of which new ones count once they have settled. So a rollout never has fewer ready ones than before.
//! - Above the count: those still starting first, then the newest. The oldest have warm caches, and the newest hold the
//!   fewest long-lived connections, so they drain soonest.
//! - Paused ones of another version, of an app that is stopped, above what may sleep, or asleep for too long.
//! - Sick ones: when enough others are ready. Else (all of them failed their probes at once, say) only after
//!   `health.start_ms` more, one at a time, when no replacement is on its way and the app's back-off is over: they may
//!   well recover, and killing all would make certain that nobody serves.

use std::cmp::Reverse;

use super::{
    Action, Stage, Steps,
    phase2_fail::{crash, late},
    view::View,
    warm,
};
use crate::{names::ReplicaId, records::Replica};

pub(super) fn reduce(view: &View) -> Steps {
    let mut steps = old(view);
    steps.extend(surplus(view));
    steps.extend(asleep(view));
    steps.extend(sick(view));
    steps
}

fn drain(view: &View, id: ReplicaId, replica: &Replica, why: String) -> (Action, String) {
    (Action::Drain { replica: id, deadline_ms: view.drain_deadline(replica) }, why)
}

fn old(view: &View) -> Steps {
    let want = view.app.want() as usize;
    let old = || view.running().filter(|(_, replica)| !view.app.is_current(replica));
    let is_ready = |replica: &Replica| replica.ready_ms.is_some();
    let new_ready = view.running().filter(|(_, r)| view.app.is_current(r) && view.is_settled(r)).count();
    let spare = (new_ready + old().filter(|(_, r)| is_ready(r)).count()).saturating_sub(want);
    let why = |replica: &Replica| match replica.version == view.app.app.version {
        true => "it is replaced by a restarted one".to_owned(),
        false => format!("version {} replaces version {}", view.app.app.version, replica.version),
    };
    let useless = old().filter(|(_, replica)| !is_ready(replica) && view.knows(replica));
    let replaced = old().filter(|(_, replica)| is_ready(replica) && view.knows(replica)).take(spare);
    useless.chain(replaced).map(|(id, replica)| drain(view, id, replica, why(replica))).collect()
}

fn surplus(view: &View) -> Steps {
    let want = view.app.want() as usize;
    let healthy = view.running().filter(|(id, r)| view.app.is_current(r) && view.stage(id, r) != Stage::Sick);
    let mut healthy: Vec<_> = healthy.collect();
    let above = healthy.len().saturating_sub(want);
    healthy.retain(|(_, replica)| view.knows(replica));
    healthy.sort_by_key(|(id, replica)| (view.stage(id, replica), Reverse(id.incarnation)));
    let why = surplus_why(view);
    healthy.into_iter().take(above).map(|(id, replica)| drain(view, id, replica, why.clone())).collect()
}

pub(super) fn surplus_why(view: &View) -> String {
    match (view.app.app.deleting, view.app.app.stopped, view.app.want()) {
        (true, ..) => "the app is being removed".to_owned(),
        (_, true, _) => "the app is stopped".to_owned(),
        (_, _, want) => format!("{want} wanted"),
    }
}

/// Paused ones that nobody will wake.
fn asleep(view: &View) -> Steps {
    let useless = warm::useless(view).into_iter().filter(|(_, replica, _)| view.knows(replica));
    useless.map(|(id, replica, why)| drain(view, id, replica, why)).collect()
}

fn sick(view: &View) -> Steps {
    let want = view.app.want() as usize;
    let current = || view.running().filter(|(_, replica)| view.app.is_current(replica));
    let ready = current().filter(|(_, replica)| replica.ready_ms.is_some()).count();
    let is_sick = |id: &ReplicaId, r: &Replica| view.stage(id, r) == Stage::Sick || view.is_late(r);
    let sick = current().filter(|(id, replica)| view.knows(replica) && is_sick(id, replica));
    let backing_off = view.app.app.crash.as_ref().is_some_and(|crash| view.now() < crash.until_ms);
    let give_up = |(id, replica): (ReplicaId, &Replica)| {
        let cause = match view.probe(&id).filter(|_| !view.is_late(replica)) {
            Some(probe) => format!("it is unhealthy: {}", probe.error),
            None => late(view, &id, replica),
        };
        let crash = crash(view, replica, &cause);
        (Action::Fail { replica: id, deadline_ms: view.drain_deadline(replica), crash }, cause)
    };
    if ready >= want {
        return sick.map(give_up).collect();
    }
    let hopeful = current().any(|(id, replica)| view.stage(&id, replica) == Stage::Starting && !view.is_late(replica));
    let alone = view.leaving().next().is_none() && !hopeful && !backing_off;
    sick.filter(|(_, replica)| alone && view.is_late(replica)).take(1).map(give_up).collect()
}
