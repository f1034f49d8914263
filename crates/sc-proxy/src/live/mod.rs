//! What all threads share: the table in force, its backends' live state, the queues of waiting requests.

mod app;
mod backend;
mod hop;
mod queue;
mod registry;
#[cfg(test)]
mod shares;

pub use app::{App, AppLive, AppTotals, Ask, Choice, Member, Picking, Slot as AppSlot, Version};
pub use backend::{Backend, Slot as BackendSlot, class_of};
pub use hop::Hop;
pub use queue::Ticket;
pub use registry::{Past, Registry};

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::*},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use sc_core::AppId;

use crate::{addresses::Addresses, ports::Ports, table::RouteTable, upgrade::moves::Moves};

/// Everything a request needs to find its way, swapped whole.
#[derive(Debug, Default)]
pub struct Table {
    /// Which app a request belongs to.
    pub routes: RouteTable,
    /// The apps, sorted by name; [`crate::table::Found::app`] counts in this list.
    pub apps: Vec<Arc<App>>,
    /// Places in `apps`.
    pub by_id: HashMap<AppId, usize>,
    /// Counts the swaps.
    pub generation: u64,
}

impl Table {
    /// An app by name: a request that waited looks its app up again, since the table may have changed.
    pub fn app(&self, id: &AppId) -> Option<usize> {
        self.by_id.get(id).copied()
    }
}

/// What the threads share beside the table's own parts.
#[derive(Debug)]
pub struct Shared {
    /// The table in force.
    pub table: Arc<ArcSwap<Table>>,
    /// By thread: the generation from which on it chooses backends.
    pub acknowledged: Vec<Padded<AtomicU64>>,
    /// By thread: client connections open.
    pub connections: Vec<Padded<AtomicU64>>,
    /// A request came for an app that has no backend: a frame is to be sent at once.
    pub urgent: tokio::sync::Notify,
    /// A thread has acknowledged a table.
    pub applied: tokio::sync::Notify,
    /// Whether a first table has come.
    pub has_table: AtomicBool,
    /// Requests that belong to no app.
    pub unrouted: Vec<Padded<AtomicU64>>,
    /// The clients' connections by address.
    pub addresses: Addresses,
    /// Connections that were closed: their address had as many as it may.
    pub turned_away: AtomicU64,
    /// The ports of TCP routes.
    pub ports: Ports,
    /// Clients' connections that move from process to process.
    pub moves: Moves,
    /// What became of the access log's lines.
    pub access: crate::access::Counts,
    /// What authorities are to find, by token; none while there is nothing.
    pub challenges: arc_swap::ArcSwapOption<std::collections::BTreeMap<String, String>>,
    /// Time zero of all times that are kept as numbers.
    pub epoch: Instant,
}

/// Alone on its cache lines, so that one thread's stores do not slow another's.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Padded<T>(pub T);

impl Shared {
    /// For so many threads, with an empty table.
    pub fn new(threads: usize) -> Self {
        let zeros = || (0..threads).map(|_| Padded(AtomicU64::new(0))).collect();
        Self {
            table: Arc::new(ArcSwap::from_pointee(Table::default())),
            acknowledged: zeros(),
            connections: zeros(),
            urgent: tokio::sync::Notify::new(),
            applied: tokio::sync::Notify::new(),
            has_table: AtomicBool::new(false),
            unrouted: zeros(),
            addresses: Addresses::default(),
            turned_away: AtomicU64::new(0),
            ports: Ports::new(threads),
            moves: Moves::new(threads),
            access: Default::default(),
            challenges: Default::default(),
            epoch: Instant::now(),
        }
    }

    /// The generation that every thread has acknowledged. Read before any in-flight count: what a thread had in flight when
    /// it acknowledged is then seen as well.
    pub fn generation_everywhere(&self) -> u64 {
        self.acknowledged.iter().map(|thread| thread.0.load(Acquire)).min().unwrap_or(0)
    }

    /// Nanoseconds since the epoch.
    pub fn nanos(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_nanos() as u64
    }

    /// Microseconds since the epoch.
    pub fn micros(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_micros() as u64
    }
}
