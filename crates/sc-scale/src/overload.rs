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

/// Requests per second that one replica answers: what it is known to take, or what it did of late if that is more.
fn capacity(at_ms: u64, window: &Window, memory: &Memory) -> Option<f64> {
    let learned = memory.capacity.rps().map_or(0.0, |(rps, _)| rps);
    let did = window.last(at_ms, SECONDS).filter(|s| s.ready > 0).map(|s| s.completed() / f64::from(s.ready));
    // Its best seconds say too much: what came then had waited before.
    let mut did: Vec<f64> = did.collect();
    did.sort_by(f64::total_cmp);
    let often = did.get(did.len() * 9 / 10).copied().unwrap_or(0.0);
    Some(learned.max(often)).filter(|rps| *rps > 0.0)
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
