//! What to do with the load that `max` replicas cannot take: so much each replica works on at once, so long the rest waits in
//! the proxy, and what waits longer is refused while there is still time to tell the client so.
//!
//! Without that an overloaded app works only on requests whose clients have given up: each waits for all before it. By
//! Little's law a replica that answers `C` requests per second keeps `C · t` of them for `t` each. So with `C · O/2` at once
//! the mean answer takes half the objective `O`, its tail the rest but for a quarter, and that quarter a request may wait before.
//! A capacity that was learned too low does no harm while answers are quick: few are at work at once then, however many come.

use sc_core::records::Shed;

use crate::{Memory, Policy, Window, window::Sample};

/// The part of the objective that requests spend in a replica, mean.
const INSIDE: f64 = 0.5;

/// The part of the objective for which they wait before, at most and at least.
const BEFORE: (f64, f64) = (0.25, 0.05);

/// Answers need this much longer with some neighbours than alone: fewer at once would leave a replica idle at times.
const AT_WORK: f64 = 1.5;

/// What is at work besides what is waited for (bodies on their way, open streams) may grow this much.
const ROOM: f64 = 1.25;

/// Where streams are more than this part of what is at work, they are what the replicas are full of: nothing is derived.
const STREAMS: f64 = 0.5;

/// An app that takes more than this part of the objective when nothing else is to do will not answer in time by being spared.
const HOPELESS: f64 = 0.8;

/// Seconds of the past that are looked at.
const SECONDS: u64 = 300;

/// Limits that differ by less than this part stay: each change is a new table for every proxy.
const SAME: f64 = 0.25;

/// Seconds in a row without room that tell of more load than all replicas take. One is enough where what they take is known:
/// the rest may be what is left from before they were there.
const EVIDENCE: (u64, u64) = (1, 3);

/// So many in a row tell of it whether requests pile up further or not, and whether all replicas are there or not.
const STUCK: u64 = 15;

/// More than this multiple of what is known to be the most that all take is too much at once.
const KNOWN: f64 = 1.2;

/// Seconds over which what is refused is counted, so that a single bad one is none.
const REFUSED: u64 = 10;

/// Arrivals above this multiple of the answers: requests pile up, or are refused.
const TOO_MANY: f64 = 1.05;

/// Whether load is to be shed, or (`sheds`) still is: whether more comes than `max` replicas take, by what they do and not by what
/// was learned of them. What was learned is at first far too little, and an app whose replicas suffice must refuse nobody.
///
/// It begins when requests take longer than the objective all through some seconds, though all replicas are there, and still more
/// come than are answered; it goes on while a part of what comes is refused.
pub fn overloaded(policy: &Policy, at_ms: u64, window: &Window, memory: &Memory, sheds: bool) -> bool {
    let Some(objective) = policy.objective else { return false };
    if sheds {
        return more_come(at_ms, REFUSED, window);
    }
    let full = |sample: &&Sample| {
        let inside = (sample.in_flight - sample.streams).max(0.0) + sample.held;
        sample.ready > 0 && inside > objective.seconds * sample.completed()
    };
    let all_there = |sample: &&Sample| sample.ready >= policy.max;
    let for_long = window.last(at_ms, STUCK).take_while(full).count() as u64;
    let with_all = window.last(at_ms, STUCK).take_while(|sample| full(sample) && all_there(sample)).count() as u64;
    let came = window.mean(at_ms, 2, |sample| Some(sample.arrivals)).unwrap_or(0.0);
    let most = memory.capacity.rps().filter(|(_, sure)| *sure).map(|(rps, _)| rps * f64::from(policy.max));
    let seconds = if most.is_some_and(|most| came > KNOWN * most) { EVIDENCE.0 } else { EVIDENCE.1 };
    for_long >= STUCK || with_all >= seconds && more_come(at_ms, seconds, window)
}

/// Whether more came than was answered in the last seconds.
fn more_come(at_ms: u64, seconds: u64, window: &Window) -> bool {
    let mean = |value: fn(&Sample) -> f64| window.mean(at_ms, seconds, |sample| Some(value(sample))).unwrap_or(0.0);
    mean(|sample| sample.arrivals) > TOO_MANY * mean(Sample::completed)
}

/// What each replica shall work on at once, and how long requests wait for that, at `max` and more load than it takes. None:
/// there is no objective or it cannot be reached, nothing is known of what a replica does, or most of it are streams.
pub fn shed(policy: &Policy, at_ms: u64, window: &Window, memory: &Memory, before: Option<&Shed>) -> Option<Shed> {
    let objective = policy.objective?;
    let capacity = capacity(at_ms, window, memory)?;
    let mean = |value: fn(&Sample) -> f64| window.mean(at_ms, 10, |sample| Some(value(sample))).unwrap_or(0.0);
    if mean(|sample| sample.streams) > STREAMS * mean(|sample| sample.in_flight) {
        return None;
    }
    let alone = memory.capacity.low_load_seconds.unwrap_or(0.0);
    if alone > HOPELESS * objective.seconds {
        return None;
    }
    let inside = (INSIDE * objective.seconds).max((AT_WORK * alone).min(objective.seconds));
    let waits =
        (BEFORE.1 * objective.seconds).max((0.8 * objective.seconds - inside).min(BEFORE.0 * objective.seconds));
    let in_flight = (capacity * inside + ROOM * besides(at_ms, window, objective.seconds, objective.budget)).ceil();
    let new = Shed { in_flight: (in_flight as u32).max(1), queue_ms: ((waits * 1e3) as u64).max(1) };
    Some(before.filter(|old| alike(old, &new)).copied().unwrap_or(new))
}

/// Requests per second that one replica answers: what it is known to take, or what it did of late or does now if that is more.
fn capacity(at_ms: u64, window: &Window, memory: &Memory) -> Option<f64> {
    let learned = memory.capacity.rps().map_or(0.0, |(rps, _)| rps);
    let did = window.last(at_ms, SECONDS).filter(|s| s.ready > 0).map(|s| s.completed() / f64::from(s.ready));
    // Its best seconds say too much: what came then had waited before.
    let mut did: Vec<f64> = did.collect();
    did.sort_by(f64::total_cmp);
    let often = did.get(did.len() * 9 / 10).copied().unwrap_or(0.0);
    // Not long after a rise, what is done now is all there is to go by.
    let now = window.mean(at_ms, EVIDENCE.1, |s| (s.ready > 0).then(|| s.completed() / f64::from(s.ready)));
    Some(learned.max(often).max(now.unwrap_or(0.0))).filter(|rps| *rps > 0.0)
}

/// What a replica has at work besides the requests whose answers are waited for, in the seconds that were well.
fn besides(at_ms: u64, window: &Window, seconds: f64, budget: f64) -> f64 {
    let well = |s: &&Sample| s.ready > 0 && s.held == 0.0 && s.latency.share_above(seconds) <= budget;
    let more = |s: &Sample| (s.in_flight - s.latency.sum_seconds) / f64::from(s.ready);
    window.last(at_ms, SECONDS).filter(well).map(more).fold(0.0, f64::max)
}

fn alike(old: &Shed, new: &Shed) -> bool {
    let near = |old: f64, new: f64| (old - new).abs() <= SAME * old;
    near(f64::from(old.in_flight), f64::from(new.in_flight)) && near(old.queue_ms as f64, new.queue_ms as f64)
}

#[cfg(test)]
mod tests {
    use sc_core::stats::Histogram;

    use super::*;
    use crate::Objective;

    fn window(each: f64, seconds: f64, in_flight: f64, streams: f64) -> Window {
        let mut window = Window::default();
        for second in 1..=60u64 {
            let mut latency = Histogram::default();
            (0..each as u64).for_each(|_| latency.record((seconds * 1e9) as u64));
            let completions = [0.0, each, 0.0, 0.0, 0.0, 0.0];
            let at_ms = second * 1_000;
            window.push(Sample {
                at_ms,
                arrivals: each,
                completions,
                in_flight,
                streams,
                latency,
                ready: 1,
                ..Sample::default()
            });
        }
        window
    }

    fn policy(seconds: f64) -> Policy {
        Policy { max: 3, objective: Some(Objective { seconds, budget: 0.05 }), ..Policy::default() }
    }

    /// Seconds of arrivals, answers, requests inside and ready replicas, one after the other.
    fn seconds(rows: &[(f64, f64, f64, u32)]) -> (u64, Window) {
        let mut window = Window::default();
        for (second, (arrivals, answers, in_flight, ready)) in rows.iter().enumerate() {
            let completions = [0.0, *answers, 0.0, 0.0, 0.0, 0.0];
            let (at_ms, arrivals, in_flight, ready) = ((second as u64 + 1) * 1_000, *arrivals, *in_flight, *ready);
            window.push(Sample { at_ms, arrivals, completions, in_flight, ready, ..Sample::default() });
        }
        (rows.len() as u64 * 1_000, window)
    }

    fn sheds(rows: &[(f64, f64, f64, u32)], sheds: bool) -> bool {
        let (at_ms, window) = seconds(rows);
        overloaded(&policy(0.2), at_ms, &window, &Memory::default(), sheds)
    }

    #[test]
    fn nobody_is_refused_while_replicas_start_or_what_waited_for_them_is_worked_off() {
        // 200 a second come to one that does 80; two more are there from the third second on.
        let rows = [
            (200.0, 80.0, 60.0, 1),
            (200.0, 80.0, 180.0, 1),
            (200.0, 220.0, 240.0, 3),
            (200.0, 230.0, 200.0, 3),
            (200.0, 230.0, 170.0, 3),
            (200.0, 230.0, 140.0, 3),
            (200.0, 230.0, 110.0, 3),
        ];
        (1..=rows.len()).for_each(|n| assert!(!sheds(&rows[..n], false), "after {n} s"));
        let hiccup =
            [(200.0, 200.0, 10.0, 3), (200.0, 60.0, 80.0, 3), (200.0, 240.0, 60.0, 3), (200.0, 200.0, 12.0, 3)];
        (1..=hiccup.len()).for_each(|n| assert!(!sheds(&hiccup[..n], false), "{n} s into a hiccup"));
    }

    #[test]
    fn what_all_replicas_cannot_do_is_shed_soon_and_for_as_long_as_some_is_refused() {
        let rows = [(600.0, 240.0, 190.0, 3), (600.0, 240.0, 550.0, 3), (600.0, 240.0, 910.0, 3)];
        assert!(!sheds(&rows[..2], false) && sheds(&rows, false));
        let memory = Memory { capacity: known(80.0), ..Memory::default() };
        let (at_ms, window) = seconds(&rows[..1]);
        assert!(overloaded(&policy(0.2), at_ms, &window, &memory, false), "at once where the most is known");
        assert!(
            sheds(&[(240.0, 239.0, 100.0, 2); 15], false),
            "full for long, whatever it is that keeps the third away"
        );
        assert!(!sheds(&[(240.0, 239.0, 100.0, 2); 14], false));
        assert!(sheds(&[(300.0, 240.0, 20.0, 3); 10], true));
        let mut hiccup = [(240.0, 240.0, 12.0, 3); 10];
        hiccup[4].1 = 150.0;
        assert!(!sheds(&hiccup, true), "replicas suffice but for a hiccup");
    }

    /// Known to take this and no more.
    fn known(rps: f64) -> crate::Capacity {
        let mut capacity = crate::Capacity::default();
        capacity.inherit(rps);
        let last = *capacity.bins.keys().next_back().unwrap();
        capacity.bins.insert(last + 1, crate::capacity::Bin { seconds: 3.0, over: 60.0 });
        assert!(capacity.rps().is_some_and(|(_, sure)| sure));
        capacity
    }

    #[test]
    fn half_the_objective_is_spent_inside_and_a_quarter_before() {
        let window = window(40.0, 0.1, 4.0, 0.0);
        let memory = Memory::default();
        let shed = |policy: &Policy, before| shed(policy, 60_000, &window, &memory, before);
        assert_eq!(shed(&policy(1.0), None), Some(Shed { in_flight: 20, queue_ms: 250 }));
        // What was learned of late is noise: the proxies keep their tables.
        let old = Shed { in_flight: 18, queue_ms: 250 };
        assert_eq!(shed(&policy(1.0), Some(&old)), Some(old));
        assert_eq!(shed(&policy(2.0), Some(&old)), Some(Shed { in_flight: 40, queue_ms: 500 }));
        assert_eq!(shed(&Policy { max: 3, ..Policy::default() }, None), None);
    }

    #[test]
    fn a_replica_is_kept_at_work_also_where_the_objective_is_near_its_fastest() {
        let mut memory = Memory::default();
        memory.capacity.low_load_seconds = Some(0.1);
        let tight = shed(&policy(0.15), 60_000, &window(40.0, 0.1, 4.0, 0.0), &memory, None);
        assert_eq!(tight, Some(Shed { in_flight: 6, queue_ms: 7 }));
        let never = shed(&policy(0.1), 60_000, &window(40.0, 0.1, 4.0, 0.0), &memory, None);
        assert_eq!(never, None, "who refuses requests then only adds to the harm");
    }

    #[test]
    fn downloads_have_their_room_and_streams_are_left_alone() {
        let (policy, memory) = (policy(1.0), Memory::default());
        let downloads = shed(&policy, 60_000, &window(40.0, 0.1, 24.0, 0.0), &memory, None);
        assert_eq!(downloads.map(|shed| shed.in_flight), Some(45));
        assert_eq!(shed(&policy, 60_000, &window(40.0, 0.1, 24.0, 20.0), &memory, None), None);
        assert_eq!(shed(&policy, 60_000, &Window::default(), &memory, None), None);
    }
}
