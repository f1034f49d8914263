//! One backend's live state. It outlives tables: a swap loses no count.

use std::{
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*},
    },
};

use sc_core::{
    ReplicaId,
    stats::{BackendStats, Histogram},
};

use super::Padded;
use crate::{
    balance::{
        Ewma,
        health::{Health, Standing},
    },
    counters::{Block, Buckets},
    sticky::Tag,
};

/// Names of the counters in a backend's block.
pub struct Slot;

#[allow(missing_docs)]
impl Slot {
    pub const REQUESTS: usize = 0;
    /// Six of them: 1xx to 5xx, then none.
    pub const ANSWERS: usize = 1;
    /// Σ end − Σ start of the requests that ended, minus Σ start of those that did not, in µs, wrapping.
    pub const AREA: usize = 7;
    pub const CONNECT_ERRORS: usize = 8;
    pub const CONNECTS: usize = 9;
    pub const COUNT: usize = 10;
}

/// The place of an answer in [`BackendStats::completions`].
pub fn class_of(status: u16) -> usize {
    (usize::from(status) / 100).clamp(1, 5) - 1
}

/// One backend, the same for all threads and from table to table.
#[derive(Debug)]
pub struct Backend {
    /// Counts the backends of this boot: the identity that connections are kept by, never an address.
    pub serial: u64,
    /// Which replica it is.
    pub replica: ReplicaId,
    /// Where it listens.
    pub addr: SocketAddr,
    /// What cookies call it.
    pub tag: Tag,
    /// Requests now with it, from all threads. One shared counter, since limits must be exact and choices good: its two
    /// updates a request cost some ten nanoseconds where a request costs twenty microseconds.
    in_flight: Padded<AtomicU32>,
    /// How long its answers take of late.
    pub ewma: Ewma,
    /// When it was first a candidate, in milliseconds since the epoch, plus one; 0: never.
    first: AtomicU64,
    listed: AtomicBool,
    /// Its probes fail.
    down: AtomicBool,
    /// It is drained by hand until then, in milliseconds since the epoch; 0: it is not.
    drained: AtomicU64,
    /// How often it was ejected.
    ejections: AtomicU64,
    /// Whether `health` holds anything; spares the lock while all is well.
    sick: AtomicBool,
    health: Mutex<Health>,
    shards: Box<[OnceLock<Box<BackendShard>>]>,
}

/// One thread's counters of one backend.
#[derive(Debug, Default)]
pub struct BackendShard {
    /// See [`Slot`].
    pub counts: Block<{ Slot::COUNT }>,
    /// Time from the last byte of a request to the head of its answer; none where that came first.
    pub latency: Buckets,
}

impl Backend {
    pub(super) fn new(serial: u64, replica: ReplicaId, addr: SocketAddr, threads: usize) -> Self {
        Self {
            serial,
            tag: Tag::of(&replica),
            replica,
            addr,
            in_flight: Padded::default(),
            ewma: Ewma::default(),
            first: AtomicU64::new(0),
            listed: AtomicBool::new(true),
            down: AtomicBool::new(false),
            drained: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
            sick: AtomicBool::new(false),
            health: Mutex::default(),
            shards: (0..threads).map(|_| OnceLock::new()).collect(),
        }
    }

    /// A thread's counters; only that thread may write them.
    pub fn shard(&self, thread: usize) -> &BackendShard {
        self.shards[thread].get_or_init(Default::default)
    }

    /// Requests now with it.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.0.load(SeqCst)
    }

    /// Takes a place, unless `limit` are taken.
    pub fn enter(&self, limit: Option<u32>) -> bool {
        let Some(limit) = limit else {
            self.in_flight.0.fetch_add(1, SeqCst);
            return true;
        };
        let next = |now: u32| (now < limit).then_some(now + 1);
        self.in_flight.0.fetch_update(SeqCst, SeqCst, next).is_ok()
    }

    /// Gives a place back.
    pub fn leave(&self) {
        self.in_flight.0.fetch_sub(1, SeqCst);
    }

    /// For how long requests have been able to choose it, in milliseconds; `now` since the epoch.
    pub fn age(&self, now: u64) -> u64 {
        match self.first.compare_exchange(0, now + 1, Relaxed, Relaxed) {
            Ok(_) => 0,
            Err(first) => (now + 1).saturating_sub(first),
        }
    }

    /// Whether the table in force has it.
    pub fn is_listed(&self) -> bool {
        self.listed.load(Acquire)
    }

    pub(super) fn set_listed(&self, listed: bool) {
        self.listed.store(listed, Release);
    }

    /// Its probes fail.
    pub fn is_down(&self) -> bool {
        self.down.load(Relaxed)
    }

    /// Its probes say so.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Relaxed);
    }

    /// Whether it is drained by hand; `now` in milliseconds since the epoch.
    pub fn is_drained(&self, now: u64) -> bool {
        now < self.drained.load(Relaxed)
    }

    /// Gives it no new request until then, in milliseconds since the epoch. 0 ends that.
    pub fn drain_until(&self, until: u64) {
        self.drained.store(until, Relaxed);
    }

    /// How often it was ejected.
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Relaxed)
    }

    /// What may be sent to it; see [`Health::standing`]. `now` in milliseconds since the epoch.
    pub fn standing(&self, now: impl FnOnce() -> u64, repeatable: bool) -> Standing {
        if self.sick.load(Relaxed) { self.health().standing(now(), repeatable) } else { Standing::Well }
    }

    /// It is passed over because of failures.
    pub fn is_ejected(&self) -> bool {
        self.sick.load(Relaxed) && self.health().is_ejected()
    }

    /// Claims the one request that may try it.
    pub fn begin_trial(&self, now: u64) -> bool {
        self.change(|health| health.begin_trial(now))
    }

    /// The trial ended without a verdict.
    pub fn abandon_trial(&self) {
        self.change(Health::abandon_trial);
    }

    /// It answered.
    pub fn succeeded(&self) {
        if self.sick.load(Relaxed) {
            self.change(Health::succeeded);
        }
    }

    /// It failed; see [`Health::failed`].
    pub fn failed(&self, now: u64, may_eject: bool) {
        if let Some(span) = self.change(|health| health.failed(now, may_eject)) {
            self.ejections.fetch_add(1, Relaxed);
            tracing::warn!(replica = %self.replica, addr = %self.addr, ?span, "passed over after failures");
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Health) -> T) -> T {
        let mut health = self.health();
        let result = change(&mut health);
        self.sick.store(!health.is_clean(), Relaxed);
        result
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sum over all threads. `micros` gives the time since the epoch and is read after the counters.
    pub fn stats(&self, micros: impl Fn() -> u64) -> BackendStats {
        let mut stats = BackendStats { ejected: self.is_ejected() || self.is_down(), ..Default::default() };
        for shard in self.shards.iter().filter_map(OnceLock::get) {
            let counts = shard.counts.read();
            let answers = &counts[Slot::ANSWERS..Slot::ANSWERS + 6];
            let in_flight = counts[Slot::REQUESTS] - answers.iter().sum::<u64>();
            let area = in_flight.wrapping_mul(micros()).wrapping_add(counts[Slot::AREA]);
            stats.requests += counts[Slot::REQUESTS];
            stats.completions.iter_mut().zip(answers).for_each(|(sum, n)| *sum += n);
            stats.in_flight += in_flight;
            stats.in_flight_seconds += area as f64 * 1e-6;
            stats.connect_errors += counts[Slot::CONNECT_ERRORS];
            shard.latency.add_to(&mut stats.latency);
        }
        stats
    }

    /// Connections made to it.
    pub fn connects(&self) -> u64 {
        self.shards.iter().filter_map(OnceLock::get).map(|shard| shard.counts.read()[Slot::CONNECTS]).sum()
    }

    /// Connections to it that failed.
    pub fn connect_errors(&self) -> u64 {
        self.shards.iter().filter_map(OnceLock::get).map(|shard| shard.counts.read()[Slot::CONNECT_ERRORS]).sum()
    }

    /// Its latency, merged into `sum`.
    pub fn add_latency(&self, sum: &mut Histogram) {
        self.shards.iter().filter_map(OnceLock::get).for_each(|shard| shard.latency.add_to(sum));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_exact_and_sums_agree() {
        let backend = Backend::new(1, "web-1".parse().unwrap(), "127.0.0.1:1".parse().unwrap(), 2);
        assert!(backend.enter(Some(2)) && backend.enter(Some(2)) && !backend.enter(Some(2)));
        backend.leave();
        assert!(backend.enter(Some(2)) && backend.enter(None));
        for (thread, start) in [(0, 1_000_000), (1, 2_000_000)] {
            backend.shard(thread).counts.write(|w| {
                w.add(Slot::REQUESTS, 1);
                w.add(Slot::AREA, 0u64.wrapping_sub(start));
            });
        }
        backend.shard(0).counts.write(|w| {
            w.add(Slot::ANSWERS + class_of(204), 1);
            w.add(Slot::AREA, 1_500_000);
        });
        let stats = backend.stats(|| 3_000_000);
        assert_eq!((stats.requests, stats.in_flight, stats.completions[1]), (2, 1, 1));
        assert!((stats.in_flight_seconds - 1.5).abs() < 1e-9, "0.5 s done and 1 s running");
    }
}
