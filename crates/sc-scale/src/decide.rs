//! The decision: needs, then guards, then words.

use crate::{
    Decision, Memory, Now, Policy, Window,
    capacity::Reading,
    guards,
    needs::{self, Ask, Tried},
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
    memory.capacity.learn(window, now.at_ms, now.version);
    let idle = guards::idle(policy, now, window, &mut memory);
    let asked = match &idle {
        Some(why) => needs::Asked { asks: vec![Ask::fixed("idle", 0, why.clone())], remarks: vec![] },
        None => needs::ask(policy, now, window, &memory),
    };
    let winner = largest(&asked.asks).clone();
    let down = asked.asks.iter().map(|ask| ask.down).max().unwrap_or(0);
    let mut told = asked.remarks;
    let want = guarded(policy, now, window, &mut memory, &winner, down, &mut told);
    remember(now, window, want, &winner, &mut memory);
    let decision = Decision {
        at_ms: now.at_ms,
        from: now.want,
        want,
        needs: asked.asks.iter().map(Ask::need).collect(),
        winner: winner.signal.to_owned(),
        reason: reason(now.want, want, &winner, &told),
        would_change: would_change(policy, want, &winner, &memory),
        guards: told,
        capacity_rps: memory.capacity.rps(),
    };
    (decision, memory)
}

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
    // What cannot be seen is taken to be as it was.
    let last = memory.recent.last().map_or(0, |(_, need)| *need);
    let noted = if doubt.is_some() { down.max(last) } else { down };
    guards::note(policy, now.at_ms, noted.min(max), memory);
    let up = winner.up.clamp(min, max);
    match winner.signal {
        "idle" => 0,
        _ if up > from => stepped_up(now, from, memory, up, told),
        _ => lowered(policy, now, from, memory, down.clamp(min, max), doubt, told),
    }
}

/// One step up at a time, at least [`guards::STEP_UP_MS`] apart.
fn stepped_up(now: &Now, from: u32, memory: &Memory, up: u32, told: &mut Vec<String>) -> u32 {
    if from > 0 && now.at_ms.saturating_sub(memory.raised_ms) < guards::STEP_UP_MS && now.at_ms >= memory.raised_ms {
        told.push("rose less than a second ago".to_owned());
        return from;
    }
    let most = guards::step_up(from);
    if up > most {
        told.push(format!("step: at most {most} at once"));
    }
    up.min(most)
}

/// Down only after the hold time, by the largest need in it, in steps, and on good data.
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
    let seconds = policy.hold_down_ms / 1_000;
    let to = match guards::held_need(policy, now.at_ms, memory) {
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
    if now.at_ms.saturating_sub(memory.lowered_ms) < guards::step_down_ms(policy) && now.at_ms >= memory.lowered_ms {
        told.push(format!("step: went down less than {} s ago", guards::step_down_ms(policy) / 1_000));
        return from;
    }
    let least = guards::step_down(from);
    if to < least {
        told.push(format!("step: to {least} at first"));
    }
    to.max(least)
}

/// A rise for latency's sake within so many milliseconds after a step down takes that step back.
const REGRET_MS: u64 = 60_000;

/// Takes down when the count changed, and what a rise for latency's sake started from.
fn remember(now: &Now, window: &Window, want: u32, winner: &Ask, memory: &mut Memory) {
    if memory.capacity.over == 0 {
        memory.tried = None;
    }
    if want > now.want {
        memory.raised_ms = now.at_ms;
        let reading = Reading::take(window, now.at_ms, 2).filter(|_| winner.signal == "latency");
        if let Some(reading) = reading {
            if now.at_ms.saturating_sub(memory.lowered_ms) < REGRET_MS {
                memory.capacity.regret(reading.throughput / reading.ready);
            }
            memory.tried = Some(Tried::next(memory.tried.as_ref(), now.at_ms, want, reading));
        }
    }
    if want < now.want {
        memory.lowered_ms = now.at_ms;
    }
}

fn reason(from: u32, want: u32, winner: &Ask, told: &[String]) -> String {
    let change = if want == from { format!("stays {want}") } else { format!("{from} → {want}") };

    let guards = if told.is_empty() { String::new() } else { format!(" ({})", told.join("; ")) };
    format!("{change}: {}: {}{guards}", winner.signal, winner.formula)
}

/// The load at which the winner would ask for one more or one less.
fn would_change(policy: &Policy, want: u32, winner: &Ask, memory: &Memory) -> String {
    let seconds = policy.hold_down_ms / 1_000;
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
