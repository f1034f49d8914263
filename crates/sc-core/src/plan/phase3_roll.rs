//! Phase 3: does a rollout begin, or has it failed?
//!
//! It fails when the wanted version crashes three times in a row, or when none of its replicas becomes ready for
//! `deploy.timeout_ms` although nothing else holds it up. Then the app goes back to its stable version, whose own
//! rollout cannot fail again; or, where there is none, says so and is tried on with back-off. The count is untouched.
//!
//! A canary fails in the same way, the crashes at any time and the timeout until it is up: then it is withdrawn.

use super::{
    Action, CRASHES_MAX, Stage, Steps,
    view::{Life, Side, View},
};
use crate::records::Rollout;

pub(super) fn roll(view: &View) -> Steps {
    let app = &view.app.app;
    let step = match &app.rollout {
        Rollout::Settled if view.app.want() > 0 && differs(view) => {
            Some((Action::Roll(view.id.clone()), format!("version {} is to replace what runs", app.version)))
        }
        Rollout::Rolling { progress_ms, .. } => {
            let wanted = { view.sides() }.find(|side| side.version == app.version);
            wanted.and_then(|side| failed(view, &side, Some(*progress_ms))).map(|cause| give_way(view, cause))
        }
        _ => None,
    };
    step.into_iter().chain(withdraw(view)).collect()
}

/// The canary goes, if it has failed.
fn withdraw(view: &View) -> Option<(Action, String)> {
    let app = &view.app.app;
    let canary = app.canary.as_ref()?;
    let side = { view.sides() }.find(|side| side.version == canary.version)?;
    let cause = failed(view, &side, canary.up_ms.is_none().then_some(canary.progress_ms))?;
    let (failed, to) = (canary.version, app.version);
    Some((Action::RollBack { app: view.id.clone(), failed, to, cause: cause.clone() }, cause))
}

/// Whether something is to be rolled out that the app's record does not know of.
fn differs(view: &View) -> bool {
    view.app.app.stable != Some(view.app.app.version) || view.running().any(|(_, r)| !view.app.is_wanted(r))
}

fn give_way(view: &View, cause: String) -> (Action, String) {
    let (id, app) = (view.id.clone(), &view.app.app);
    match app.stable.filter(|stable| *stable != app.version && view.app.versions.contains_key(stable)) {
        Some(to) => (Action::RollBack { app: id, failed: app.version, to, cause: cause.clone() }, cause),
        None => (Action::GiveUp { app: id, cause: cause.clone() }, cause),
    }
}

/// Why a version has failed. `progress_ms`: since when it is waited for, if it is.
fn failed(view: &View, side: &Side, progress_ms: Option<u64>) -> Option<String> {
    if let Some(crash) = side.crash.filter(|crash| crash.count >= CRASHES_MAX) {
        return Some(format!("version {} crashed {} times in a row: {}", crash.version, crash.count, crash.last));
    }
    let timeout_ms = side.spec?.deploy.timeout_ms;
    let since = progress_ms?.max(view.desired.leads_since_ms);
    let overdue = view.now() >= since.saturating_add(timeout_ms);
    (overdue && is_short(view, side)).then(|| {
        let seconds = timeout_ms as f64 / 1_000.0;
        format!("no replica of version {} became ready within {seconds} s: {}", side.version, obstacle(view, side))
    })
}

/// Whether ready replicas are missing, and nothing but they themselves are to blame.
fn is_short(view: &View, side: &Side) -> bool {
    let (ready, settled) = view.ready(side);
    view.knows_all() && view.leaving().next().is_none() && settled == ready && ready < side.want as usize
}

/// What the new replicas wait for.
fn obstacle(view: &View, side: &Side) -> String {
    let waiting = view.of(side).find(|(id, r)| view.stage(id, r) != Stage::Ready);
    let Some((id, replica)) = waiting else {
        let last = side.crash.map(|crash| crash.last.clone());
        return last.unwrap_or_else(|| "none could be started".to_owned());
    };
    match view.life(&id, replica) {
        Life::Absent | Life::Created => format!("{id} has not been started by the engine"),
        _ => view.probe(&id).map_or(format!("{id} was never probed"), |probe| format!("{id}: {}", probe.error)),
    }
}
