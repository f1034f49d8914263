//! One worker thread: its runtime, its listeners, its connections to backends. Nothing here is shared but what
//! [`crate::live`] holds; a request lives and dies on the thread that accepted it.

mod accept;
mod answer;
mod attempt;
mod body;
mod bodyless;
mod bounded;
mod challenge;
mod client;
mod deciphered;
mod exchange;
mod farewell;
mod fast;
mod grpc;
mod h2;
mod handover;
mod judge;
mod log;
mod multiplex;
mod outgoing;
mod relayed;
mod route;
mod secure;
mod serial;
mod serve;
mod squeezed;
mod stream;
mod tcp;
mod tunnel;
mod upstream;
mod watched;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    net::{IpAddr, TcpListener},
    rc::Rc,
    sync::{Arc, atomic::Ordering::*},
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Cache};
use tokio::sync::watch;

pub use self::handover::{Inbox, Outboxes, boxes};
use self::{accept::Accepting, client::Clients, serial::BySerial, upstream::Upstream};
use crate::{
    access,
    addresses::Seat,
    balance::Budget,
    config::{Cidr, Http1, Limits},
    live::{App, AppLive, Shared, Table},
};

/// How often a thread looks for connections that are over their time. All timeouts of idle and waiting connections are exact
/// to this, and cost nothing per request.
pub const TICK: Duration = Duration::from_millis(250);

/// What a worker thread is told while it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signal {
    /// The generation of the table in force.
    pub generation: u64,
    /// Stop accepting; finish what is open, until then at the latest.
    pub stop_by: Option<Instant>,
}

/// What a worker thread is made from.
pub struct Plan {
    /// Its number.
    pub thread: usize,
    /// Its listening sockets.
    pub listeners: Vec<Listener>,
    /// What TLS is served with.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// Bounds of size and time.
    pub limits: Limits,
    /// Peers that may speak for others.
    pub trust: Vec<Cidr>,
    /// Peers that say in a PROXY header whom they speak for.
    pub relays: Vec<Cidr>,
    /// Who speaks HTTP/1.1 with clients.
    pub http1: Http1,
    /// What it gets its access log from.
    pub access: Option<access::Source>,
    /// What other threads hand it comes out of this.
    pub inbox: Inbox,
    /// What it hands other threads goes into these.
    pub outboxes: Outboxes,
    /// Orders.
    pub signal: watch::Receiver<Signal>,
}

/// A listening socket.
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// What is spoken on its connections.
    pub door: Door,
}

/// What clients speak first on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// HTTP: 1.1, or 2 by prior knowledge.
    Http,
    /// TLS, with HTTP/2 or 1.1 in it.
    Tls,
    /// Whatever the app at this port speaks.
    Tcp(u16),
}

/// What a worker gets its connections from.
struct Inputs {
    listeners: Vec<Listener>,
    inbox: Inbox,
}

/// The state of one worker thread.
pub(crate) struct Worker {
    thread: usize,
    shared: Arc<Shared>,
    limits: Limits,
    trust: Vec<Cidr>,
    relays: Vec<Cidr>,
    http1: Http1,
    tls: Option<Arc<rustls::ServerConfig>>,
    access: Option<Rc<access::Log>>,
    view: RefCell<View>,
    upstreams: RefCell<BySerial<Rc<Upstream>>>,
    apps: RefCell<BySerial<Rc<LocalApp>>>,
    clients: Clients,
    /// What accepts at the ports of TCP routes.
    ports: RefCell<BTreeMap<u16, Vec<Accepting>>>,
    outboxes: Outboxes,
    /// Room for the threads' numbers of connections.
    places: RefCell<Vec<u64>>,
    buffers: fast::Buffers,
    /// Bodies that are being compressed.
    coders: Cell<usize>,
    /// The time as a `Date` field has it.
    date: RefCell<Rc<[u8]>>,
    /// Client connections and streams that are open.
    open: Cell<usize>,
    closed: tokio::sync::Notify,
    stopping: Cell<bool>,
    /// By when all must be finished, once it stops.
    stop_by: Cell<Option<Instant>>,
    /// Tells connections that do not end by themselves that the thread stops.
    leaving: tokio::sync::Notify,
    dice: Cell<u64>,
}

/// The table as this thread sees it: a clone of the inner pointer touches no cache line of another thread.
struct View {
    cache: Cache<Arc<ArcSwap<Table>>, Arc<Table>>,
    table: Rc<Seen>,
}

/// A table that this thread has seen.
struct Seen(Arc<Table>);

impl std::ops::Deref for Seen {
    type Target = Table;
    fn deref(&self) -> &Table {
        &self.0
    }
}

/// What a thread keeps of an app.
pub(crate) struct LocalApp {
    live: Arc<AppLive>,
    budget: RefCell<Budget>,
    /// Where it was in the table when last looked up; most often it still is.
    at: Cell<usize>,
}

impl LocalApp {
    /// The app in this table, if that has it.
    fn of<'t>(&self, table: &'t Table) -> Option<&'t Arc<App>> {
        let here = |at: usize| table.apps.get(at).filter(|app| Arc::ptr_eq(&app.live, &self.live));
        here(self.at.get()).or_else(|| {
            let at = table.app(&self.live.id)?;
            self.at.set(at);
            Some(&table.apps[at])
        })
    }
}

/// Runs a worker thread until it is told to stop and has finished, or its orders end.
///
/// # Errors
/// When no runtime can be made.
pub fn run(plan: Plan) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    runtime.block_on(async {
        let (worker, inputs, mut signal) = Worker::new(plan);
        let mut accepting = accept::listen(&worker, inputs.listeners)?;
        accepting.receive(&worker, inputs.inbox);
        let ticking = tokio::task::spawn_local(client::tick(worker.clone()));
        tokio::task::spawn_local(accept::arrivals(worker.clone()));
        let stop_by = worker.obey(&mut signal).await;
        worker.stopping.set(true);
        worker.stop_by.set(Some(stop_by));
        worker.leaving.notify_waiters();
        accepting.stop().await;
        worker.leave_ports(|_| false).await;
        tokio::select! {
            _ = tokio::time::timeout_at(stop_by.into(), worker.all_closed()) => {}
            () = worker.follow(signal) => {}
        }
        ticking.abort();
        worker.acknowledge_all();
        Ok(())
    })
}

impl Worker {
    fn new(plan: Plan) -> (Rc<Self>, Inputs, watch::Receiver<Signal>) {
        let cache = Cache::new(plan.shared.table.clone());
        let table = Rc::new(Seen(plan.shared.table.load_full()));
        let seed = std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), plan.thread);
        let worker = Self {
            thread: plan.thread,
            shared: plan.shared,
            limits: plan.limits,
            trust: plan.trust,
            relays: plan.relays,
            http1: plan.http1,
            tls: plan.tls,
            access: plan.access.map(|source| Rc::new(access::Log::new(source))),
            view: RefCell::new(View { cache, table }),
            upstreams: RefCell::default(),
            apps: RefCell::default(),
            clients: Clients::default(),
            ports: RefCell::default(),
            outboxes: plan.outboxes,
            places: RefCell::default(),
            buffers: fast::Buffers::default(),
            coders: Cell::new(0),
            date: RefCell::new(date()),
            open: Cell::new(0),
            closed: tokio::sync::Notify::new(),
            stopping: Cell::new(false),
            stop_by: Cell::new(None),
            leaving: tokio::sync::Notify::new(),
            dice: Cell::new(seed | 1),
        };
        (Rc::new(worker), Inputs { listeners: plan.listeners, inbox: plan.inbox }, plan.signal)
    }

    /// Follows its orders until they say stop. Gives the time by which all must be finished.
    async fn obey(self: &Rc<Self>, signal: &mut watch::Receiver<Signal>) -> Instant {
        loop {
            // The order first, the table after it: a table that is swapped in between is then seen now or told of again.
            let Signal { stop_by, .. } = *signal.borrow_and_update();
            self.acknowledge();
            if let Some(stop_by) = stop_by {
                return stop_by;
            }
            if signal.changed().await.is_err() {
                return Instant::now();
            }
        }
    }

    /// Goes by each new table while what runs is finished, which may take as long as the grace: replicas that leave meanwhile
    /// wait until this thread says that it does.
    async fn follow(self: &Rc<Self>, mut signal: watch::Receiver<Signal>) {
        while signal.changed().await.is_ok() {
            self.acknowledge();
        }
        std::future::pending().await
    }

    /// The last that this thread does: it chooses no backend any more, whatever a table to come lists.
    fn acknowledge_all(&self) {
        self.shared.acknowledged[self.thread].0.store(u64::MAX, Release);
        self.shared.applied.notify_one();
    }

    /// Sees the table in force, closes what it no longer needs, and says so. From here on this thread chooses no backend
    /// that the table does not list: every choice is made from [`Self::table`] and takes its place at once.
    fn acknowledge(self: &Rc<Self>) {
        let table = self.table();
        self.follow_ports(&table);
        self.upstreams.borrow_mut().retain(|_, upstream| upstream.is_listed() || upstream.leave());
        self.apps.borrow_mut().retain(|_, app| table.app(&app.live.id).is_some());
        self.shared.acknowledged[self.thread].0.store(table.generation, Release);
        self.shared.applied.notify_one();
    }

    /// Accepts at the ports of this table's TCP routes, and at no other.
    fn follow_ports(self: &Rc<Self>, table: &Table) {
        let (worker, ports) = (self.clone(), table.routes.ports().clone());
        if self.ports.borrow().keys().any(|port| !ports.contains(port)) {
            tokio::task::spawn_local(async move { worker.leave_ports(|port| ports.contains(port)).await });
        }
        for (port, socket) in self.shared.ports.take(self.thread) {
            match accept::listen(self, vec![Listener { socket, door: Door::Tcp(port) }]) {
                Ok(accepting) => self.ports.borrow_mut().entry(port).or_default().push(accepting),
                Err(error) => tracing::error!(port, %error, "a thread cannot accept there"),
            }
        }
    }

    /// Stops accepting at all ports but some.
    async fn leave_ports(&self, stays: impl Fn(&u16) -> bool) {
        let left: Vec<u16> = self.ports.borrow().keys().copied().filter(|port| !stays(port)).collect();
        for port in left {
            let accepting = self.ports.borrow_mut().remove(&port);
            for accepting in accepting.into_iter().flatten() {
                accepting.stop().await;
            }
        }
    }

    /// The table in force.
    fn table(&self) -> Rc<Seen> {
        let View { cache, table } = &mut *self.view.borrow_mut();
        let current = cache.load();
        if !Arc::ptr_eq(current, &table.0) {
            *table = Rc::new(Seen(current.clone()));
        }
        table.clone()
    }

    fn local(&self, app: &App) -> Rc<LocalApp> {
        let new = || {
            let budget = RefCell::new(Budget::new(self.shared.acknowledged.len(), Instant::now()));
            Rc::new(LocalApp { live: app.live.clone(), budget, at: Cell::new(0) })
        };
        self.apps.borrow_mut().entry(app.live.serial).or_insert_with(new).clone()
    }

    /// Whether connections are to be closed after the answer.
    fn closes<T: client::Transport>(&self) -> bool {
        self.stopping.get() && !self.moves::<T>()
    }

    /// Whether connections go to another process between two requests.
    fn moves<T: client::Transport>(&self) -> bool {
        T::MOVES && self.stopping.get() && self.shared.moves.is_open()
    }

    /// Hands on what there is of the access log.
    fn flush_log(&self) {
        if let Some(log) = &self.access {
            log.flush();
        }
    }

    fn set_date(&self) {
        let now = date();
        if *self.date.borrow() != now {
            self.date.replace(now);
        }
    }

    /// Milliseconds since the epoch.
    fn millis(&self, at: Instant) -> u64 {
        self.shared.micros(at) / 1_000
    }

    /// Whether a peer may speak for others.
    fn trusts(&self, address: IpAddr) -> bool {
        self.trust.iter().any(|range| range.contains(address))
    }

    /// 32 random bits (xorshift64*, good enough to spread load).
    fn roll(&self) -> u32 {
        let mut x = self.dice.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.dice.set(x);
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    async fn all_closed(&self) {
        while self.open.get() > 0 {
            self.closed.notified().await;
        }
    }
}

fn date() -> Rc<[u8]> {
    httpdate::fmt_http_date(std::time::SystemTime::now()).into_bytes().into()
}

/// Counts an open connection or stream until it is dropped.
struct Open {
    worker: Rc<Worker>,
    /// Its place among those of its client's address, if it counts there.
    seat: Cell<Option<Seat>>,
}

impl Open {
    fn new(worker: &Rc<Worker>) -> Self {
        worker.open.set(worker.open.get() + 1);
        let gauge = &worker.shared.connections[worker.thread].0;
        gauge.store(worker.open.get() as u64, Relaxed);
        Self { worker: worker.clone(), seat: Cell::new(None) }
    }

    /// Counts it with the others of its client's address. False: there are too many.
    fn is_borne(&self, address: IpAddr) -> bool {
        let worker = &self.worker;
        if worker.trusts(address) {
            return true;
        }
        self.seat.set(worker.shared.addresses.take(address, worker.limits.per_address()));
        if self.seat.get().is_none() {
            worker.shared.turned_away.fetch_add(1, Relaxed);
            tracing::debug!(%address, "a connection is closed: its address has as many as it may");
        }
        self.seat.get().is_some()
    }

    /// Counts what a connection has become that was counted there.
    fn goes_on(&self, address: IpAddr) {
        if !self.worker.trusts(address) {
            self.seat.set(self.worker.shared.addresses.take(address, usize::MAX));
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let worker = &self.worker;
        if let Some(seat) = self.seat.take() {
            worker.shared.addresses.give_back(seat);
        }
        worker.open.set(worker.open.get() - 1);
        worker.shared.connections[worker.thread].0.store(worker.open.get() as u64, Relaxed);
        worker.closed.notify_one();
    }
}
