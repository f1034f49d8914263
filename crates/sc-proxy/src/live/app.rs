//! One app: as the table has it ([`App`]) and as it lives on from table to table ([`AppLive`]).

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering::*},
    },
    time::Duration,
};

use sc_core::{
    AppId,
    spec::{Balance, RouteSpec, Traffic},
    stats::{AppStats, Histogram},
};

use super::{Backend, Hop, queue::Queue};
use crate::{
    balance::{
        health::{self, Standing},
        pick::{Candidate, die_of_turn, draw, median, pick, pick_in_turn, pick_least, warming},
    },
    compress::Compressor,
    counters::{Block, Buckets},
    rate::Limiter,
    rules::Rules,
    sticky::{Mark, Stay, Sticky, Tag},
};

/// Names of the counters in an app's block.
pub struct Slot;

#[allow(missing_docs)]
impl Slot {
    pub const ARRIVALS: usize = 0;
    pub const HELD: usize = 1;
    pub const REJECTED: usize = 2;
    pub const RETRIES: usize = 3;
    pub const STREAMS_OPENED: usize = 4;
    pub const STREAMS_CLOSED: usize = 5;
    /// Five of them: 1xx to 5xx, as the clients got them.
    pub const ANSWERS: usize = 6;
    /// Requests beyond what their client may send; not among the arrivals.
    pub const LIMITED: usize = 11;
    /// Bytes of the bodies, as they passed between clients and the proxy; those of streams when they end.
    pub const BYTES_IN: usize = 12;
    pub const BYTES_OUT: usize = 13;
    pub const COUNT: usize = 14;
}

/// An app in one table.
#[derive(Debug)]
pub struct App {
    /// Its name.
    pub id: AppId,
    /// Which requests are its own.
    pub routes: Vec<RouteSpec>,
    /// How they are treated.
    pub traffic: Traffic,
    /// Requests are refused at once.
    pub stopped: bool,
    /// Where they may go.
    pub members: Vec<Member>,
    /// Its requests need more than to be passed on; decided when the table is built, so that the fast path pays nothing for
    /// features that are off.
    pub needs_rich: bool,
    /// The one thing more that the fast path can do, if it is the only one; all else is for hyper's.
    pub fast_limiter: Option<Arc<Limiter>>,
    /// What is done to its requests and answers; none: nothing.
    pub rules: Option<Arc<Rules>>,
    /// The cookie by which clients stay with a member; none: they do not.
    pub sticky: Option<Arc<Sticky>>,
    /// How many requests a client may send; none: any number.
    pub limiter: Option<Arc<Limiter>>,
    /// Which of its answers are compressed; none: none.
    pub compress: Option<Arc<Compressor>>,
    /// How its members are spoken to.
    pub hop: Hop,
    /// How one of them is chosen.
    pub picking: Picking,
    /// How long a backend that has left the table may still take.
    pub drain: Duration,
    /// All members have the same weight.
    pub even: bool,
    /// By version, where each has its share of the requests; else none.
    pub versions: Vec<Version>,
    /// What lives on.
    pub live: Arc<AppLive>,
}

/// How a member is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picking {
    /// The cheaper of two drawn at random.
    OfTwo,
    /// One after the other.
    InTurn,
    /// The one with the fewest: connections stay for long and are few, so that all are worth a look.
    Least,
}

impl Picking {
    /// What fits an app's traffic and routes.
    pub(super) fn new(traffic: &Traffic, routes: &[RouteSpec]) -> Self {
        match traffic.balance {
            Balance::RoundRobin => Self::InTurn,
            _ if !routes.is_empty() && routes.iter().all(|route| route.tcp.is_some()) => Self::Least,
            Balance::Latency | Balance::InFlight => Self::OfTwo,
        }
    }
}

/// The members of one version, where it has a share of the requests: first the version is drawn, then one of them chosen.
#[derive(Debug)]
pub struct Version {
    /// What cookies call it.
    pub mark: Mark,
    /// Its share, relative to the others'.
    pub weight: u64,
    /// Their places in [`App::members`].
    pub members: Vec<usize>,
    /// They have the same weight.
    pub even: bool,
    /// Counts the choices of one after the other.
    turn: AtomicU32,
}

impl Version {
    /// The versions of these members.
    pub(super) fn all(app: &AppId, members: &[Member]) -> Vec<Self> {
        let mut places: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        members.iter().enumerate().for_each(|(at, member)| places.entry(member.version).or_default().push(at));
        let version = |(version, places): (u64, Vec<usize>)| Self {
            mark: Mark::of(app, version),
            weight: places.iter().map(|at| u64::from(members[*at].weight)).sum(),
            even: places.windows(2).all(|pair| members[pair[0]].weight == members[pair[1]].weight),
            members: places,
            turn: AtomicU32::new(0),
        };
        places.into_iter().map(version).collect()
    }
}

/// A backend in one table.
#[derive(Debug, Clone)]
pub struct Member {
    /// The backend.
    pub backend: Arc<Backend>,
    /// Its share of the traffic.
    pub weight: u32,
    /// The version it runs.
    pub version: u64,
}

/// What a request asks for in a backend.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask<'a> {
    /// Serial numbers of those that it cannot use: they were tried.
    pub tried: &'a [u64],
    /// It can be sent again elsewhere, so that it may be the one that tries an ejected backend.
    pub repeatable: bool,
    /// The member it goes to if that may be, else one of that version.
    pub preferred: Option<Stay>,
}

/// What came of looking for a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// This member; a place with it is taken.
    Member {
        /// Its place in [`App::members`].
        at: usize,
        /// The request is the one that tries an ejected backend.
        trial: bool,
    },
    /// All that may be used are at their limit.
    Full,
    /// Every one was tried already.
    Tried,
    /// There is none.
    Empty,
}

impl App {
    /// Chooses a backend and takes a place with it. `now`: milliseconds since the epoch.
    pub fn choose(&self, ask: Ask<'_>, mut dice: impl FnMut() -> u32, now: impl Fn() -> u64) -> Choice {
        let (limit, now) = (self.traffic.max_in_flight, now());
        if let Some(choice) = self.preferred(ask, now).and_then(|at| self.take(at, ask, now)) {
            return choice;
        }
        let version = self.version(ask, &mut dice);
        // Each round but the last lost a race for a place or a trial against another thread.
        for _ in 0..4 {
            let view = |i| self.candidate(i, ask, limit, now);
            let of_version = version.and_then(|version| self.pick_of(version, &mut dice, view));
            let Some(at) = of_version.or_else(|| self.pick(&mut dice, view)) else { break };
            if let Some(choice) = self.take(at, ask, now) {
                return choice;
            }
        }
        match self.members.iter().any(|m| !ask.tried.contains(&m.backend.serial)) {
            true => Choice::Full,
            false if self.members.is_empty() => Choice::Empty,
            false => Choice::Tried,
        }
    }

    /// The preferred member, if requests may go there but for want of room.
    pub fn preferred(&self, ask: Ask<'_>, now: u64) -> Option<usize> {
        let tag = ask.preferred?.replica;
        let at = self.members.iter().position(|member| member.backend.tag == tag)?;
        self.candidate(at, ask, None, now).eligible.then_some(at)
    }

    /// What cookies call a member's version, where versions have shares.
    pub fn mark_of(&self, replica: Tag) -> Option<Mark> {
        let has = |version: &&Version| version.members.iter().any(|at| self.members[*at].backend.tag == replica);
        self.versions.iter().find(has).map(|version| version.mark)
    }

    /// Takes a place with a member, unless another thread was faster.
    fn take(&self, at: usize, ask: Ask<'_>, now: u64) -> Option<Choice> {
        let backend = &self.members[at].backend;
        let trial = backend.standing(|| now, ask.repeatable) == Standing::Trial;
        if trial && !backend.begin_trial(now) {
            return None;
        }
        if backend.enter(self.traffic.max_in_flight) {
            return Some(Choice::Member { at, trial });
        }
        if trial {
            backend.abandon_trial();
        }
        None
    }

    /// The version that a request is for, where versions have shares: its client's while that is there, else one drawn.
    fn version(&self, ask: Ask<'_>, dice: &mut impl FnMut() -> u32) -> Option<&Version> {
        if self.versions.is_empty() {
            return None;
        }
        let known = ask.preferred.and_then(|stay| stay.version);
        let known = known.and_then(|mark| self.versions.iter().find(|version| version.mark == mark));
        let drawn = || {
            let die = if self.picking == Picking::InTurn { die_of_turn(self.live.next_turn()) } else { dice() };
            self.versions.get(draw(self.versions.iter().map(|version| version.weight), die)?)
        };
        known.or_else(drawn)
    }

    fn pick(&self, dice: &mut impl FnMut() -> u32, view: impl Fn(usize) -> Candidate) -> Option<usize> {
        self.pick_among(self.members.len(), self.even, &self.live.turn, dice, view)
    }

    /// One of a version's members, if any of them may be chosen.
    fn pick_of(
        &self,
        version: &Version,
        dice: &mut impl FnMut() -> u32,
        view: impl Fn(usize) -> Candidate,
    ) -> Option<usize> {
        let view = |i: usize| view(version.members[i]);
        let i = self.pick_among(version.members.len(), version.even, &version.turn, dice, view)?;
        version.members.get(i).copied()
    }

    fn pick_among(
        &self,
        n: usize,
        even: bool,
        turn: &AtomicU32,
        dice: &mut impl FnMut() -> u32,
        view: impl Fn(usize) -> Candidate,
    ) -> Option<usize> {
        let even = even && self.traffic.slow_start_ms == 0;
        if n == 1 {
            return view(0).eligible.then_some(0);
        }
        match self.picking {
            Picking::InTurn => pick_in_turn(n, even, turn.fetch_add(1, Relaxed), view),
            Picking::OfTwo => pick(n, even, (dice(), dice()), view),
            Picking::Least => pick_least(n, dice(), view),
        }
    }

    fn candidate(&self, i: usize, ask: Ask<'_>, limit: Option<u32>, now: u64) -> Candidate {
        let member = &self.members[i];
        let in_flight = member.backend.in_flight();
        let room = limit.is_none_or(|limit| in_flight < limit);
        let usable = room
            && !ask.tried.contains(&member.backend.serial)
            && !member.backend.is_drained(now)
            && (!member.backend.is_down() || self.only_down_left(ask.tried, now));
        let eligible = usable
            && (member.backend.standing(|| now, ask.repeatable) != Standing::Ejected
                || health::panics(self.members.len(), self.ejected())
                || self.only_ejected_left(ask.tried));
        Candidate { in_flight, latency: self.latency(member, now), weight: self.weight(member, now), eligible }
    }

    fn latency(&self, member: &Member, now: u64) -> u32 {
        let known = |m: &Member| m.backend.ewma.micros(now);
        match self.traffic.balance {
            Balance::Latency => {
                known(member).unwrap_or_else(|| median(self.members.iter().filter_map(known).collect()))
            }
            Balance::InFlight | Balance::RoundRobin => 1,
        }
    }

    fn weight(&self, member: &Member, now: u64) -> u32 {
        match self.traffic.slow_start_ms {
            0 => member.weight,
            span => warming(member.weight, member.backend.age(now), span),
        }
    }

    /// Whether all backends that were not tried are ejected ones: better one of them than none.
    fn only_ejected_left(&self, tried: &[u64]) -> bool {
        self.members.iter().all(|m| tried.contains(&m.backend.serial) || m.backend.is_ejected())
    }

    /// Whether the probes of all that could be used fail: then they say nothing of use, and one may still answer.
    fn only_down_left(&self, tried: &[u64], now: u64) -> bool {
        let out = |b: &Backend| tried.contains(&b.serial) || b.is_drained(now) || b.is_down();
        self.members.iter().all(|member| out(&member.backend))
    }

    fn ejected(&self) -> usize {
        self.members.iter().filter(|m| m.backend.is_ejected()).count()
    }

    /// Whether another of its backends may be ejected.
    pub fn may_eject(&self) -> bool {
        health::may_eject(self.members.len(), self.ejected())
    }
}

/// What of an app lives on from table to table.
#[derive(Debug)]
pub struct AppLive {
    /// Counts the apps of this boot: what threads keep their own state of it by.
    pub serial: u64,
    /// Its name.
    pub id: AppId,
    /// Requests that wait for a backend, first come first served.
    pub(super) queue: Queue,
    /// How many wait.
    pub(super) held: AtomicU64,
    /// Counts the choices that are made one after the other.
    turn: AtomicU32,
    shards: Box<[OnceLock<Box<AppShard>>]>,
}

/// One thread's counters of one app.
#[derive(Debug, Default)]
pub struct AppShard {
    /// See [`Slot`].
    pub counts: Block<{ Slot::COUNT }>,
    /// Time spent waiting for a backend.
    pub queue: Buckets,
    /// Time from a request's head to the head of its answer, waiting and retries included.
    pub duration: Buckets,
}

/// An app's counters that are not in [`AppStats`], for the metrics.
#[derive(Debug, Default)]
pub struct AppTotals {
    /// Answers by class, 1xx to 5xx, as the clients got them.
    pub answers: [u64; 5],
    /// Requests beyond what their client may send.
    pub limited: u64,
    /// Bytes of the clients' bodies.
    pub bytes_in: u64,
    /// Bytes of the answers' bodies, as the clients got them.
    pub bytes_out: u64,
    /// How long those requests waited for a backend that had to.
    pub queue: Histogram,
    /// Time from a request's head to the head of its answer.
    pub duration: Histogram,
}

impl AppLive {
    pub(super) fn new(serial: u64, id: AppId, threads: usize) -> Self {
        let shards = (0..threads).map(|_| OnceLock::new()).collect();
        Self { serial, id, queue: Queue::default(), held: AtomicU64::new(0), turn: AtomicU32::new(0), shards }
    }

    /// A thread's counters; only that thread may write them.
    pub fn shard(&self, thread: usize) -> &AppShard {
        self.shards[thread].get_or_init(Default::default)
    }

    /// Adds one to a counter of a thread.
    pub fn count(&self, thread: usize, slot: usize) {
        self.shard(thread).counts.write(|w| w.add(slot, 1));
    }

    /// Adds the bytes of two bodies to a thread's counters: a client's and its answer's.
    pub fn count_bytes(&self, thread: usize, bytes_in: u64, bytes_out: u64) {
        self.shard(thread).counts.write(|w| {
            w.add(Slot::BYTES_IN, bytes_in);
            w.add(Slot::BYTES_OUT, bytes_out);
        });
    }

    /// A place became free or the table changed: the first that waits looks again.
    pub fn wake(&self) {
        self.queue.wake_one();
    }

    fn next_turn(&self) -> u32 {
        self.turn.fetch_add(1, Relaxed)
    }

    /// How many wait.
    pub fn held(&self) -> u64 {
        self.held.load(SeqCst)
    }

    /// Whether any wait.
    pub fn has_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The sum over all threads, without the backends.
    pub fn stats(&self) -> AppStats {
        let mut stats = AppStats { held: self.held(), ..Default::default() };
        for shard in self.shards.iter().filter_map(OnceLock::get) {
            let counts = shard.counts.read();
            stats.arrivals += counts[Slot::ARRIVALS];
            stats.held_total += counts[Slot::HELD];
            stats.rejected += counts[Slot::REJECTED];
            stats.retries += counts[Slot::RETRIES];
            stats.streams += counts[Slot::STREAMS_OPENED] - counts[Slot::STREAMS_CLOSED];
            shard.queue.add_to(&mut stats.queue);
        }
        stats
    }

    /// What the metrics show beside.
    pub fn totals(&self) -> AppTotals {
        let mut totals = AppTotals::default();
        for shard in self.shards.iter().filter_map(OnceLock::get) {
            let counts = shard.counts.read();
            totals.answers.iter_mut().zip(&counts[Slot::ANSWERS..]).for_each(|(sum, n)| *sum += n);
            totals.limited += counts[Slot::LIMITED];
            totals.bytes_in += counts[Slot::BYTES_IN];
            totals.bytes_out += counts[Slot::BYTES_OUT];
            shard.queue.add_to(&mut totals.queue);
            shard.duration.add_to(&mut totals.duration);
        }
        totals
    }
}
