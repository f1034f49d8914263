//! Phase 2: give up replicas that ended, vanished, could not be started, or did not become ready in time.
//!
//! A crash of the wanted version counts towards the app's back-off, one of the canary towards its own: the first one is repaired at once, then 1 s, 2 s,
//! 4 s … up to a minute pass. Several that end in one pass count as one. Crashes of other versions are not counted,
//! since no other version is started. Nor are those of a parked replica that is started again and does not come up: what its
//! last run left in its files may be to blame (a lock, a pid), and a new one, made at once, shows whether it was.

use super::{
    Action, Steps,
    view::{Life, View},
};
use crate::{
    names::ReplicaId,
    records::{CrashLoop, Intent, Replica, UnixMs},
};

/// The longest wait before another start.
const BACK_OFF_MAX_MS: u64 = 60_000;

pub(super) fn fail(view: &View) -> Steps {
    let mut steps = Steps::new();
    for (id, replica) in view.replicas() {
        let Some(failure) = failure(view, &id, replica) else { continue };
        let crash = failure.counts.then(|| crash(view, replica, &failure.cause)).flatten();
        steps.push((Action::Fail { replica: id, deadline_ms: view.now(), crash }, failure.cause));
    }
    steps
}

/// Why a replica is given up.
struct Failure {
    cause: String,
    /// Whether it is the program's fault.
    counts: bool,
}

fn failure(view: &View, id: &ReplicaId, replica: &Replica) -> Option<Failure> {
    if !matches!(replica.intent, Intent::Run | Intent::Pause { .. } | Intent::Park { .. }) {
        return None;
    }
    let (cause, counts) = match view.life(id, replica) {
        Life::Unknown => return None,
        Life::Exited(_) if matches!(replica.intent, Intent::Park { .. }) => return None,
        Life::Exited(_) if replica.awaits_start() => (view.observed.refused.get(id)?.clone(), false),
        Life::Exited(exit) => (exit.to_string(), replica.intent == Intent::Run),
        Life::Absent if replica.seen_ms.is_some() => ("it was removed by somebody else".to_owned(), false),
        Life::Absent | Life::Created if view.observed.refused.contains_key(id) => {
            (view.observed.refused[id].clone(), true)
        }
        _ if replica.intent == Intent::Run && replica.is_first() && view.is_late(replica) => {
            (late(view, id, replica), true)
        }
        _ => return None,
    };
    match counts && replica.comes_back() {
        true => Some(Failure { cause: format!("{cause}, started again with what its last run left"), counts: false }),
        false => Some(Failure { cause, counts }),
    }
}

/// What to say of one that did not become ready in time.
pub(super) fn late(view: &View, id: &ReplicaId, replica: &Replica) -> String {
    let seconds = view.spec_of(replica).map_or(0, |spec| spec.health.start_ms) as f64 / 1_000.0;
    let error = view.probe(id).map_or("it was never probed", |probe| &probe.error);
    format!("it did not become ready within {seconds} s: {error}")
}

/// The crash count of the replica's version with this one. None: it does not count.
pub(super) fn crash(view: &View, replica: &Replica, cause: &str) -> Option<CrashLoop> {
    let side = { view.sides() }.find(|side| side.version == replica.version)?;
    let (version, count) = (side.version, side.crash.map_or(0, |crash| crash.count).saturating_add(1));
    Some(CrashLoop { version, count, until_ms: view.now() + back_off_ms(count), last: cause.to_owned() })
}

/// How long to wait after so many crashes in a row.
pub(super) fn back_off_ms(crashes: u32) -> UnixMs {
    match crashes {
        0 | 1 => 0,
        n => 1_000u64.checked_shl(n - 2).unwrap_or(u64::MAX).clamp(1_000, BACK_OFF_MAX_MS),
    }
}
