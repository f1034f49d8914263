//! `sc scale`: how many replicas, and who decides that.

use sc_api::{
    Problem,
    types::{Accepted, SetScale},
};
use sc_core::{
    AppId,
    plan::{Desired, DesiredApp},
    records::{App, Scale, UnixMs, key},
    spec::ScaleSpec,
};

use super::{Draft, command};
use crate::{problem, world::World};

/// Sets the count, its bounds, or who decides.
///
/// # Errors
/// When what is asked contradicts itself or is above the cap, or the store cannot do it.
pub async fn set_scale(world: &World, id: &AppId, request: &SetScale) -> Result<Accepted, Problem> {
    if request.count.is_some() && request.auto {
        let hint = "`sc scale APP=N` fixes the count, `sc scale APP --auto` lets the scaler decide";
        return Err(problem::invalid("a fixed count and --auto exclude each other", hint));
    }
    let cap = world.settings.max_replicas;
    let draft = |desired: &Desired, now: UnixMs| draft(desired, id, super::app(desired, id)?, request, cap, now);
    if !request.dry_run {
        return command(world, draft).await;
    }
    let desired = world.desired().ok_or_else(|| problem::no_store(world.waiting.text()))?;
    let would = draft(&desired, world.now_ms())?;
    let changed = !would.writes.is_empty();
    Ok(would.accepted(desired.revision, changed))
}

fn draft(
    desired: &Desired,
    id: &AppId,
    app: &DesiredApp,
    request: &SetScale,
    cap: u32,
    now: UnixMs,
) -> Result<Draft, Problem> {
    let bounds = bounds(id, &app.app.scale, request)?;
    let asked = request.count.unwrap_or(app.scale.want);
    let want = asked.clamp(bounds.min.min(bounds.max), bounds.max);
    check_scale(id, &bounds, want, cap)?;
    let paused_until_ms = match request.pause_ms {
        Some(0) => None,
        Some(pause) => Some(now.saturating_add(pause)),
        None => app.scale.paused_until_ms,
    };
    let record = App { scale: bounds, ..app.app.clone() };
    let scale = Scale { want, paused_until_ms, ..app.scale.clone() };
    let mut draft = Draft::new(id, app.app.version);
    if scale != app.scale {
        draft.expect(desired, &key::app(id));
        draft.put(desired, key::scale(id), &scale);
    }
    if record != app.app {
        draft.put(desired, key::app(id), &record);
    }
    let mode = if record.scale.auto { "by itself" } else { "as set" };
    let (min, max) = (record.scale.min, record.scale.max);
    draft.told = Some(("scale", format!("{id}: {} → {want} replicas wanted, {mode}, {min} to {max}", app.scale.want)));
    Ok(draft)
}

/// The new bounds. An app scaled by hand has none of its own: its count makes them. An app that scales by itself keeps
/// its bounds, unless they are given too.
fn bounds(id: &AppId, before: &ScaleSpec, request: &SetScale) -> Result<ScaleSpec, Problem> {
    let mut bounds = before.clone();
    bounds.auto = request.auto || before.auto && request.count.is_none();
    bounds.min = request.min.unwrap_or(before.min);
    bounds.max = request.max.unwrap_or(before.max);
    bounds.warm.size = request.warm.unwrap_or(before.warm.size);
    bounds.warm.stopped = request.stopped.or(before.warm.stopped);
    // Setting one bound moves the other along, where that was only implied by the count.
    if !before.auto && request.count.is_none() {
        bounds.auto |= request.min.is_some() || request.max.is_some();
        if request.min.is_none() {
            bounds.min = bounds.min.min(bounds.max);
        }
        if request.max.is_none() {
            bounds.max = bounds.max.max(bounds.min);
        }
    }
    let Some(count) = request.count else { return Ok(bounds) };
    let given = request.min.is_some() || request.max.is_some();
    if (before.auto || given) && !(bounds.min..=bounds.max).contains(&count) {
        let detail = format!("{count} is not within {id}'s bounds of {} to {}", bounds.min, bounds.max);
        return Err(problem::invalid(detail, format!("give new bounds too: `sc scale {id}={count} --min … --max …`")));
    }
    if !before.auto && !given {
        bounds.min = bounds.min.min(count);
        bounds.max = bounds.max.max(count);
    }
    Ok(bounds)
}

/// Whether bounds make sense and stay below the manager's cap.
pub fn check_scale(id: &AppId, bounds: &ScaleSpec, want: u32, cap: u32) -> Result<(), Problem> {
    let (min, max) = (bounds.min, bounds.max);
    if max.max(want) > cap {
        let detail =
            format!("{id} would have up to {} replicas, {cap} are the most an app may have here", max.max(want));
        return Err(problem::invalid(detail, "ask for fewer, or start the manager with a higher --max-replicas"));
    }
    if let Some(wrong) = sc_core::validate::validate_scale(bounds, cap).first() {
        return Err(problem::invalid(wrong.to_string(), "correct it and try again; nothing was changed"));
    }
    if want < min || want > max {
        return Err(problem::invalid(
            format!("{want} replicas are not within {min} to {max}"),
            "change the bounds too",
        ));
    }
    Ok(())
}
