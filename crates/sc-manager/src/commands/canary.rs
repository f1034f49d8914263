//! A version on trial: another share, its promotion, its end.

use sc_api::{
    Problem,
    types::{Accepted, SetCanary},
};
use sc_core::{
    AppId,
    canary::{Canary, Share},
    plan::DesiredApp,
    records::{App, Rollout, UnixMs, key},
    spec::AppSpec,
};

use super::{Draft, claims, command};
use crate::{problem, world::World};

/// Gives the version on trial another share of the requests.
///
/// # Errors
/// When there is no such app or nothing is on trial, or the store cannot do it.
pub async fn set_canary(world: &World, id: &AppId, request: &SetCanary) -> Result<Accepted, Problem> {
    command(world, |desired, now| {
        let app = super::app(desired, id)?;
        let canary = on_trial(id, app)?;
        let mut draft = Draft::new(id, canary.version);
        if canary.share != request.share {
            let record = App { canary: Some(canary.with_share(request.share, now)), ..app.app.clone() };
            draft.put(desired, key::app(id), &record);
            draft.told = Some(("canary", told(id, canary.version, request.share)));
        }
        Ok(draft)
    })
    .await
}

/// Makes the version on trial the wanted one: what runs of the old one is replaced, as in a rollout.
///
/// # Errors
/// As [`set_canary`]; or when one of its routes belongs to another app by now.
pub async fn promote(world: &World, id: &AppId) -> Result<Accepted, Problem> {
    command(world, |desired, now| {
        let app = super::app(desired, id)?;
        let (mut draft, record) = promoted(id, app, now)?;
        if let Some(version) = app.versions.get(&record.version) {
            claims::claim(&mut draft, desired, id, &version.spec.routes)?;
        }
        draft.put(desired, key::app(id), &record);
        Ok(draft)
    })
    .await
}

/// The app's record once its version on trial is promoted.
pub(super) fn promoted(id: &AppId, app: &DesiredApp, now: UnixMs) -> Result<(Draft, App), Problem> {
    let canary = on_trial(id, app)?;
    let record = App {
        version: canary.version,
        rollout: Rollout::Rolling { since_ms: now, progress_ms: now },
        crash: canary.crash.clone(),
        canary: None,
        ..app.app.clone()
    };
    let mut draft = Draft::new(id, canary.version);
    draft.told = Some(("promoted", format!("{id}: version {} is wanted, after its trial", canary.version)));
    Ok((draft, record))
}

fn on_trial<'a>(id: &AppId, app: &'a DesiredApp) -> Result<&'a Canary, Problem> {
    app.app.canary.as_ref().ok_or_else(|| {
        let detail = format!("no version of {id} is on trial");
        problem::conflict("no-canary", detail, format!("`sc deploy {id} --canary 10%` tries one; `sc history {id}`"))
    })
}

/// Refuses to try a version where nothing sound serves beside it, or that could not serve the same requests.
pub(super) fn check(id: &AppId, app: &DesiredApp, spec: &AppSpec) -> Result<(), Problem> {
    let busy = matches!(app.app.rollout, Rollout::Rolling { .. } | Rollout::Failed { .. });
    if busy || app.app.stable != Some(app.app.version) {
        let detail = format!("version {} of {id} is not rolled out", app.app.version);
        let hint = "a share can be given to a version beside one that serves: wait for the rollout, or roll it back";
        return Err(problem::conflict("rollout-running", detail, hint));
    }
    let wanted = app.spec();
    let differs = |what: &str| {
        let detail = format!("{id}: the new version has another {what} than version {}", app.app.version);
        problem::invalid(detail, "the two cannot share the requests: deploy it without a canary")
    };
    if wanted.is_some_and(|wanted| wanted.traffic.protocol != spec.traffic.protocol) {
        return Err(differs("traffic.protocol"));
    }
    if wanted.is_some_and(|wanted| wanted.port.is_some() != spec.port.is_some()) {
        return Err(differs("kind of port (one has none)"));
    }
    Ok(())
}

pub(super) fn told(id: &AppId, version: u64, share: Share) -> String {
    format!("{id}: version {version} is to get {share} of the requests")
}

pub(super) fn withdrawn(id: &AppId, version: u64) -> String {
    format!("{id}: version {version}, which was on trial, is withdrawn")
}
