//! The process engine: each replica is a child process under a shim of its own ([`shim_main`]), in a folder of its own.
//! No Docker, no root. All there is to know stands in the folders, so a restarted manager adopts everything by reading.
//!
//! **Guarantees.** A replica outlives the manager, also one killed. It never runs twice (its shim holds a lock). Its
//! process is known by number, start time and boot, so a number given anew is never signalled. When it ends, whatever it
//! started ends too. When its shim is killed, it is killed. One that is parked keeps its folder, and its program is started in
//! it again.
//!
//! **What it does not do.** Replicas are not isolated: they run as the manager's user and see the host's files and
//! network. CPU and process limits are not enforced; a memory limit is, by measuring every 50 ms. Network bytes are not
//! counted. [`crate::StartSpec::network`] is ignored: all replicas are on 127.0.0.1.

mod calls;
mod copy;
mod exec;
mod identity;
mod log;
mod place;
mod retire;
mod shim;
mod state;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use sc_core::{
    AppId, Name, ReplicaId,
    observed::{Exit, Run, Seen},
    stats::Usage,
};
use tokio::{net::unix::pipe, process::Command, sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use identity::Identity;
pub use shim::shim_main;
use state::{Meta, State};

use crate::{EngineError, StartSpec, now_ms};

const NAME: &str = "the process engine";
/// How long a shim may take to start its replica, and to say that it ended after SIGKILL.
const SHIM_DEADLINE: Duration = Duration::from_secs(10);

/// How a shim is started: a program that calls [`shim_main`] with what comes after `args`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shim {
    /// The program.
    pub program: PathBuf,
    /// Its first arguments.
    pub args: Vec<String>,
}

impl Default for Shim {
    /// The running program itself (also when its file has been replaced meanwhile), with the argument `__shim`.
    fn default() -> Self {
        Self { program: "/proc/self/exe".into(), args: vec!["__shim".to_owned()] }
    }
}

/// What a process engine is made of.
#[derive(Debug, Clone)]
pub struct ProcessConfig {
    /// The node's name.
    pub node: Name,
    /// A folder of its own; made when it is missing.
    pub data: PathBuf,
    /// The store's id: replicas of another store are left alone.
    pub store: String,
    /// First and last port for replicas.
    pub ports: (u16, u16),
    /// How shims are started.
    pub shim: Shim,
}

/// The process engine.
pub struct Process(Arc<Inner>);

struct Inner {
    config: ProcessConfig,
    changed: Notify,
    /// Replicas whose end is waited for.
    watched: Mutex<BTreeSet<ReplicaId>>,
    /// Ends the execs of a replica.
    execs: Mutex<BTreeMap<ReplicaId, CancellationToken>>,
}

impl Process {
    /// Opens the folder. Replicas that run there are adopted as they are.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(config: ProcessConfig) -> Result<Self, EngineError> {
        let data = config.data.display().to_string();
        let open = || -> io::Result<PathBuf> {
            fs::create_dir_all(config.data.join("replicas"))?;
            fs::create_dir_all(config.data.join("gone"))?;
            config.data.canonicalize()
        };
        let absolute =
            open().map_err(|e| EngineError::Unavailable { engine: format!("{NAME} in {data}"), source: e.into() })?;
        let config = ProcessConfig { data: absolute, ..config };
        Ok(Self(Arc::new(Inner { config, changed: Notify::new(), watched: Mutex::default(), execs: Mutex::default() })))
    }
}

fn failed(what: impl Into<String>) -> EngineError {
    EngineError::Failed { engine: NAME.to_owned(), what: what.into() }
}

/// Runs something that reads and writes files, off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, EngineError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|e| failed(e.to_string()))?;
    done.map_err(|e| failed(e.to_string()))
}

/// What the replica of a folder is doing. A replica whose shim is gone is buried on the way.
fn look(folder: &Path) -> io::Result<(Run, State)> {
    let Some(state) = state::state(folder)? else { return Ok((Run::Created, State::default())) };
    if let Some(exit) = &state.exit {
        return Ok((Run::Exited(exit.clone()), state));
    }
    if !state.shim.as_ref().is_some_and(Identity::alive)
        && let Some(exit) = bury(folder)?
    {
        return Ok((Run::Exited(exit), state));
    }
    let stopped = state.child.as_ref().and_then(Identity::stat).is_some_and(|stat| stat.state == 'T');
    let run = if stopped { Run::Paused } else { Run::Running { since_ms: state.started_ms } };
    Ok((run, state))
}

/// Ends a replica whose shim ended without saying how; none when the shim turns out to live.
fn bury(folder: &Path) -> io::Result<Option<Exit>> {
    let Some(_lock) = state::lock(folder)? else { return Ok(None) };
    let mut state = state::state(folder)?.unwrap_or_default();
    if let Some(exit) = state.exit {
        return Ok(Some(exit));
    }
    let this_boot = state.child.as_ref().is_none_or(Identity::this_boot);
    if let Some(child) = &state.child {
        child.signal_group(Signal::KILL);
    }
    let error = if this_boot { "the process that minded it was killed" } else { "the host was restarted" };
    let exit = Exit { code: 137, oom: false, error: error.to_owned(), at_ms: now_ms() };
    state.exit = Some(exit.clone());
    state::write_state(folder, &state)?;
    Ok(Some(exit))
}

impl Inner {
    fn folder(&self, replica: &ReplicaId) -> PathBuf {
        self.config.data.join("replicas").join(state::folder_name(replica))
    }

    /// A replica's folder and what it is.
    fn find(&self, replica: &ReplicaId) -> Result<(PathBuf, Meta), EngineError> {
        let folder = self.folder(replica);
        let meta = state::meta(&folder).map_err(|e| failed(format!("{}: {e}", folder.display())))?;
        meta.map(|meta| (folder, meta)).ok_or_else(|| EngineError::NoSuchReplica(replica.clone()))
    }

    fn folders(&self, kind: &str) -> io::Result<Vec<(PathBuf, ReplicaId, Option<Meta>)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.config.data.join(kind))? {
            let path = entry?.path();
            let Some(replica) = path.file_name().and_then(|name| replica_of(name.to_str()?)) else { continue };
            let meta = state::meta(&path).unwrap_or_else(|error| {
                tracing::warn!(%error, folder = %path.display(), "a replica's folder cannot be read");
                None
            });
            if meta.as_ref().is_none_or(|meta| meta.store == self.config.store) && path.exists() {
                found.push((path, replica, meta));
            }
        }
        Ok(found)
    }

    fn observe(&self) -> io::Result<BTreeMap<ReplicaId, Seen>> {
        let mut seen = BTreeMap::new();
        for (folder, replica, meta) in self.folders("replicas")? {
            let damaged = |what: &str| {
                Run::Exited(Exit { code: 255, oom: false, error: format!("its folder is damaged: {what}"), at_ms: 0 })
            };
            let run = match (&meta, look(&folder)) {
                (Some(_), Ok((run, _))) => run,
                (None, _) => damaged("meta.json cannot be read"),
                (_, Err(_)) if !folder.exists() => continue,
                (_, Err(error)) => damaged(&error.to_string()),
            };
            let (version, addr) = meta.map_or((0, None), |meta| (meta.version, Some(meta.addr)));
            let restarts = state::restarts(&folder);
            seen.insert(replica, Seen { run, version, addr, restarts });
        }
        Ok(seen)
    }

    /// Makes the folder unless it exists. Gives whether there is anything to start.
    async fn make(self: &Arc<Self>, spec: &StartSpec) -> Result<bool, EngineError> {
        let (inner, spec) = (Arc::clone(self), spec.clone());
        let made = blocking(move || {
            let folder = inner.folder(&spec.replica);
            if state::meta(&folder)?.is_some() {
                return Ok(Ok(state::state(&folder)?.is_none()));
            }
            Ok(place::make(&folder, &inner.config.store, &spec)?.map(|()| true))
        });
        made.await?.map_err(|no| {
            EngineError::refused(no.what, "Check the command; give the program with --bin, or by its path on this host")
        })
    }

    /// Starts the shim of a folder, and waits until it has started the replica.
    async fn start(self: &Arc<Self>, replica: &ReplicaId) -> Result<(), EngineError> {
        let folder = self.folder(replica);
        let errors = fs::File::create(folder.join("shim.err")).map_err(|e| failed(e.to_string()))?;
        let mut shim = Command::new(&self.config.shim.program)
            .args(&self.config.shim.args)
            .arg("run")
            .arg(&folder)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .map_err(|e| failed(format!("{} cannot be started: {e}", self.config.shim.program.display())))?;
        let until = Instant::now() + SHIM_DEADLINE;
        let mut failed_to = false;
        while !state::state(&folder).is_ok_and(|state| state.is_some()) {
            if failed_to {
                let why = fs::read_to_string(folder.join("shim.err")).unwrap_or_default();
                return Err(failed(format!("{replica} could not be started: {}", why.trim())));
            }
            if Instant::now() > until {
                return Err(timed_out(&format!("start {replica}")));
            }
            // One that ends well leaves the replica to another shim, which came first.
            failed_to = shim.try_wait().is_ok_and(|status| status.is_some_and(|status| !status.success()));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let _ = shim.wait().await;
            inner.changed.notify_one();
        });
        Ok(())
    }

    /// Sees to it that [`crate::Engine::changed`] hears of the end of a shim that is not our child.
    fn watch(self: &Arc<Self>, replica: &ReplicaId, shim: &Identity) {
        let watched =
            |inner: &Self| inner.watched.lock().unwrap_or_else(PoisonError::into_inner).insert(replica.clone());
        let Some(pid) = Pid::from_raw(shim.pid) else { return };
        if !watched(self) {
            return;
        }
        let fd = pidfd_open(pid, PidfdFlags::NONBLOCK).ok().filter(|_| shim.alive());
        let (inner, replica) = (Arc::downgrade(self), replica.clone());
        let Some(Ok(fd)) = fd.map(pipe::Receiver::from_owned_fd_unchecked) else { return };
        tokio::spawn(async move {
            let _ = fd.readable().await;
            if let Some(inner) = inner.upgrade() {
                inner.watched.lock().unwrap_or_else(PoisonError::into_inner).remove(&replica);
                inner.changed.notify_one();
            }
        });
    }

    /// Waits until a replica has ended; false when it has not by then.
    async fn ended(&self, folder: &Path, within: Duration) -> Result<bool, EngineError> {
        let until = Instant::now() + within;
        let mut pause = Duration::from_millis(2);
        loop {
            let run = look(folder).map_err(|e| failed(e.to_string()))?.0;
            if !matches!(run, Run::Running { .. } | Run::Paused) {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(25));
        }
    }

    /// SIGTERM to the group, grace, SIGKILL to the group; at last the shim itself.
    async fn terminate(&self, replica: &ReplicaId, folder: &Path, grace: Duration) -> Result<(), EngineError> {
        // A shim that is just starting looks for this after it has said who its child is.
        fs::write(folder.join("stop"), "").map_err(|e| failed(e.to_string()))?;
        let (run, state) = look(folder).map_err(|e| failed(e.to_string()))?;
        let Some(child) = state.child.filter(|_| matches!(run, Run::Running { .. } | Run::Paused)) else {
            return Ok(());
        };
        child.signal_group(Signal::TERM);
        child.signal_group(Signal::CONT);
        if self.ended(folder, grace).await? {
            return Ok(());
        }
        child.signal_group(Signal::KILL);
        if self.ended(folder, SHIM_DEADLINE / 2).await? {
            return Ok(());
        }
        if let Some(shim) = state.shim {
            shim.signal(Signal::KILL);
        }
        match self.ended(folder, SHIM_DEADLINE / 2).await? {
            true => Ok(()),
            false => Err(timed_out(&format!("stop {replica}"))),
        }
    }

    /// Makes a folder whose replica has ended ready for another start. Gives whether there is anything to start.
    async fn make_ready(&self, replica: &ReplicaId) -> Result<bool, EngineError> {
        let (folder, _) = self.find(replica)?;
        match look(&folder).map_err(|e| failed(e.to_string()))?.0 {
            Run::Running { .. } | Run::Paused => return Ok(false),
            Run::Created => return Ok(true),
            Run::Exited(_) => {}
        }
        // Its shim has said that it ended, and holds the lock for a moment still.
        let until = Instant::now() + SHIM_DEADLINE;
        loop {
            if let Some(_lock) = state::lock(&folder).map_err(|e| failed(e.to_string()))? {
                return state::begin_anew(&folder).map(|()| true).map_err(|e| failed(e.to_string()));
            }
            if Instant::now() > until {
                return Err(timed_out(&format!("start {replica} again")));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Freezes or unfreezes the group, and waits until that is so.
    async fn freeze(&self, replica: &ReplicaId, freeze: bool) -> Result<(), EngineError> {
        let (folder, _) = self.find(replica)?;
        let until = Instant::now() + SHIM_DEADLINE;
        let mut pause = Duration::from_millis(1);
        loop {
            let (run, state) = look(&folder).map_err(|e| failed(e.to_string()))?;
            match (run, freeze) {
                (Run::Paused, true) | (Run::Running { .. }, false) => return Ok(()),
                (Run::Paused | Run::Running { .. }, _) => {}
                _ => return Err(failed(format!("{replica} is not running"))),
            }
            if let Some(child) = state.child {
                child.signal_group(if freeze { Signal::STOP } else { Signal::CONT });
            }
            if Instant::now() > until {
                return Err(timed_out(&format!("{} {replica}", if freeze { "pause" } else { "wake" })));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(25));
        }
    }

    fn usage(&self) -> io::Result<BTreeMap<ReplicaId, Usage>> {
        let all = identity::all();
        let (tick, page) = (rustix::param::clock_ticks_per_second() as f64, rustix::param::page_size() as u64);
        let mut found = BTreeMap::new();
        for (folder, replica, meta) in self.folders("replicas")? {
            let (Some(meta), Ok(Some(state))) = (meta, state::state(&folder)) else { continue };
            let Some(child) = state.child.filter(|child| state.exit.is_none() && child.alive()) else { continue };
            let session = || all.values().filter(|stat| stat.session == child.pid && !stat.dead());
            found.insert(
                replica,
                Usage {
                    at_ms: now_ms(),
                    cpu_seconds: session().map(|stat| stat.ticks).sum::<u64>() as f64 / tick,
                    cpu_limit: meta.cpus,
                    memory: session().map(|stat| stat.pages * page).sum(),
                    memory_limit: meta.memory,
                    pids: session().map(|stat| stat.threads).sum(),
                    ..Usage::default()
                },
            );
        }
        Ok(found)
    }

    /// A replica's folder, also when it is gone.
    fn log_folder(&self, replica: &ReplicaId) -> Result<PathBuf, EngineError> {
        let gone = self.config.data.join("gone").join(state::folder_name(replica));
        let found = [self.folder(replica), gone].into_iter().find(|folder| folder.join("meta.json").exists());
        found.ok_or_else(|| EngineError::NoSuchReplica(replica.clone()))
    }

    fn logged(&self, app: &AppId) -> io::Result<Vec<ReplicaId>> {
        let all = [self.folders("gone")?, self.folders("replicas")?].concat();
        let found: BTreeSet<_> = all.into_iter().map(|(_, replica, _)| replica).filter(|id| id.app == *app).collect();
        Ok(found.into_iter().collect())
    }

    /// What ends the execs of a replica.
    fn exec_token(&self, replica: &ReplicaId) -> CancellationToken {
        let mut execs = self.execs.lock().unwrap_or_else(PoisonError::into_inner);
        execs.entry(replica.clone()).or_default().child_token()
    }

    fn end_execs(&self, replica: &ReplicaId) {
        if let Some(token) = self.execs.lock().unwrap_or_else(PoisonError::into_inner).remove(replica) {
            token.cancel();
        }
    }
}

fn timed_out(what: &str) -> EngineError {
    EngineError::TimedOut { engine: NAME.to_owned(), what: what.to_owned(), seconds: SHIM_DEADLINE.as_secs() }
}

/// The replica that a folder's name means.
fn replica_of(name: &str) -> Option<ReplicaId> {
    let mut parts = name.split('.');
    let (project, app, incarnation) = (parts.next()?, parts.next()?, parts.next()?);
    let app = AppId { project: Name::new(project).ok()?, name: Name::new(app).ok()? };
    let replica = ReplicaId::new(&app, incarnation.parse().ok()?);
    (state::folder_name(&replica) == name).then_some(replica)
}

/// All replicas are here.
const IP: Ipv4Addr = Ipv4Addr::LOCALHOST;
