//! The engine's calls.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use sc_core::{AppId, Name, ReplicaId, observed::Node, plan::Addressing, stats::Usage};

use super::{Docker, container::UnderWay, kept};
use crate::{Engine, EngineError, ExecSession, ExecSpec, LogLine, LogQuery, StartSpec, now_ms};

/// [`Engine::changed`] returns by itself after this long: events may be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

#[async_trait]
impl Engine for Docker {
    fn node(&self) -> Name {
        self.inner.config.node.clone()
    }

    fn addressing(&self) -> Addressing {
        let (base, bits) = self.inner.config.pool;
        Addressing::Networks { base, bits }
    }

    fn describe(&self) -> String {
        self.inner.name()
    }

    async fn observe(&self) -> Result<Node, EngineError> {
        let at = now_ms();
        let (replicas, taken) = tokio::try_join!(self.inner.replicas(), self.inner.taken())?;
        self.inner.join_all(replicas.keys().map(|replica| &replica.app)).await?;
        Ok(Node::Known { at, replicas, taken })
    }

    async fn start(&self, spec: &StartSpec) -> Result<(), EngineError> {
        let _under_way = UnderWay::begin(&self.inner, &spec.replica);
        match self.inner.make(spec).await? {
            Some(made) => self.inner.launch(&spec.replica, &made).await,
            None => Ok(()),
        }
    }

    async fn stop(&self, replica: &ReplicaId, grace_ms: u64) -> Result<(), EngineError> {
        let _under_way = UnderWay::begin(&self.inner, replica);
        self.inner.end(replica, grace_ms).await
    }

    async fn pause(&self, replica: &ReplicaId) -> Result<(), EngineError> {
        let _under_way = UnderWay::begin(&self.inner, replica);
        self.inner.freeze(replica, true).await
    }

    async fn wake(&self, replica: &ReplicaId) -> Result<(), EngineError> {
        let _under_way = UnderWay::begin(&self.inner, replica);
        self.inner.freeze(replica, false).await
    }

    async fn park(&self, replica: &ReplicaId, grace_ms: u64) -> Result<(), EngineError> {
        let _under_way = UnderWay::begin(&self.inner, replica);
        self.inner.park(replica, grace_ms).await
    }

    async fn revive(&self, replica: &ReplicaId) -> Result<(), EngineError> {
        let _under_way = UnderWay::begin(&self.inner, replica);
        self.inner.revive(replica).await
    }

    async fn remove_network(&self, app: &AppId) -> Result<(), EngineError> {
        self.inner.drop_network(app).await
    }

    async fn usage(&self) -> Result<BTreeMap<ReplicaId, Usage>, EngineError> {
        self.inner.samples().await
    }

    async fn logs(
        &self,
        replica: &ReplicaId,
        query: &LogQuery,
    ) -> Result<BoxStream<'static, Result<LogLine, EngineError>>, EngineError> {
        self.inner.log(replica, query).await
    }

    async fn logged(&self, app: &AppId) -> Result<Vec<ReplicaId>, EngineError> {
        self.inner.with_logs(app).await
    }

    async fn exec(&self, replica: &ReplicaId, spec: &ExecSpec) -> Result<ExecSession, EngineError> {
        if spec.command.is_empty() {
            return Err(EngineError::refused("no command is given", "Write the program and its arguments after --"));
        }
        self.inner.run(replica, spec).await
    }

    async fn copy_out(
        &self,
        replica: &ReplicaId,
        path: &str,
    ) -> Result<BoxStream<'static, Result<Bytes, EngineError>>, EngineError> {
        self.inner.download(replica, path).await
    }

    async fn copy_in(
        &self,
        replica: &ReplicaId,
        directory: &str,
        tar: BoxStream<'static, std::io::Result<Bytes>>,
    ) -> Result<(), EngineError> {
        self.inner.upload(replica, directory, tar).await
    }

    async fn changed(&self) {
        let _ = tokio::time::timeout(LOOK_AGAIN, self.inner.changed.notified()).await;
    }

    async fn collect_garbage(&self, blobs: &[String]) -> Result<(), EngineError> {
        self.inner.remove_unused_images(blobs).await?;
        match self.inner.config.log_dir.clone() {
            Some(folder) => self.inner.files(move || kept::prune(&folder)).await,
            None => Ok(()),
        }
    }
}
