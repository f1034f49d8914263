//! Logs: of containers from Docker, of those that are gone from what was kept.

use bollard::{container::LogOutput, query_parameters::LogsOptions};
use futures_util::{Stream, StreamExt, TryStreamExt, stream, stream::BoxStream};
use sc_core::{AppId, ReplicaId};

use super::{Inner, kept, names, observe};
use crate::{EngineError, LogLine, LogQuery, stored};

/// Lines of a log that are read to be kept.
const KEPT_LINES: usize = 20_000;

/// Longest line; longer ones come in several pieces anyway.
const LINE_MAX: usize = 16 << 10;

impl Inner {
    /// A replica's log.
    pub(super) async fn log(
        &self,
        replica: &ReplicaId,
        query: &LogQuery,
    ) -> Result<BoxStream<'static, Result<LogLine, EngineError>>, EngineError> {
        let Some(container) = self.inspect(replica).await? else { return self.kept_log(replica, query).await };
        let docker = self.docker().await?;
        let engine = self.name();
        let since_ms = query.since_ms.unwrap_or(0);
        let lines = raw(docker, container.id.unwrap_or_default(), query)
            .map_err(move |error| EngineError::Failed { engine: engine.clone(), what: error.to_string() })
            .try_filter(move |line| std::future::ready(line.at_ms >= since_ms));
        Ok(lines.boxed())
    }

    async fn kept_log(
        &self,
        replica: &ReplicaId,
        query: &LogQuery,
    ) -> Result<BoxStream<'static, Result<LogLine, EngineError>>, EngineError> {
        let none = || EngineError::NoSuchReplica(replica.clone());
        let folder = self.config.log_dir.clone().ok_or_else(none)?;
        let asked = replica.clone();
        let lines = self.files(move || kept::read(&folder, &asked)).await?.ok_or_else(none)?;
        Ok(stream::iter(stored::select(lines, query)).map(Ok).boxed())
    }

    /// The last lines of a container's log.
    pub(super) async fn last_lines(&self, id: &str, count: usize) -> Result<Vec<LogLine>, EngineError> {
        let query = LogQuery { tail: Some(count), ..LogQuery::default() };
        let id = id.to_owned();
        self.call("read a log", |docker| raw(docker, id, &query).try_collect()).await
    }

    /// Keeps the end of a container's log before it is removed. What fails here stops nothing.
    pub(super) async fn keep_log(&self, replica: &ReplicaId, id: &str) {
        let Some(folder) = self.config.log_dir.clone() else { return };
        let keep = async {
            let lines = self.last_lines(id, KEPT_LINES).await?;
            let replica = replica.clone();
            self.files(move || kept::write(&folder, &replica, &lines)).await
        };
        if let Err(error) = keep.await {
            tracing::warn!(%replica, %error, "the log of a removed replica is lost");
        }
    }

    /// The replicas of an app that have logs.
    pub(super) async fn with_logs(&self, app: &AppId) -> Result<Vec<ReplicaId>, EngineError> {
        let listed = self.listed(None).await?;
        let labels = listed.iter().filter_map(|summary| summary.labels.as_ref().and_then(names::read));
        let mut found: Vec<_> = labels.map(|labelled| labelled.replica).filter(|id| id.app == *app).collect();
        if let Some(folder) = self.config.log_dir.clone() {
            let app = app.clone();
            found.extend(self.files(move || kept::of_app(&folder, &app)).await?);
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Runs something that reads and writes files, off the async threads.
    pub(super) async fn files<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, EngineError> {
        let done = tokio::task::spawn_blocking(work).await.map_err(|e| self.failed(e.to_string()))?;
        done.map_err(|e| self.failed(format!("kept logs: {e}")))
    }
}

fn raw(
    docker: bollard::Docker,
    id: String,
    query: &LogQuery,
) -> impl Stream<Item = Result<LogLine, bollard::errors::Error>> + Send + use<> {
    let options = LogsOptions {
        follow: query.follow,
        stdout: true,
        stderr: true,
        timestamps: true,
        since: query.since_ms.map_or(0, |ms| i32::try_from(ms / 1000).unwrap_or(i32::MAX)),
        tail: query.tail.map_or_else(|| "all".to_owned(), |tail| tail.to_string()),
        ..LogsOptions::default()
    };
    docker.logs(&id, Some(options)).map_ok(|output| line(&output))
}

/// A line with Docker's time before it.
fn line(output: &LogOutput) -> LogLine {
    let (stderr, bytes) = match output {
        LogOutput::StdErr { message } => (true, message),
        LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
            (false, message)
        }
    };
    let whole = String::from_utf8_lossy(bytes);
    let whole = whole.strip_suffix('\n').unwrap_or(&whole);
    let (time, text) = whole.split_once(' ').unwrap_or((whole, ""));
    let text = text.strip_suffix('\r').unwrap_or(text);
    let end = (0..=text.len().min(LINE_MAX)).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    LogLine { at_ms: observe::millis(time), stderr, text: text[..end].to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_docker_lines() {
        let out = |text: &str| LogOutput::StdErr { message: text.to_owned().into() };
        let read = line(&out("2026-01-02T03:04:06.123456789Z hello  world\r\n"));
        assert_eq!(read, LogLine { at_ms: 1_767_323_046_123, stderr: true, text: "hello  world".to_owned() });
        assert_eq!(line(&out("2026-01-02T03:04:06.123456789Z \n")).text, "");
        assert_eq!(line(&out(&format!("2026-01-02T03:04:06Z {}", "ü".repeat(LINE_MAX)))).text.len(), LINE_MAX);
    }
}
