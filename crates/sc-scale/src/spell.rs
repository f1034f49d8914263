//! Slow spells: answers are late, and the load is not why.
//!
//! What is seen while a database is slow, a neighbour takes the CPU or many replicas start at once says nothing about what a
//! replica can take otherwise. Two signs tell such a time from a load that is too high: a replica that is full does far
//! less than it did for long before; or more replicas did not make answers faster. What was learned before is then kept
//! as it was, and rules again once answers are as fast as before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    capacity::{Bin, Capacity, ROOMY, load_of},
    window::noise,
};

/// A replica that is full does less than this share of what it took for long: it became slow. Above it, the app may
/// just have grown a little slower, which is learned as any other evidence.
const FULL: f64 = 0.75;

/// Seconds of good answers that what was learned must rest upon to be held against what is seen now: a minute.
const KNOWN: f64 = 60.0;

/// Seconds in a row of answers as fast as before that end a spell.
const CALM: u32 = 10;

/// After so long (ms) it is no spell, it is how the app is now. Half an hour.
const LONGEST_MS: u64 = 1_800_000;

/// How much of a new reading of a full replica is believed at once: half while requests wait, so that it can be no more,
/// and a fifth of what is above it otherwise.
const BELIEVED: (f64, f64) = (0.5, 0.2);

/// A time of late answers, and what was known before it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spell {
    /// The first late second, Unix ms.
    pub since_ms: u64,
    /// What was learned before it.
    pub bins: BTreeMap<i16, Bin>,
    /// Seconds to answer at low load, before it.
    pub low_load_seconds: f64,
    /// The most requests per second that a replica did in it. Those that start take CPU from the others, so it is the
    /// first seconds that tell.
    pub most: f64,
    /// Requests per second that a full replica does in it; none: it is not known to be a slow spell.
    pub full: Option<f64>,
    /// Seconds to answer in it at the least, once it is known: with no queue.
    pub seconds: f64,
    /// Seconds in a row in which answers were as they were before.
    pub calm: u32,
}

/// One second of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// When, Unix ms.
    pub at_ms: u64,
    /// Requests per second answered per replica; of two counts within the second, the smaller.
    pub load: f64,
    /// Whether there is one count.
    pub same: bool,
    /// Requests per second answered.
    pub throughput: f64,
    /// Requests being served or waiting.
    pub inside: f64,
    /// Seconds to answer.
    pub seconds: f64,
    /// Far more answers than allowed were late.
    pub late: bool,
    /// All replicas are full: more came in than was answered, for long enough to be sure.
    pub full: bool,
    /// More replicas helped, or that was not tried.
    pub helps: bool,
}

impl Spell {
    fn follow(&mut self, seen: &Seen) {
        let as_before = match self.full {
            Some(_) => !seen.late && seen.seconds <= ROOMY.1 * self.low_load_seconds,
            None => !seen.late,
        };
        // While replicas come, what all did shared by the fewer of them is more than any did.
        self.most = if seen.same { self.most.max(seen.load) } else { self.most };
        self.calm = if as_before { self.calm + 1 } else { 0 };
        let Some(full) = &mut self.full else { return };
        self.seconds = self.seconds.min(seen.seconds);
        let waiting = seen.inside - seen.throughput * self.seconds;
        let all = seen.full || waiting > noise(seen.throughput, 1);
        match seen.load > *full {
            true if seen.same => *full += if all { BELIEVED.0 } else { BELIEVED.1 } * (seen.load - *full),
            false if all => *full += BELIEVED.0 * (seen.load - *full),
            _ => (),
        }
    }
}

impl Capacity {
    /// What a full replica does in the slow spell that goes on; none: there is none.
    pub(crate) fn slow(&self) -> Option<f64> {
        self.spell.as_ref().and_then(|spell| spell.full)
    }

    /// The most that a replica did since answers became late, if that is well above what one does now: these are not full.
    pub(crate) fn did(&self, each: f64) -> Option<f64> {
        self.spell.as_ref().map(|spell| spell.most).filter(|most| each < FULL * most)
    }

    /// The slow spell in words.
    pub(crate) fn told(&self) -> Option<String> {
        let (full, (took, _)) = (self.slow()?, self.rps()?);
        Some(format!("slow, and not by its load: a full replica does {full:.1} rps, {took:.1} before"))
    }

    /// Follows times of late answers second by second, from the first late second on.
    pub(crate) fn follow_spell(&mut self, seen: &Seen) {
        if self.spell.is_none() && seen.late {
            let (bins, low_load_seconds) = (self.bins.clone(), self.low_load_seconds.unwrap_or(seen.seconds));
            self.spell = Some(Spell { since_ms: seen.at_ms, bins, low_load_seconds, ..Spell::default() });
        }
        let Some(mut spell) = self.spell.take() else { return };
        spell.follow(seen);
        if spell.full.is_none() && seen.full && self.does_less(&spell) {
            (spell.full, spell.seconds) = (Some(seen.load), seen.seconds);
            self.trusted = 0.0;
        }
        if spell.full.is_some() || !seen.helps {
            self.bins.clone_from(&spell.bins);
        }
        let lasts = seen.at_ms.saturating_sub(spell.since_ms) > LONGEST_MS;
        match spell.full {
            Some(full) if lasts => self.inherit(full),
            _ if lasts || spell.calm >= CALM => (),
            _ => self.spell = Some(spell),
        }
    }

    /// Whether a full replica does far less than what is well known that it took.
    fn does_less(&self, spell: &Spell) -> bool {
        let proven: f64 = spell.bins.values().map(|bin| bin.seconds.min(bin.gain().max(0.0))).sum();
        let took = self.border().map_or(0.0, |(border, _)| load_of(border));
        proven >= KNOWN && spell.most < FULL * took
    }
}
