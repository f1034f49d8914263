//! Whether replicas can serve: one task for each that shall, started and stopped by level from the records. A replica
//! that is starting is asked every few milliseconds at first, and less often the longer it takes; one that has answered,
//! at its own interval.

mod real;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
pub use real::RealProber;
use sc_core::{
    ReplicaId,
    observed::Probed,
    spec::{HealthSpec, Probe},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use crate::clock::Clock;

/// Time between the first probes of a starting replica over the network: one costs it a refused connection.
const FIRST: Duration = Duration::from_millis(3);
/// And of those that run a command in it.
const FIRST_COMMAND: Duration = Duration::from_millis(25);
/// Failures in less time than this count as one ([`HealthSpec::unhealthy_after`]).
const COUNTED_EVERY: Duration = Duration::from_millis(25);
/// The longest time between probes of a starting replica.
const SLOWEST_START: Duration = Duration::from_millis(250);
/// One that has been starting for so long is asked again after this share of it: it is found ready 3 % late at most.
const SHARE: u32 = 32;

/// What is asked, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The replica.
    pub replica: ReplicaId,
    /// Where it listens; port 0: nowhere.
    pub addr: SocketAddr,
    /// How it is asked.
    pub probe: Probe,
}

/// Asks a replica whether it can serve.
#[async_trait]
pub trait Prober: Send + Sync + 'static {
    /// Asks once. The caller bounds the time.
    ///
    /// # Errors
    /// What went wrong, for people: `GET /healthz: connection refused`.
    async fn probe(&self, target: &Target) -> Result<(), String>;
}

/// One replica to be probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Whom and how.
    pub target: Target,
    /// How often, and how long one may take.
    pub health: HealthSpec,
    /// Since when it has to prove itself ([`sc_core::records::Replica::unready_ms`]): earlier answers do not count.
    pub life: u64,
}

/// The latest answers, shared with everybody.
#[derive(Default)]
pub struct Answers {
    by_replica: Mutex<BTreeMap<ReplicaId, Probed>>,
    /// An answer that may change a decision came in.
    pub changed: Notify,
}

impl Answers {
    /// All of them.
    pub fn all(&self) -> BTreeMap<ReplicaId, Probed> {
        self.by_replica.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stores one. A change of mind, and each failure of one that was ready, wakes the reconciler.
    fn put(&self, replica: &ReplicaId, probed: Probed, was_ready: bool) {
        let mut all = self.by_replica.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.get(replica).map(|p| p.ok);
        let matters = if probed.ok { before != Some(true) } else { was_ready };
        all.insert(replica.clone(), probed);
        drop(all);
        if matters {
            tracing::debug!(%replica, "the probe's answer has changed");
            self.changed.notify_one();
        }
    }

    fn keep_only(&self, wanted: &BTreeMap<ReplicaId, Wanted>) {
        self.by_replica.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| wanted.contains_key(id));
    }

    /// Forgets an answer that was well. One that was not stands until there is a better one, since what is found
    /// unready is asked anew: forgetting it would make the replica look as if it were only starting. Gives its failures.
    fn doubt(&self, replica: &ReplicaId) -> u32 {
        let mut all = self.by_replica.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(replica).is_some_and(|probed| probed.ok) {
            all.remove(replica);
        }
        all.get(replica).map_or(0, |probed| probed.failures)
    }
}

/// The running tasks. Dropping it ends them.
pub struct Probes {
    prober: Arc<dyn Prober>,
    clock: Arc<dyn Clock>,
    answers: Arc<Answers>,
    tasks: BTreeMap<ReplicaId, (Wanted, AbortOnDropHandle<()>)>,
}

impl Probes {
    /// None yet.
    pub fn new(prober: Arc<dyn Prober>, clock: Arc<dyn Clock>, answers: Arc<Answers>) -> Self {
        Self { prober, clock, answers, tasks: BTreeMap::new() }
    }

    /// Makes the tasks those of `wanted`: ends what is not in it, starts what is new, restarts what has changed.
    pub fn sync(&mut self, wanted: BTreeMap<ReplicaId, Wanted>) {
        self.tasks.retain(|id, (running, _)| wanted.get(id) == Some(running));
        self.answers.keep_only(&wanted);
        for (id, wanted) in wanted {
            if self.tasks.contains_key(&id) {
                continue;
            }
            let failures = self.answers.doubt(&id);
            let task = ask(self.prober.clone(), self.clock.clone(), self.answers.clone(), wanted.clone(), failures);
            self.tasks.insert(id, (wanted, AbortOnDropHandle::new(tokio::spawn(task))));
        }
    }
}

async fn ask(prober: Arc<dyn Prober>, clock: Arc<dyn Clock>, answers: Arc<Answers>, wanted: Wanted, failures: u32) {
    let limit = Duration::from_millis(wanted.health.timeout_ms.max(1));
    let interval = Duration::from_millis(wanted.health.interval_ms.max(10));
    let (mut failures, mut was_ready, begun, mut counted) = (failures, false, Instant::now(), None);
    loop {
        let at = clock.now_ms();
        let error = match timeout(limit, prober.probe(&wanted.target)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(_late) => Some(format!("{}: no answer within {} ms", describe(&wanted.target), limit.as_millis())),
        };
        failures = match error {
            None => 0,
            // Asked in quick succession, one that is just waking would soon look as if it were sick.
            Some(_) if counted.is_some_and(|counted: Instant| counted.elapsed() < COUNTED_EVERY) => failures,
            Some(_) => {
                counted = Some(Instant::now());
                failures.saturating_add(1)
            }
        };
        let probed = Probed { at, ok: error.is_none(), failures, error: error.unwrap_or_default() };
        answers.put(&wanted.target.replica, probed, was_ready);
        was_ready |= failures == 0;
        sleep(if was_ready { interval } else { pace_of_start(&wanted.target.probe, begun.elapsed()) }).await;
    }
}

/// The time to the next probe of a replica that has been starting for so long.
fn pace_of_start(probe: &Probe, starting: Duration) -> Duration {
    let first = if matches!(probe, Probe::Command(_)) { FIRST_COMMAND } else { FIRST };
    (starting / SHARE).clamp(first, SLOWEST_START)
}

/// The question, for people.
pub(crate) fn describe(target: &Target) -> String {
    match &target.probe {
        Probe::Http { path } => format!("GET {path}"),
        Probe::Accept | Probe::Tcp => format!("connect to {}", target.addr),
        Probe::Command(command) => format!("run {}", command.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_starting_replica_is_asked_often_at_first_and_then_less() {
        let pace = |millis| pace_of_start(&Probe::Accept, Duration::from_millis(millis));
        assert_eq!((pace(0), pace(96), pace(800)), (FIRST, FIRST, Duration::from_millis(25)));
        assert_eq!(pace(60_000), SLOWEST_START);
        let command = Probe::Command(vec!["check".to_owned()]);
        assert_eq!(pace_of_start(&command, Duration::ZERO), FIRST_COMMAND, "a command costs more than a connection");
    }
}
