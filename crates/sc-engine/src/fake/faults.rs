//! What may go wrong with a call to the fake, chosen by whoever tests.

use std::time::Duration;

use sc_core::{AppId, ReplicaId};

/// One call, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Call {
    /// [`crate::Engine::observe`].
    Observe,
    /// [`crate::Engine::start`].
    Start(ReplicaId),
    /// [`crate::Engine::stop`].
    Stop(ReplicaId),
    /// [`crate::Engine::pause`].
    Pause(ReplicaId),
    /// [`crate::Engine::wake`].
    Wake(ReplicaId),
    /// [`crate::Engine::park`].
    Park(ReplicaId),
    /// [`crate::Engine::revive`].
    Revive(ReplicaId),
    /// [`crate::Engine::remove_network`].
    RemoveNetwork(AppId),
    /// [`crate::Engine::usage`].
    Usage,
    /// [`crate::Engine::logs`].
    Logs(ReplicaId),
    /// [`crate::Engine::exec`].
    Exec(ReplicaId),
    /// [`crate::Engine::copy_out`] and [`crate::Engine::copy_in`].
    Copy(ReplicaId),
    /// [`crate::Engine::collect_garbage`].
    CollectGarbage,
}

/// What becomes of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fate {
    /// How long it takes to arrive.
    pub delay: Duration,
    /// What then happens.
    pub fault: Fault,
}

/// A fault of one call. Calls that change nothing treat every fault as a failure without effect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fault {
    /// None.
    #[default]
    None,
    /// It fails at once, without effect.
    Fail,
    /// It is not answered within the deadline, and has no effect.
    Hang,
    /// It has its effect; the answer is lost (a timeout, at the deadline).
    LoseReply,
    /// It is not answered within the deadline; its effect comes this long after the deadline.
    Late(Duration),
    /// It has its effect, and once more this much later.
    Twice(Duration),
    /// A start that only makes the replica; a stop that only ends its process. The call fails.
    Half,
}

impl From<Fault> for Fate {
    fn from(fault: Fault) -> Self {
        Self { delay: Duration::ZERO, fault }
    }
}

/// Chooses the fate of each call.
pub trait Faults: Send + Sync + 'static {
    /// Asked once for each call, before anything is done.
    fn fate(&self, call: &Call) -> Fate;
}

impl<F: Fn(&Call) -> Fate + Send + Sync + 'static> Faults for F {
    fn fate(&self, call: &Call) -> Fate {
        self(call)
    }
}
