//! What an app's replicas wrote, those that are gone included, in the order of time; and as it comes, new replicas
//! included. Nothing is stored up: a slow reader slows the reading.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream::BoxStream};
use sc_api::types::LogRecord;
use sc_core::{AppId, ReplicaId};
use sc_engine::{EngineError, LogLine, LogQuery};
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;

use super::{Answer, Api, Call, body};
use crate::{problem, world::World};

/// Lines on their way to a reader.
const QUEUE: usize = 256;
/// The most replicas whose logs are merged: the newest.
const REPLICAS: usize = 200;
/// The most last lines that can be asked for: they are held in memory.
const TAIL_MAX: u64 = 10_000;
/// How often new replicas are looked for.
const LOOKS: Duration = Duration::from_millis(500);

/// What is wanted.
#[derive(Clone)]
struct Wanted {
    app: AppId,
    since_ms: Option<u64>,
    tail: Option<usize>,
    grep: Option<String>,
}

impl Wanted {
    fn takes(&self, line: &LogLine) -> bool {
        self.grep.as_ref().is_none_or(|text| line.text.contains(text.as_str()))
    }
}

/// How far a replica's log was read: its last line's time, and how many lines of that very time.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    at_ms: u64,
    lines: usize,
}

impl Mark {
    fn pass(&mut self, line: &LogLine) {
        if line.at_ms == self.at_ms {
            self.lines += 1;
        } else {
            *self = Self { at_ms: line.at_ms, lines: 1 };
        }
    }
}

type Out = mpsc::Sender<LogRecord>;
type Lines = BoxStream<'static, Result<LogLine, EngineError>>;

impl Api {
    pub(super) async fn logs(&self, call: &Call) -> Answer {
        let tail = call.query.number("tail")?;
        if tail.is_some_and(|tail| tail > TAIL_MAX) {
            return Err(problem::invalid(format!("tail is above {TAIL_MAX}"), "use since=MS for more"));
        }
        let wanted = Wanted {
            app: call.app()?,
            since_ms: call.query.number("since")?,
            tail: tail.map(|tail| tail as usize),
            grep: call.query.get("grep").map(str::to_owned),
        };
        let (world, follow) = (self.world.clone(), call.query.flag("follow")?);
        if replicas(&world, &wanted.app).await.is_empty() {
            let desired = self.desired()?;
            if !desired.apps.contains_key(&wanted.app) {
                return Err(problem::no_app(&desired, &wanted.app));
            }
        }
        let room = self.stream()?;
        let (out, lines) = mpsc::channel(QUEUE);
        let reading = AbortOnDropHandle::new(tokio::spawn(async move {
            let marks = past(&world, &wanted, &out).await;
            if follow {
                coming(world, wanted, marks, out).await;
            }
        }));
        Ok(body::lines(ReceiverStream::new(lines).map(move |line| {
            let _held = (&room, &reading);
            line
        })))
    }
}

/// The replicas of an app that wrote something, oldest first: those there are, and those whose logs are kept.
async fn replicas(world: &World, app: &AppId) -> BTreeSet<ReplicaId> {
    let mut all: BTreeSet<ReplicaId> = world.engine.logged(app).await.unwrap_or_default().into_iter().collect();
    if let Some(record) = world.desired().as_ref().and_then(|desired| desired.apps.get(app)) {
        all.extend(record.replicas.keys().map(|n| ReplicaId::new(app, *n)));
    }
    while all.len() > REPLICAS {
        all.pop_first();
    }
    all
}

/// Sends what there is, merged by time. Gives how far each log was read.
async fn past(world: &World, wanted: &Wanted, out: &Out) -> BTreeMap<ReplicaId, Mark> {
    let mut marks = BTreeMap::new();
    let mut heads = Vec::new();
    // The last lines that match are not among the last lines.
    let tail = wanted.tail.filter(|_| wanted.grep.is_none());
    for replica in replicas(world, &wanted.app).await {
        let query = LogQuery { follow: false, since_ms: wanted.since_ms, tail };
        marks.insert(replica.clone(), Mark::default());
        let Ok(mut lines) = world.engine.logs(&replica, &query).await else { continue };
        if let Some(first) = next(&mut lines).await {
            heads.push((first, replica, lines));
        }
    }
    let mut last = VecDeque::new();
    while let Some(at) = (0..heads.len()).min_by_key(|i| (heads[*i].0.at_ms, &heads[*i].1)) {
        let (line, replica, lines) = &mut heads[at];
        let after = next(lines).await;
        let (line, replica) = match after {
            Some(after) => (std::mem::replace(line, after), replica.clone()),
            None => {
                let (line, replica, _) = heads.swap_remove(at);
                (line, replica)
            }
        };
        marks.entry(replica.clone()).or_default().pass(&line);
        if !wanted.takes(&line) {
            continue;
        }
        let Some(tail) = wanted.tail else {
            if out.send(record(replica, line)).await.is_err() {
                return marks;
            }
            continue;
        };
        last.push_back(record(replica, line));
        if last.len() > tail {
            last.pop_front();
        }
    }
    for line in last {
        if out.send(line).await.is_err() {
            break;
        }
    }
    marks
}

async fn next(lines: &mut Lines) -> Option<LogLine> {
    match lines.next().await? {
        Ok(line) => Some(line),
        Err(error) => {
            tracing::debug!(%error, "a log ended early");
            None
        }
    }
}

/// Sends what comes, of every replica, until the reader leaves.
async fn coming(world: Arc<World>, wanted: Wanted, mut known: BTreeMap<ReplicaId, Mark>, out: Out) {
    let mut following: BTreeMap<ReplicaId, AbortOnDropHandle<()>> = BTreeMap::new();
    loop {
        for replica in replicas(&world, &wanted.app).await {
            let mark = known.remove(&replica).unwrap_or_default();
            following.entry(replica).or_insert_with_key(|replica| {
                let (world, wanted, out) = (world.clone(), wanted.clone(), out.clone());
                AbortOnDropHandle::new(tokio::spawn(follow(world, replica.clone(), mark, wanted, out)))
            });
        }
        tokio::select! {
            biased;
            () = out.closed() => return,
            () = sleep(LOOKS) => {}
        }
    }
}

/// Follows one replica's log while it has a record, and once more after.
async fn follow(world: Arc<World>, replica: ReplicaId, mut mark: Mark, wanted: Wanted, out: Out) {
    loop {
        let lives = world.desired().is_some_and(|desired| desired.replica(&replica).is_some());
        let since_ms = if mark.lines > 0 { Some(mark.at_ms) } else { wanted.since_ms };
        let query = LogQuery { follow: lives, since_ms, tail: None };
        if let Ok(mut lines) = world.engine.logs(&replica, &query).await {
            let mut again = mark;
            while let Some(line) = next(&mut lines).await {
                // Lines of the mark's own time were sent already.
                if line.at_ms < again.at_ms || line.at_ms == again.at_ms && again.lines > 0 {
                    again.lines -= usize::from(line.at_ms == again.at_ms);
                    continue;
                }
                mark.pass(&line);
                if wanted.takes(&line) && out.send(record(replica.clone(), line)).await.is_err() {
                    return;
                }
            }
        }
        if !lives {
            return;
        }
        sleep(LOOKS).await;
    }
}

fn record(replica: ReplicaId, line: LogLine) -> LogRecord {
    LogRecord { replica, at_ms: line.at_ms, stderr: line.stderr, text: line.text }
}
