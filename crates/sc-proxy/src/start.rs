//! Starting and stopping a proxy.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use sc_core::records::Proxy;
use sc_vault::KeyFile;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::sync::{oneshot, watch};

use crate::{
    access, admin,
    config::{Admin, Config, Source},
    control::{
        self, Parts, Phase, Published, SourceSeed,
        certs::CertSeed,
        disk,
        disk::Disk,
        register::{Leaves, Registrar},
    },
    live::Shared,
    source::{
        self, FileSource, GivenCerts, GivenSource, ManagerCerts, ManagerSource, StoreCerts, StoreSource,
        file::FileError, link::Link,
    },
    tls::{Tls, TlsError},
    upgrade::{Handed, LETTING_GO, listener_use, moves, wire::Use},
    worker::{self, Door, Listener, Plan, Signal},
};

/// How many connections may wait to be accepted, per listener.
const BACKLOG: i32 = 4096;

/// Why a proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is nowhere to listen.
    #[error("give at least one address to listen on")]
    NoListen,
    /// An address cannot be listened on.
    #[error("cannot listen on {addr}: {hint}")]
    Listen {
        /// Which.
        addr: SocketAddr,
        /// What to do.
        hint: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The admin address cannot be listened on.
    #[error("cannot serve the admin API on {addr}: {hint}")]
    Admin {
        /// Which.
        addr: String,
        /// What to do.
        hint: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The data folder cannot be used.
    #[error("cannot use the data folder {}", path.display())]
    Data {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The id is not valid.
    #[error("{0:?} is no valid id: use 1 to 64 letters, digits, '.', '_' and '-'")]
    Id(String),
    /// The manager's address is not valid.
    #[error("{0}")]
    Manager(String),
    /// HTTPS cannot be served.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The routes file is not right.
    #[error(transparent)]
    Routes(#[from] FileError),
    /// The access log cannot be written.
    #[error("cannot write the access log to {target:?}")]
    AccessLog {
        /// Where.
        target: access::Target,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The running proxy did not hand over, or the socket for the next one cannot be used.
    #[error("cannot take over, or later hand over, at {}", path.display())]
    Upgrade {
        /// Its socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system gives no more threads.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// A running proxy. Dropping it stops it at once, without waiting.
pub struct Running {
    /// Where it takes traffic.
    pub listen: Vec<SocketAddr>,
    /// Where it takes HTTPS.
    pub listen_tls: Vec<SocketAddr>,
    /// Where its stats stream and admin API are: `http://IP:PORT` or `unix:PATH`.
    pub stats: String,
    /// Its id.
    pub id: String,
    /// Changes with every start.
    pub boot: String,
    grace: Duration,
    shared: Arc<Shared>,
    signal: Arc<watch::Sender<Signal>>,
    workers: Vec<JoinHandle<()>>,
    control: Option<(oneshot::Sender<Leaves>, JoinHandle<()>)>,
    socket: Option<PathBuf>,
    phase: Arc<watch::Sender<Phase>>,
    /// Its sockets once more, for a process that takes over; gone as soon as it stops.
    sockets: Vec<(Use, OwnedFd)>,
    /// Writes the access log; it ends when the workers have.
    writer: Option<JoinHandle<()>>,
    /// What is said when it has ended.
    leaves: Leaves,
    /// Gives clients' connections to the next process; it ends when the workers have.
    giver: Option<JoinHandle<()>>,
    /// Takes those of the process before; it ends with that one.
    taker: Option<JoinHandle<()>>,
}

/// Starts a proxy: it serves when this returns. It runs on threads of its own and needs no runtime of the caller's, but a
/// [`Source::Store`] needs the one that its store lives on.
///
/// # Errors
/// When an address is taken, the data folder or the routes file is not usable, or the configuration makes no sense. Nothing is
/// left behind then.
pub fn start(config: Config) -> Result<Running, StartError> {
    let (mut running, crew) = prepare(config, Handed::default(), Phase::Serving)?;
    running.launch(crew)?;
    Ok(running)
}

/// The workers that are still to be started.
pub(crate) struct Crew {
    plans: Vec<Plan>,
    /// Addresses for which fewer sockets were handed over than there are workers, by the first worker without.
    missing: Vec<(usize, SocketAddr, Door)>,
}

/// Starts all but the workers, with what was handed over of the sockets.
pub(crate) fn prepare(config: Config, mut handed: Handed, phase: Phase) -> Result<(Running, Crew), StartError> {
    let threads = threads(config.threads);
    let (kind, keeps) = match &config.source {
        Source::Store(_) => ("store", true),
        Source::Manager { .. } => ("manager", true),
        Source::File(_) | Source::Given(_) => ("", false),
    };
    let boot = random_name();
    let id = match phase {
        // The process before it keeps its id until it has drained.
        Phase::Waiting => format!("{:.47}.{boot}", id(&config)?),
        _ => id(&config)?,
    };
    let (source, registrar) = source(&config.source)?;
    let cert_source = cert_source(&config)?;
    let disk = config.data.as_deref().filter(|_| keeps).map(|data| Disk::new(data, kind));
    if config.listen.is_empty() && config.tls.listen.is_empty() {
        return Err(StartError::NoListen);
    }
    let tls = (!config.tls.listen.is_empty()).then(|| {
        let stored = disk.as_ref().and_then(Disk::load_certs);
        Tls::new(&config.tls, config.data.as_deref(), stored)
    });
    let tls = tls.transpose()?;
    let mut listeners: Vec<Vec<Listener>> = (0..threads).map(|_| Vec::new()).collect();
    let mut missing = Vec::new();
    let listen_tls = listen(&config.tls.listen, Door::Tls, &mut listeners, &mut handed, &mut missing)?;
    let listen = listen(&config.listen, Door::Http, &mut listeners, &mut handed, &mut missing)?;
    let (admin, stats, socket) = bind_admin(&config.admin, &mut handed)?;
    let sockets = again(&listeners, &admin, &config.admin).map_err(StartError::Thread)?;

    let shared = Arc::new(Shared::new(threads));
    let ip = config.tcp_listen.or_else(|| listen.iter().chain(&listen_tls).map(SocketAddr::ip).next());
    if let Some(ip) = ip {
        shared.ports.begin(ip, handed);
    }
    let (access, writer) = access_log(&config, &shared)?;
    let published = Published::first(&shared, disk.as_ref().and_then(Disk::load));
    let (signal, signals) = watch::channel(Signal::default());
    let signal = Arc::new(signal);
    let (stop, stopped) = oneshot::channel();
    let all: Vec<_> = listen.iter().chain(&listen_tls).copied().collect();
    let record = record(&stats, &boot, &all);
    let shelf = tls.as_ref().map(|tls| tls.shelf.clone());
    let mut fixed = admin::settings::of(&config, threads);
    (fixed["id"], fixed["boot"]) = (id.as_str().into(), boot.as_str().into());
    (fixed["listen"], fixed["listen_tls"]) = (serde_json::json!(listen), serde_json::json!(listen_tls));
    let settings = control::Settings { fixed, log: config.log.clone(), certs: shelf.clone() };
    let (tls, folder) = tls.map(|tls| (tls.config, tls.folder)).unzip();
    let mut running = Running {
        listen,
        listen_tls,
        stats,
        id: id.clone(),
        boot: boot.clone(),
        grace: config.grace,
        shared: shared.clone(),
        signal: signal.clone(),
        workers: Vec::new(),
        control: None,
        // Not this process's to remove before it serves.
        socket: socket.filter(|_| phase == Phase::Serving),
        phase: Arc::new(watch::channel(phase).0),
        sockets,
        writer: None,
        leaves: Leaves::Stopped,
        giver: None,
        taker: None,
    };
    let parts = Parts {
        id,
        boot,
        record,
        shared: shared.clone(),
        signal,
        source,
        registrar,
        disk,
        certs: folder.flatten(),
        cert_source,
        shelf,
        admin,
        published,
        phase: running.phase.clone(),
        settings,
        stop: stopped,
    };
    running.control = Some((stop, spawn("sc-proxy-control", move || control::run(parts))?));
    if let Some(writer) = writer {
        running.writer = Some(spawn("sc-proxy-log", move || writer.run())?);
    }
    let (inboxes, outboxes) = worker::boxes(threads);
    let plan = |(thread, (listeners, inbox))| {
        let (shared, signal, outboxes) = (shared.clone(), signals.clone(), outboxes.clone());
        let (limits, trust, relays) = (config.limits.clone(), config.trust.clone(), config.relays.clone());
        let (tls, http1, access) = (tls.clone(), config.http1, access.clone());
        Plan { thread, listeners, inbox, outboxes, tls, shared, limits, trust, relays, http1, access, signal }
    };
    let plans = listeners.into_iter().zip(inboxes).enumerate().map(plan).collect();
    Ok((running, Crew { plans, missing }))
}

fn access_log(
    config: &Config,
    shared: &Arc<Shared>,
) -> Result<(Option<access::Source>, Option<access::Writer>), StartError> {
    let Some(log) = &config.access_log else { return Ok((None, None)) };
    let failed = |source| StartError::AccessLog { target: log.target.clone(), source };
    let (writer, batches) = access::Writer::open(&log.target, shared.clone()).map_err(failed)?;
    Ok((Some(access::Source::new(log.clone(), shared.clone(), batches)), Some(writer)))
}

fn threads(asked: usize) -> usize {
    if asked > 0 { asked } else { thread::available_parallelism().map_or(1, Into::into) }
}

fn spawn(name: &str, body: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    let run = move || {
        if let Err(error) = body() {
            tracing::error!(%error, "a thread ended");
        }
    };
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(StartError::Thread)
}

fn id(config: &Config) -> Result<String, StartError> {
    let id = match (&config.id, &config.data) {
        (_, Some(data)) => {
            let failed = |source| StartError::Data { path: data.clone(), source };
            std::fs::create_dir_all(data).map_err(failed)?;
            match &config.id {
                Some(id) => id.clone(),
                None => disk::id(data, random_name).map_err(failed)?,
            }
        }
        (Some(id), None) => id.clone(),
        (None, None) => random_name(),
    };
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if (1..=64).contains(&id.len()) && id.bytes().all(fine) { Ok(id) } else { Err(StartError::Id(id)) }
}

fn random_name() -> String {
    let part = || std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), Instant::now());
    format!("{:016x}", part() ^ u64::from(std::process::id()).rotate_left(40))
}

fn source(source: &Source) -> Result<(SourceSeed, Option<Registrar>), StartError> {
    Ok(match source {
        Source::Store(store) => {
            let (source, registrar) = (store.clone(), store.clone());
            (Box::new(|| Box::new(StoreSource::new(source))), Some(Registrar::Store(registrar)))
        }
        Source::Manager { url, token } => {
            let link = Link::new(url, token.clone()).map_err(StartError::Manager)?;
            let registrar = Registrar::Manager(link.clone());
            (Box::new(|| Box::new(ManagerSource::new(link))), Some(registrar))
        }
        Source::File(path) => {
            let source = FileSource::open(path)?;
            (Box::new(|| Box::new(source) as Box<dyn source::RouteSource>), None)
        }
        Source::Given(routes) => {
            let source = GivenSource(routes.clone(), false);
            (Box::new(|| Box::new(source)), None)
        }
    })
}

/// Where certificates come from, for each source of routes that can have some.
fn cert_source(config: &Config) -> Result<Option<CertSeed>, StartError> {
    if let Some(given) = config.given_certs.clone() {
        return Ok(Some(Box::new(|| Box::new(GivenCerts(given, false)))));
    }
    Ok(match &config.source {
        Source::Store(store) => {
            let (store, key) = (store.clone(), KeyFile::new(config.store_key.clone()));
            Some(Box::new(|| Box::new(StoreCerts::new(store, key))))
        }
        Source::Manager { url, token } => {
            let link = Link::new(url, token.clone()).map_err(StartError::Manager)?;
            Some(Box::new(|| Box::new(ManagerCerts::new(link))))
        }
        Source::File(_) | Source::Given(_) => None,
    })
}

fn record(stats: &str, boot: &str, listen: &[SocketAddr]) -> Proxy {
    Proxy {
        v: 1,
        stats: stats.to_owned(),
        boot: boot.to_owned(),
        listen: listen.to_vec(),
        release: env!("CARGO_PKG_VERSION").to_owned(),
        ended: false,
        extra: Default::default(),
    }
}

/// One socket per address and thread; the kernel spreads the connections over the sockets of one address.
fn listen(
    addrs: &[SocketAddr],
    door: Door,
    by_thread: &mut [Vec<Listener>],
    handed: &mut Handed,
    missing: &mut Vec<(usize, SocketAddr, Door)>,
) -> Result<Vec<SocketAddr>, StartError> {
    let mut bound = Vec::new();
    for addr in addrs {
        let mut count = 0;
        while let Some(socket) = handed.listener(*addr, door) {
            by_thread[count % by_thread.len()].push(Listener { socket, door });
            count += 1;
        }
        if count > 0 {
            // A further one would get connections at once, and nobody may ever accept them.
            if count < by_thread.len() {
                missing.push((count, *addr, door));
            }
            bound.push(*addr);
            continue;
        }
        let failed = |source: io::Error| StartError::Listen { addr: *addr, hint: hint(*addr, &source), source };
        let sockets = bind_shared(*addr, by_thread.len()).map_err(failed)?;
        let actual = sockets.first().map_or(Ok(*addr), TcpListener::local_addr).map_err(failed)?;
        for (listeners, socket) in by_thread.iter_mut().zip(sockets) {
            listeners.push(Listener { socket, door });
        }
        bound.push(actual);
    }
    Ok(bound)
}

/// Further descriptors of all sockets, with what they are for.
fn again(listeners: &[Vec<Listener>], admin: &admin::Socket, told: &Admin) -> io::Result<Vec<(Use, OwnedFd)>> {
    let mut sockets = Vec::new();
    for Listener { socket, door } in listeners.iter().flatten() {
        sockets.push((listener_use(*door, socket.local_addr()?), socket.try_clone()?.into()));
    }
    sockets.push(match (admin, told) {
        (admin::Socket::Unix(socket), Admin::Unix(path)) => {
            (Use::AdminUnix(path.clone()), socket.as_fd().try_clone_to_owned()?)
        }
        (admin::Socket::Unix(socket), Admin::Tcp(_)) => (Use::AdminUnix(PathBuf::new()), socket.try_clone()?.into()),
        (admin::Socket::Tcp(socket), _) => (Use::AdminTcp(socket.local_addr()?), socket.try_clone()?.into()),
    });
    Ok(sockets)
}

/// So many sockets that listen at one address; the same free port for all of them where that is asked for.
pub(crate) fn bind_shared(addr: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // Sockets that share a port may also be of another process of the same user: only one that does not share tells.
    drop(socket(addr, false)?);
    let mut actual = addr;
    let bind = |_| {
        let socket = socket(actual, true).and_then(ready)?;
        actual = socket.local_addr()?;
        Ok(socket)
    };
    (0..count).map(bind).collect()
}

fn socket(addr: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// Accepted sockets inherit these settings, which spares a system call each.
fn ready(socket: Socket) -> io::Result<TcpListener> {
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    socket.set_tcp_keepalive(&keepalive)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

pub(crate) fn hint(addr: SocketAddr, error: &io::Error) -> String {
    let port = addr.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another process listens there (see `ss -ltnp sport = :{port}`): stop it, or choose another port")
        }
        io::ErrorKind::PermissionDenied if port < 1024 => {
            format!(
                "ports below 1024 need root or CAP_NET_BIND_SERVICE; choose another, or allow it with `sysctl net.ipv4.ip_unprivileged_port_start={port}`"
            )
        }
        io::ErrorKind::AddrNotAvailable => "this host has no such address".to_owned(),
        _ => "see the cause below".to_owned(),
    }
}

fn bind_admin(admin: &Admin, handed: &mut Handed) -> Result<(admin::Socket, String, Option<PathBuf>), StartError> {
    match (handed.admin(admin), admin) {
        (Some(fd), Admin::Tcp(addr)) => return Ok((admin::Socket::Tcp(fd.into()), format!("http://{addr}"), None)),
        (Some(fd), Admin::Unix(path)) => {
            let addr = format!("unix:{}", path.display());
            return Ok((admin::Socket::Unix(fd.into()), addr, Some(path.clone())));
        }
        (None, _) => {}
    }
    match admin {
        Admin::Tcp(addr) => {
            let failed =
                |source: io::Error| StartError::Admin { addr: addr.to_string(), hint: hint(*addr, &source), source };
            let listener = TcpListener::bind(addr).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            let actual = listener.local_addr().map_err(failed)?;
            Ok((admin::Socket::Tcp(listener), format!("http://{actual}"), None))
        }
        Admin::Unix(path) => {
            let addr = format!("unix:{}", path.display());
            let failed = |source: io::Error| {
                let hint = "check that the folder exists and is writable, and that no other proxy serves there";
                StartError::Admin { addr: addr.clone(), hint: hint.to_owned(), source }
            };
            let listener = bind_unix(path).map_err(failed)?;
            Ok((admin::Socket::Unix(listener), addr, Some(path.clone())))
        }
    }
}

/// Binds a unix socket; a left-over one that nobody listens on is replaced.
pub(crate) fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::net::UnixListener;
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && UnixStream::connect(path).is_err() => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        other => other?,
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Running {
    /// What its threads share, for measurements.
    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Opens the access log's file anew, as after a rotation.
    pub fn reopen_logs(&self) {
        self.shared.access.reopen.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Stops accepting, lets running requests finish for as long as the configured grace, and ends.
    pub async fn stop(self) {
        let grace = self.grace;
        self.stop_within(grace).await;
    }

    /// As [`Self::stop`], with another grace. Dropping the future stops at once.
    pub async fn stop_within(mut self, grace: Duration) {
        self.sockets.clear(); // or they would listen on with nobody to accept
        self.shared.ports.close();
        let by = Instant::now() + grace;
        self.say_stop(by);
        for worker in std::mem::take(&mut self.workers) {
            join(worker).await;
        }
        // What the process before still gives goes on to the next.
        if let (Some(taker), Some(_)) = (self.taker.take(), &self.giver) {
            let _ = tokio::time::timeout_at(by.into(), join(taker)).await;
        }
        self.shared.moves.close();
        for rest in [self.giver.take(), self.writer.take()].into_iter().flatten() {
            join(rest).await;
        }
        if let Some((stop, control)) = self.control.take() {
            let _ = stop.send(self.leaves);
            join(control).await;
        }
    }

    /// Starts the workers: from here on it serves.
    pub(crate) fn launch(&mut self, crew: Crew) -> Result<(), StartError> {
        let Crew { mut plans, missing } = crew;
        for (first, addr, door) in missing {
            for plan in &mut plans[first..] {
                match socket(addr, true).and_then(ready) {
                    Ok(socket) => {
                        if let Ok(fd) = socket.try_clone() {
                            self.sockets.push((listener_use(door, addr), fd.into()));
                        }
                        plan.listeners.push(Listener { socket, door });
                    }
                    Err(error) => tracing::warn!(%addr, %error, "a thread has no socket of its own there"),
                }
            }
        }
        for plan in plans {
            self.workers.push(spawn(&format!("sc-proxy-{}", plan.thread), move || worker::run(plan))?);
        }
        self.shared.ports.settle();
        self.socket = self.stats.strip_prefix("unix:").map(PathBuf::from);
        self.phase.send_replace(Phase::Serving);
        Ok(())
    }

    /// Further descriptors of its sockets.
    pub(crate) fn sockets(&self) -> io::Result<Vec<(Use, OwnedFd)>> {
        let fixed = self.sockets.iter().map(|(what, fd)| Ok((what.clone(), fd.try_clone()?)));
        fixed.chain(self.shared.ports.sockets()?.into_iter().map(Ok)).collect()
    }

    /// Leaves admin socket and data folder to another process.
    pub(crate) async fn let_go(&self) -> io::Result<()> {
        self.phase.send_replace(Phase::LettingGo);
        let mut phase = self.phase.subscribe();
        let gone = tokio::time::timeout(LETTING_GO, phase.wait_for(|phase| *phase == Phase::Gone)).await;
        gone.map(drop).map_err(|_| io::Error::other("the data folder is still being written to"))
    }

    /// Takes back what [`Self::let_go`] left.
    pub(crate) fn take_back(&self) {
        self.phase.send_replace(Phase::Serving);
    }

    /// The sockets are another process's now: this one only stops accepting from them, and says so when it has ended.
    pub(crate) fn forget_sockets(&mut self) {
        (self.sockets, self.socket, self.leaves) = (Vec::new(), None, Leaves::HandedOver);
        self.shared.ports.close();
    }

    /// From here on connections that are between two requests go to the process on the other side, instead of being closed.
    pub(crate) fn give_clients(&mut self, stream: UnixStream) {
        let moved = self.shared.moves.open();
        match spawn("sc-proxy-moves", move || moves::give(&stream, &moved)) {
            Ok(giver) => self.giver = Some(giver),
            Err(error) => {
                self.shared.moves.close();
                tracing::warn!(%error, "clients' connections are closed instead of being handed over");
            }
        }
    }

    /// Takes in what the process on the other side gives, as long as that lives.
    pub(crate) fn take_clients(&mut self, stream: UnixStream) {
        let shared = self.shared.clone();
        match spawn("sc-proxy-moves", move || moves::take(&stream, &shared)) {
            Ok(taker) => self.taker = Some(taker),
            Err(error) => tracing::warn!(%error, "connections of the process before are not taken over"),
        }
    }

    fn say_stop(&self, by: Instant) {
        self.signal.send_modify(|signal| signal.stop_by = Some(signal.stop_by.map_or(by, |earlier| earlier.min(by))));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.sockets.clear();
        self.shared.ports.close();
        self.shared.moves.close();
        self.say_stop(Instant::now());
        self.control.take(); // its end of the channel tells the control thread
        if let Some(socket) = &self.socket {
            let _ = std::fs::remove_file(socket);
        }
    }
}

/// Waits for a thread to end without blocking this one.
async fn join(thread: JoinHandle<()>) {
    while !thread.is_finished() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let _ = thread.join();
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
