//! What each action does to the records.

use super::{Action, Desired, DesiredApp, Published, ranges};
use crate::{
    names::{AppId, ReplicaId},
    records::{App, CrashLoop, Gone, Intent, Met, Replica, Retired, Revived, Rollout, UnixMs},
};

/// Makes an action's change of records. One whose records are not there changes nothing.
pub(super) fn apply(desired: &mut Desired, action: &Action, why: &str, now: UnixMs) {
    let epoch = desired.epoch;
    match action {
        Action::Assign { app, subnet } => {
            desired.subnets.extend(ranges::range(&desired.addressing, *subnet, app).map(|range| (*subnet, range)));
        }
        Action::Start { replica, .. } => start(desired, replica, action, now),
        Action::StartAgain(replica) => with_replica(desired, replica, |_| ()),
        Action::MarkSeen { replica, restarts } => with_replica(desired, replica, |record| {
            record.seen_ms.get_or_insert(now);
            record.restarts = *restarts;
        }),
        Action::MarkReady(replica) => {
            with_replica(desired, replica, |record| record.ready_ms = Some(now));
            progress(desired, &replica.app, now);
        }
        Action::MarkUnready { replica, restarts } => with_replica(desired, replica, |record| {
            unready(record, now);
            record.restarts = *restarts;
        }),
        Action::Drain { replica, deadline_ms } => with_replica(desired, replica, |record| {
            record.intent = drain(why, now, *deadline_ms, false);
        }),
        Action::Fail { replica, deadline_ms, crash } => {
            with_replica(desired, replica, |record| record.intent = drain(why, now, *deadline_ms, true));
            if let Some(crash) = crash {
                with_app(desired, &replica.app, |app| *crash_of(app, crash.version) = Some(crash.clone()));
            }
        }
        Action::Stop(replica) => with_replica(desired, replica, |record| {
            if !matches!(record.intent, Intent::Stop { .. }) {
                record.intent = Intent::Stop { why: why.to_owned() };
            }
        }),
        Action::Pause(replica) => with_replica(desired, replica, |record| {
            if !matches!(record.intent, Intent::Pause { .. }) {
                record.intent = Intent::Pause { since_ms: now };
            }
            record.ready_ms = None;
        }),
        Action::Wake(replica) => with_replica(desired, replica, |record| {
            if record.intent != Intent::Run {
                unready(record, now);
            }
            record.intent = Intent::Run;
        }),
        Action::Park(replica) => with_replica(desired, replica, |record| {
            if !matches!(record.intent, Intent::Park { .. }) {
                record.intent = Intent::Park { since_ms: now };
            }
            record.ready_ms = None;
        }),
        Action::Revive { replica, restarts } => with_replica(desired, replica, |record| {
            if record.intent != Intent::Run {
                unready(record, now);
                record.restarts = *restarts;
                record.revived = Some(Revived { at_ms: now, restarts: *restarts });
            }
            record.intent = Intent::Run;
        }),
        Action::Resume(replica) => with_replica(desired, replica, |record| record.intent = Intent::Run),
        Action::Forget(replica) => {
            if let Some(app) = desired.apps.get_mut(&replica.app) {
                app.replicas.remove(&replica.incarnation);
            }
            progress(desired, &replica.app, now);
        }
        Action::Remove(replica) => use_up(desired, replica, now),
        Action::Recovered { app, version } => with_app(desired, app, |app| *crash_of(app, *version) = None),
        Action::CanaryUp(app) => with_app(desired, app, |app| {
            app.canary.iter_mut().for_each(|canary| canary.up_ms = Some(now));
        }),
        Action::Roll(app) => {
            with_app(desired, app, |app| {
                app.rollout = Rollout::Rolling { since_ms: now, progress_ms: now };
                app.crash = None;
            });
        }
        Action::Defer(app) => with_app(desired, app, |app| app.rollout = Rollout::Settled),
        Action::Settle { app, version } => with_app(desired, app, |app| {
            app.stable = Some(*version);
            app.failed.remove(version);
            if !matches!(app.rollout, Rollout::RolledBack { .. }) {
                app.rollout = Rollout::Settled;
            }
        }),
        Action::RollBack { app, failed, to, cause } => with_app(desired, app, |app| {
            match app.canary.as_ref().is_some_and(|canary| canary.version == *failed) {
                true => app.canary = None,
                false => (app.version, app.crash) = (*to, None),
            }
            app.failed.insert(*failed);
            if app.failed.len() > FAILED_MAX {
                app.failed.pop_first();
            }
            app.rollout = Rollout::RolledBack { failed: *failed, cause: cause.clone(), at_ms: now };
        }),
        Action::GiveUp { app, cause } => {
            with_app(desired, app, |app| app.rollout = Rollout::Failed { cause: cause.clone(), at_ms: now })
        }
        Action::Prune { app, version } => {
            if let Some(app) = desired.apps.get_mut(app) {
                app.versions.remove(version);
            }
        }
        Action::Unclaim { claim, .. } => drop(desired.claims.remove(claim)),
        Action::Delete(app) => delete(desired, app, now),
        Action::Meet(proxy) => meet(desired, proxy, None),
        Action::Miss(proxy) => meet(desired, proxy, Some(now)),
        Action::Part(proxy) => drop(desired.met.remove(proxy)),
        Action::Release { subnet } => drop(desired.subnets.remove(subnet)),
        Action::Purge(app) => drop(desired.gone.remove(app)),
    }
    if let Some(record) = action.replica().and_then(|id| replica_mut(desired, id)) {
        record.epoch = epoch;
    }
}

fn start(desired: &mut Desired, id: &ReplicaId, action: &Action, now: UnixMs) {
    let (Action::Start { version, node, addr, .. }, epoch) = (action, desired.epoch) else { return };
    let Some(app) = desired.apps.get_mut(&id.app) else { return };
    app.app.next = app.app.next.max(id.incarnation + 1);
    let record = Replica {
        v: 1,
        version: *version,
        restart: app.app.restart,
        node: node.clone(),
        addr: *addr,
        intent: Intent::Run,
        ready_ms: None,
        seen_ms: None,
        unready_ms: now,
        restarts: 0,
        revived: None,
        replace: false,
        created_ms: now,
        epoch,
        extra: Default::default(),
    };
    app.replicas.insert(id.incarnation, record);
}

fn meet(desired: &mut Desired, proxy: &str, gone_ms: Option<UnixMs>) {
    let ended = desired.ended.contains(proxy);
    let met = desired.met.entry(proxy.to_owned());
    let met = met.or_insert_with(|| Met { v: 1, gone_ms, ended, extra: Default::default() });
    (met.gone_ms, met.ended) = (gone_ms, ended);
}

/// Whether an incarnation may still be handed out, as far as records say.
pub(super) fn is_unused(desired: &Desired, id: &ReplicaId) -> bool {
    let app = desired.apps.get(&id.app).map(DesiredApp::next);
    let next = app.or(desired.gone.get(&id.app).map(|gone| gone.next)).unwrap_or(0);
    id.incarnation >= next
}

/// Notes that an incarnation is not to be handed out any more.
fn use_up(desired: &mut Desired, id: &ReplicaId, now: UnixMs) {
    if !is_unused(desired, id) {
        return;
    }
    let next = id.incarnation.saturating_add(1);
    match desired.apps.get_mut(&id.app) {
        Some(app) => app.app.next = next,
        None => {
            let gone = desired.gone.entry(id.app.clone());
            gone.or_insert_with(|| Gone { v: 1, next, at_ms: now, extra: Default::default() }).next = next;
        }
    }
}

fn delete(desired: &mut Desired, id: &AppId, now: UnixMs) {
    let Some(DesiredApp { app, published, .. }) = desired.apps.remove(id) else { return };
    // The plan deletes an app only once its published routes list no backend: from that revision on no table has one.
    let revision = published.map_or(desired.revision, |Published { revision, .. }| revision);
    for subnet in desired.subnets.values_mut().filter(|subnet| subnet.app == *id && subnet.retired.is_none()) {
        subnet.retired = Some(Retired { at_ms: now, revision });
    }
    desired.claims.retain(|_, claim| claim.app != *id);
    desired.gone.insert(id.clone(), Gone { v: 1, next: app.next, at_ms: now, extra: Default::default() });
}

/// Failed versions that are remembered; far more than versions are kept.
const FAILED_MAX: usize = 64;

fn drain(why: &str, since_ms: UnixMs, deadline_ms: UnixMs, failed: bool) -> Intent {
    Intent::Drain { why: why.to_owned(), since_ms, deadline_ms, failed }
}

fn unready(record: &mut Replica, now: UnixMs) {
    record.ready_ms = None;
    record.unready_ms = now;
}

/// A rollout, or a canary on its way, came a step further.
fn progress(desired: &mut Desired, id: &AppId, now: UnixMs) {
    with_app(desired, id, |app| {
        if let Rollout::Rolling { progress_ms, .. } = &mut app.rollout {
            *progress_ms = now;
        }
        app.canary.iter_mut().filter(|canary| canary.up_ms.is_none()).for_each(|canary| canary.progress_ms = now);
    });
}

/// Where a version's crashes are counted.
fn crash_of(app: &mut App, version: u64) -> &mut Option<CrashLoop> {
    match &mut app.canary {
        Some(canary) if canary.version == version => &mut canary.crash,
        _ => &mut app.crash,
    }
}

fn replica_mut<'a>(desired: &'a mut Desired, id: &ReplicaId) -> Option<&'a mut Replica> {
    desired.apps.get_mut(&id.app)?.replicas.get_mut(&id.incarnation)
}

fn with_replica(desired: &mut Desired, id: &ReplicaId, change: impl FnOnce(&mut Replica)) {
    if let Some(record) = replica_mut(desired, id) {
        change(record);
    }
}

fn with_app(desired: &mut Desired, id: &AppId, change: impl FnOnce(&mut App)) {
    if let Some(app) = desired.apps.get_mut(id) {
        change(&mut app.app);
    }
}
