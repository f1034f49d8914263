//! What a plan is made of.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{
    names::{AppId, Name, ReplicaId},
    records::{CrashLoop, UnixMs},
};

/// What to do next, in order, each with its reason.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The steps. Each is safe without those after it.
    pub steps: Vec<(Action, Why)>,
}

/// Why a step is taken, in a sentence for people.
pub type Why = String;

/// One step: a change of records ([`super::Desired::take`]), an engine call, or the former and then the latter.
///
/// Engine calls are asked for again in every pass until the engine shows their effect, so a shell that makes them in the
/// background must not begin one that is still running.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Record: give the app a range of addresses. Engine: none yet (the network is made with the first start).
    Assign {
        /// The app.
        app: AppId,
        /// The range's number in the pool.
        subnet: u32,
    },
    /// Record: a new replica with intent `Run`, the app's `next` moved on. Engine: start it.
    Start {
        /// The new replica.
        replica: ReplicaId,
        /// The version it runs.
        version: u64,
        /// Where.
        node: Name,
        /// Where it will listen.
        addr: SocketAddr,
    },
    /// Engine only: start a replica whose record says `Run` and that is not there or not started (a crash came between).
    StartAgain(ReplicaId),
    /// Record: the engine has it.
    MarkSeen {
        /// Which.
        replica: ReplicaId,
        /// [`crate::observed::Seen::restarts`] now.
        restarts: u64,
    },
    /// Record: it passed its probe; it will be listed in the routes.
    MarkReady(ReplicaId),
    /// Record: it no longer passes, or was restarted or frozen by somebody else; it leaves the routes but is not given
    /// up yet.
    MarkUnready {
        /// Which.
        replica: ReplicaId,
        /// [`crate::observed::Seen::restarts`] now.
        restarts: u64,
    },
    /// Record: intent `Drain`. It is sound, but no longer wanted.
    Drain {
        /// Which.
        replica: ReplicaId,
        /// Until when at the latest.
        deadline_ms: UnixMs,
    },
    /// Record: intent `Drain`, failed; and in the same commit the crash is counted, so that it is counted once.
    Fail {
        /// Which.
        replica: ReplicaId,
        /// Until when at the latest; now for one that runs no more.
        deadline_ms: UnixMs,
        /// The app's new crash count, if this counts: no start before its `until_ms`.
        crash: Option<CrashLoop>,
    },
    /// Record: intent `Stop`. Engine: stop it gracefully and remove it.
    Stop(ReplicaId),
    /// Record: intent `Pause`. Engine: freeze it.
    Pause(ReplicaId),
    /// Record: intent `Run`. Engine: unfreeze it.
    Wake(ReplicaId),
    /// Record: intent `Park`. Engine: stop it gracefully, and keep it.
    Park(ReplicaId),
    /// Record: intent `Run`; it was parked, and has to prove itself anew. Engine: start it again.
    Revive {
        /// Which.
        replica: ReplicaId,
        /// [`crate::observed::Seen::restarts`] before its start.
        restarts: u64,
    },
    /// Record: intent `Run` again; it was draining, is sound, and is wanted after all.
    Resume(ReplicaId),
    /// Record: delete it; the engine has it no more.
    Forget(ReplicaId),
    /// Engine: remove a replica that has no record (a surplus one, or a left-over). Record: none, but its incarnation
    /// counts as handed out from now on. Its [`super::Effects`] must be committed also when they write nothing, after the
    /// observation and right before the engine is called: they make sure that there is still no record.
    Remove(ReplicaId),
    /// Record: the crash count of a version is forgotten; its replicas have stayed up.
    Recovered {
        /// The app.
        app: AppId,
        /// The version.
        version: u64,
    },
    /// Record: all of the canary's replicas serve.
    CanaryUp(AppId),
    /// Record: a rollout begins (replicas differ from what is wanted, and the app's record does not say so yet).
    Roll(AppId),
    /// Record: nothing is wanted, so nothing can be rolled out; it is when something is wanted again. The stable version
    /// stays what it was, since the wanted one has proved nothing.
    Defer(AppId),
    /// Record: the rollout is done; this version is the stable one.
    Settle {
        /// The app.
        app: AppId,
        /// The version.
        version: u64,
    },
    /// Record: the wanted version failed, go back to the stable one; or the canary failed, withdraw it.
    RollBack {
        /// The app.
        app: AppId,
        /// The version that failed.
        failed: u64,
        /// The version to go back to; of a canary the wanted one.
        to: u64,
        /// Why.
        cause: String,
    },
    /// Record: the wanted version failed and there is none to go back to; it is tried on with back-off.
    GiveUp {
        /// The app.
        app: AppId,
        /// Why.
        cause: String,
    },
    /// Record: an old version that nothing refers to is forgotten.
    Prune {
        /// The app.
        app: AppId,
        /// The version.
        version: u64,
    },
    /// Record: the app no longer claims a route.
    Unclaim {
        /// The app.
        app: AppId,
        /// The claim's key.
        claim: String,
    },
    /// Record: the app, its versions, scale, claims and routes are deleted, its addresses retired. Engine: remove its network.
    Delete(AppId),
    /// Record: a proxy serves; drains wait for it from now on, also under another leader and after its lease has ended.
    Meet(String),
    /// Record: a proxy's lease has ended, and it may serve on, cut off; or it said that it has ended itself.
    Miss(String),
    /// Record: a proxy is forgotten.
    Part(String),
    /// Record: a retired range is free again.
    Release {
        /// Its number in the pool.
        subnet: u32,
    },
    /// Record: what was left of an app deleted long ago is forgotten.
    Purge(AppId),
}

impl Action {
    /// The app it is about, if it is about one.
    pub fn app(&self) -> Option<&AppId> {
        match self {
            Self::Release { .. } | Self::Meet(_) | Self::Miss(_) | Self::Part(_) => None,
            Self::Assign { app, .. }
            | Self::Recovered { app, .. }
            | Self::CanaryUp(app)
            | Self::Roll(app)
            | Self::Defer(app)
            | Self::Settle { app, .. }
            | Self::RollBack { app, .. }
            | Self::GiveUp { app, .. }
            | Self::Prune { app, .. }
            | Self::Unclaim { app, .. }
            | Self::Delete(app)
            | Self::Purge(app) => Some(app),
            _ => self.replica().map(|replica| &replica.app),
        }
    }

    /// The replica it is about, if it is about one.
    pub fn replica(&self) -> Option<&ReplicaId> {
        match self {
            Self::Start { replica, .. }
            | Self::StartAgain(replica)
            | Self::MarkSeen { replica, .. }
            | Self::MarkReady(replica)
            | Self::MarkUnready { replica, .. }
            | Self::Drain { replica, .. }
            | Self::Fail { replica, .. }
            | Self::Stop(replica)
            | Self::Pause(replica)
            | Self::Wake(replica)
            | Self::Park(replica)
            | Self::Revive { replica, .. }
            | Self::Resume(replica)
            | Self::Forget(replica)
            | Self::Remove(replica) => Some(replica),
            _ => None,
        }
    }
}
