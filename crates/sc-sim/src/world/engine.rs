//! The engine as one manager sees it: its calls are points at which the manager may die, and what it stops is looked at.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use sc_core::{AppId, Name, ReplicaId, observed::Node, plan::Addressing, stats::Usage};
use sc_engine::{
    Engine, EngineError, ExecSession, ExecSpec, LogLine, LogQuery, StartSpec,
    fake::{Behaviour, End, Fake},
};
use tokio_util::bytes::Bytes;

use super::{life::Life, trace::Trace, users::BEHAVES};

/// Hears of a stop, or of a freeze, before it happens.
pub trait OnStop: Send + Sync + 'static {
    /// This replica is about to be stopped or frozen.
    fn stopping(&self, who: &str, replica: &ReplicaId);
}

/// The engine as one manager sees it.
pub struct EngineEdge {
    /// Whose.
    pub who: Arc<str>,
    /// The engine itself.
    pub inner: Fake,
    /// The manager's life.
    pub life: Arc<Life>,
    /// What happens.
    pub trace: Arc<Trace>,
    /// Who hears of stops.
    pub on_stop: Arc<dyn OnStop>,
}

impl EngineEdge {
    async fn told<T>(
        &self,
        what: String,
        call: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let result = call.await;
        let word = result.as_ref().map_or_else(ToString::to_string, |_| "ok".to_owned());
        self.trace.note(&format!("{} {what}: {word}", self.who));
        self.life.point().await;
        result
    }
}

/// How a version behaves, by what its environment says. A number of an app that was removed may come again: so also
/// a version that behaves well is told.
fn behaviour(spec: &StartSpec) -> Option<Behaviour> {
    let after = Duration::from_millis(200);
    let well = Behaviour::default();
    Some(match spec.spec.env.get(BEHAVES)?.as_str() {
        "crash" => Behaviour { end: End::Exit { after, code: 1 }, ..well },
        "exit" => Behaviour { end: End::Exit { after: 20 * after, code: 0 }, ..well },
        "deaf" => Behaviour { healthy: false, ..well },
        "refused" => Behaviour { end: End::Refused("no such image".to_owned()), ..well },
        "slow" => Behaviour { start_delay: 15 * after, listen_after: 15 * after, ..well },
        _ => well,
    })
}

#[async_trait]
impl Engine for EngineEdge {
    fn node(&self) -> Name {
        self.inner.node()
    }

    fn addressing(&self) -> Addressing {
        self.inner.addressing()
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn observe(&self) -> Result<Node, EngineError> {
        self.life.point().await;
        let result = self.inner.observe().await;
        self.life.point().await;
        result
    }

    async fn start(&self, spec: &StartSpec) -> Result<(), EngineError> {
        self.life.point().await;
        if let Some(behaviour) = behaviour(spec) {
            self.inner.behave_version(&spec.replica.app, spec.version, behaviour);
        }
        self.told(format!("start {} v{}", spec.replica, spec.version), self.inner.start(spec)).await
    }

    async fn stop(&self, replica: &ReplicaId, grace_ms: u64) -> Result<(), EngineError> {
        self.life.point().await;
        self.on_stop.stopping(&self.who, replica);
        self.told(format!("stop {replica}"), self.inner.stop(replica, grace_ms)).await
    }

    async fn pause(&self, replica: &ReplicaId) -> Result<(), EngineError> {
        self.life.point().await;
        self.on_stop.stopping(&self.who, replica);
        self.told(format!("pause {replica}"), self.inner.pause(replica)).await
    }

    async fn wake(&self, replica: &ReplicaId) -> Result<(), EngineError> {
        self.life.point().await;
        self.told(format!("wake {replica}"), self.inner.wake(replica)).await
    }

    async fn park(&self, replica: &ReplicaId, grace_ms: u64) -> Result<(), EngineError> {
        self.life.point().await;
        self.on_stop.stopping(&self.who, replica);
        self.told(format!("park {replica}"), self.inner.park(replica, grace_ms)).await
    }

    async fn revive(&self, replica: &ReplicaId) -> Result<(), EngineError> {
        self.life.point().await;
        self.told(format!("revive {replica}"), self.inner.revive(replica)).await
    }

    async fn remove_network(&self, app: &AppId) -> Result<(), EngineError> {
        self.life.point().await;
        self.told(format!("remove network of {app}"), self.inner.remove_network(app)).await
    }

    async fn usage(&self) -> Result<BTreeMap<ReplicaId, Usage>, EngineError> {
        self.life.point().await;
        self.inner.usage().await
    }

    async fn logs(
        &self,
        replica: &ReplicaId,
        query: &LogQuery,
    ) -> Result<BoxStream<'static, Result<LogLine, EngineError>>, EngineError> {
        self.life.point().await;
        self.inner.logs(replica, query).await
    }

    async fn logged(&self, app: &AppId) -> Result<Vec<ReplicaId>, EngineError> {
        self.life.point().await;
        self.inner.logged(app).await
    }

    async fn exec(&self, replica: &ReplicaId, spec: &ExecSpec) -> Result<ExecSession, EngineError> {
        self.life.point().await;
        self.inner.exec(replica, spec).await
    }

    async fn copy_out(
        &self,
        replica: &ReplicaId,
        path: &str,
    ) -> Result<BoxStream<'static, Result<Bytes, EngineError>>, EngineError> {
        self.inner.copy_out(replica, path).await
    }

    async fn copy_in(
        &self,
        replica: &ReplicaId,
        directory: &str,
        tar: BoxStream<'static, std::io::Result<Bytes>>,
    ) -> Result<(), EngineError> {
        self.inner.copy_in(replica, directory, tar).await
    }

    async fn changed(&self) {
        self.inner.changed().await;
    }

    async fn collect_garbage(&self, blobs: &[String]) -> Result<(), EngineError> {
        self.inner.collect_garbage(blobs).await
    }
}
