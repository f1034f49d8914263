//! Phase 8: what follows for the app's own records: a rollout is done, crashes are forgotten, what nobody uses goes, and
//! an app that is removed and empty is deleted.

use std::collections::BTreeSet;

use super::{
    Action, Steps, VERSIONS_MAX,
    phase2_fail::back_off_ms,
    view::{Side, View},
};
use crate::{
    canary::Share,
    observed::Node,
    records::{CrashLoop, Rollout, key},
};

/// How long replicas must stay up at least before crashes are forgotten.
const RECOVERY_MS: u64 = 10_000;

pub(super) fn settle(view: &View) -> Steps {
    if is_over(view) {
        let why = "the last of its replicas is gone";
        let mut steps = prune(view, 0, why);
        steps.push((Action::Delete(view.id.clone()), why.to_owned()));
        return steps;
    }
    let mut steps = Steps::new();
    if view.app.want() == 0 && is_open(view) {
        steps.push((Action::Defer(view.id.clone()), "no replicas are wanted".to_owned()));
    } else if is_rolled_out(view) {
        let (app, version) = (view.id.clone(), view.app.app.version);
        steps.push((Action::Settle { app, version }, format!("version {version} is rolled out")));
    }
    if let Some(share) = is_canary_up(view) {
        let version = view.app.app.canary.as_ref().map_or(0, |canary| canary.version);
        let why = format!("version {version} serves {share} of the requests");
        steps.push((Action::CanaryUp(view.id.clone()), why));
    }
    for version in recovered(view) {
        let action = Action::Recovered { app: view.id.clone(), version };
        steps.push((action, "its replicas have stayed up".to_owned()));
    }
    steps.extend(prune(view, VERSIONS_MAX, &format!("{VERSIONS_MAX} versions are kept")));
    steps.extend(unclaim(view));
    steps
}

/// Nothing runs, nothing is listed, no container is left.
fn is_over(view: &View) -> bool {
    let listed = view.app.published.as_ref().is_some_and(|published| !published.routes.backends.is_empty());
    let left = view.observed.nodes.values().any(|node| match node {
        Node::Known { replicas, .. } => replicas.range(view.replica_id(0)..=view.replica_id(u64::MAX)).next().is_some(),
        Node::Unknown { .. } => false,
    });
    view.app.app.deleting && view.app.replicas.is_empty() && !listed && !left
}

fn is_open(view: &View) -> bool {
    matches!(view.app.app.rollout, Rollout::Rolling { .. } | Rollout::Failed { .. })
}

fn is_rolled_out(view: &View) -> bool {
    let only_wanted = view.running().all(|(_, replica)| view.app.is_wanted(replica));
    let serves = |side: Side| side.version != view.app.app.version || view.ready(&side).1 >= side.want as usize;
    is_open(view) && view.knows_all() && only_wanted && view.sides().all(serves)
}

/// The share of a canary that has just come up with it. One that wants no replicas now is proved when it does.
fn is_canary_up(view: &View) -> Option<Share> {
    let canary = view.app.app.canary.as_ref().filter(|canary| canary.up_ms.is_none())?;
    let side = { view.sides() }.find(|side| side.version == canary.version)?;
    let serves = view.knows_all() && view.ready(&side).1 >= side.want as usize;
    serves.then_some(canary.share)
}

/// The versions whose crashes are forgotten: those of which all are ready, and the youngest has been so for longer than
/// the last wait was; or of which none is wanted any more.
fn recovered(view: &View) -> Vec<u64> {
    let app = &view.app.app;
    let crashes = app.crash.iter().chain(app.canary.iter().filter_map(|canary| canary.crash.as_ref()));
    crashes.filter(|crash| has_recovered(view, crash)).map(|crash| crash.version).collect()
}

fn has_recovered(view: &View, crash: &CrashLoop) -> bool {
    let side = { view.sides() }.find(|side| side.version == crash.version);
    let Some(side) = side.filter(|_| view.app.want() > 0) else { return true };
    let stay_ms = back_off_ms(crash.count).max(RECOVERY_MS);
    let stays = |ready_ms: Option<u64>| ready_ms.is_some_and(|at| view.now() >= at.max(crash.until_ms) + stay_ms);
    let mut running = view.of(&side).peekable();
    running.peek().is_some() && running.all(|(_, replica)| stays(replica.ready_ms))
}

/// Versions above `keep` that nothing refers to.
fn prune(view: &View, keep: usize, why: &str) -> Steps {
    let app = &view.app.app;
    let failed = match app.rollout {
        Rollout::RolledBack { failed, .. } => Some(failed),
        _ => None,
    };
    let mut used: BTreeSet<u64> = view.app.replicas.values().map(|replica| replica.version).collect();
    used.extend(app.stable.into_iter().chain(failed).chain([app.version]));
    used.extend(app.canary.as_ref().map(|canary| canary.version));
    let above = view.app.versions.len().saturating_sub(keep);
    let unused = view.app.versions.keys().filter(|version| !used.contains(version)).take(above);
    unused.map(|version| (Action::Prune { app: view.id.clone(), version: *version }, why.to_owned())).collect()
}

/// Claims of routes that the wanted version does not have; not while a rollout may still go back to one that has.
fn unclaim(view: &View) -> Steps {
    let app = &view.app.app;
    let (false, Some(spec)) = (view.is_rolling() || app.stable != Some(app.version), view.app.spec()) else {
        return Steps::new();
    };
    let published = view.app.published.iter().flat_map(|published| &published.routes.routes);
    // The canary's hold once it is promoted.
    let canary = app.canary.iter().filter_map(|canary| view.app.versions.get(&canary.version));
    let canary = canary.flat_map(|version| &version.spec.routes);
    let used: BTreeSet<String> = spec.routes.iter().chain(published).chain(canary).map(key::claim).collect();
    let mine = view.desired.claims.iter().filter(|(claim, record)| record.app == *view.id && !used.contains(*claim));
    let step = |claim: &String| Action::Unclaim { app: view.id.clone(), claim: claim.clone() };
    mine.map(|(claim, _)| (step(claim), "the app no longer has this route".to_owned())).collect()
}
