//! What an app waits for, in a sentence.

use sc_core::{
    AppId, ReplicaId,
    plan::{Desired, DesiredApp, lack_of_addresses},
    records::{Intent, Replica, Rollout},
};

use super::replica::state;
use crate::world::World;

/// A proxy that has not reported for so long (ms) is not waited for.
const SILENT_MS: u64 = 5_000;

/// Whether everything is as wanted, and what is waited for or wrong.
pub fn status(world: &World, desired: &Desired, id: &AppId, app: &DesiredApp) -> (bool, String) {
    let waits = waits_for(world, desired, id, app);
    let Some(waits) = waits else {
        return (true, remark(id, app));
    };
    let missing = world.waiting.text().map(|text| format!("; {text}")).unwrap_or_default();
    (false, format!("{waits}{missing}"))
}

/// What there is to say of an app that is as wanted.
fn remark(id: &AppId, app: &DesiredApp) -> String {
    match &app.app.rollout {
        _ if app.app.stopped => format!("stopped: `sc start {id}` runs it again"),
        Rollout::RolledBack { failed, cause, .. } => format!("version {failed} failed and was rolled back: {cause}"),
        _ => app.app.canary.as_ref().map_or_else(String::new, |canary| {
            let (version, share) = (canary.version, canary.share);
            format!("version {version} gets {share} of the requests: `sc promote {id}` or `sc rollback {id}` ends that")
        }),
    }
}

fn waits_for(world: &World, desired: &Desired, id: &AppId, app: &DesiredApp) -> Option<String> {
    let stays = |replica: &Replica| match replica.intent {
        Intent::Run => true,
        Intent::Pause { .. } | Intent::Park { .. } => app.is_current(replica),
        _ => false,
    };
    let leaving = app.replicas.iter().find(|(_, replica)| !stays(replica));
    let describe = |n: u64, replica: &Replica| {
        let replica_id = ReplicaId::new(id, n);
        let (state, detail) = state(world, &world.observed(), &replica_id, replica);
        if detail.is_empty() { format!("{replica_id}: {state}") } else { format!("{replica_id}: {detail}") }
    };
    if app.app.deleting || app.app.stopped {
        let (n, replica) = app.replicas.iter().next().map_or((None, None), |(n, r)| (Some(*n), Some(r)));
        return n
            .zip(replica)
            .map(|(n, replica)| format!("waiting for {}", describe(n, replica)))
            .or_else(|| app.app.deleting.then(|| "being removed".to_owned()));
    }
    if let Rollout::Failed { cause, .. } = &app.app.rollout {
        return Some(format!("it does not come up: {cause}"));
    }
    let crashes = app.app.crash.iter().chain(app.app.canary.iter().filter_map(|canary| canary.crash.as_ref()));
    if let Some(crash) = { crashes }.find(|crash| crash.until_ms > world.now_ms()) {
        let seconds = (crash.until_ms - world.now_ms()).div_ceil(1_000);
        return Some(format!("{} failed in a row, next start in {seconds} s; the last: {}", crash.count, crash.last));
    }
    let running = || app.replicas.iter().filter(|(_, replica)| replica.intent == Intent::Run);
    if let Some((n, replica)) = running().find(|(_, replica)| replica.ready_ms.is_none()) {
        return Some(format!("waiting for {}", describe(*n, replica)));
    }
    let run = |canary: bool| {
        running().filter(|(_, r)| if canary { app.is_canary(r) } else { app.is_current(r) }).count() as u32
    };
    for (current, want) in [(run(false), app.want() - app.gives_way()), (run(true), app.canary_want())] {
        if current < want {
            if let Some(lack) = lack_of_addresses(desired, &world.observed(), id) {
                return Some(format!("{current} of {want} replicas run: {lack}"));
            }
            let leader = if world.fence().is_some() { "" } else { " (by the leading manager)" };
            return Some(format!("{current} of {want} replicas run; the next is about to start{leader}"));
        }
    }
    if let Some((n, replica)) = running().find(|(_, replica)| !app.is_wanted(replica)) {
        return Some(format!("{} is about to be replaced (version {})", ReplicaId::new(id, *n), replica.version));
    }
    let (current, want) = (run(false) + run(true), app.want() - app.gives_way() + app.canary_want());
    if current > want {
        return Some(format!("{current} replicas run, {want} are wanted"));
    }
    if let Some((n, replica)) = leaving {
        return Some(format!("waiting for {}", describe(*n, replica)));
    }
    if matches!(app.app.rollout, Rollout::Rolling { .. }) {
        return Some("the rollout is about to be completed".to_owned());
    }
    if app.app.canary.as_ref().is_some_and(|canary| canary.up_ms.is_none()) {
        return Some("the canary is about to be up".to_owned());
    }
    unpublished(world, desired, app)
}

/// Whether the proxies do not yet serve what is published.
fn unpublished(world: &World, desired: &Desired, app: &DesiredApp) -> Option<String> {
    if app.spec().is_none_or(|spec| spec.routes.is_empty()) {
        return None;
    }
    let Some(published) = &app.published else { return Some("the routes are about to be published".to_owned()) };
    let listed = published.routes.backends.len();
    let ready = app.replicas.values().filter(|r| r.intent == Intent::Run && r.ready_ms.is_some()).count();
    if listed != ready {
        return Some(format!("{listed} of {ready} replicas are published"));
    }
    let now = world.now_ms();
    let behind = desired.proxies.keys().find(|id| {
        let report = world.reports.report(id);
        report.at.is_some_and(|at| at + SILENT_MS > now) && report.applied < published.revision
    });
    behind.map(|proxy| format!("waiting for the proxy {proxy} to take the new routes"))
}
