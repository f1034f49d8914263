//! Users' commands that change what is desired of single replicas, as changes of records.

use super::{Desired, Effects, Slot};
use crate::{
    names::ReplicaId,
    records::{Intent, UnixMs},
};

/// Why a command cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such replica.
    #[error("there is no replica {0}; `sc ps` lists them")]
    NoSuchReplica(ReplicaId),
    /// It is on its way out already.
    #[error("{0} is being stopped already")]
    Leaving(ReplicaId),
    /// A record of the app cannot be read.
    #[error("{replica} cannot be changed: {why}")]
    LeftAlone {
        /// Which.
        replica: ReplicaId,
        /// Why.
        why: String,
    },
}

/// `sc stop app/3`: this replica drains, and the app's count is one lower (its minimum too, where it must be).
///
/// # Errors
/// When there is no such replica or it is leaving already.
pub fn stop_one(desired: &mut Desired, id: &ReplicaId, now: UnixMs) -> Result<Effects, Refused> {
    let timeout_ms = check(desired, id)?;
    let slots = [Slot::App(id.app.clone()), Slot::Scale(id.app.clone()), Slot::Replica(id.clone())];
    Ok(desired.change(&slots, |desired| {
        let Some(app) = desired.apps.get_mut(&id.app) else { return };
        let sleeps = app.replicas.get(&id.incarnation).is_some_and(|r| r.intent.is_warm());
        // A stopped app keeps the count it will have again, whatever still leaves. One that sleeps is not counted.
        let want = if app.app.stopped || sleeps { app.scale.want } else { app.want().saturating_sub(1) };
        app.scale.want = want;
        app.app.scale.min = app.app.scale.min.min(want);
        if let Some(replica) = app.replicas.get_mut(&id.incarnation) {
            let (why, deadline_ms) = ("stopped by command".to_owned(), now.saturating_add(timeout_ms));
            replica.intent = Intent::Drain { why, since_ms: now, deadline_ms, failed: false };
            replica.replace = true; // not to be taken back when more are wanted again
        }
    }))
}

/// `sc restart app/3`: a new replica takes this one's place, as in a rollout.
///
/// # Errors
/// When there is no such replica or it is leaving already.
pub fn replace_one(desired: &mut Desired, id: &ReplicaId) -> Result<Effects, Refused> {
    check(desired, id)?;
    Ok(desired.change(&[Slot::Replica(id.clone())], |desired| {
        let app = desired.apps.get_mut(&id.app);
        if let Some(replica) = app.and_then(|app| app.replicas.get_mut(&id.incarnation)) {
            replica.replace = true;
        }
    }))
}

/// The replica's time to drain, if something can be done with it.
fn check(desired: &Desired, id: &ReplicaId) -> Result<u64, Refused> {
    if let Some(why) = desired.left_alone.get(&id.app) {
        return Err(Refused::LeftAlone { replica: id.clone(), why: why.clone() });
    }
    let replica = desired.replica(id).ok_or_else(|| Refused::NoSuchReplica(id.clone()))?;
    if matches!(replica.intent, Intent::Drain { .. } | Intent::Stop { .. }) {
        return Err(Refused::Leaving(id.clone()));
    }
    let version = desired.apps.get(&id.app).and_then(|app| app.versions.get(&replica.version));
    Ok(version.map_or(0, |version| version.spec.drain.timeout_ms))
}
