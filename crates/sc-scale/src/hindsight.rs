//! Two ways to be ready for a load, and which of them would have done better lately.
//!
//! * **Follow**: the forecast with its margin, held for as long as a start takes. Right for a load that has a course.
//! * **Stand**: the largest forecast of the last minute, without a margin. Right for a load that is all noise: a replica
//!   asked for when a burst comes serves when it is over, and one given up after it is missing in the next.
//!
//! Both are played through beside the real decisions, on what really came in: what each would have asked for serves a start
//! later, and requests that would have waited for too long are late. The one that paid less in the last quarter of an
//! hour decides (following the best expert: Cesa-Bianchi & Lugosi, Prediction, Learning, and Games, 2006).

use serde::{Deserialize, Serialize};

use crate::{
    Now,
    window::{SECONDS, Window},
};

/// How far back the second way looks: longer than any burst of chance, and short enough for a load that falls within minutes.
const STAND_MS: u64 = 60_000;

/// How many requests in time one late request weighs as much as: one late in a hundred is worth a fifth more replicas. At
/// 10 as at 50 the same way wins on each of the project's traces.
const LATE_PRICE: f64 = 20.0;

/// Seconds that the account remembers: as many as the window has.
const MEMORY_SECONDS: f64 = SECONDS as f64;

/// Seconds that must have been seen before the first change.
const SURE_SECONDS: f64 = 180.0;

/// Standing must pay less than this share of what following pays to take over; it gives way as soon as it pays more.
const BETTER: f64 = 0.85;

/// And no more than this share of what is late by following may be late by standing: what it is to save are late answers. Else
/// it would take over wherever the margin has become wide, and leave the count of a load that hardly varies without any.
const LESS_LATE: f64 = 0.5;

/// A start is taken to last so long at the most when a way is played through, in milliseconds.
const START_MAX_MS: u64 = 60_000;

/// What has been seen of both ways.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hindsight {
    /// Whether to stand rather than follow.
    pub stands: bool,
    /// How following would have done.
    pub follow: Way,
    /// How standing would have done.
    pub stand: Way,
    /// Seconds seen, the older ones weighing less.
    pub seconds: f64,
    /// The last second judged, Unix ms.
    pub judged_ms: u64,
}

/// One way, played through. Loads are requests per second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Way {
    /// What it was to be ready for.
    pub ready_for: Largest,
    /// The same as lacking (negative), whose largest of a start's time is what serves.
    pub serving: Largest,
    /// Requests that would wait.
    pub waiting: f64,
    /// What was asked for: the sum of the seconds, the older ones weighing less.
    pub asked: f64,
    /// How many requests would have been late, alike.
    pub late: f64,
}

/// What is to be known of a second to judge it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Second {
    /// The load to be ready for, by the forecast alone.
    pub soon: f64,
    /// The margin over it.
    pub margin: f64,
    /// What must stay unused beside any load.
    pub idle: f64,
    /// Seconds that a start takes.
    pub start: f64,
    /// Seconds that a request may wait.
    pub patience: f64,
}

impl Hindsight {
    /// The load to be ready for, without what must stay unused.
    pub(crate) fn load(&self, now: &Now, soon: f64, margin: f64) -> f64 {
        match self.stands {
            true => self.stand.ready_for.within(now.at_ms, STAND_MS).fold(soon, f64::max),
            false => soon * margin,
        }
    }

    /// Judges the last second, once.
    pub(crate) fn judge(&mut self, now: &Now, window: &Window, second: Second) {
        let Some(last) = window.seconds.back().filter(|s| s.at_ms > self.judged_ms && s.at_ms <= now.at_ms) else {
            self.judged_ms = self.judged_ms.min(now.at_ms); // A clock that went back must not stop it.
            return;
        };
        self.judged_ms = last.at_ms;
        let start_ms = (second.start.max(0.0) * 1_000.0) as u64;
        self.follow.play(now.at_ms, second.soon * second.margin, start_ms, last.arrivals, second);
        self.stand.play(now.at_ms, second.soon, STAND_MS, last.arrivals, second);
        self.seconds = self.seconds * KEEP + 1.0;
        let (follow, stand) = (&self.follow, &self.stand);
        self.stands = match self.stands {
            _ if self.seconds < SURE_SECONDS => false,
            true => stand.paid() < follow.paid(),
            false => stand.paid() < BETTER * follow.paid() && stand.late < LESS_LATE * follow.late,
        };
    }
}

/// What one second later is left of an entry in the account.
const KEEP: f64 = 1.0 - 1.0 / MEMORY_SECONDS;

impl Way {
    fn play(&mut self, at_ms: u64, load: f64, hold_ms: u64, arrivals: f64, second: Second) {
        let asked = self.ready_for.note(at_ms, load, hold_ms) + second.idle;
        // What is asked for serves when it was asked for all through a start.
        let start_ms = ((second.start.max(0.0) * 1_000.0) as u64).min(START_MAX_MS);
        let serving = -self.serving.note(at_ms, -asked, start_ms);
        self.waiting = (self.waiting + arrivals - serving).clamp(0.0, arrivals.max(serving) * WAITING_MAX);
        let late = if self.waiting > serving * second.patience { arrivals } else { 0.0 };
        (self.asked, self.late) = (self.asked * KEEP + asked, self.late * KEEP + late);
    }

    /// What was paid for it: what was asked for, and what was late at its price.
    fn paid(&self) -> f64 {
        self.asked + LATE_PRICE * self.late
    }
}

/// Seconds of load that wait at the most: the real fleet would by then have risen for the sake of latency.
const WAITING_MAX: f64 = 2.0;

/// The largest of the latest values: each with its time (Unix ms), and larger than all after it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Largest(pub Vec<(u64, f64)>);

impl Largest {
    /// Notes a value and returns the largest one of the last `span_ms`, this one included.
    fn note(&mut self, at_ms: u64, value: f64, span_ms: u64) -> f64 {
        let values = &mut self.0;
        values.retain(|(at, _)| *at <= at_ms && at_ms - at < span_ms);
        while values.last().is_some_and(|(_, last)| *last <= value) {
            values.pop();
        }
        values.push((at_ms, value));
        let surplus = values.len().saturating_sub(VALUES_MAX);
        values.drain(..surplus);
        values[0].1
    }

    /// The values of the last `span_ms` that are still kept.
    fn within(&self, at_ms: u64, span_ms: u64) -> impl Iterator<Item = f64> {
        self.0.iter().filter(move |(at, _)| *at <= at_ms && at_ms - at < span_ms).map(|(_, value)| *value)
    }
}

/// One a second for a minute; decisions are made more often only while a request is held.
const VALUES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sample;

    /// Plays a load, the forecast being what came in the second before, and returns whether standing won and what each paid.
    fn play(loads: impl IntoIterator<Item = f64>) -> Hindsight {
        let (mut window, mut hindsight, mut soon) = (Window::default(), Hindsight::default(), 0.0);
        for (second, arrivals) in (1..).zip(loads) {
            let at_ms = second * 1_000;
            window.push(Sample { at_ms, arrivals, ..Sample::default() });
            let now = Now { at_ms, ..Now::default() };
            let judged = Second { soon, margin: 1.11, idle: 0.0, start: 10.0, patience: 0.1 };
            hindsight.judge(&now, &window, judged);
            soon = arrivals;
        }
        hindsight
    }

    /// Loads between `least` and three times that without any order.
    fn noise(least: f64, seconds: u64) -> impl Iterator<Item = f64> {
        let mut state = 1u64;
        (0..seconds).map(move |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            least * (1.0 + 2.0 * (state >> 40) as f64 / (1u64 << 24) as f64)
        })
    }

    #[test]
    fn one_stands_where_all_is_noise() {
        let hindsight = play(noise(100.0, 1_800));
        assert!(hindsight.stands, "{} and {} paid", hindsight.follow.paid(), hindsight.stand.paid());
    }

    #[test]
    fn one_follows_a_load_with_a_course() {
        let day = (0..3_600).map(|second| 1_000.0 + 500.0 * libm::sin(f64::from(second) / 300.0));
        let hindsight = play(day);
        assert!(!hindsight.stands, "{} and {} paid", hindsight.follow.paid(), hindsight.stand.paid());
    }

    #[test]
    fn one_follows_again_when_the_noise_is_over() {
        let steps = (0..1_200).map(|second| if second / 120 % 2 == 0 { 1_000.0 } else { 100.0 });
        let hindsight = play(noise(100.0, 600).chain(steps));
        assert!(!hindsight.stands, "{} and {} paid", hindsight.follow.paid(), hindsight.stand.paid());
    }

    /// However wide the margin has become.
    #[test]
    fn one_follows_a_load_that_is_never_late() {
        let mut hindsight = Hindsight::default();
        let mut window = Window::default();
        for (second, arrivals) in (1..).zip(noise(10.0, 900)) {
            let at_ms = second * 1_000;
            window.push(Sample { at_ms, arrivals: 1_000.0 + arrivals, ..Sample::default() });
            let judged = Second { soon: 1_020.0, margin: 1.3, idle: 20.0, start: 10.0, patience: 0.1 };
            hindsight.judge(&Now { at_ms, ..Now::default() }, &window, judged);
            assert!(!hindsight.stands, "second {second}");
        }
    }

    #[test]
    fn nothing_is_changed_before_enough_was_seen() {
        assert!(!play(noise(100.0, 60)).stands);
    }

    #[test]
    fn a_second_counts_once_and_a_clock_that_went_back_stops_nothing() {
        let mut hindsight = play(noise(100.0, 100));
        let mut window = Window::default();
        window.push(Sample { at_ms: 50_000, arrivals: 100.0, ..Sample::default() });
        let judged = Second { soon: 100.0, margin: 1.11, idle: 0.0, start: 10.0, patience: 0.1 };
        let before = hindsight.seconds;
        let now = Now { at_ms: 50_000, ..Now::default() };
        hindsight.judge(&now, &window, judged);
        assert_eq!(hindsight.seconds, before, "it was judged before the clock went back");
        window.push(Sample { at_ms: 51_000, arrivals: 100.0, ..Sample::default() });
        let now = Now { at_ms: 51_000, ..Now::default() };
        hindsight.judge(&now, &window, judged);
        hindsight.judge(&now, &window, judged);
        assert!(hindsight.seconds > before + 0.5 && hindsight.seconds < before + 1.0);
        assert!(
            hindsight.stand.ready_for.0.iter().all(|(at, _)| *at <= 51_000),
            "nothing is kept of what is yet to come"
        );
    }

    #[test]
    fn the_largest_of_a_span_is_kept() {
        let mut largest = Largest::default();
        let values = [3.0, 1.0, 2.0, 2.0, 0.5, 4.0, 1.0, 1.0, 1.0];
        for (second, value) in values.iter().enumerate() {
            let span = &values[second.saturating_sub(2)..=second];
            let most = span.iter().copied().fold(f64::MIN, f64::max);
            assert_eq!(largest.note(second as u64 * 1_000, *value, 3_000), most, "second {second}");
        }
        assert_eq!(largest.within(8_000, 3_000).fold(f64::MIN, f64::max), 1.0);
    }
}
