//! The engine's calls.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream, stream::BoxStream};
use sc_core::{
    AppId, Name, ReplicaId,
    observed::{Node, Run},
    plan::Addressing,
    spec::AppSpec,
    stats::Usage,
};
use tokio_util::io::{ReaderStream, StreamReader, SyncIoBridge};

use super::{IP, Inner, NAME, Process, blocking, copy, exec, failed, log::Tail, look, place, retire, state};
use crate::{Engine, EngineError, ExecSession, ExecSpec, LogLine, LogQuery, StartSpec, stored::select};

/// How often a followed log is looked at.
const FOLLOW: Duration = Duration::from_millis(100);

impl Inner {
    /// The lines that come to a log, until its replica has ended.
    fn follow(self: Arc<Self>, replica: ReplicaId, tail: Tail, query: LogQuery) -> LogStream {
        let first = true;
        stream::unfold(Some((tail, first)), move |step| {
            let (inner, replica, query) = (Arc::clone(&self), replica.clone(), query.clone());
            async move {
                let (mut tail, first) = step?;
                loop {
                    // Whether it has ended is asked first: what it wrote before its end is then in the log.
                    let ended = inner.over(&replica);
                    let (lines, back) = match blocking(move || Ok((tail.read()?, tail))).await {
                        Ok(read) => read,
                        Err(error) => return Some((vec![Err(error)], None)),
                    };
                    let lines = if first { select(lines, &query) } else { lines };
                    if !lines.is_empty() || (ended && first) {
                        return Some((lines.into_iter().map(Ok).collect(), (!ended).then_some((back, false))));
                    }
                    if ended {
                        return None;
                    }
                    tail = back;
                    tokio::time::sleep(FOLLOW).await;
                }
            }
        })
        .flat_map(stream::iter)
        .boxed()
    }

    fn over(&self, replica: &ReplicaId) -> bool {
        let folder = self.folder(replica);
        !folder.exists() || look(&folder).is_ok_and(|(run, _)| matches!(run, Run::Exited(_)))
    }

    async fn running(&self, replica: &ReplicaId) -> Result<(std::path::PathBuf, state::Meta), EngineError> {
        let found = self.find(replica)?;
        match look(&found.0).map_err(|e| failed(e.to_string()))?.0 {
            Run::Running { .. } => Ok(found),
            _ => Err(failed(format!("{replica} is not running"))),
        }
    }
}

type LogStream = BoxStream<'static, Result<LogLine, EngineError>>;

#[async_trait]
impl Engine for Process {
    fn node(&self) -> Name {
        self.0.config.node.clone()
    }

    fn addressing(&self) -> Addressing {
        let (first, last) = self.0.config.ports;
        Addressing::Ports { ip: IP, first, last }
    }

    fn describe(&self) -> String {
        format!("{NAME} in {}", self.0.config.data.display())
    }

    fn check(&self, spec: &AppSpec) -> Result<(), EngineError> {
        place::check(spec)
    }

    fn warnings(&self, spec: &AppSpec) -> Vec<String> {
        place::warnings(spec)
    }

    async fn observe(&self) -> Result<Node, EngineError> {
        let inner = Arc::clone(&self.0);
        let replicas = blocking(move || inner.observe()).await?;
        for (replica, seen) in &replicas {
            if matches!(seen.run, Run::Running { .. } | Run::Paused)
                && let Ok(Some(state::State { shim: Some(shim), .. })) = state::state(&self.0.folder(replica))
            {
                self.0.watch(replica, &shim);
            }
        }
        Ok(Node::Known { at: crate::now_ms(), replicas, taken: Vec::new() })
    }

    async fn start(&self, spec: &StartSpec) -> Result<(), EngineError> {
        place::check(&spec.spec)?;
        if self.0.make(spec).await? {
            self.0.start(&spec.replica).await?;
        }
        Ok(())
    }

    async fn stop(&self, replica: &ReplicaId, grace_ms: u64) -> Result<(), EngineError> {
        let folder = self.0.folder(replica);
        if !folder.exists() {
            return Ok(());
        }
        self.0.end_execs(replica);
        self.0.terminate(replica, &folder, Duration::from_millis(grace_ms)).await?;
        let data = self.0.config.data.clone();
        blocking(move || retire::retire(&data, &folder)).await
    }

    async fn pause(&self, replica: &ReplicaId) -> Result<(), EngineError> {
        self.0.freeze(replica, true).await
    }

    async fn wake(&self, replica: &ReplicaId) -> Result<(), EngineError> {
        self.0.freeze(replica, false).await
    }

    async fn park(&self, replica: &ReplicaId, grace_ms: u64) -> Result<(), EngineError> {
        let (folder, _) = self.0.find(replica)?;
        self.0.end_execs(replica);
        self.0.terminate(replica, &folder, Duration::from_millis(grace_ms)).await
    }

    async fn revive(&self, replica: &ReplicaId) -> Result<(), EngineError> {
        if self.0.make_ready(replica).await? {
            self.0.start(replica).await?;
        }
        Ok(())
    }

    /// There are no networks here.
    async fn remove_network(&self, _app: &AppId) -> Result<(), EngineError> {
        Ok(())
    }

    async fn usage(&self) -> Result<BTreeMap<ReplicaId, Usage>, EngineError> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.usage()).await
    }

    async fn logs(&self, replica: &ReplicaId, query: &LogQuery) -> Result<LogStream, EngineError> {
        let folder = self.0.log_folder(replica)?;
        let mut tail = blocking(move || Ok(Tail::open(&folder))).await?;
        if query.follow {
            return Ok(Arc::clone(&self.0).follow(replica.clone(), tail, query.clone()));
        }
        let lines = blocking(move || tail.read()).await?;
        Ok(stream::iter(select(lines, query)).map(Ok).boxed())
    }

    async fn logged(&self, app: &AppId) -> Result<Vec<ReplicaId>, EngineError> {
        let (inner, app) = (Arc::clone(&self.0), app.clone());
        blocking(move || inner.logged(&app)).await
    }

    async fn exec(&self, replica: &ReplicaId, spec: &ExecSpec) -> Result<ExecSession, EngineError> {
        if spec.command.is_empty() {
            return Err(EngineError::refused("no command is given", "Write the program and its arguments after --"));
        }
        let (folder, meta) = self.0.running(replica).await?;
        exec::start(&self.0.config.shim, &folder, &meta, spec, self.0.exec_token(replica))
    }

    async fn copy_out(
        &self,
        replica: &ReplicaId,
        path: &str,
    ) -> Result<BoxStream<'static, Result<Bytes, EngineError>>, EngineError> {
        let (folder, _) = self.0.find(replica)?;
        let root = folder.join("root");
        let (checked, path) = (root.clone(), path.to_owned());
        let path = blocking(move || copy::find(&checked, &path)).await.map_err(|e| match e {
            EngineError::Failed { what, .. } => {
                EngineError::refused(what, "Paths are those inside the replica's own folder")
            }
            other => other,
        })?;
        let (to, from) = tokio::io::duplex(256 << 10);
        let copying = tokio::task::spawn_blocking(move || copy::out(&root, &path, SyncIoBridge::new(to)));
        let end = stream::once(copying).filter_map(|done| async move {
            let error = match done {
                Ok(Ok(())) => return None,
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            Some(Err(failed(error)))
        });
        let bytes = ReaderStream::new(from).map(|piece| piece.map_err(|e| failed(e.to_string())));
        Ok(bytes.chain(end).boxed())
    }

    async fn copy_in(
        &self,
        replica: &ReplicaId,
        directory: &str,
        tar: BoxStream<'static, std::io::Result<Bytes>>,
    ) -> Result<(), EngineError> {
        let (folder, _) = self.0.find(replica)?;
        let directory = directory.to_owned();
        let from = SyncIoBridge::new(StreamReader::new(tar));
        blocking(move || copy::into(&folder.join("root"), &directory, from)).await
    }

    async fn changed(&self) {
        self.0.changed.notified().await;
    }

    async fn collect_garbage(&self, _blobs: &[String]) -> Result<(), EngineError> {
        let data = self.0.config.data.clone();
        blocking(move || retire::prune(&data)).await
    }
}
