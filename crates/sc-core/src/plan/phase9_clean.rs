//! Phase 9: what belongs to no app: left-over containers, retired ranges, deleted apps' remains.
//!
//! **Why a container without a record may be removed.** Its record was committed before it was made, and records are
//! loaded *before* the engine is observed. So when the snapshot has no record, either the record was deleted before the
//! snapshot (an orphan: a late engine call, a crash before its removal), or it was committed after the snapshot, by a
//! newer leader or an app made since. Nothing tells which; therefore the effects of [`Action::Remove`] expect the record
//! to be absent, under the fence, *after* the observation: whatever was asked for had its record before it was seen, so
//! one that is absent now was deleted, or never was (a store restored from a backup, somebody's own container with our
//! labels). In the same commit its incarnation counts as handed out, so that a removal that comes late meets no replica
//! of ours under that name. Containers of apps that are left alone stay.

use std::collections::BTreeSet;

use super::{
    Action, Desired, Steps,
    phase0_meet::{Awaited, all_report},
};
use crate::{
    names::ReplicaId,
    observed::{Node, Observed},
    records::Retired,
};

/// How long a retired range rests at least.
const REST_MS: u64 = 60_000;
/// How long it rests at most, whatever proxies say or do not say.
const REST_MAX_MS: u64 = 15 * 60_000;
/// How long it is remembered which incarnations a deleted app has used.
const GONE_MS: u64 = 7 * 24 * 3_600_000;

pub(super) fn clean(desired: &Desired, observed: &Observed) -> Steps {
    let mut steps = surplus(desired, observed);
    steps.extend(release(desired, observed));
    steps.extend(purge(desired, observed));
    steps
}

fn surplus(desired: &Desired, observed: &Observed) -> Steps {
    let seen = observed.nodes.values().filter_map(|node| match node {
        Node::Known { replicas, .. } => Some(replicas.keys()),
        Node::Unknown { .. } => None,
    });
    let surplus: BTreeSet<&ReplicaId> = seen.flatten().filter(|id| is_surplus(desired, id)).collect();
    let why = "no record asks for it";
    surplus.into_iter().map(|id| (Action::Remove(id.clone()), why.to_owned())).collect()
}

fn is_surplus(desired: &Desired, id: &ReplicaId) -> bool {
    desired.replica(id).is_none() && !desired.left_alone.contains_key(&id.app)
}

fn release(desired: &Desired, observed: &Observed) -> Steps {
    let rested = |retired: &Retired| {
        let ms = observed.at.saturating_sub(retired.at_ms);
        let forgotten =
            || all_report(desired, observed, Awaited::Forgotten, |report| report.applied >= retired.revision);
        ms >= REST_MAX_MS || (ms >= REST_MS && forgotten())
    };
    let free = desired.subnets.iter().filter(|(_, subnet)| subnet.retired.as_ref().is_some_and(rested));
    let why = "no proxy can still know its addresses";
    free.map(|(n, _)| (Action::Release { subnet: *n }, why.to_owned())).collect()
}

fn purge(desired: &Desired, observed: &Observed) -> Steps {
    let old = desired.gone.iter().filter(|(_, gone)| observed.at.saturating_sub(gone.at_ms) >= GONE_MS);
    old.map(|(app, _)| (Action::Purge(app.clone()), "it was deleted a week ago".to_owned())).collect()
}
