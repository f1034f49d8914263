//! `sc stop`, `start`, `restart`, `rollback`, `rm`.

use sc_api::{
    Problem,
    types::{Accepted, Rollback},
};
use sc_core::{
    AppId, ReplicaId,
    plan::{self, Desired, DesiredApp, Effects, Refused},
    records::{App, Rollout, UnixMs, key},
};

use super::{Draft, canary, claims, command};
use crate::{problem, world::World};

/// Keeps everything of an app and runs nothing of it.
///
/// # Errors
/// When there is no such app, or the store cannot do it.
pub async fn stop(world: &World, id: &AppId) -> Result<Accepted, Problem> {
    change(world, id, ("stopped", "is to be stopped"), |app, _| App { stopped: true, ..app.clone() }).await
}

/// Runs a stopped app again.
///
/// # Errors
/// As [`stop`].
pub async fn start(world: &World, id: &AppId) -> Result<Accepted, Problem> {
    change(world, id, ("started", "is to run again"), |app, _| App { stopped: false, ..app.clone() }).await
}

/// Replaces all replicas of an app, as in a rollout, and forgets its crashes.
///
/// # Errors
/// As [`stop`].
pub async fn restart(world: &World, id: &AppId) -> Result<Accepted, Problem> {
    change(world, id, ("restarted", "is to be restarted"), |app, now| App {
        restart: app.restart + 1,
        rollout: Rollout::Rolling { since_ms: now, progress_ms: now },
        crash: None,
        ..app.clone()
    })
    .await
}

/// Drains and stops everything of an app, then forgets it.
///
/// # Errors
/// As [`stop`].
pub async fn remove(world: &World, id: &AppId) -> Result<Accepted, Problem> {
    command(world, |desired, _| {
        let app = desired.apps.get(id).ok_or_else(|| problem::no_app(desired, id))?;
        let record = App { deleting: true, ..app.app.clone() };
        Ok(draft(desired, id, app, &record, ("removing", format!("{id} is to be removed"))))
    })
    .await
}

/// Makes an earlier version the wanted one again. The version keeps its number. What is on trial is withdrawn; if no
/// version is named, that is all.
///
/// # Errors
/// When there is none to go back to, one of its routes belongs to another app by now, or as [`stop`].
pub async fn rollback(world: &World, id: &AppId, request: &Rollback) -> Result<Accepted, Problem> {
    command(world, |desired, now| {
        let app = super::app(desired, id)?;
        let on_trial = app.app.canary.as_ref().map(|canary| canary.version);
        let version = match (on_trial, request.version) {
            (Some(_), None) => app.app.version,
            _ => target(id, app, request)?,
        };
        if version == app.app.version && on_trial.is_none() {
            return Ok(Draft::new(id, version));
        }
        let rollout = Rollout::Rolling { since_ms: now, progress_ms: now };
        let crash = app.app.crash.clone().filter(|_| version == app.app.version);
        let record = App { version, rollout, crash, canary: None, ..app.app.clone() };
        let told = match on_trial.filter(|_| version == app.app.version) {
            Some(on_trial) => ("canary_withdrawn", canary::withdrawn(id, on_trial)),
            None => ("rollback", format!("{id}: back from version {} to {version}", app.app.version)),
        };
        let mut draft = draft(desired, id, app, &record, told);
        draft.version = version;
        let routes = &app.versions[&version].spec.routes;
        claims::claim(&mut draft, desired, id, routes)?;
        draft.expect(desired, &key::version(id, version));
        Ok(draft)
    })
    .await
}

fn target(id: &AppId, app: &DesiredApp, request: &Rollback) -> Result<u64, Problem> {
    let wanted = app.app.version;
    // The one before that served, not one that never did.
    let earlier = app.versions.range(..wanted).rev().map(|(n, _)| *n).find(|n| !app.app.failed.contains(n));
    let version = match request.version {
        Some(version) => version,
        None => earlier.ok_or_else(|| {
            let detail = format!("{id} has no version before {wanted} that did not fail");
            problem::invalid(detail, format!("`sc history {id}` lists them; `sc rollback {id} VERSION` goes to any"))
        })?,
    };
    if app.versions.contains_key(&version) {
        return Ok(version);
    }
    let there: Vec<String> = app.versions.keys().map(ToString::to_string).collect();
    let detail = format!("{id} has no version {version}");
    Err(problem::hinted(404, "no-such-version", "No such version", detail, format!("there are {}", there.join(", "))))
}

/// Stops one replica and lowers the count by one.
///
/// # Errors
/// When there is no such replica, or the store cannot do it.
pub async fn stop_replica(world: &World, id: &ReplicaId) -> Result<Accepted, Problem> {
    command(world, |desired, now| {
        let text = format!("{id} is to be stopped, and the count is one lower");
        of_replica(desired, id, ("stopped", text), |changed| plan::stop_one(changed, id, now))
    })
    .await
}

/// Replaces one replica, as in a rollout; the count stays.
///
/// # Errors
/// As [`stop_replica`].
pub async fn restart_replica(world: &World, id: &ReplicaId) -> Result<Accepted, Problem> {
    command(world, |desired, _| {
        let text = format!("{id} is to be replaced");
        of_replica(desired, id, ("restarted", text), |changed| plan::replace_one(changed, id))
    })
    .await
}

/// A change of a replica's record, decided by the core. One that is leaving already is no error.
fn of_replica(
    desired: &Desired,
    id: &ReplicaId,
    told: (&'static str, String),
    change: impl FnOnce(&mut Desired) -> Result<Effects, Refused>,
) -> Result<Draft, Problem> {
    let version = desired.apps.get(&id.app).map_or(0, |app| app.app.version);
    let mut draft = Draft::new(&id.app, version);
    match change(&mut desired.clone()) {
        Ok(effects) => {
            draft.take(effects);
            draft.told = Some(told);
            Ok(draft)
        }
        Err(Refused::Leaving(_)) => Ok(draft),
        Err(Refused::NoSuchReplica(_)) => Err(problem::no_replica(desired, id)),
        Err(Refused::LeftAlone { .. }) => Err(problem::no_app(desired, &id.app)),
    }
}

/// A change of an app's record alone.
async fn change(
    world: &World,
    id: &AppId,
    (kind, text): (&'static str, &str),
    changed: impl Fn(&App, UnixMs) -> App,
) -> Result<Accepted, Problem> {
    command(world, |desired, now| {
        let app = super::app(desired, id)?;
        let record = changed(&app.app, now);
        Ok(draft(desired, id, app, &record, (kind, format!("{id} {text}"))))
    })
    .await
}

fn draft(desired: &Desired, id: &AppId, app: &DesiredApp, record: &App, told: (&'static str, String)) -> Draft {
    let mut draft = Draft::new(id, record.version);
    if *record != app.app {
        draft.put(desired, key::app(id), record);
        draft.told = Some(told);
    }
    draft
}
