//! What one replica can take, learned from live traffic.
//!
//! Every second of traffic is one observation: at this load per replica, this share of the answers came later than the
//! objective. Loads fall in logarithmic bins; more load never makes answers faster, so the share is fitted by an
//! isotonic regression, and the capacity is the largest load whose fitted share stays within the error budget. Above the
//! largest load that was proven so, nothing is known until it is tried: the scaler reckons with a little more than that
//! ([`Capacity::usable`]), and what goes wrong there is taken down as well.
//!
//! Without an objective the knee is looked for: the load beyond which answers take more than [`KNEE`] times as long as
//! at low load.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Objective,
    spell::{Seen, Spell},
    window::{Sample, Window, noise},
};

/// Latency above this multiple of the low-load latency is over the knee: in most queueing models the load there is
/// 50–95 % of the most that is possible, and beyond it latency grows without doing more work.
pub const KNEE: f64 = 2.0;

/// The share of the knee to aim at: the rest is for bursts within a second and uneven balancing.
pub const AIM: f64 = 0.8;

/// The share of the seconds that may be over the knee.
const KNEE_BUDGET: f64 = 0.05;

/// Requests being served or waiting per replica below which it cannot be overloaded, however slow it is.
const BUSY: f64 = 1.2;

/// Arrivals above this multiple of the answers: requests pile up.
pub const PILING_UP: f64 = 1.1;

/// Answers that a reading must rest upon.
const ANSWERS_MIN: f64 = 5.0;

/// Bins per doubling of load: 4.4 % wide.
const BINS: f64 = 16.0;

/// Seconds of observations a bin remembers: new ones outweigh old ones within some minutes of being there again.
const BIN_SECONDS: f64 = 300.0;

/// The most that one second's share counts for, in error budgets: what goes wrong in one second is one event, however
/// many requests it hits.
const WORST: f64 = 20.0;

/// Error budgets in one second from which answers count as late: below, it may be chance.
const LATE: f64 = 5.0;

/// Seconds in a row with more arrivals than answers from which it is sure that requests pile up: in the first second of
/// slower answers fewer come back as well, without any queue.
const FILLING: u32 = 2;

/// Bad seconds from which a border is believed: two.
const SURE: f64 = 2.0;

/// Good seconds that prove a load.
const PROOF: f64 = 3.0;

/// How far above the largest proven load the scaler reckons, per step: while answers are as fast as at low load there is
/// room, and the step is large; otherwise it is small.
const GROWTH: (f64, f64) = (1.15, 1.5);

/// Answers this much slower than at low load: so far there is room, and from there on no more.
pub(crate) const ROOMY: (f64, f64) = (1.1, 1.3);

/// Seconds after which bad seconds that were not seen again have lost two thirds of their weight: a neighbour's noisy
/// hour is not held against an app for ever. Two hours.
const FORGET_SECONDS: f64 = 7_200.0;

/// What was learned of one version's replicas.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capacity {
    /// The version it was learned from.
    pub version: u64,
    /// Seconds to answer at low load.
    pub low_load_seconds: Option<f64>,
    /// Load bin → seconds observed there.
    pub bins: BTreeMap<i16, Bin>,
    /// Readings over the objective in a row.
    pub over: u32,
    /// Seconds in a row in which more came in than was answered, and answers were late; kept while they stay late.
    pub filling: u32,
    /// Whether answers at the latest loads were about as fast as at low load.
    pub roomy: bool,
    /// What was reckoned with at the last step down: kept until it is found to be too much, else the step would be taken
    /// back before it could show anything.
    pub trusted: f64,
    /// The time of late answers that goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spell: Option<Spell>,
    /// The last sample learned from, Unix ms.
    pub learned_ms: u64,
}

/// Seconds observed at one load per replica, weighted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Seconds.
    #[serde(rename = "s")]
    pub seconds: f64,
    /// The sum of their shares over the objective, each at most `WORST`, in error budgets.
    #[serde(rename = "o")]
    pub over: f64,
}

impl Bin {
    /// How far it speaks for the load being within the budget.
    pub(crate) fn gain(&self) -> f64 {
        self.seconds - self.over
    }
}

/// One second, judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// The share of answers over the objective, in error budgets: above 1 is too much.
    pub share: f64,
    /// Whether requests wait longer than the objective allows, all through the second: what is answered is all that
    /// can be.
    pub saturated: bool,
}

impl Verdict {
    /// Judges a second. None: too few answers to tell.
    pub fn of(sample: &Sample, objective: Option<&Objective>, low_load: f64) -> Option<Self> {
        let answered = sample.latency.count() as f64;
        if answered < 1.0 {
            return None;
        }
        let inside = (sample.in_flight - sample.streams).max(0.0) + sample.held;
        let sojourn = inside / sample.completed().max(1e-9);
        let waited = sample.queue.sum_seconds / f64::max(sample.arrivals, answered).max(1.0);
        match objective {
            Some(objective) => {
                let late = sample.latency.share_above(objective.seconds - waited.min(0.9 * objective.seconds));
                Some(Self { share: late / objective.budget, saturated: sojourn > objective.seconds })
            }
            None => {
                let seconds = sample.latency.sum_seconds / answered + waited;
                let piling_up = sample.arrivals > PILING_UP * sample.completed() + noise(sample.arrivals, 1);
                let slow = (seconds > KNEE * low_load || piling_up) && inside > BUSY * f64::from(sample.ready);
                Some(Self { share: if slow { 1.0 / KNEE_BUDGET } else { 0.0 }, saturated: slow })
            }
        }
    }

    /// Over the budget.
    pub fn bad(&self) -> bool {
        self.share > 1.0
    }
}

/// The recent past in four numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Requests per second coming in.
    pub arrivals: f64,
    /// Answers per second, all replicas together.
    pub throughput: f64,
    /// Seconds from arrival to the response head, waiting included; none: nothing was answered.
    pub seconds: Option<f64>,
    /// Requests being served or waiting (streams left out).
    pub inside: f64,
    /// Ready replicas, mean.
    pub ready: f64,
}

impl Reading {
    /// Reads the last `seconds` before `at_ms`. None without data or without a ready replica.
    pub fn take(window: &Window, at_ms: u64, seconds: u64) -> Option<Self> {
        let mean = |value: fn(&Sample) -> f64| window.mean(at_ms, seconds, |s| Some(value(s)));
        let ready = mean(|s| f64::from(s.ready)).filter(|ready| *ready > 0.0)?;
        let inside = mean(|s| (s.in_flight - s.streams).max(0.0) + s.held)?;
        Some(Self {
            arrivals: mean(|s| s.arrivals)?,
            throughput: mean(Sample::completed)?,
            seconds: answer_seconds(window, at_ms, seconds),
            inside,
            ready,
        })
    }

    /// Whether the replicas are over the knee: enough requests are inside to make waiting possible, and answers take
    /// more than [`KNEE`] times `low_load` seconds.
    pub fn over(&self, low_load: f64) -> bool {
        !self.idles() && self.seconds.is_some_and(|seconds| seconds > KNEE * low_load)
    }

    /// Whether too few requests are inside for any of them to wait.
    pub(crate) fn idles(&self) -> bool {
        self.inside <= BUSY * self.ready
    }

    /// Whether no more comes in than is answered, but for chance in a minute.
    pub(crate) fn keeps_up(&self) -> bool {
        self.arrivals - self.throughput <= noise(self.arrivals, 60)
    }

    /// Requests waiting somewhere beyond those that low-load service would have inside (Little's law).
    pub fn backlog(&self, low_load: f64) -> f64 {
        (self.inside - self.throughput * low_load).max(0.0)
    }
}

/// Mean seconds to the response head plus mean seconds of waiting in the proxy, by what was counted.
fn answer_seconds(window: &Window, at_ms: u64, seconds: u64) -> Option<f64> {
    let (mut answered, mut served, mut arrived, mut waited) = (0u64, 0.0, 0.0, 0.0);
    for sample in window.last(at_ms, seconds) {
        answered += sample.latency.count();
        served += sample.latency.sum_seconds;
        arrived += sample.arrivals;
        waited += sample.queue.sum_seconds;
    }
    let queue = waited / f64::max(arrived, answered as f64).max(1.0);
    (answered > 0).then(|| served / answered as f64 + queue)
}

impl Capacity {
    /// Requests per second one replica is known to take within the objective: the top of the isotonic fit's good part,
    /// and whether it is known to be the most (else it is a lower bound). None until something was learned.
    pub fn rps(&self) -> Option<(f64, bool)> {
        let (border, worst) = self.border()?;
        Some((load_of(border), worst.is_some_and(|bin| f64::from(bin - border) <= 2.0)))
    }

    /// Requests per second per replica to reckon with: a little more than is proven, and less than what was seen to be
    /// too much; [`AIM`] of that where the knee is all there is to go by. In a slow spell: [`AIM`] of what a full one does.
    pub fn usable(&self, objective: bool) -> Option<f64> {
        if let Some(full) = self.slow() {
            return Some(AIM * full);
        }
        // A load that was too much says nothing of smaller ones: an app that is late at any would be given ever less of it.
        if objective && !self.proven() {
            return None;
        }
        let (border, worst) = self.border()?;
        let growth = if self.roomy { GROWTH.1 } else { GROWTH.0 };
        let grown = (load_of(border) * growth).max(self.trusted);
        let Some(worst) = worst else { return Some(grown) };
        let most = grown.min(load_of(worst.max(border)));
        Some(if objective { most } else { AIM * most })
    }

    /// Requests per second that all replicas together must be able to do beyond the load, whatever that is. A wait in a queue
    /// has an exponential tail that falls the faster the more is unused (Kingman 1962): the budget's share of the answers
    /// waits longer than the objective leaves after the work when ln(1 / budget) ÷ (objective − work) is unused; half of that
    /// where the work varies little. What varies more is learned as a smaller capacity. One replica needs as much as fifty
    /// do, so that what was learned of many does not make few too full; but where it is more than the load hardly anything waits.
    pub fn idle(&self, objective: Option<&Objective>) -> f64 {
        let Some((objective, work)) = objective.zip(self.low_load_seconds) else { return 0.0 };
        let room = (objective.seconds - work).max(0.1 * objective.seconds);
        0.5 * libm::log(1.0 / objective.budget.clamp(1e-6, 1.0)) / room
    }

    /// The isotonic fit cut at the budget: the first bin that is not within it, and the first from there on that is
    /// surely over it.
    ///
    /// The part of an isotonic regression that lies below a level is the prefix with the largest sum of (level − value):
    /// no pooling is needed for that.
    pub(crate) fn border(&self) -> Option<(i16, Option<i16>)> {
        let first = *self.bins.keys().next()?;
        let (mut border, mut best, mut sum) = (first, 0.0, 0.0);
        let mut proof = 0.0;
        for (bin, seen) in &self.bins {
            sum += seen.gain();
            proof = if seen.gain() > 0.0 { proof + seen.seconds } else { proof };
            if sum >= best && seen.gain() > 0.0 && proof >= PROOF {
                (border, best) = (bin + 1, sum);
            }
        }
        let mut loss = 0.0;
        let worst = self.bins.range(border..).find_map(|(bin, seen)| {
            loss += (-seen.gain()).max(0.0);
            (loss >= SURE * (WORST - 1.0) * 0.5).then_some(*bin)
        });
        (border > first || worst.is_some()).then_some((border, worst))
    }

    /// Whether any load is proven to be within the budget.
    pub(crate) fn proven(&self) -> bool {
        self.border().zip(self.bins.keys().next()).is_some_and(|((border, _), first)| border > *first)
    }

    /// Learns from the samples that are new since last time and of one version alone, and forgets most when another version serves.
    pub(crate) fn learn(
        &mut self,
        window: &Window,
        at_ms: u64,
        version: u64,
        objective: Option<&Objective>,
        helps: bool,
    ) {
        if self.version != version {
            self.begin(version);
        }
        let from = self.learned_ms.max(at_ms.saturating_sub(10_000));
        let fresh = window.last(at_ms, 10).filter(|s| s.at_ms > from && !s.mixed).map(|s| s.at_ms);
        let mut fresh: Vec<u64> = fresh.collect();
        fresh.reverse();
        for at in fresh {
            self.learn_second(window, at, objective, helps);
            self.learned_ms = at;
        }
        self.learned_ms = self.learned_ms.min(at_ms); // A clock that went back must not stop the learning.
    }

    /// A new version starts with half of what its parent took, and little evidence for that: its own soon outweighs it.
    fn begin(&mut self, version: u64) {
        if self.version != 0 {
            self.inherit(self.border().map_or(0.0, |(border, _)| load_of(border) / 2.0));
        }
        (self.version, self.over, self.trusted, self.spell) = (version, 0, 0.0, None);
    }

    /// Starts anew with this load as all that is known, and little evidence for it.
    pub(crate) fn inherit(&mut self, load: f64) {
        self.bins.clear();
        self.bins.extend(bin_of(load).map(|bin| (bin - 1, Bin { seconds: PROOF, over: 0.0 })));
    }

    fn learn_second(&mut self, window: &Window, at: u64, objective: Option<&Objective>, helps: bool) {
        let mut last = window.last(at, 2);
        let (Some(now), Some(before)) = (last.next(), last.next()) else { return };
        let enough = now.ready > 0 && now.completed() * 2.0 >= ANSWERS_MIN;
        let Some(reading) = Reading::take(window, at, 1).filter(|_| enough) else {
            self.over = 0;
            return;
        };
        let Some(seconds) = reading.seconds else { return };
        let low_load = self.low_load(seconds, &reading, objective);
        let Some(verdict) = Verdict::of(now, objective, low_load) else { return };
        let earlier = Verdict::of(before, objective, low_load).unwrap_or(verdict);
        self.over = if verdict.share > LATE { self.over.saturating_add(1) } else { 0 };
        if verdict.bad() {
            self.trusted = 0.0;
        }
        self.roomy = !verdict.bad() && seconds <= if self.roomy { ROOMY.1 } else { ROOMY.0 } * low_load;
        let load = reading.throughput / reading.ready;
        // While a queue builds up or is worked off, what is answered in time says nothing of what can be for long.
        let draining = now.completed() > now.arrivals + noise(now.arrivals, 1).max(0.02 * now.arrivals);
        let filling = now.arrivals > now.completed() + noise(now.arrivals, 1).max(0.02 * now.arrivals);
        self.filling = match (verdict.bad(), filling) {
            (true, true) => self.filling.saturating_add(1),
            (true, false) if self.filling >= FILLING => self.filling,
            _ => 0,
        };
        let same = now.ready == before.ready;
        let full = verdict.saturated && filling && self.filling >= FILLING;
        let each = reading.throughput / f64::from(now.ready.min(before.ready).max(1));
        self.follow_spell(&Seen {
            at_ms: at,
            load: each,
            same,
            throughput: reading.throughput,
            inside: reading.inside,
            seconds,
            late: self.over > 0,
            full,
            helps,
        });
        let speaks = if self.slow().is_some() {
            false
        } else if verdict.bad() {
            self.load_is_why(helps, load, now, before, verdict, earlier)
        } else {
            !filling && !draining
        };
        if same && speaks {
            self.observe(load, verdict.share);
        }
    }

    /// Whether late answers come from this second's load, and not from a queue that an earlier one left behind or from
    /// a jump in its middle; nor from elsewhere (a database, a neighbour), as where nothing piles up at a load known to be good, or
    /// more replicas did not help (`helps`).
    fn load_is_why(
        &self,
        helps: bool,
        load: f64,
        now: &Sample,
        before: &Sample,
        verdict: Verdict,
        earlier: Verdict,
    ) -> bool {
        if verdict.saturated && self.filling >= FILLING {
            return true;
        }
        let draining = earlier.share > 2.0 * verdict.share;
        let steady = (now.arrivals - before.arrivals).abs() <= 0.1 * now.arrivals + noise(now.arrivals, 1);
        let known_good = self.known_good(load);
        let piling_up = now.arrivals > PILING_UP * now.completed();
        steady && !draining && (piling_up || (helps && !known_good))
    }

    /// Clearly below the largest proven load.
    fn known_good(&self, load: f64) -> bool {
        self.border().is_some_and(|(border, _)| load < load_of(border - 2))
    }

    /// Follows the latency at low load: down at once by half, up slowly, and only while it cannot be from overload.
    fn low_load(&mut self, seconds: f64, reading: &Reading, objective: Option<&Objective>) -> f64 {
        let old = self.low_load_seconds.unwrap_or_else(|| objective.map_or(seconds, |o| seconds.min(o.seconds)));
        let share = match seconds < old {
            true => 0.5,
            false if reading.inside <= 0.8 * reading.ready => 0.05,
            false if !reading.over(old) => 1.0 / 600.0,
            false => 0.0,
        };
        let new = (old + share * (seconds - old)).max(1e-6);
        self.low_load_seconds = Some(new);
        new
    }

    /// A step down to this load per replica had to be taken back at once: that weighs more than all the good seconds
    /// there (a queue can take minutes to build up at a load just over the most that is possible).
    pub(crate) fn regret(&mut self, load: f64) {
        let Some(border) = bin_of(load).filter(|_| !self.known_good(load)) else { return };
        self.bins.entry(border).or_default();
        for bin in self.bins.range_mut(border..).map(|(_, bin)| bin) {
            bin.over = bin.over.max(bin.seconds) + SURE * WORST;
        }
    }

    fn observe(&mut self, load: f64, share: f64) {
        let Some(bin) = bin_of(load) else { return };
        let keep = 1.0 - 1.0 / FORGET_SECONDS;
        for bin in self.bins.values_mut().filter(|bin| bin.over > bin.seconds) {
            bin.over = bin.seconds + (bin.over - bin.seconds) * keep;
        }
        let bin = self.bins.entry(bin).or_default();
        let keep = 1.0 - 1.0 / BIN_SECONDS;
        (bin.seconds, bin.over) = (bin.seconds * keep + 1.0, bin.over * keep + share.min(WORST));
    }
}

/// The bin of a load per replica; none for none.
fn bin_of(load: f64) -> Option<i16> {
    // From one request in 17 minutes to a million a second: at most 480 bins.
    (load > 0.0).then(|| (libm::log2(load.clamp(1e-3, 1e6)) * BINS).floor() as i16)
}

/// The least load that falls in a bin.
pub(crate) fn load_of(bin: i16) -> f64 {
    libm::exp2(f64::from(bin) / BINS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(observations: &[(f64, bool, u32)]) -> Option<f64> {
        let mut capacity = Capacity::default();
        for (load, over, times) in observations {
            (0..*times).for_each(|_| capacity.observe(*load, if *over { WORST } else { 0.0 }));
        }
        capacity.rps().filter(|(_, sure)| *sure).map(|(rps, _)| rps)
    }

    #[test]
    fn good_alone_is_a_lower_bound_only() {
        assert_eq!(learned(&[(50.0, false, 100)]), None);
    }

    #[test]
    fn the_border_lies_between_good_and_bad() {
        let rps = learned(&[(50.0, false, 60), (70.0, false, 20), (80.0, true, 10)]).unwrap();
        assert!(rps > 70.0 && rps <= 80.0, "{rps}");
    }

    #[test]
    fn a_slow_spell_at_a_load_known_to_be_good_changes_nothing() {
        let before = learned(&[(70.0, false, 200), (80.0, true, 10)]);
        assert_eq!(learned(&[(70.0, false, 200), (80.0, true, 10), (60.0, true, 5)]), before);
    }

    #[test]
    fn an_app_that_became_slower_is_believed() {
        let rps = learned(&[(70.0, false, 200), (80.0, true, 10), (40.0, true, 60)]).unwrap();
        assert!(rps <= 40.0, "{rps}");
    }

    #[test]
    fn bins_hold_what_they_say() {
        for load in [0.003, 0.7, 1.0, 50.0, 123_456.0] {
            let bin = bin_of(load).unwrap();
            assert!(load_of(bin) <= load * 1.000_001 && load < load_of(bin + 1), "{load}");
        }
    }
}
