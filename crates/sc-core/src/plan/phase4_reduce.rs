//! Phase 4: which replicas are no longer wanted.
//!
//! - Of an old version (or restart): at once when it is not ready, else as far as ready replicas remain for the wanted
//!   count, of which new ones count once they have settled. So a rollout never has fewer ready ones than before.
//! - Above the count of their version: those still starting first, then the newest. The oldest have warm caches, and the
//!   newest hold the fewest long-lived connections, so they drain soonest. Of a canary whose share was lowered only as far
//!   as ready ones remain for the wanted count.
//! - Paused and parked ones of another version, of an app that is stopped, above what may be kept, or kept for too long. A
//!   paused one whose time is over is parked, where there is room.
//! - Sick ones: when enough others are ready. Else (all of them failed their probes at once, say) only after
//!   `health.start_ms` more, one at a time, when no replacement is on its way and the app's back-off is over: they may
//!   well recover, and killing all would make certain that nobody serves.

use std::cmp::Reverse;

use super::{
    Action, Stage, Steps,
    phase2_fail::{crash, late},
    view::{Side, View},
    warm,
};
use crate::{names::ReplicaId, records::Replica};

pub(super) fn reduce(view: &View) -> Steps {
    let mut spare = spare(view);
    let surplus = surplus(view, &mut spare);
    let mut steps = old(view, &mut spare);
    steps.extend(surplus);
    steps.extend(surplus_of_canary(view, spare));
    steps.extend(asleep(view));
    steps.extend(sick(view));
    steps
}

fn drain(view: &View, id: ReplicaId, replica: &Replica, why: String) -> (Action, String) {
    (Action::Drain { replica: id, deadline_ms: view.drain_deadline(replica) }, why)
}

/// How many ready replicas there are above the count, those of wanted versions only once they have settled.
fn spare(view: &View) -> usize {
    let relied_on = |r: &Replica| if view.app.is_wanted(r) { view.is_settled(r) } else { r.ready_ms.is_some() };
    view.running().filter(|(_, replica)| relied_on(replica)).count().saturating_sub(view.app.want() as usize)
}

fn old(view: &View, spare: &mut usize) -> Steps {
    let old = || view.running().filter(|(_, replica)| !view.app.is_wanted(replica));
    let is_ready = |replica: &Replica| replica.ready_ms.is_some();
    let why = |replica: &Replica| match replica.version == view.app.app.version {
        true => "it is replaced by a restarted one".to_owned(),
        false if replica.version > view.app.app.version => {
            format!("version {} is withdrawn, version {} serves on", replica.version, view.app.app.version)
        }
        false => format!("version {} replaces version {}", view.app.app.version, replica.version),
    };
    let useless = old().filter(|(_, replica)| !is_ready(replica) && view.knows(replica));
    let replaced: Vec<_> = old().filter(|(_, r)| is_ready(r) && view.knows(r)).take(*spare).collect();
    *spare -= replaced.len();
    useless.chain(replaced).map(|(id, replica)| drain(view, id, replica, why(replica))).collect()
}

fn surplus(view: &View, spare: &mut usize) -> Steps {
    let wanted = view.sides().take(1).flat_map(|side| above(view, &side, usize::MAX));
    let wanted: Vec<_> = wanted.collect();
    *spare = spare.saturating_sub(wanted.iter().filter(|(_, replica)| replica.ready_ms.is_some()).count());
    let why = surplus_why(view);
    wanted.into_iter().map(|(id, replica)| drain(view, id, replica, why.clone())).collect()
}

fn surplus_of_canary(view: &View, spare: usize) -> Steps {
    let of = |side: Side| {
        let why = format!("{} of the canary wanted", side.want);
        above(view, &side, spare).into_iter().map(move |(id, replica)| drain(view, id, replica, why.clone()))
    };
    view.sides().skip(1).flat_map(of).collect()
}

/// The healthy replicas of a side that are above its count, at most so many ready ones.
fn above<'a>(view: &View<'a>, side: &Side, ready: usize) -> Vec<(ReplicaId, &'a Replica)> {
    let mut healthy: Vec<_> = view.of(side).filter(|(id, r)| view.stage(id, r) != Stage::Sick).collect();
    let above = healthy.len().saturating_sub(side.want as usize);
    healthy.retain(|(_, replica)| view.knows(replica));
    healthy.sort_by_key(|(id, replica)| (view.stage(id, replica), Reverse(id.incarnation)));
    let unready = healthy.iter().filter(|(_, replica)| replica.ready_ms.is_none()).count();
    healthy.truncate(above.min(unready.saturating_add(ready)));
    healthy
}

pub(super) fn surplus_why(view: &View) -> String {
    match (view.app.app.deleting, view.app.app.stopped, view.app.want()) {
        (true, ..) => "the app is being removed".to_owned(),
        (_, true, _) => "the app is stopped".to_owned(),
        (_, _, want) => format!("{want} wanted"),
    }
}

/// Paused and parked ones that nobody will wake.
fn asleep(view: &View) -> Steps {
    let mut shelf = warm::shelf(view);
    let useless = warm::useless(view).into_iter().filter(|useless| view.knows(useless.replica));
    let step = |useless: warm::Useless| {
        if useless.may_park && shelf > 0 {
            shelf -= 1;
            return (Action::Park(useless.id), useless.why);
        }
        drain(view, useless.id, useless.replica, useless.why)
    };
    useless.map(step).collect()
}

fn sick(view: &View) -> Steps {
    view.sides().flat_map(|side| sick_of(view, &side)).collect()
}

fn sick_of(view: &View, side: &Side) -> Steps {
    let (current, (ready, _)) = (|| view.of(side), view.ready(side));
    let is_sick = |id: &ReplicaId, r: &Replica| view.stage(id, r) == Stage::Sick || view.is_late(r);
    let sick = current().filter(|(id, replica)| view.knows(replica) && is_sick(id, replica));
    let backing_off = side.crash.is_some_and(|crash| view.now() < crash.until_ms);
    let give_up = |(id, replica): (ReplicaId, &Replica)| {
        let cause = match view.probe(&id).filter(|_| !view.is_late(replica)) {
            Some(probe) => format!("it is unhealthy: {}", probe.error),
            None => late(view, &id, replica),
        };
        let crash = crash(view, replica, &cause);
        (Action::Fail { replica: id, deadline_ms: view.drain_deadline(replica), crash }, cause)
    };
    if ready >= side.want as usize {
        return sick.map(give_up).collect();
    }
    let hopeful = current().any(|(id, replica)| view.stage(&id, replica) == Stage::Starting && !view.is_late(replica));
    let alone = view.leaving().next().is_none() && !hopeful && !backing_off;
    sick.filter(|(_, replica)| alone && view.is_late(replica)).take(1).map(give_up).collect()
}
