//! Phase 6: ask the engine again for what the records say and it does not show: a crash came in between, or the call
//! still runs.

use super::{
    Action, Steps,
    view::{Life, View},
};
use crate::{
    names::ReplicaId,
    records::{Intent, Replica},
};

pub(super) fn ask(view: &View) -> Steps {
    view.replicas().filter_map(|(id, replica)| again(view, id, replica)).collect()
}

fn again(view: &View, id: ReplicaId, replica: &Replica) -> Option<(Action, String)> {
    let just_started = replica.created_ms == view.now() && replica.seen_ms.is_none();
    match (&replica.intent, view.life(&id, replica)) {
        (Intent::Run, Life::Absent) if replica.seen_ms.is_none() && !just_started => {
            Some((Action::StartAgain(id), "the engine does not have it yet".to_owned()))
        }
        (Intent::Run, Life::Created) => Some((Action::StartAgain(id), "it was made but not started".to_owned())),
        (Intent::Run, Life::Paused) => Some((Action::Wake(id), "it shall run and is paused".to_owned())),
        (Intent::Run, Life::Exited(_)) if replica.awaits_start() => {
            let restarts = replica.restarts;
            Some((Action::Revive { replica: id, restarts }, "it shall run and is stopped".to_owned()))
        }
        (Intent::Park { .. }, Life::Running | Life::Paused) => {
            Some((Action::Park(id), "it shall be stopped and is not".to_owned()))
        }
        (Intent::Pause { .. }, Life::Running) => Some((Action::Pause(id), "it shall sleep and runs".to_owned())),
        _ => None,
    }
}
