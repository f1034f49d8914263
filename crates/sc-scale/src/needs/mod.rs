//! What each signal asks for. The largest need wins; nothing is averaged, so no two signals can fight.

mod policies;

use sc_core::scaling::PolicySpec;
use serde::{Deserialize, Serialize};

use crate::{
    Memory, Need, Now, Policy,
    capacity::{PILING_UP, Reading},
    demand::{Demand, forecast},
    policy::{CPU_FULL, CPU_TARGET},
    window::{Window, noise},
};

/// Seconds within which waiting requests should be worked off; longer while replicas start.
pub const DRAIN_SECONDS: f64 = 2.0;

/// Seconds from one decision to the next.
const DECISION_SECONDS: f64 = 1.0;

/// Before replicas are taken away, a target given by the user, or the knee where nothing but `max` is given, must be kept by the
/// fewer with this much to spare: the dead band that keeps a load at a boundary from flapping. As wide as six deviations of the
/// mean of ten seconds that vary by 8 %: it dips by three and rises by three within minutes.
pub const SPARE: f64 = 0.1;

/// How long a rise for latency's sake is not repeated when it did not help (more replicas do not make a slow database
/// faster); twice as long each further time, up to [`NO_HELP_MAX_MS`].
pub const NO_HELP_MS: u64 = 60_000;

/// How long a rise has to show whether it helps.
const JUDGED_MS: u64 = 3_000;

/// The longest such wait.
pub const NO_HELP_MAX_MS: u64 = 3_600_000;

/// A rise that was made because answers were slow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// When, Unix ms.
    pub at_ms: u64,
    /// The count risen to.
    pub want: u32,
    /// Seconds to answer before.
    pub seconds: f64,
    /// How long the next rise waits if this one does not help, ms.
    pub wait_ms: u64,
}

impl Tried {
    /// Whether what was asked for has been there long enough to show.
    fn judged(&self, now: &Now) -> bool {
        let since = now.at_ms.saturating_sub(self.at_ms);
        since >= JUDGED_MS && (now.ready >= self.want || since >= 10 * JUDGED_MS)
    }

    /// Whether answers are as slow as before.
    pub(crate) fn useless(&self, reading: Reading) -> bool {
        reading.seconds.is_none_or(|seconds| seconds > 0.9 * self.seconds)
    }

    /// The next one: it waits longer if this one did not help. One that has not shown yet says nothing.
    pub(crate) fn next(earlier: Option<&Self>, now: &Now, want: u32, reading: Reading) -> Self {
        let wait_ms = match earlier {
            Some(tried) if !tried.judged(now) => tried.wait_ms,
            Some(tried) if tried.useless(reading) => tried.wait_ms.saturating_mul(2),
            _ => NO_HELP_MS,
        };
        let seconds = reading.seconds.unwrap_or(0.0);
        Self { at_ms: now.at_ms, want, seconds, wait_ms: wait_ms.min(NO_HELP_MAX_MS) }
    }

    /// Whether this rise and the one before it were both in vain.
    pub(crate) fn twice_useless(&self, now: &Now, reading: Reading) -> bool {
        self.wait_ms >= 2 * NO_HELP_MS && self.judged(now) && self.useless(reading)
    }
}

/// One signal's load and what one replica takes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// The signal.
    pub signal: &'static str,
    /// How many replicas, to serve it.
    pub up: u32,
    /// How many must stay when others are taken away; at least `up`.
    pub down: u32,
    /// The formula with its numbers.
    pub formula: String,
    /// Load, and what one replica takes of it, with the unit, where it is of that kind.
    pub per: Option<(f64, f64, &'static str)>,
}

impl Ask {
    /// A fixed number.
    pub(crate) fn fixed(signal: &'static str, replicas: u32, formula: String) -> Self {
        Self { signal, up: replicas, down: replicas, formula, per: None }
    }

    /// A load shared by replicas that take `each`; none if that is no positive number.
    fn shared(signal: &'static str, load: f64, spare: f64, each: f64, unit: &'static str) -> Option<Self> {
        if !(each > 0.0 && each.is_finite()) || load.is_nan() {
            return None;
        }
        let (up, down) = (replicas(load, each), replicas(load + spare, each));
        let formula = format!("ceil({load:.1} {unit} ÷ {each:.1} {unit} per replica) = {up}");
        Some(Self { signal, up, down, formula, per: Some((load, each, unit)) })
    }

    /// For the decision's list.
    pub(crate) fn need(&self) -> Need {
        Need { signal: self.signal.to_owned(), replicas: self.up, formula: self.formula.clone() }
    }
}

/// Replicas for a load, with a little tolerance so that 4.000000001 is 4.
fn replicas(load: f64, each: f64) -> u32 {
    (load / each - 1e-6).ceil().clamp(0.0, 1e6) as u32
}

/// What is asked for, and remarks on what was left out.
pub(crate) struct Asked {
    pub asks: Vec<Ask>,
    pub remarks: Vec<String>,
}

/// What every signal asks for. Never empty. While those that sleep (or those too that were stopped and kept) are enough for
/// what is needed by the time they would serve, only so far ahead has to be looked; else as far as a start takes.
pub(crate) fn ask(policy: &Policy, now: &Now, window: &Window, memory: &Memory) -> Asked {
    if now.warm > 0 {
        let asked = ask_ahead(policy, now, window, memory, memory.starts.woken_horizon());
        if asked.asks.iter().all(|ask| ask.up <= now.want.saturating_add(now.warm)) {
            return asked;
        }
    }
    if now.stopped > 0 && memory.starts.revived_horizon() < memory.starts.horizon() {
        let asked = ask_ahead(policy, now, window, memory, memory.starts.revived_horizon());
        if asked.asks.iter().all(|ask| ask.up <= now.want.saturating_add(now.warm).saturating_add(now.stopped)) {
            return asked;
        }
    }
    ask_ahead(policy, now, window, memory, memory.starts.horizon())
}

fn ask_ahead(policy: &Policy, now: &Now, window: &Window, memory: &Memory, horizon: f64) -> Asked {
    let mut asks = vec![Ask::fixed("min", policy.min, format!("min = {}", policy.min))];
    let mut remarks = Vec::new();
    let reading = Reading::take(window, now.at_ms, 2);
    let demand = demand(now, window, horizon);
    asks.extend(held(policy, now, memory));
    asks.extend(awake(policy, now, window));
    let learns = policy.learns();
    if let Some(demand) = demand {
        if let Some(target) = policy.rps {
            asks.extend(Ask::shared("rps", demand.soon, spare(demand.now).max(SPARE * demand.now), target, "rps"));
        }
        if learns {
            asks.extend(capacity(policy, now, demand, window, memory));
        }
    }
    asks.extend(cpu(policy, now, demand, window, memory));
    let (given, failed) = policies::ask(policy, now, demand, window, memory);
    asks.extend(given);
    remarks.extend(failed);
    // In a slow spell answers are late for no lack of replicas: what a full one does now is all there is to go by.
    if memory.capacity.slow().is_some() {
        remarks.extend(memory.capacity.told());
    } else if let (true, Some(demand), Some(reading)) = (learns, demand, reading) {
        match latency(policy, now, demand.soon, reading, memory) {
            Ok(ask) => asks.extend(ask),
            Err(remark) => remarks.push(remark),
        }
    }
    Asked { asks, remarks }
}

/// What is to be expected when a replica serves that is asked for by the next decision.
pub(crate) fn demand(now: &Now, window: &Window, horizon: f64) -> Option<Demand> {
    forecast(window, now.at_ms, horizon + DECISION_SECONDS)
}

/// Requests per second that must stay unused beside the load.
pub(crate) fn idle(policy: &Policy, demand: Demand, memory: &Memory) -> f64 {
    match memory.capacity.slow() {
        Some(_) => 0.0,
        None => memory.capacity.idle(policy.objective.as_ref()).min(demand.soon),
    }
}

/// Requests per second that are to be done beyond the load because some wait already.
///
/// While replicas start, what waits is why they start and will be their work, within as long as a start takes at the least or this
/// one has taken already: else each second of a start, in which more waits, would ask for more. With all of them there, only what
/// will be left when another one would serve is its work: what these do beyond the load until then needs none.
fn drain(now: &Now, memory: &Memory, waiting: f64, load: f64, each: f64) -> f64 {
    let start = memory.starts.horizon();
    if now.ready < now.want {
        let so_far = memory.starts.rise.map_or(0, |(at_ms, _)| now.at_ms.saturating_sub(at_ms));
        return waiting / start.max(so_far as f64 / 1_000.0).max(DRAIN_SECONDS);
    }
    let beyond = (f64::from(now.ready) * each - load).max(0.0);
    (waiting - start * beyond).max(0.0) / DRAIN_SECONDS
}

/// Before replicas are taken away, the load must fit the fewer with three standard deviations of its noise to spare.
fn spare(load: f64) -> f64 {
    noise(load, 10)
}

/// The same where what a replica takes was learned. With an objective, what matters is what is late and what is paid: the band is as
/// wide as noise has shown to be needed, by the steps down that had to be taken back. Without one, a count that stays where it is.
fn dead_band(policy: &Policy, demand: Demand, memory: &Memory) -> f64 {
    let (noise, most) = (spare(demand.now), SPARE * demand.now);
    match policy.objective {
        Some(_) => (noise * f64::from(1 + memory.flaps)).min(most.max(2.0 * noise)),
        None => noise.max(most),
    }
}

/// Requests wait and nothing is there to serve them: wake at once, with as many as will work them off in time.
fn held(policy: &Policy, now: &Now, memory: &Memory) -> Option<Ask> {
    if now.held == 0 || now.ready > 0 {
        return None;
    }
    let each = memory.capacity.usable(policy.objective.is_some()).map(|rps| rps * DRAIN_SECONDS);
    let many = each.and_then(|each| Ask::shared("held", now.held as f64, 0.0, each, "waiting requests"));
    many.or_else(|| Some(Ask::fixed("held", 1, format!("{} requests wait and no replica is ready: 1", now.held))))
}

/// An app that is awake keeps one replica until it may sleep (see [`crate::guards::idle`]); traffic without any
/// replica wakes one.
fn awake(policy: &Policy, now: &Now, window: &Window) -> Option<Ask> {
    let traffic = window.last(now.at_ms, 2).any(|s| s.busy());
    (policy.min == 0 && (now.want > 0 || traffic)).then(|| Ask::fixed("awake", 1, "awake: 1".to_owned()))
}

/// Demand with its margin, what must stay unused, and the backlog to be drained, by what one replica takes.
fn capacity(policy: &Policy, now: &Now, demand: Demand, window: &Window, memory: &Memory) -> Option<Ask> {
    let each = memory.capacity.usable(policy.objective.is_some())?;
    let margin = memory.margin.factor();
    let backlog = drain(now, memory, backlog(now, window, memory), demand.soon, each);
    let idle = idle(policy, demand, memory);
    let ready_for = memory.hindsight.load(now, demand.soon, margin);
    let load = ready_for + idle;
    let mut ask = Ask::shared("capacity", load + backlog, dead_band(policy, demand, memory) - backlog, each, "rps")?;
    let waiting = if backlog > 0.0 { format!(" + {backlog:.1} rps to drain") } else { String::new() };
    let idle = if idle > 0.0 { format!(" + {idle:.1} rps idle") } else { String::new() };
    let load = match memory.hindsight.stands {
        true => format!("{ready_for:.1} rps, the most of a minute of noise"),
        false => format!("{:.1} rps × {margin:.2} margin", demand.soon),
    };
    ask.formula = format!("ceil(({load}{idle}{waiting}) ÷ {each:.1} rps per replica) = {}", ask.up);
    Some(ask)
}

/// Waiting requests count only while answers are late: long downloads are no backlog. In a slow spell the part of the
/// replicas that is kept free works them off: answers are late then with any count.
fn backlog(now: &Now, window: &Window, memory: &Memory) -> f64 {
    let late = memory.capacity.over > 0 && memory.capacity.slow().is_none();
    let reading = Reading::take(window, now.at_ms, 1).filter(|_| late);
    reading.zip(memory.capacity.low_load_seconds).map_or(0.0, |(reading, low_load)| reading.backlog(low_load))
}

/// CPU used by all ready replicas, by what one should use of its limit.
fn cpu(policy: &Policy, now: &Now, demand: Option<Demand>, window: &Window, memory: &Memory) -> Option<Ask> {
    let given = policy.policies.iter().filter_map(|one| match one {
        PolicySpec::Cpu { target } => Some(*target),
        _ => None,
    });
    let unasked = if policy.objective.is_some() { CPU_FULL } else { CPU_TARGET };
    let target = given.chain(policy.cpu).reduce(f64::min);
    // A target that the user gave has its room for a rise in it.
    let ahead =
        demand.filter(|_| target.is_none()).map_or(Ahead::default(), |demand| ahead(now, demand, window, memory));
    let target = target.or(policy.learns().then_some(unasked))?.min(1.0 / ahead.margin);
    let one = |s: &crate::Sample| f64::from(if s.cpu_replicas == 0 { s.ready } else { s.cpu_replicas });
    let used = window.mean(now.at_ms, 10, |s| {
        let n = one(s);
        s.cpu.filter(|_| n > 0.0).map(|cpu| cpu / n * f64::from(s.ready))
    })?;
    let limit = window.mean(now.at_ms, 10, |s| s.cpu_limit.map(|limit| limit / one(s)).filter(|l| l.is_finite()))?;
    let soon = used * ahead.growth;
    let mut ask = Ask::shared("cpu", soon, ahead.spare.unwrap_or(SPARE) * soon, target * limit, "CPUs")?;
    let growth = if ahead.growth > 1.0 { format!(" × {:.2} growth", ahead.growth) } else { String::new() };
    ask.formula = format!("ceil({used:.2} CPUs{growth} ÷ ({target:.2} × {limit:.2} CPUs per replica)) = {}", ask.up);
    Some(ask)
}

/// What the CPU in use is to be multiplied with for the load to come, and the room for what the forecast does not see.
struct Ahead {
    /// The load soon in relation to the load whose CPU was measured, at least 1.
    growth: f64,
    /// The margin over the forecast.
    margin: f64,
    /// The share of the load that its noise may add before replicas are taken away; none: it is not known.
    spare: Option<f64>,
}

impl Default for Ahead {
    fn default() -> Self {
        Self { growth: 1.0, margin: 1.0, spare: None }
    }
}

/// What a replica takes is not known until it was tried, and until then its CPU is all that says when it is full. So the CPU
/// must be looked at as far ahead as the load is, and with the same room: else a rise finds the replicas full, and what it
/// then teaches is paid for with late answers.
fn ahead(now: &Now, demand: Demand, window: &Window, memory: &Memory) -> Ahead {
    let measured = window.mean(now.at_ms, 10, |s| s.cpu.map(|_| s.arrivals)).filter(|rate| *rate > 0.0);
    let Some(measured) = measured else { return Ahead::default() };
    let growth = (demand.soon / measured).clamp(1.0, GROWTH_MAX);
    Ahead {
        growth,
        margin: memory.margin.factor(),
        spare: Some((spare(measured).max(unrest(now, window)) / measured).min(SPARE)),
    }
}

/// Three standard deviations of a mean of ten seconds as they really vary, by what follows upon another: a load that rises or
/// falls evenly has none.
fn unrest(now: &Now, window: &Window) -> f64 {
    let (mut sum, mut n, mut later) = (0.0, 0u32, None);
    for sample in window.last(now.at_ms, 60) {
        if let Some(later) = later.replace(sample.arrivals) {
            sum += (later - sample.arrivals) * (later - sample.arrivals);
            n += 1;
        }
    }
    3.0 * (sum / (2.0 * f64::from(n.max(1))) / 10.0).sqrt()
}

/// The most that CPU in use is multiplied with: beyond that, part of it may be there without any load, and the requests
/// that wait say more.
const GROWTH_MAX: f64 = 3.0;

/// Answers take more than twice as long as at low load, two readings in a row: what one replica does now is all it can
/// do, so share the demand by that. When requests do not pile up all the same, it is not sure that more replicas help:
/// one rise at a time, and none while the last one did not help. None either where hardly more requests are inside than
/// replicas: none of them waits for another.
fn latency(policy: &Policy, now: &Now, demand: f64, reading: Reading, memory: &Memory) -> Result<Option<Ask>, String> {
    let Some(low_load) = memory.capacity.low_load_seconds else { return Ok(None) };
    let each = busy(policy, now, reading, memory);
    if memory.capacity.over < 2 || each <= 0.0 || reading.idles() {
        return Ok(None);
    }
    let load = demand + drain(now, memory, reading.backlog(low_load), demand, each);
    let piling_up = demand > PILING_UP * reading.throughput + noise(reading.throughput, 2);
    if !piling_up {
        let unjudged = memory.tried.as_ref().is_some_and(|tried| !tried.judged(now));
        if now.ready < now.want || unjudged {
            return Ok(None);
        }
        if let Some(remark) = no_help(now, reading, memory) {
            return Err(remark);
        }
    }
    let Some(mut ask) = Ask::shared("latency", load * memory.margin.factor(), 0.0, each, "rps") else {
        return Ok(None);
    };
    let seconds = reading.seconds.unwrap_or(0.0);
    ask.formula =
        format!("answers take {:.0} ms, {:.0} ms at low load: {}", seconds * 1e3, low_load * 1e3, ask.formula);
    Ok(Some(ask))
}

/// Requests per second that a replica does now. While others start it may be their CPU that is missing: what one is known
/// to take stands, else each start would be a reason for more of them. With all of them there, no more coming than is answered, and
/// no load known at which answers are in time, it may be that there are too many: what one did before, late as well, it can do still.
fn busy(policy: &Policy, now: &Now, reading: Reading, memory: &Memory) -> f64 {
    let each = reading.throughput / reading.ready;
    let known = match now.ready < now.want {
        true => memory.capacity.usable(policy.objective.is_some()),
        false if policy.objective.is_some() && !memory.capacity.proven() => {
            memory.capacity.did(each).filter(|_| reading.keeps_up())
        }
        false => None,
    };
    known.unwrap_or(0.0).max(each)
}

/// Whether the last rise for latency's sake did not help, so that another one is not tried yet.
pub(crate) fn helpless(now: &Now, reading: Reading, memory: &Memory) -> bool {
    memory.tried.as_ref().is_some_and(|tried| {
        tried.judged(now) && now.at_ms.saturating_sub(tried.at_ms) < tried.wait_ms && tried.useless(reading)
    })
}

fn no_help(now: &Now, reading: Reading, memory: &Memory) -> Option<String> {
    let tried = memory.tried.as_ref().filter(|_| helpless(now, reading, memory))?;
    let (before, after) = (tried.seconds * 1e3, reading.seconds.unwrap_or(0.0) * 1e3);
    Some(format!(
        "more replicas did not help: answers took {before:.0} ms before {} replicas and take {after:.0} ms",
        tried.want
    ))
}
