//! The decision: needs, then guards, then words.

use crate::{
    Alert, Decision, Memory, Now, Policy, Window,
    capacity::{KNEE, Reading},
    demand::chance,
    guards,
    hindsight::Second,
    needs::{self, Ask, Tried},
    window::noise,
};

/// Decides how many replicas an app shall have now.
///
/// Call it about once a second, and at once when a request is held for an app that sleeps. Commit `want` when it
/// differs from `from`, and keep the memory for the next call.
///
/// # Guarantees
/// * Equal inputs give equal outputs, byte for byte as JSON, on every machine.
/// * `want` is never above `policy.max`, and below `policy.min` only where that is above `max`.
/// * Old, missing or partial data never lowers the count (other than to `max`).
/// * More load, all else equal, never gives fewer replicas; nor does another signal.
pub fn decide(policy: &Policy, now: &Now, window: &Window, memory: Memory) -> (Decision, Memory) {
    let mut memory = memory;
    let helps = Reading::take(window, now.at_ms, 2).is_none_or(|reading| !needs::helpless(now, reading, &memory));
    memory.capacity.learn(window, now.at_ms, now.version, policy.objective.as_ref(), helps);
    memory.starts.watch(now);
    let each = memory.capacity.usable(policy.objective.is_some());
    if let Some(each) = each.filter(|_| memory.capacity.slow().is_none()) {
        memory.margin.judge(now, policy.max, window, each, memory.capacity.over > 0);
    }
    let idle = guards::idle(policy, now, window, &mut memory);
    let asked = match &idle {
        Some(why) => needs::Asked { asks: vec![Ask::fixed("idle", 0, why.clone())], remarks: vec![] },
        None => needs::ask(policy, now, window, &memory),
    };
    look_back(policy, now, window, &mut memory);
    let winner = largest(&asked.asks).clone();
    let down = asked.asks.iter().map(|ask| ask.down).max().unwrap_or(0);
    let mut told = asked.remarks;
    let want = guarded(policy, now, window, &mut memory, &winner, down, &mut told);
    remember(policy, now, window, want, &winner, &mut memory);
    let decision = Decision {
        at_ms: now.at_ms,
        from: now.want,
        want,
        needs: asked.asks.iter().map(Ask::need).collect(),
        winner: winner.signal.to_owned(),
        reason: reason(now.want, want, &winner, &told),
        would_change: would_change(policy, want, &winner, &memory),
        guards: told,
        alerts: alerts(policy, now, window, &winner, &memory),
        capacity_sure: memory.capacity.rps().is_some_and(|(_, sure)| sure),
        capacity_rps: memory.capacity.rps().map(|(rps, _)| rps),
    };
    (decision, memory)
}

/// Judges the ways to be ready after they were asked: what this second teaches counts from the next decision on, so that more
/// load never asks for less.
fn look_back(policy: &Policy, now: &Now, window: &Window, memory: &mut Memory) {
    let start = memory.starts.horizon();
    let Some(demand) = needs::demand(now, window, start) else { return };
    let work = memory.capacity.low_load_seconds.unwrap_or(0.0);
    let patience = policy.objective.map_or((KNEE - 1.0) * work, |objective| objective.seconds - work);
    let second = Second {
        soon: demand.soon,
        margin: memory.margin.factor(),
        idle: needs::idle(policy, demand, memory),
        start,
        patience: patience.max(PATIENCE_MIN),
    };
    memory.hindsight.judge(now, window, second);
}

/// Seconds that a request may wait at the least: a tenth of what a decision takes to come.
const PATIENCE_MIN: f64 = 0.1;

/// The first of the largest asks.
fn largest(asks: &[Ask]) -> &Ask {
    let most = asks.iter().map(|ask| ask.up).max();
    asks.iter().find(|ask| Some(ask.up) == most).expect("there is always an ask")
}

/// Applies the guards one after another and tells which of them changed something.
fn guarded(
    policy: &Policy,
    now: &Now,
    window: &Window,
    memory: &mut Memory,
    winner: &Ask,
    down: u32,
    told: &mut Vec<String>,
) -> u32 {
    let (min, max) = (policy.min.min(policy.max), policy.max);
    if winner.up > max {
        told.push(format!("max {max}: {} missing", winner.up - max));
    }
    let from = now.want.clamp(min, max);
    if from != now.want {
        told.push(format!("bounds: {min} to {max}"));
    }
    let doubt = window.doubt(now.at_ms);
    let hold_ms = guards::hold_ms(policy, memory);
    // What cannot be seen is taken to be as it was.
    let last = memory.recent.last().map_or(0, |(_, need)| *need);
    let noted = if doubt.is_some() { down.max(last) } else { down };
    guards::note(hold_ms, now.at_ms, noted.min(max), memory);
    let up = winner.up.clamp(min, max);
    match winner.signal {
        "idle" => 0,
        _ if up > from => stepped_up(policy, now, from, memory, up, told),
        _ => lowered(policy, now, from, memory, down.clamp(min, max).max(up), doubt, told),
    }
}

/// One step up at a time, at least [`guards::STEP_UP_MS`] apart.
fn stepped_up(policy: &Policy, now: &Now, from: u32, memory: &Memory, up: u32, told: &mut Vec<String>) -> u32 {
    if from > 0 && now.at_ms.saturating_sub(memory.raised_ms) < guards::STEP_UP_MS && now.at_ms >= memory.raised_ms {
        told.push("rose less than a second ago".to_owned());
        return from;
    }
    let most = guards::step_up(policy, from);
    if up > most {
        told.push(format!("step: at most {most} at once"));
    }
    up.min(most)
}

/// Down only after the hold time, by the largest need in it, in steps, and on good data. Not while replicas start because answers are
/// late: one that is given up and asked for again serves that much later.
fn lowered(
    policy: &Policy,
    now: &Now,
    from: u32,
    memory: &Memory,
    down: u32,
    doubt: Option<String>,
    told: &mut Vec<String>,
) -> u32 {
    if down >= from {
        return from; // Fits only without room to spare.
    }
    if let Some(doubt) = doubt {
        told.push(doubt);
        return from;
    }
    if let Some(flapping) = guards::flapping(policy, now, memory) {
        told.push(flapping);
        return from;
    }
    if memory.capacity.over > 0 && memory.capacity.slow().is_none() && now.ready < now.want {
        told.push("answers are late and replicas start: none is given up".to_owned());
        return from;
    }
    let hold_ms = guards::hold_ms(policy, memory);
    let seconds = hold_ms / 1_000;
    let to = match guards::held_need(hold_ms, now.at_ms, memory) {
        None => {
            told.push(format!("hold: watched for less than {seconds} s"));
            return from;
        }
        Some(held) if held > down => {
            told.push(format!("hold: was {held} within the last {seconds} s"));
            held
        }
        Some(_) => down,
    };
    if to >= from {
        return from;
    }
    if now.at_ms.saturating_sub(memory.lowered_ms) < guards::STEP_DOWN_MS && now.at_ms >= memory.lowered_ms {
        told.push(format!("step: went down less than {} s ago", guards::STEP_DOWN_MS / 1_000));
        return from;
    }
    let least = guards::step_down(policy, from);
    if to < least {
        told.push(format!("step: to {least} at first"));
    }
    to.max(least)
}

/// A rise within so many milliseconds after a step down may take that step back.
const REGRET_MS: u64 = 60_000;

/// Takes down when the count changed, and what a rise for latency's sake started from.
fn remember(policy: &Policy, now: &Now, window: &Window, want: u32, winner: &Ask, memory: &mut Memory) {
    if memory.capacity.over == 0 {
        memory.tried = None;
    }
    if want > now.want {
        guards::turn(now, true, memory);
        memory.raised_ms = now.at_ms;
        memory.starts.rose(now, want);
        let reading = Reading::take(window, now.at_ms, 2);
        if winner.per.is_some() && reading.is_some_and(|reading| flapped(now, window, reading, memory)) {
            memory.lowered_load = 0.0; // Each step down is taken back once.
            memory.flaps = (memory.flaps + 1).min(guards::FLAPS_MAX);
            memory.flapped_ms = now.at_ms;
            let last = Reading::take(window, now.at_ms, 1).filter(|_| memory.capacity.over > 0);
            if let Some(last) = last {
                memory.capacity.regret(last.arrivals / last.ready);
            }
        }
        let for_latency = winner.signal == "latency" || winner.signal == "capacity" && memory.capacity.over > 0;
        if let Some(reading) = reading.filter(|_| for_latency) {
            memory.tried = Some(Tried::next(memory.tried.as_ref(), now, want, reading));
        }
    }
    if memory.flaps > 0 && now.at_ms.saturating_sub(memory.flapped_ms) > guards::FORGET_MS {
        memory.flaps -= 1;
        memory.flapped_ms = now.at_ms;
    }
    if want < now.want {
        guards::turn(now, false, memory);
        memory.lowered_ms = now.at_ms;
        memory.capacity.trusted = memory.capacity.usable(policy.objective.is_some()).unwrap_or(0.0);
        memory.lowered_load = Reading::take(window, now.at_ms, 10).map_or(0.0, |reading| reading.arrivals);
        if now.at_ms > memory.flapped_ms + guards::FORGIVE_MS {
            memory.flaps = memory.flaps.saturating_sub(1);
            memory.flapped_ms = now.at_ms;
        }
    }
}

/// Whether a step down is taken back at no more load than it was taken at, but for chance: it should not have been. Where answers
/// have become late since, somewhat more load is no excuse.
fn flapped(now: &Now, window: &Window, reading: Reading, memory: &Memory) -> bool {
    let recent = now.at_ms.saturating_sub(memory.lowered_ms) < REGRET_MS;
    let slack = if memory.capacity.over > 0 { 1.1 } else { 1.02 };
    // Where all is noise, a rise of chance is to be met like any other: that is no boundary that a steady load lies at.
    let most = (CHANCE_MAX * memory.lowered_load).max(noise(memory.lowered_load, 2));
    recent && reading.arrivals <= slack * memory.lowered_load + chance(window, now.at_ms, 2).min(most)
}

/// The largest share of a load that is taken for the chance of two seconds, if independent arrivals vary less.
const CHANCE_MAX: f64 = 0.1;

/// So many seconds of late answers in a row are no chance.
const LATE_SECONDS: u32 = 10;

/// So many in a row are no start either: most apps have warmed up within a minute.
const WARM_SECONDS: u32 = 60;

fn alerts(policy: &Policy, now: &Now, window: &Window, winner: &Ask, memory: &Memory) -> Vec<Alert> {
    let missing = winner.up.saturating_sub(policy.max);
    let mut alerts: Vec<Alert> = (missing > 0).then_some(Alert::MaxReached { missing }).into_iter().collect();
    let for_long = memory.capacity.over >= LATE_SECONDS;
    let late = for_long && memory.capacity.filling == 0;
    let reading = Reading::take(window, now.at_ms, 2).filter(|_| late);
    let slow = for_long && memory.capacity.slow().is_some() && now.ready >= now.want;
    let helpless = slow || reading.is_some_and(|reading| needs::helpless(now, reading, memory));
    alerts.extend(helpless.then_some(Alert::NoHelp));
    alerts.extend(unreachable(policy, now, window, memory).then_some(Alert::Unreachable));
    alerts
}

/// Whether the app's own work seems to take longer than the objective: no load was ever seen to meet it, answers have been late for
/// longer than an app starts, and not for want of replicas. They are not wanting where too few requests are inside for any to
/// wait, or where no more comes than is answered and either twice more of them made nothing faster, or they did more before, or there
/// could be more and none was asked for all that time. What was in time once and is late now is slow, not unreachable.
fn unreachable(policy: &Policy, now: &Now, window: &Window, memory: &Memory) -> bool {
    let late = policy.objective.is_some() && memory.capacity.over >= WARM_SECONDS && !memory.capacity.proven();
    // A minute of samples is read only where it may matter.
    let minute = || Reading::take(window, now.at_ms, u64::from(WARM_SECONDS));
    let Some(reading) = late.then(minute).flatten() else { return false };
    let (tried, each) = (memory.tried.as_ref(), reading.throughput / reading.ready);
    let in_vain = tried.is_some_and(|tried| tried.twice_useless(now, reading));
    let long_ago = tried.is_none_or(|tried| now.at_ms.saturating_sub(tried.at_ms) >= u64::from(WARM_SECONDS) * 1_000);
    let content = long_ago && now.ready >= now.want && now.want < policy.max;
    reading.idles() || reading.keeps_up() && (in_vain || content || memory.capacity.did(each).is_some())
}

fn reason(from: u32, want: u32, winner: &Ask, told: &[String]) -> String {
    let change = if want == from { format!("stays {want}") } else { format!("{from} → {want}") };

    let guards = if told.is_empty() { String::new() } else { format!(" ({})", told.join("; ")) };
    format!("{change}: {}: {}{guards}", winner.signal, winner.formula)
}

/// The load at which the winner would ask for one more or one less.
fn would_change(policy: &Policy, want: u32, winner: &Ask, memory: &Memory) -> String {
    let seconds = guards::hold_ms(policy, memory) / 1_000;
    let learning = memory.capacity.rps().is_none() && policy.rps.is_none();
    match winner.per {
        Some((_, each, unit)) => {
            let above = format!("above {:.1} {unit}: {}", each * f64::from(want), want.saturating_add(1));
            let below = each * f64::from(want.saturating_sub(1)) / (1.0 + needs::SPARE);
            match want {
                0 | 1 => above,
                _ if want >= policy.max => format!("below {below:.1} {unit} for {seconds} s: {}", want - 1),
                _ => format!("{above}; below {below:.1} {unit} for {seconds} s: {}", want - 1),
            }
        }
        None if winner.signal == "idle" => "the first request: 1".to_owned(),
        None if learning => "answers that take twice as long as at low load: more".to_owned(),
        None => "more load than it takes: more".to_owned(),
    }
}
