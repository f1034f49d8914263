//! The warm pool: replicas that were ready, have drained, and sleep until they are wanted again.
//!
//! ready → draining → paused → (woken →) ready, or → draining → stopped. A paused replica keeps its record and its address,
//! uses no CPU, and is woken in milliseconds. Only replicas of the wanted version sleep, and never more than may still be
//! woken below the app's maximum.

use std::cmp::Reverse;

use super::{
    phase4_reduce::surplus_why,
    view::{Life, View},
};
use crate::{
    names::ReplicaId,
    records::{Intent, Replica, UnixMs},
};

/// How many more may fall asleep now.
pub(super) fn room(view: &View) -> usize {
    most(view).saturating_sub(asleep(view).len())
}

/// Those to wake, first of all the one that fell asleep last: the others' time may then run out.
pub(super) fn wakeable(view: &View) -> Vec<ReplicaId> {
    let mut asleep = asleep(view);
    asleep.retain(|(id, replica, _)| {
        matches!(view.life(id, replica), Life::Paused | Life::Running) && view.app.is_current(replica)
    });
    asleep.sort_by_key(|(_, _, since_ms)| Reverse(*since_ms));
    asleep.into_iter().map(|(id, ..)| id).collect()
}

/// Those that nobody will wake, and why.
pub(super) fn useless<'a>(view: &View<'a>) -> Vec<(ReplicaId, &'a Replica, String)> {
    let (most, for_ms) = (most(view), view.app.app.scale.warm.for_ms);
    let mut asleep = asleep(view);
    asleep.sort_by_key(|(_, _, since_ms)| Reverse(*since_ms));
    let mut useless = Vec::new();
    let mut kept = 0;
    for (id, replica, since_ms) in asleep {
        let why = if !is_awake(view) {
            surplus_why(view)
        } else if !view.app.is_current(replica) {
            format!("version {} replaces version {}", view.app.app.version, replica.version)
        } else if view.now() >= since_ms.saturating_add(for_ms) {
            format!("it slept for {} s and was not needed", for_ms as f64 / 1_000.0)
        } else if kept >= most {
            format!("at most {most} may sleep")
        } else {
            kept += 1;
            continue;
        };
        useless.push((id, replica, why));
    }
    useless
}

/// All that sleep, with the time since when.
fn asleep<'a>(view: &View<'a>) -> Vec<(ReplicaId, &'a Replica, UnixMs)> {
    let since = |(id, replica): (ReplicaId, &'a Replica)| match replica.intent {
        Intent::Pause { since_ms } => Some((id, replica, since_ms)),
        _ => None,
    };
    view.replicas().filter_map(since).collect()
}

/// How many may sleep: as many as the app keeps warm, and could wake beside those that run.
fn most(view: &View) -> usize {
    let Some(spec) = view.app.spec().filter(|spec| is_awake(view) && spec.port.is_some()) else { return 0 };
    let scale = &view.app.app.scale;
    let below_max = (scale.max as usize).saturating_sub(view.running().count());
    below_max.min(scale.warm.most(&spec.resources) as usize)
}

fn is_awake(view: &View) -> bool {
    !view.app.app.stopped && !view.app.app.deleting
}
