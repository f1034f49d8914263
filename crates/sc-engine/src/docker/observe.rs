//! What Docker has of this store. The list of containers is read each time; what it does not say (when a container was
//! started, how it ended) is read of each container once, and again when the list says that something changed.
//!
//! Docker answers about a container only when it is done with what it does to it: 30 ms for a pause, 300 for a start or a
//! stop, and a stop's whole grace before. So what a call of ours is changing is what it was until that call ends: one
//! replica that is being stopped must not keep the first request of another app waiting.

use std::{collections::BTreeMap, sync::PoisonError};

use bollard::{
    models::{ContainerInspectResponse, ContainerStateStatusEnum as Status, ContainerSummary},
    query_parameters::ListContainersOptions,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use sc_core::{
    ReplicaId,
    observed::{Exit, Run, Seen},
};

use super::{Failure, Inner, is, names};
use crate::EngineError;

/// What was read of one container.
#[derive(Debug, Clone)]
pub(super) struct Inspected {
    /// The list's words on it then, such as `Up 3 hours`.
    status: String,
    run: Run,
    /// When it was last started: changes with every start.
    started: u64,
    pub cpus: Option<f64>,
    pub memory: Option<u64>,
}

/// How many containers are looked at at once.
const AT_ONCE: usize = 8;

impl Inner {
    /// Every replica of this store.
    pub(super) async fn replicas(&self) -> Result<BTreeMap<ReplicaId, Seen>, EngineError> {
        let listed = self.listed(None).await?;
        let found: Vec<_> = stream::iter(listed)
            .map(|summary| self.seen(summary))
            .buffer_unordered(AT_ONCE)
            .try_filter_map(|found| async { Ok(found) })
            .try_collect()
            .await?;
        let ids: std::collections::BTreeSet<_> = found.iter().map(|(id, ..)| id.clone()).collect();
        self.inspected.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| ids.contains(id));
        Ok(found.into_iter().map(|(_, replica, seen)| (replica, seen)).collect())
    }

    /// Our containers as the list has them, all of them or those in one state.
    pub(super) async fn listed(&self, state: Option<&str>) -> Result<Vec<ContainerSummary>, EngineError> {
        let labels = [
            format!("{}={}", names::INSTANCE, self.config.instance),
            format!("{}={}", names::STORE, self.config.store_id),
        ];
        let mut filters = names::filter(&labels);
        if let Some(state) = state {
            filters.insert("status".to_owned(), vec![state.to_owned()]);
        }
        let options = ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
        self.call("list containers", |docker| async move { docker.list_containers(Some(options)).await }).await
    }

    async fn seen(&self, summary: ContainerSummary) -> Result<Option<(String, ReplicaId, Seen)>, EngineError> {
        let Some(labelled) = summary.labels.as_ref().and_then(names::read) else { return Ok(None) };
        let (Some(id), status) = (summary.id, summary.status.unwrap_or_default()) else { return Ok(None) };
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner).contains(&labelled.replica);
        if status == "Created" && busy {
            let seen = Seen { run: Run::Created, version: labelled.version, addr: labelled.addr, restarts: 0 };
            return Ok(Some((id, labelled.replica, seen)));
        }
        let known = self.inspected.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        let inspected = match known.filter(|known| busy || known.status == status && !fresh(&status)) {
            Some(known) => known,
            None => match self.read(&id, status).await? {
                Some(inspected) => inspected,
                None => return Ok(None),
            },
        };
        let seen =
            Seen { run: inspected.run, version: labelled.version, addr: labelled.addr, restarts: inspected.started };
        Ok(Some((id, labelled.replica, seen)))
    }

    /// Looks at a container; none when it is gone meanwhile.
    pub(super) async fn read(&self, id: &str, status: String) -> Result<Option<Inspected>, EngineError> {
        let asked = id.to_owned();
        let found = self.ask("look at a container", self.config.deadline, |docker| async move {
            docker.inspect_container(&asked, None).await
        });
        let container = match found.await {
            Ok(container) => container,
            Err(Failure::Docker(error)) if is(&error, 404) => return Ok(None),
            Err(failure) => return Err(self.plain("look at a container", failure)),
        };
        let mut run = run(&container);
        if let Run::Exited(exit) = &mut run
            && matches!(exit.code, 126 | 127)
            && exit.error.is_empty()
        {
            exit.error = self.init_error(id).await;
        }
        let state = container.state.as_ref();
        let host = container.host_config.as_ref();
        let inspected = Inspected {
            status,
            run,
            started: state.and_then(|state| state.started_at.as_deref()).map_or(0, millis),
            cpus: host.and_then(|host| host.nano_cpus).filter(|n| *n > 0).map(|n| n as f64 / 1e9),
            memory: host.and_then(|host| host.memory).filter(|n| *n > 0).map(|n| n as u64),
        };
        let mut all = self.inspected.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(id.to_owned(), inspected.clone());
        Ok(Some(inspected))
    }

    /// What Docker's init process wrote when it could not start the program, if that is how it ended.
    async fn init_error(&self, id: &str) -> String {
        let lines = self.last_lines(id, 5).await.unwrap_or_default();
        let said = lines.iter().rev().find_map(|line| line.text.strip_prefix("[FATAL tini "));
        said.and_then(|said| said.split_once("] ")).map_or_else(String::new, |(_, words)| words.to_owned())
    }
}

/// Whether the list's words are too fine to tell a restarted container: it may say the same again a second later.
fn fresh(status: &str) -> bool {
    status.contains("second")
}

pub(super) fn status(container: &ContainerInspectResponse) -> Option<Status> {
    container.state.as_ref().and_then(|state| state.status)
}

fn run(container: &ContainerInspectResponse) -> Run {
    let state = container.state.clone().unwrap_or_default();
    let (code, error) = (state.exit_code.unwrap_or(0), state.error.unwrap_or_default());
    let exit = |at_ms| {
        let oom = state.oom_killed.unwrap_or(false);
        Run::Exited(Exit { code: i32::try_from(code).unwrap_or(255), oom, error: error.clone(), at_ms })
    };
    let since_ms = state.started_at.as_deref().map_or(0, millis);
    match state.status {
        Some(Status::RUNNING | Status::RESTARTING) => Run::Running { since_ms },
        Some(Status::PAUSED) => Run::Paused,
        // Its start failed: Docker leaves such a one as created, with a reason.
        Some(Status::CREATED) if code != 0 => exit(container.created.as_deref().map_or(0, millis)),
        Some(Status::CREATED) => Run::Created,
        _ => exit(state.finished_at.as_deref().map_or(0, millis)),
    }
}

/// Docker's times as Unix milliseconds; 0 for its zero time and for what is none.
pub(super) fn millis(time: &str) -> u64 {
    time.parse::<jiff::Timestamp>().ok().and_then(|time| u64::try_from(time.as_millisecond()).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(state: serde_json::Value) -> ContainerInspectResponse {
        let whole = serde_json::json!({ "Id": "x", "Created": "2026-01-02T03:04:05.5Z", "State": state });
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn reads_states() {
        let times = ("2026-01-02T03:04:06.123456789Z", "2026-01-02T03:04:07Z");
        let since_ms = 1_767_323_046_123;
        let is = |state: serde_json::Value| run(&container(state));
        assert_eq!(is(serde_json::json!({ "Status": "running", "StartedAt": times.0 })), Run::Running { since_ms });
        assert_eq!(is(serde_json::json!({ "Status": "paused", "StartedAt": times.0 })), Run::Paused);
        let zero = "0001-01-01T00:00:00Z";
        assert_eq!(is(serde_json::json!({ "Status": "created", "ExitCode": 0, "StartedAt": zero })), Run::Created);
        let ended = is(serde_json::json!({
            "Status": "exited", "ExitCode": 137, "OOMKilled": true, "Error": "", "FinishedAt": times.1
        }));
        let exit = Exit { code: 137, oom: true, error: String::new(), at_ms: 1_767_323_047_000 };
        assert_eq!(ended, Run::Exited(exit));
        let failed = is(serde_json::json!({ "Status": "created", "ExitCode": 127, "Error": "exec: not found" }));
        assert!(matches!(failed, Run::Exited(exit) if exit.code == 127 && exit.error == "exec: not found"));
    }

    #[test]
    fn old_words_are_trusted_and_fresh_ones_not() {
        assert!(fresh("Up 5 seconds") && fresh("Up Less than a second"));
        assert!(!fresh("Up About a minute") && !fresh("Up 3 hours (Paused)") && !fresh("Created"));
    }
}
