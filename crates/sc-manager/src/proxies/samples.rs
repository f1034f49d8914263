//! From cumulative counters to one [`Sample`] a second and app.
//!
//! A second is closed when every live proxy has sent a frame since the last one was, so that with one proxy each frame
//! makes one sample; when one does not come, half a second later, marked as not complete. What came in late counts for
//! the next one: nothing is counted twice or lost.

use std::collections::{BTreeMap, BTreeSet};

use sc_core::{
    AppId, ReplicaId,
    records::UnixMs,
    stats::{AppStats, BackendStats, Frame},
};
use sc_scale::{Outside, Sample, Window};

use super::Facts;

/// A second is closed at the latest so many milliseconds after the one before.
const LATEST_MS: u64 = 1_500;
/// How many seconds a replica's rate is taken over.
const RATE_SECONDS: f64 = 10.0;

#[derive(Default)]
pub(super) struct Samples {
    proxies: BTreeMap<String, Counters>,
    running: BTreeMap<AppId, Sample>,
    windows: BTreeMap<AppId, Window>,
    rates: BTreeMap<ReplicaId, f64>,
    counts: BTreeMap<ReplicaId, u64>,
    reported: BTreeSet<String>,
    urgent: bool,
    closed_ms: UnixMs,
}

/// A proxy's counters at its last frame.
#[derive(Default)]
struct Counters {
    boot: String,
    at_ms: u64,
    apps: BTreeMap<AppId, AppStats>,
}

impl Samples {
    /// Counts what came in since the proxy's frame before.
    pub(super) fn add(&mut self, id: &str, frame: &Frame, now: UnixMs) {
        if self.closed_ms == 0 {
            self.closed_ms = now.saturating_sub(1_000);
        }
        let before = self.proxies.entry(id.to_owned()).or_default();
        let known = before.boot == frame.boot;
        // What a proxy counted before this manager first heard of it has no time: it is left out. One that started
        // anew began at zero.
        let first = before.boot.is_empty();
        if !known {
            before.apps.clear();
        }
        for (app, stats) in &frame.apps {
            let zero = AppStats::default();
            let old = if first { stats } else { before.apps.get(app).unwrap_or(&zero) };
            let sample = self.running.entry(app.clone()).or_default();
            count(sample, stats, old);
            for (replica, backend) in &stats.backends {
                let none = BackendStats::default();
                let old = if first { backend } else { old.backends.get(replica).unwrap_or(&none) };
                *self.counts.entry(replica.clone()).or_default() += backend.requests.saturating_sub(old.requests);
            }
        }
        before.boot.clone_from(&frame.boot);
        before.at_ms = frame.at_ms;
        before.apps.clone_from(&frame.apps);
        if frame.urgent {
            self.urgent = true;
        } else {
            self.reported.insert(id.to_owned());
        }
    }

    /// Closes the running second if all live proxies have reported, if one came out of turn, or if it is late.
    pub(super) fn close_if_over(&mut self, now: UnixMs, live: &BTreeSet<&str>, facts: &BTreeMap<AppId, Facts>) -> bool {
        if self.closed_ms == 0 {
            self.closed_ms = now;
        }
        let complete = !live.is_empty() && live.iter().all(|id| self.reported.contains(*id));
        let late = now >= self.closed_ms + LATEST_MS;
        if !complete && !late && !self.urgent {
            return false;
        }
        let seconds = (now.saturating_sub(self.closed_ms) as f64 / 1_000.0).max(1.0);
        for app in facts.keys() {
            self.running.entry(app.clone()).or_default();
        }
        let gauges = self.gauges(live);
        for (app, mut sample) in std::mem::take(&mut self.running) {
            per_second(&mut sample, seconds);
            let facts = facts.get(&app).copied().unwrap_or_default();
            let (held, streams) = gauges.get(&app).copied().unwrap_or_default();
            sample.at_ms = now;
            sample.complete = complete;
            sample.ready = facts.ready;
            sample.mixed = facts.mixed;
            sample.cpu = facts.cpu;
            sample.cpu_limit = facts.cpu_limit;
            sample.cpu_replicas = facts.cpu_replicas;
            sample.memory = facts.memory;
            sample.memory_limit = facts.memory_limit;
            sample.held = held;
            sample.streams = streams;
            self.windows.entry(app).or_default().push(sample);
        }
        self.rate(seconds);
        self.reported.clear();
        self.urgent = false;
        self.closed_ms = now;
        true
    }

    fn gauges(&self, live: &BTreeSet<&str>) -> BTreeMap<AppId, (f64, f64)> {
        let mut sums: BTreeMap<AppId, (f64, f64)> = BTreeMap::new();
        for (_, counters) in self.proxies.iter().filter(|(id, _)| live.contains(id.as_str())) {
            for (app, stats) in &counters.apps {
                let sum = sums.entry(app.clone()).or_default();
                sum.0 += stats.held as f64;
                sum.1 += stats.streams as f64;
            }
        }
        sums
    }

    /// A running mean: a new second moves it by a tenth.
    fn rate(&mut self, seconds: f64) {
        for replica in self.counts.keys() {
            self.rates.entry(replica.clone()).or_default();
        }
        let share = (seconds / RATE_SECONDS).min(1.0);
        for (replica, rate) in &mut self.rates {
            let now = self.counts.get(replica).copied().unwrap_or(0) as f64 / seconds;
            *rate += (now - *rate) * share;
        }
        self.rates.retain(|_, rate| *rate > 0.005);
        self.counts.clear();
    }

    pub(super) fn window(&self, app: &AppId) -> Option<&Window> {
        self.windows.get(app)
    }

    pub(super) fn remember(&mut self, app: AppId, window: Window) {
        self.windows.insert(app, window);
    }

    pub(super) fn note_outside(&mut self, app: &AppId, outside: Vec<Outside>) {
        if let Some(window) = self.windows.get_mut(app) {
            window.outside = outside;
        }
    }

    pub(super) fn recent(&self, app: &AppId, seconds: usize) -> Vec<Sample> {
        let Some(window) = self.windows.get(app) else { return Vec::new() };
        window.seconds.iter().rev().take(seconds).cloned().collect()
    }

    pub(super) fn rps(&self, replica: &ReplicaId) -> f64 {
        self.rates.get(replica).copied().unwrap_or(0.0)
    }

    pub(super) fn keep_only(&mut self, keep: impl Fn(&str) -> bool) {
        self.proxies.retain(|id, _| keep(id));
    }

    pub(super) fn keep_apps(&mut self, keep: impl Fn(&AppId) -> bool) {
        self.windows.retain(|app, _| keep(app));
        self.running.retain(|app, _| keep(app));
    }
}

fn count(sample: &mut Sample, new: &AppStats, old: &AppStats) {
    sample.arrivals += new.arrivals.saturating_sub(old.arrivals) as f64;
    sample.queue.merge(&new.queue.since(&old.queue));
    for (replica, backend) in &new.backends {
        let none = BackendStats::default();
        let before = old.backends.get(replica).unwrap_or(&none);
        for (class, count) in backend.completions.iter().enumerate() {
            sample.completions[class] += count.saturating_sub(before.completions[class]) as f64;
        }
        sample.in_flight += (backend.in_flight_seconds - before.in_flight_seconds).max(0.0);
        sample.latency.merge(&backend.latency.since(&before.latency));
    }
}

fn per_second(sample: &mut Sample, seconds: f64) {
    sample.arrivals /= seconds;
    sample.in_flight /= seconds;
    for count in &mut sample.completions {
        *count /= seconds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> AppId {
        AppId::in_default("web").unwrap()
    }

    fn frame(boot: &str, arrivals: u64, urgent: bool) -> Frame {
        let stats = AppStats { arrivals, held: u64::from(urgent), ..AppStats::default() };
        Frame { boot: boot.to_owned(), urgent, apps: BTreeMap::from([(web(), stats)]), ..Frame::default() }
    }

    fn last(samples: &Samples) -> (f64, bool) {
        let last = samples.window(&web()).unwrap().seconds.back().unwrap();
        (last.arrivals, last.complete)
    }

    #[test]
    fn nothing_is_counted_twice_or_lost() {
        let (mut samples, facts) = (Samples::default(), BTreeMap::new());
        let (one, both) = (BTreeSet::from(["a"]), BTreeSet::from(["a", "b"]));
        samples.add("a", &frame("x", 1_000, false), 10_000);
        assert!(samples.close_if_over(10_000, &one, &facts));
        assert_eq!(last(&samples), (0.0, true), "what came before this manager has no time");
        samples.add("a", &frame("x", 1_030, false), 11_000);
        assert!(samples.close_if_over(11_000, &one, &facts));
        assert_eq!(last(&samples), (30.0, true));
        assert!(!samples.close_if_over(11_900, &one, &facts), "the second is not over");
        samples.add("a", &frame("y", 7, false), 12_000);
        assert!(samples.close_if_over(12_000, &one, &facts));
        assert_eq!(last(&samples), (7.0, true), "the proxy began anew at zero");
        samples.add("b", &frame("z", 500, false), 12_500);
        samples.add("b", &frame("z", 520, false), 13_500);
        assert!(samples.close_if_over(13_500, &both, &facts));
        assert_eq!(last(&samples), (20.0 / 1.5, false), "one is late: not complete");
        samples.add("b", &frame("z", 521, true), 13_600);
        assert!(samples.close_if_over(13_600, &both, &facts), "an urgent one closes at once");
        assert_eq!(last(&samples).0, 1.0);
    }

    #[test]
    fn without_proxies_nothing_is_complete() {
        let (mut samples, facts) = (Samples::default(), BTreeMap::from([(web(), Facts::default())]));
        assert!(!samples.close_if_over(10_000, &BTreeSet::new(), &facts));
        assert!(samples.close_if_over(12_000, &BTreeSet::new(), &facts));
        assert_eq!(last(&samples), (0.0, false));
    }
}
