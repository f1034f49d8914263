//! The fake's calls: each meets its fate, then has its effect.

use std::{collections::BTreeMap, io::Read, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use sc_core::{
    AppId, Name, ReplicaId,
    observed::{Exit, Node, Run},
    plan::Addressing,
    stats::Usage,
};
use tokio::{io::AsyncReadExt, sync::watch, time::sleep};

use super::{Call, Effect, End, ExecAnswer, Fake, Fault};
use crate::{Engine, EngineError, ExecOutput, ExecSession, ExecSpec, LogLine, LogQuery, StartSpec};

/// How often a followed log is looked at.
const FOLLOW: Duration = Duration::from_millis(100);

impl Fake {
    fn failed(&self, what: impl Into<String>) -> EngineError {
        EngineError::Failed { engine: self.describe(), what: what.into() }
    }

    fn unreachable(&self) -> EngineError {
        EngineError::Unavailable { engine: self.describe(), source: "the test says so".into() }
    }

    async fn timed_out(&self, call: &Call) -> EngineError {
        let deadline = self.0.config.deadline;
        sleep(deadline).await;
        EngineError::TimedOut { engine: self.describe(), what: format!("{call:?}"), seconds: deadline.as_secs() }
    }

    /// Records the call and lets it meet its fate so far as that comes before its effect.
    async fn meet(&self, call: &Call) -> Result<Fault, EngineError> {
        let now = self.now_ms();
        self.world().record(now, call.clone());
        let (faults, down) = {
            let knobs = self.knobs();
            (knobs.faults.clone(), knobs.down)
        };
        if down {
            return Err(self.unreachable());
        }
        let Some(faults) = faults else { return Ok(Fault::None) };
        let fate = faults.fate(call);
        if !fate.delay.is_zero() {
            sleep(fate.delay).await;
        }
        match fate.fault {
            Fault::Fail => Err(self.unreachable()),
            Fault::Hang => Err(self.timed_out(call).await),
            fault => Ok(fault),
        }
    }

    /// For calls that change nothing: any fault is a failure.
    async fn look(&self, call: &Call) -> Result<(), EngineError> {
        match self.meet(call).await? {
            Fault::None => Ok(()),
            Fault::LoseReply | Fault::Late(_) => Err(self.timed_out(call).await),
            _ => Err(self.unreachable()),
        }
    }

    /// Has the effect of a call as its fate wants it.
    async fn effect(&self, call: &Call, effect: Effect) -> Result<(), EngineError> {
        let fault = self.meet(call).await?;
        let now = self.now_ms();
        let late = |by: Duration| now + by.as_millis() as u64;
        match fault {
            Fault::Late(by) => {
                self.world().later.push((late(self.0.config.deadline + by), effect));
                return Err(self.timed_out(call).await);
            }
            Fault::Twice(after) => self.world().later.push((late(after), effect.clone())),
            Fault::Half => return Err(self.half(effect)),
            _ => {}
        }
        let done = self.world().apply(&effect, now).map_err(|what| self.failed(what));
        self.touch();
        match fault {
            Fault::LoseReply => Err(self.timed_out(call).await),
            _ => done,
        }
    }

    fn half(&self, effect: Effect) -> EngineError {
        match &effect {
            Effect::Start(spec, behaviour) => {
                let _ = self.world().make(spec, behaviour);
            }
            Effect::Stop(id) => self.end_by(id, 143),
            _ => {}
        }
        self.touch();
        self.failed("the connection broke off")
    }

    fn end_by(&self, replica: &ReplicaId, code: i32) {
        let at_ms = self.now_ms();
        self.world().end(replica, Exit { code, oom: false, error: String::new(), at_ms });
        self.touch();
    }

    fn known(&self, replica: &ReplicaId) -> Result<Run, EngineError> {
        self.run_of(replica).ok_or_else(|| EngineError::NoSuchReplica(replica.clone()))
    }

    /// SIGTERM, at most `grace_ms`, SIGKILL. Dropped in between, the process still has its SIGTERM.
    async fn terminate(&self, replica: &ReplicaId, grace_ms: u64) {
        let Some((takes, alive)) =
            self.world().containers.get(replica).map(|c| (c.behaviour.stop_delay.as_millis() as u64, c.alive()))
        else {
            return;
        };
        if !alive {
            return;
        }
        let now = self.now_ms();
        let (after, code) = if takes <= grace_ms { (takes, 143) } else { (grace_ms, 137) };
        let exit = Exit { code, oom: false, error: String::new(), at_ms: now + after };
        if let Some(container) = self.world().containers.get_mut(replica) {
            if container.run == Run::Paused {
                container.run = Run::Running { since_ms: now };
            }
            container.ends_at = Some((now + after, exit));
        }
        if after > 0 {
            sleep(Duration::from_millis(after)).await;
        }
        self.end_by(replica, code);
    }

    fn lines(&self, replica: &ReplicaId, query: &LogQuery) -> Vec<LogLine> {
        let world = self.world();
        let lines = world.logs.get(replica).into_iter().flatten();
        let lines: Vec<_> = lines.filter(|l| query.since_ms.is_none_or(|since| l.at_ms >= since)).cloned().collect();
        let skip = query.tail.map_or(0, |tail| lines.len().saturating_sub(tail));
        lines[skip..].to_vec()
    }

    /// Lines as they come, until the replica has ended.
    fn follow(self, replica: ReplicaId, query: LogQuery) -> BoxStream<'static, Result<LogLine, EngineError>> {
        let skipped = self.lines(&replica, &LogQuery { tail: None, ..query.clone() }).len();
        let given = skipped.saturating_sub(query.tail.unwrap_or(usize::MAX));
        let query = LogQuery { tail: None, ..query };
        let step = move |given: usize| {
            let (fake, replica, query) = (self.clone(), replica.clone(), query.clone());
            async move {
                loop {
                    let ended =
                        !matches!(fake.run_of(&replica), Some(Run::Created | Run::Running { .. } | Run::Paused));
                    let lines = fake.lines(&replica, &query);
                    if lines.len() > given {
                        let all = lines.len();
                        return Some((stream::iter(lines.into_iter().skip(given).map(Ok)), all));
                    }
                    if ended {
                        return None;
                    }
                    sleep(FOLLOW).await;
                }
            }
        };
        stream::unfold(given, step).flatten().boxed()
    }
}

#[async_trait]
impl Engine for Fake {
    fn node(&self) -> Name {
        self.0.config.node.clone()
    }

    fn addressing(&self) -> Addressing {
        self.0.config.addressing.clone()
    }

    fn describe(&self) -> String {
        "the fake engine".to_owned()
    }

    async fn observe(&self) -> Result<Node, EngineError> {
        self.look(&Call::Observe).await?;
        let (at, replicas) = (self.now_ms(), self.containers());
        Ok(Node::Known { at, replicas, taken: self.world().taken.clone() })
    }

    async fn start(&self, spec: &StartSpec) -> Result<(), EngineError> {
        let behaviour = self.behaviour(spec);
        if let End::Refused(what) = &behaviour.end {
            self.look(&Call::Start(spec.replica.clone())).await?;
            return Err(EngineError::refused(what, "The test says so"));
        }
        let delay = behaviour.start_delay;
        let cannot = match &behaviour.end {
            End::CannotStart(what) => Some(what.clone()),
            _ => None,
        };
        self.effect(&Call::Start(spec.replica.clone()), Effect::Start(Box::new(spec.clone()), behaviour)).await?;
        if self.run_of(&spec.replica) == Some(Run::Created) {
            sleep(delay).await;
            self.touch();
        }
        match cannot {
            Some(what) => Err(EngineError::refused(what, "The test says so")),
            None => Ok(()),
        }
    }

    async fn stop(&self, replica: &ReplicaId, grace_ms: u64) -> Result<(), EngineError> {
        let call = Call::Stop(replica.clone());
        let fault = self.meet(&call).await?;
        let now = self.now_ms();
        if let Fault::Late(by) = fault {
            let at = now + (self.0.config.deadline + by).as_millis() as u64;
            self.world().later.push((at, Effect::Stop(replica.clone())));
            return Err(self.timed_out(&call).await);
        }
        self.terminate(replica, grace_ms).await;
        if fault == Fault::Half {
            return Err(self.failed("the connection broke off"));
        }
        self.world().containers.remove(replica);
        self.touch();
        match fault {
            Fault::LoseReply => Err(self.timed_out(&call).await),
            _ => Ok(()),
        }
    }

    async fn pause(&self, replica: &ReplicaId) -> Result<(), EngineError> {
        self.known(replica)?;
        self.effect(&Call::Pause(replica.clone()), Effect::Pause(replica.clone())).await
    }

    async fn wake(&self, replica: &ReplicaId) -> Result<(), EngineError> {
        self.known(replica)?;
        self.effect(&Call::Wake(replica.clone()), Effect::Wake(replica.clone())).await
    }

    async fn park(&self, replica: &ReplicaId, grace_ms: u64) -> Result<(), EngineError> {
        self.known(replica)?;
        let call = Call::Park(replica.clone());
        let fault = self.meet(&call).await?;
        if let Fault::Late(by) = fault {
            let at = self.now_ms() + (self.0.config.deadline + by).as_millis() as u64;
            self.world().later.push((at, Effect::Park(replica.clone())));
            return Err(self.timed_out(&call).await);
        }
        self.terminate(replica, grace_ms).await;
        match fault {
            Fault::Half => Err(self.failed("the connection broke off")),
            Fault::LoseReply => Err(self.timed_out(&call).await),
            _ => Ok(()),
        }
    }

    async fn revive(&self, replica: &ReplicaId) -> Result<(), EngineError> {
        self.known(replica)?;
        let delay = self.world().containers.get(replica).map(|container| container.behaviour.start_delay);
        self.effect(&Call::Revive(replica.clone()), Effect::Revive(replica.clone())).await?;
        if self.run_of(replica) == Some(Run::Created) {
            sleep(delay.unwrap_or_default()).await;
            self.touch();
        }
        Ok(())
    }

    async fn remove_network(&self, app: &AppId) -> Result<(), EngineError> {
        self.effect(&Call::RemoveNetwork(app.clone()), Effect::RemoveNetwork(app.clone())).await
    }

    async fn usage(&self) -> Result<BTreeMap<ReplicaId, Usage>, EngineError> {
        self.look(&Call::Usage).await?;
        let now = self.now_ms();
        let world = self.world();
        Ok(world.containers.iter().filter_map(|(id, c)| Some((id.clone(), c.usage(now)?))).collect())
    }

    async fn logs(
        &self,
        replica: &ReplicaId,
        query: &LogQuery,
    ) -> Result<BoxStream<'static, Result<LogLine, EngineError>>, EngineError> {
        self.look(&Call::Logs(replica.clone())).await?;
        if !self.world().logs.contains_key(replica) {
            return Err(EngineError::NoSuchReplica(replica.clone()));
        }
        if query.follow {
            return Ok(self.clone().follow(replica.clone(), query.clone()));
        }
        Ok(stream::iter(self.lines(replica, query)).map(Ok).boxed())
    }

    async fn logged(&self, app: &AppId) -> Result<Vec<ReplicaId>, EngineError> {
        self.look(&Call::Observe).await?;
        Ok(self.world().logs.keys().filter(|id| id.app == *app).cloned().collect())
    }

    async fn exec(&self, replica: &ReplicaId, spec: &ExecSpec) -> Result<ExecSession, EngineError> {
        self.look(&Call::Exec(replica.clone())).await?;
        if !matches!(self.known(replica)?, Run::Running { .. }) {
            return Err(self.failed(format!("{replica} is not running")));
        }
        let answer = self.knobs().on_exec.clone();
        let (input, mut heard) = tokio::io::duplex(64 << 10);
        let (size, mut sizes) = watch::channel((0, 0));
        let output = match answer(replica, spec) {
            ExecAnswer::Say(output) => {
                tokio::spawn(async move { tokio::io::copy(&mut heard, &mut tokio::io::sink()).await });
                stream::iter(output).map(Ok).boxed()
            }
            ExecAnswer::Echo => stream::once(async move {
                let mut all = Vec::new();
                let _ = heard.read_to_end(&mut all).await;
                stream::iter([Ok(ExecOutput::Stdout(all.into())), Ok(ExecOutput::Exit(0))])
            })
            .flatten()
            .boxed(),
            ExecAnswer::Size => stream::once(async move {
                let _ = sizes.changed().await;
                let (columns, rows) = *sizes.borrow();
                stream::iter([Ok(ExecOutput::Stdout(format!("{columns}x{rows}").into())), Ok(ExecOutput::Exit(0))])
            })
            .flatten()
            .boxed(),
        };
        Ok(ExecSession { output, input: Box::new(input), size })
    }

    async fn copy_out(
        &self,
        replica: &ReplicaId,
        path: &str,
    ) -> Result<BoxStream<'static, Result<Bytes, EngineError>>, EngineError> {
        self.look(&Call::Copy(replica.clone())).await?;
        self.known(replica)?;
        let below = format!("{}/", path.trim_end_matches('/'));
        let world = self.world();
        let files = world.containers.get(replica).map(|c| c.files.clone()).unwrap_or_default();
        drop(world);
        let mut tar = tar::Builder::new(Vec::new());
        let parent = path.trim_end_matches('/').rsplit_once('/').map_or("", |(parent, _)| parent);
        for (name, content) in files.iter().filter(|(name, _)| *name == path || name.starts_with(&below)) {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            let relative = name.strip_prefix(parent).unwrap_or(name).trim_start_matches('/');
            tar.append_data(&mut header, relative, content.as_slice()).map_err(|e| self.failed(e.to_string()))?;
        }
        let bytes = tar.into_inner().map_err(|e| self.failed(e.to_string()))?;
        if bytes.len() <= 1024 {
            return Err(EngineError::refused(format!("there is no {path} in {replica}"), "Check the path"));
        }
        Ok(stream::iter([Ok(bytes.into())]).boxed())
    }

    async fn copy_in(
        &self,
        replica: &ReplicaId,
        directory: &str,
        tar: BoxStream<'static, std::io::Result<Bytes>>,
    ) -> Result<(), EngineError> {
        self.look(&Call::Copy(replica.clone())).await?;
        self.known(replica)?;
        let bytes: Vec<Bytes> = tar.try_collect().await.map_err(|e| self.failed(e.to_string()))?;
        let files = unpack(&bytes.concat(), directory).map_err(|e| self.failed(e.to_string()))?;
        if let Some(container) = self.world().containers.get_mut(replica) {
            container.files.extend(files);
        }
        Ok(())
    }

    async fn changed(&self) {
        let notified = self.0.changed.notified();
        let next = self.world().next_event();
        let due = async {
            match next {
                Some(at) => sleep(Duration::from_millis(at.saturating_sub(self.now_ms()))).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased; // The same order every time: a seed must give the same run.
            () = notified => {}
            () = due => {}
        }
    }

    async fn collect_garbage(&self, _blobs: &[String]) -> Result<(), EngineError> {
        self.look(&Call::CollectGarbage).await
    }
}

fn unpack(tar: &[u8], directory: &str) -> std::io::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry?;
        let path = format!("{}/{}", directory.trim_end_matches('/'), entry.path()?.display());
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        if entry.header().entry_type().is_file() {
            files.insert(path, content);
        }
    }
    Ok(files)
}
