//! Phase 3: does a rollout begin, or has it failed?
//!
//! It fails when the wanted version crashes three times in a row, or when none of its replicas becomes ready for
//! `deploy.timeout_ms` although nothing else holds it up. Then the app goes back to its stable version, whose own
//! rollout cannot fail again; or, where there is none, says so and is tried on with back-off. The count is untouched.

use super::{
    Action, CRASHES_MAX, Stage, Steps,
    view::{Life, View},
};
use crate::records::Rollout;

pub(super) fn roll(view: &View) -> Steps {
    let app = &view.app.app;
    let step = match &app.rollout {
        Rollout::Settled if view.app.want() > 0 && differs(view) => {
            Some((Action::Roll(view.id.clone()), format!("version {} is to replace what runs", app.version)))
        }
        Rollout::Rolling { progress_ms, .. } => failed(view, *progress_ms).map(|cause| give_way(view, cause)),
        _ => None,
    };
    step.into_iter().collect()
}

/// Whether something is to be rolled out that the app's record does not know of.
fn differs(view: &View) -> bool {
    view.app.app.stable != Some(view.app.app.version) || view.running().any(|(_, r)| !view.app.is_current(r))
}

fn give_way(view: &View, cause: String) -> (Action, String) {
    let (id, app) = (view.id.clone(), &view.app.app);
    match app.stable.filter(|stable| *stable != app.version && view.app.versions.contains_key(stable)) {
        Some(to) => (Action::RollBack { app: id, failed: app.version, to, cause: cause.clone() }, cause),
        None => (Action::GiveUp { app: id, cause: cause.clone() }, cause),
    }
}

/// Why the rollout has failed.
fn failed(view: &View, progress_ms: u64) -> Option<String> {
    let app = &view.app.app;
    if let Some(crash) = app.crash.as_ref().filter(|c| c.version == app.version && c.count >= CRASHES_MAX) {
        return Some(format!("version {} crashed {} times in a row: {}", crash.version, crash.count, crash.last));
    }
    let timeout_ms = view.app.spec()?.deploy.timeout_ms;
    let since = progress_ms.max(view.desired.leads_since_ms);
    let overdue = view.now() >= since.saturating_add(timeout_ms);
    (overdue && is_short(view)).then(|| {
        let seconds = timeout_ms as f64 / 1_000.0;
        format!("no replica of version {} became ready within {seconds} s: {}", app.version, obstacle(view))
    })
}

/// Whether ready replicas are missing, and nothing but they themselves are to blame.
fn is_short(view: &View) -> bool {
    let current = || view.running().filter(|(_, replica)| view.app.is_current(replica));
    let ready = current().filter(|(_, replica)| replica.ready_ms.is_some()).count();
    let settling = current().any(|(_, replica)| replica.ready_ms.is_some() && !view.is_settled(replica));
    view.knows_all() && view.leaving().next().is_none() && !settling && ready < view.app.want() as usize
}

/// What the new replicas wait for.
fn obstacle(view: &View) -> String {
    let waiting = view.running().find(|(id, r)| view.app.is_current(r) && view.stage(id, r) != Stage::Ready);
    let Some((id, replica)) = waiting else {
        let last = view.app.app.crash.as_ref().map(|crash| crash.last.clone());
        return last.unwrap_or_else(|| "none could be started".to_owned());
    };
    match view.life(&id, replica) {
        Life::Absent | Life::Created => format!("{id} has not been started by the engine"),
        _ => view.probe(&id).map_or(format!("{id} was never probed"), |probe| format!("{id}: {}", probe.error)),
    }
}
