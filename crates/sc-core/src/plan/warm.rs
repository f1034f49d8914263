//! The warm pool: replicas that were ready, have drained, and are kept until they are wanted again.
//!
//! ready → draining → paused → parked → gone, and back to ready from each. A paused replica uses no CPU and is woken in
//! milliseconds. A parked one was stopped with its container kept: it uses no memory either, and is started again without
//! being made anew. Both keep their record, and so their address. Only replicas of the wanted version are kept, and never
//! more than could run again below the app's maximum. Those that are woken soonest are taken first.

use std::cmp::Reverse;

use super::{
    Action,
    phase4_reduce::surplus_why,
    view::{Life, View},
};
use crate::{
    names::ReplicaId,
    records::{Intent, Replica, UnixMs},
};

/// One that is kept, and since when.
type Kept<'a> = (ReplicaId, &'a Replica, UnixMs);

/// One that nobody will wake.
pub(super) struct Useless<'a> {
    pub id: ReplicaId,
    pub replica: &'a Replica,
    pub why: String,
    /// Whether it is a paused one that may as well be parked.
    pub may_park: bool,
}

/// How many more may be paused now.
pub(super) fn room(view: &View) -> usize {
    most_paused(view).saturating_sub(paused(view).len())
}

/// How many more may be parked now.
pub(super) fn shelf(view: &View) -> usize {
    most_parked(view).saturating_sub(parked(view).len())
}

/// Those to wake, first of all the one that fell asleep last: the others' time may then run out.
pub(super) fn wakeable(view: &View) -> Vec<ReplicaId> {
    let mut paused = paused(view);
    paused.retain(|(id, replica, _)| {
        matches!(view.life(id, replica), Life::Paused | Life::Running) && view.app.is_current(replica)
    });
    paused.into_iter().map(|(id, ..)| id).collect()
}

/// Those to start again, the one parked last first. One that is still being stopped is not among them: what it does to its
/// end would be taken for a start.
pub(super) fn revivable(view: &View) -> Vec<Action> {
    let revive = |(id, replica, _): Kept| {
        let ended = matches!(view.life(&id, replica), Life::Exited(_)) && view.app.is_current(replica);
        let restarts = view.observed.seen(&replica.node, &id).filter(|_| ended)?.restarts;
        Some(Action::Revive { replica: id, restarts })
    };
    parked(view).into_iter().filter_map(revive).collect()
}

/// Those that nobody will wake, and why.
pub(super) fn useless<'a>(view: &View<'a>) -> Vec<Useless<'a>> {
    let warm = &view.app.app.scale.warm;
    let mut useless = useless_paused(view);
    let stopped = of_kind(view, parked(view), most_parked(view), warm.stop_for_ms, "was stopped");
    useless.extend(stopped.into_iter().map(|parked| Useless { may_park: false, ..parked }));
    useless
}

fn useless_paused<'a>(view: &View<'a>) -> Vec<Useless<'a>> {
    of_kind(view, paused(view), most_paused(view), view.app.app.scale.warm.for_ms, "slept")
}

/// Those of one kind, the latest first, that are too many, of no use, or kept for too long.
fn of_kind<'a>(view: &View<'a>, all: Vec<Kept<'a>>, most: usize, for_ms: u64, did: &str) -> Vec<Useless<'a>> {
    let mut useless = Vec::new();
    let mut kept = 0;
    for (id, replica, since_ms) in all {
        let (why, may_park) = if !is_awake(view) {
            (surplus_why(view), false)
        } else if !view.app.is_current(replica) {
            (format!("version {} replaces version {}", view.app.app.version, replica.version), false)
        } else if view.now() >= since_ms.saturating_add(for_ms) {
            (format!("it {did} for {} s and was not needed", for_ms as f64 / 1_000.0), true)
        } else if kept >= most {
            (format!("at most {most} may {}", if did == "slept" { "sleep" } else { "be kept stopped" }), true)
        } else {
            kept += 1;
            continue;
        };
        useless.push(Useless { id, replica, why, may_park });
    }
    useless
}

/// All that are paused, the latest first.
fn paused<'a>(view: &View<'a>) -> Vec<Kept<'a>> {
    kept(view, |intent| match intent {
        Intent::Pause { since_ms } => Some(*since_ms),
        _ => None,
    })
}

/// All that are parked, the latest first.
fn parked<'a>(view: &View<'a>) -> Vec<Kept<'a>> {
    kept(view, |intent| match intent {
        Intent::Park { since_ms } => Some(*since_ms),
        _ => None,
    })
}

fn kept<'a>(view: &View<'a>, since: fn(&Intent) -> Option<UnixMs>) -> Vec<Kept<'a>> {
    let kept = |(id, replica): (ReplicaId, &'a Replica)| Some((id, replica, since(&replica.intent)?));
    let mut kept: Vec<_> = view.replicas().filter_map(kept).collect();
    kept.sort_by_key(|(_, _, since_ms)| Reverse(*since_ms));
    kept
}

/// How many may be paused: as many as the app keeps warm, and could wake beside those that run.
fn most_paused(view: &View) -> usize {
    let Some(spec) = view.app.spec().filter(|spec| is_awake(view) && spec.port.is_some()) else { return 0 };
    below_max(view).min(view.app.app.scale.warm.most(&spec.resources) as usize)
}

/// How many may be parked, beside those that are paused.
fn most_parked(view: &View) -> usize {
    if !is_awake(view) || view.app.spec().is_none_or(|spec| spec.port.is_none()) {
        return 0;
    }
    // One that is paused no longer may be parked in its own place.
    let paused = paused(view).len() - useless_paused(view).len();
    below_max(view).saturating_sub(paused).min(view.app.app.scale.most_stopped() as usize)
}

/// How many more than those that run there may be.
fn below_max(view: &View) -> usize {
    (view.app.app.scale.max as usize).saturating_sub(view.running().count())
}

fn is_awake(view: &View) -> bool {
    !view.app.app.stopped && !view.app.app.deleting
}
