//! What the replicas use: one sample of all every few seconds, rates by subtraction.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sc_core::{ReplicaId, stats::Usage};
use tokio::time::{sleep, timeout};

use crate::world::World;

/// Time between two samples.
const EVERY: Duration = Duration::from_secs(3);
/// How long one may take.
const LIMIT: Duration = Duration::from_secs(10);
/// A sample older than this (ms) says nothing of now.
const FRESH_MS: u64 = 15_000;

/// The latest samples.
#[derive(Default)]
pub struct Usages(Mutex<BTreeMap<ReplicaId, Used>>);

/// One replica's latest sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Used {
    /// The sample.
    pub usage: Usage,
    /// CPUs in use since the sample before; none: there was none.
    pub cpu: Option<f64>,
}

impl Usages {
    /// A replica's latest sample, if it is fresh.
    pub fn of(&self, replica: &ReplicaId, now_ms: u64) -> Option<Used> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(replica).filter(|used| used.usage.at_ms + FRESH_MS > now_ms).cloned()
    }

    /// Takes in one sample of everything; what is not in it is forgotten.
    fn take(&self, samples: BTreeMap<ReplicaId, Usage>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = samples.into_iter().map(|(replica, usage)| {
            let cpu = all.get(&replica).and_then(|before| rate(before, &usage));
            (replica, Used { usage, cpu })
        });
        *all = fresh.collect();
    }
}

/// CPUs in use between two samples. A counter that went back (the replica started anew) says nothing; the same sample
/// seen twice, what it said before.
fn rate(before: &Used, now: &Usage) -> Option<f64> {
    if now.at_ms <= before.usage.at_ms {
        return before.cpu;
    }
    let seconds = (now.at_ms - before.usage.at_ms) as f64 / 1_000.0;
    let used = now.cpu_seconds - before.usage.cpu_seconds;
    (used >= 0.0).then_some(used / seconds)
}

/// Samples for ever.
pub async fn sample(world: &World) {
    loop {
        match timeout(LIMIT, world.engine.usage()).await {
            Ok(Ok(samples)) => world.usages.take(samples),
            Ok(Err(error)) => tracing::debug!(%error, "no usage"),
            Err(_late) => tracing::debug!("no usage: the engine does not answer"),
        }
        sleep(EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at_ms: u64, cpu_seconds: f64) -> Usage {
        Usage { at_ms, cpu_seconds, ..Usage::default() }
    }

    #[test]
    fn cpu_is_the_difference_over_the_time() {
        let usages = Usages::default();
        let id: ReplicaId = "web-1".parse().unwrap();
        let take = |usage| {
            usages.take(BTreeMap::from([(id.clone(), usage)]));
            usages.of(&id, 5_000).unwrap().cpu
        };
        assert_eq!(take(at(1_000, 7.0)), None);
        assert_eq!(take(at(3_000, 8.0)), Some(0.5));
        assert_eq!(take(at(3_000, 8.0)), Some(0.5), "the same sample again");
        assert_eq!(take(at(4_000, 0.1)), None, "started anew");
        assert_eq!(usages.of(&id, 60_000), None, "stale");
    }
}
