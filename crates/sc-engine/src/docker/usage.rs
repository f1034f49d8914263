//! What replicas use, from Docker's one-shot samples, of cgroup v1 and v2.

use std::{collections::BTreeMap, sync::PoisonError};

use bollard::{
    models::{ContainerStatsResponse, ContainerSummary},
    query_parameters::StatsOptions,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use sc_core::{ReplicaId, stats::Usage};

use super::{Failure, Inner, is, names, observe};
use crate::EngineError;

/// How many samples are taken at once. Docker 20.10 takes all that are asked for at the same time in one go, once a
/// second: fewer at once would take a second each.
pub(super) const AT_ONCE: usize = 256;

impl Inner {
    /// One sample of every running container.
    pub(super) async fn samples(&self) -> Result<BTreeMap<ReplicaId, Usage>, EngineError> {
        let running = self.listed(Some("running")).await?;
        stream::iter(running)
            .map(|summary| self.sample(summary))
            .buffer_unordered(AT_ONCE)
            .try_filter_map(|found| async { Ok(found) })
            .try_collect()
            .await
    }

    async fn sample(&self, summary: ContainerSummary) -> Result<Option<(ReplicaId, Usage)>, EngineError> {
        let Some(labelled) = summary.labels.as_ref().and_then(names::read) else { return Ok(None) };
        let (Some(id), status) = (summary.id, summary.status.unwrap_or_default()) else { return Ok(None) };
        let known = self.inspected.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        let limits = match known {
            Some(known) => Some(known),
            None => self.read(&id, status).await?,
        };
        let what = format!("measure {}", labelled.replica);
        let asked = self.ask_in(&self.sampling, &what, self.config.deadline, |docker| async move {
            let options = StatsOptions { stream: false, one_shot: true };
            docker.stats(&id, Some(options)).try_next().await
        });
        match (asked.await, limits) {
            (Ok(Some(stats)), Some(limits)) => Ok(Some((labelled.replica, usage(&stats, limits.cpus, limits.memory)))),
            (Ok(_), _) => Ok(None),
            // Gone meanwhile.
            (Err(Failure::Docker(error)), _) if is(&error, 404) || is(&error, 409) => Ok(None),
            (Err(failure), _) => Err(self.plain(&what, failure)),
        }
    }
}

/// What a sample says.
fn usage(stats: &ContainerStatsResponse, cpu_limit: Option<f64>, memory_limit: Option<u64>) -> Usage {
    let cpu = stats.cpu_stats.as_ref();
    let seconds = |nanos: Option<u64>| nanos.unwrap_or(0) as f64 / 1e9;
    let throttled = cpu.and_then(|cpu| cpu.throttling_data.as_ref()).and_then(|data| data.throttled_time);
    let networks = || stats.networks.iter().flatten().map(|(_, network)| network);
    Usage {
        at_ms: stats.read.as_deref().map_or(0, observe::millis),
        cpu_seconds: seconds(cpu.and_then(|cpu| cpu.cpu_usage.as_ref()).and_then(|usage| usage.total_usage)),
        cpu_limit,
        throttled_seconds: seconds(throttled),
        memory: memory(stats),
        memory_limit,
        network_received: networks().filter_map(|network| network.rx_bytes).sum(),
        network_sent: networks().filter_map(|network| network.tx_bytes).sum(),
        pids: stats.pids_stats.as_ref().and_then(|pids| pids.current).unwrap_or(0),
    }
}

/// Memory without the part of the page cache that can go at once: `total_inactive_file` in v1, `inactive_file` in v2.
fn memory(stats: &ContainerStatsResponse) -> u64 {
    let Some(memory) = &stats.memory_stats else { return 0 };
    let detail = |key| memory.stats.as_ref().and_then(|stats| stats.get(key)).copied();
    let cache = detail("total_inactive_file").or_else(|| detail("inactive_file")).unwrap_or(0);
    memory.usage.unwrap_or(0).saturating_sub(cache)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Usage {
        usage(&serde_json::from_str(text).unwrap(), Some(0.5), Some(64 << 20))
    }

    #[test]
    fn reads_a_sample_of_cgroup_v1() {
        let found = read(include_str!("../../tests/samples/stats-cgroup-v1.json"));
        assert_eq!((found.cpu_seconds, found.throttled_seconds), (0.364_417_203, 0.033_875_209));
        assert_eq!((found.memory, found.pids), (2_510_848 - 1_695_744, 2));
        assert_eq!((found.network_received, found.network_sent), (736, 0));
        assert_eq!((found.cpu_limit, found.memory_limit), (Some(0.5), Some(64 << 20)));
        assert!(found.at_ms > 1_700_000_000_000);
    }

    #[test]
    fn reads_a_sample_of_cgroup_v2() {
        let found = read(include_str!("../../tests/samples/stats-cgroup-v2.json"));
        assert_eq!((found.cpu_seconds, found.throttled_seconds), (3.5, 0.25));
        assert_eq!((found.memory, found.pids), (52_428_800 - 1_048_576, 12));
        assert_eq!((found.network_received, found.network_sent), (1_010, 520));
    }

    #[test]
    fn reads_the_sample_of_one_that_has_ended() {
        let found = read(r#"{"read":"0001-01-01T00:00:00Z","pids_stats":{},"memory_stats":{},"cpu_stats":{}}"#);
        assert_eq!((found.cpu_seconds, found.memory, found.at_ms), (0.0, 0, 0));
    }
}
