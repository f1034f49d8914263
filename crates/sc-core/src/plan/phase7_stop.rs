//! Phase 7: stop what has drained, or let it sleep, or park it; forget what is gone.
//!
//! A draining replica is stopped when the stored routes no longer list it, and then: when every proxy, also one whose lease ended
//! lately (but not one that said itself that it has ended), has applied those routes and has nothing in flight to it; or it is
//! dead; or its deadline has passed. In the second case, and where the app keeps warm replicas (see [`super::warm`]), it is paused
//! instead, or parked where no more may be paused. Not before the routes are without it, deadline or not: who cannot write those cannot write its end either.

use super::{
    Action, Steps,
    phase0_meet::{Awaited, all_report},
    view::{Life, View},
    warm,
};
use crate::{
    names::ReplicaId,
    records::{Intent, Replica, UnixMs},
};

pub(super) fn stop(view: &View) -> Steps {
    let mut steps = Steps::new();
    let (mut beds, mut shelf) = (warm::room(view), warm::shelf(view));
    for (id, replica) in view.leaving() {
        let life = view.life(&id, replica);
        if life == Life::Unknown {
            continue;
        }
        let stops = match &replica.intent {
            Intent::Drain { why, .. } if beds > 0 && may_sleep(view, &id, replica) => {
                beds -= 1;
                steps.push((Action::Pause(id), format!("{why}; it is idle")));
                continue;
            }
            Intent::Drain { why, .. } if shelf > 0 && may_sleep(view, &id, replica) => {
                shelf -= 1;
                steps.push((Action::Park(id), format!("{why}; it is idle")));
                continue;
            }
            Intent::Drain { deadline_ms, why, .. } => {
                done(view, &id, life, *deadline_ms).map(|how| format!("{why}; {how}"))
            }
            Intent::Stop { why } => Some(why.clone()),
            Intent::Run | Intent::Pause { .. } | Intent::Park { .. } => None,
        };
        let Some(why) = stops else { continue };
        let was_stopping = matches!(replica.intent, Intent::Stop { .. });
        if !was_stopping || life != Life::Absent {
            steps.push((Action::Stop(id.clone()), why));
        }
        if life == Life::Absent && !view.is_listed(&id) {
            steps.push((Action::Forget(id), "the engine has it no more".to_owned()));
        }
    }
    steps
}

/// Whether it is sound and has really drained: frozen in the middle of a request, it would never answer it.
fn may_sleep(view: &View, id: &ReplicaId, replica: &Replica) -> bool {
    view.is_sound(id, replica) && view.app.is_current(replica) && !view.is_listed(id) && is_idle(view, id)
}

/// Why a draining replica may be stopped now.
fn done(view: &View, id: &ReplicaId, life: Life, deadline_ms: UnixMs) -> Option<&'static str> {
    if view.is_listed(id) {
        return None;
    }
    match life {
        Life::Absent | Life::Exited(_) => Some("it has ended"),
        _ if view.now() >= deadline_ms => Some("its time to drain is over"),
        _ if is_idle(view, id) => Some("it is idle"),
        _ => None,
    }
}

/// Whether no proxy sends to it any more, or has anything open to it.
fn is_idle(view: &View, id: &ReplicaId) -> bool {
    let revision = view.app.published.as_ref().map_or(0, |published| published.revision);
    all_report(view.desired, view.observed, Awaited::Idle, |report| {
        report.applied >= revision && report.in_flight.get(id).copied().unwrap_or(0) == 0
    })
}
