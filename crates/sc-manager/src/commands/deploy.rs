//! `sc run`, `sc deploy`: makes an app, or gives it a new version. The live count of an app that exists is never reset.

use sc_api::{
    Problem,
    types::{Accepted, Deploy},
};
use sc_core::{
    AppId,
    canary::{Canary, Share},
    plan::{Desired, DesiredApp},
    records::{App, Rollout, Scale, UnixMs, Version, key},
    spec::ScaleSpec,
};
use sc_engine::EngineError;

use super::{Draft, canary, claims, command, scale::check_scale};
use crate::{outside, problem, world::World};

/// Makes or changes an app.
///
/// # Errors
/// When the request is not valid, the engine can never run the app, a route belongs to another app, or the store cannot do it.
pub async fn deploy(world: &World, id: &AppId, request: &Deploy) -> Result<Accepted, Problem> {
    let cap = world.settings.max_replicas;
    check(request, cap)?;
    reach(request).await?;
    world.engine.check(&request.spec).map_err(|error| refused(&error))?;
    let accepted = command(world, |desired, now| match desired.apps.get(id) {
        Some(app) => change(desired, id, app, request, cap, now),
        None if desired.left_alone.contains_key(id) => Err(problem::no_app(desired, id)),
        None => create(desired, id, request, cap, now),
    });
    Ok(Accepted { warnings: world.engine.warnings(&request.spec), ..accepted.await? })
}

fn check(request: &Deploy, cap: u32) -> Result<(), Problem> {
    let scale = request.scale.clone().unwrap_or_default();
    let wrong = sc_core::validate::validate(&request.spec, &scale, cap);
    if wrong.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    let hint = "correct what is listed and try again; nothing was changed";
    Err(problem::hinted(422, "invalid", "The app is not valid", lines.join("\n"), hint))
}

/// What this engine can never run would only be tried for ever.
fn refused(error: &EngineError) -> Problem {
    let hint = "nothing was changed";
    problem::hinted(422, "invalid", "The app cannot run here", error.to_string(), hint)
}

/// Refuses policies whose source cannot be read now: one that never worked would hold the count for ever.
async fn reach(request: &Deploy) -> Result<(), Problem> {
    let policies = request.scale.iter().flat_map(|scale| scale.policies.iter().enumerate());
    for (i, policy) in policies.filter(|(_, policy)| policy.source().is_some()) {
        if let Err(error) = outside::fetch(policy).await {
            let detail = format!("scale.policy.{i}.url: its {} source cannot be read: {error}", policy.metric());
            let hint = "the manager must reach it; correct its url or query, and try again: nothing was changed";
            return Err(problem::hinted(422, "invalid", "The app is not valid", detail, hint));
        }
    }
    Ok(())
}

fn create(desired: &Desired, id: &AppId, request: &Deploy, cap: u32, now: UnixMs) -> Result<Draft, Problem> {
    let want = request.replicas.or(request.scale.as_ref().map(|scale| scale.min)).unwrap_or(1);
    // A count alone is its own bounds.
    let by_hand = ScaleSpec { min: want.min(1), max: want.max(1), ..ScaleSpec::default() };
    let bounds = request.scale.clone().unwrap_or(by_hand);
    check_scale(id, &bounds, want, cap)?;
    let mut draft = Draft::new(id, 1);
    let gone = key::gone(id);
    draft.expect(desired, &gone);
    claims::claim(&mut draft, desired, id, &request.spec.routes)?;
    let app = App {
        v: 1,
        version: 1,
        stable: None,
        rollout: Rollout::Rolling { since_ms: now, progress_ms: now },
        scale: bounds,
        stopped: false,
        deleting: false,
        failed: Default::default(),
        restart: 0,
        next: desired.gone.get(id).map_or(1, |gone| gone.next),
        crash: None,
        canary: None,
        created_ms: now,
        extra: Default::default(),
    };
    let memory = serde_json::Value::Null;
    let scale = Scale { v: 1, want, paused_until_ms: None, shed: None, memory, extra: Default::default() };
    draft.put(desired, key::app(id), &app);
    draft.put(desired, key::scale(id), &scale);
    draft.put(desired, key::version(id, 1), &version(request, now));
    draft.told = Some(("created", format!("{id} was made: version 1, {want} replicas")));
    Ok(draft)
}

fn change(
    desired: &Desired,
    id: &AppId,
    app: &DesiredApp,
    request: &Deploy,
    cap: u32,
    now: UnixMs,
) -> Result<Draft, Problem> {
    super::app(desired, id)?;
    if request.create_only {
        let detail = format!("{id} exists already (version {})", app.app.version);
        return Err(problem::conflict(
            "app-exists",
            detail,
            format!("`sc deploy` changes it, `sc rm {id}` removes it"),
        ));
    }
    let trial = app.app.canary.as_ref();
    if let Some(share) = request.canary.filter(|_| app.app.stable.is_some()) {
        return on_trial(desired, id, app, request, share, (cap, now));
    }
    if trial.is_some_and(|canary| app.versions.get(&canary.version).is_some_and(|v| v.spec == request.spec)) {
        let (mut draft, mut record) = canary::promoted(id, app, now)?;
        record.stopped = false;
        bounds(&mut draft, desired, id, app, &mut record, (request, cap))?;
        draft.put(desired, key::app(id), &record);
        return Ok(draft);
    }
    let same = app.spec() == Some(&request.spec);
    let latest = app.versions.keys().next_back().copied().unwrap_or(0).max(app.app.version);
    let number = if same { app.app.version } else { latest + 1 };
    let mut draft = Draft::new(id, number);
    let mut record = App { stopped: false, version: number, canary: None, ..app.app.clone() };
    if !same {
        claims::claim(&mut draft, desired, id, &request.spec.routes)?;
        draft.put(desired, key::version(id, number), &version(request, now));
        record.rollout = Rollout::Rolling { since_ms: now, progress_ms: now };
        record.crash = None;
        draft.told = Some(("version", format!("{id}: version {number} is wanted")));
    } else if let Some(trial) = trial {
        record.rollout = Rollout::Rolling { since_ms: now, progress_ms: now };
        draft.told = Some(("canary_withdrawn", canary::withdrawn(id, trial.version)));
    }
    bounds(&mut draft, desired, id, app, &mut record, (request, cap))?;
    if record != app.app {
        draft.put(desired, key::app(id), &record);
    }
    Ok(draft)
}

/// A version that gets a share of the requests beside the wanted one.
fn on_trial(
    desired: &Desired,
    id: &AppId,
    app: &DesiredApp,
    request: &Deploy,
    share: Share,
    (cap, now): (u32, UnixMs),
) -> Result<Draft, Problem> {
    let known = app
        .app
        .canary
        .as_ref()
        .filter(|canary| app.versions.get(&canary.version).is_some_and(|version| version.spec == request.spec));
    let latest = app.versions.keys().next_back().copied().unwrap_or(0).max(app.app.version);
    let same = app.spec() == Some(&request.spec);
    let number = known.map_or(if same { app.app.version } else { latest + 1 }, |canary| canary.version);
    let mut draft = Draft::new(id, number);
    let mut record = App { stopped: false, ..app.app.clone() };
    match known {
        Some(canary) if canary.share == share => {}
        Some(canary) => {
            record.canary = Some(canary.with_share(share, now));
            draft.told = Some(("canary", canary::told(id, number, share)));
        }
        None if same => {}
        None => {
            canary::check(id, app, &request.spec)?;
            claims::claim(&mut draft, desired, id, &request.spec.routes)?;
            draft.put(desired, key::version(id, number), &version(request, now));
            (record.canary, record.rollout) = (Some(Canary::new(number, share, now)), Rollout::Settled);
            draft.told = Some(("canary", canary::told(id, number, share)));
        }
    }
    bounds(&mut draft, desired, id, app, &mut record, (request, cap))?;
    if record != app.app {
        draft.put(desired, key::app(id), &record);
    }
    Ok(draft)
}

/// The bounds of the count that a request gives; the count itself stays, as far as it lies within.
fn bounds(
    draft: &mut Draft,
    desired: &Desired,
    id: &AppId,
    app: &DesiredApp,
    record: &mut App,
    (request, cap): (&Deploy, u32),
) -> Result<(), Problem> {
    if let Some(scale) = &request.scale {
        record.scale = scale.clone();
    }
    let want = app.scale.want.clamp(record.scale.min.min(record.scale.max), record.scale.max);
    check_scale(id, &record.scale, want, cap)?;
    if want != app.scale.want {
        draft.put(desired, key::scale(id), &Scale { want, ..app.scale.clone() });
    }
    Ok(())
}

fn version(request: &Deploy, now: UnixMs) -> Version {
    let note = crate::waiting::shortened(request.note.clone(), 2_000);
    Version { v: 1, spec: request.spec.clone(), created_ms: now, note, extra: Default::default() }
}
