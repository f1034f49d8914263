//! What may change the largest need: bounds, hold time, steps, doubt about the data, sleep.

use crate::{Memory, Now, Policy, Window};

/// A gap in the decisions longer than this starts the hold time anew.
pub const GAP_MS: u64 = 15_000;

/// Milliseconds between two steps up. Within one step the count may double and grow by two more.
pub const STEP_UP_MS: u64 = 1_000;

/// Milliseconds between two steps down: a tenth each time makes half in a quarter of a minute.
pub const STEP_DOWN_MS: u64 = 2_000;

/// The most that one step up may reach: as the user says, else twice as many and two.
pub fn step_up(policy: &Policy, from: u32) -> u32 {
    from.saturating_add(policy.step_up.unwrap_or(from.saturating_add(2)).max(1))
}

/// The least that one step down may reach: as the user says, else one replica or a tenth less.
pub fn step_down(policy: &Policy, from: u32) -> u32 {
    from.saturating_sub(policy.step_down.unwrap_or(from / 10).max(1))
}

/// An hour, over which turns are counted.
const HOUR_MS: u64 = 3_600_000;

/// The most turns kept; the largest flap budget.
const TURNS_MAX: usize = 60;

/// Whether the flap budget is used up, so that nothing is taken away.
pub(crate) fn flapping(policy: &Policy, now: &Now, memory: &Memory) -> Option<String> {
    let budget = policy.turns_an_hour?;
    let turns = memory.turns.iter().filter(|at| now.at_ms.saturating_sub(**at) < HOUR_MS).count();
    (turns >= budget as usize).then(|| format!("flap budget: {turns} turns within an hour, {budget} are allowed"))
}

/// Notes a turn, if this change goes the other way than the last one. Call it before the change is noted.
pub(crate) fn turn(now: &Now, up: bool, memory: &mut Memory) {
    let (raised, lowered) = (memory.raised_ms, memory.lowered_ms);
    if if up { lowered > raised } else { raised > lowered } {
        memory.turns.retain(|at| now.at_ms.saturating_sub(*at) < HOUR_MS);
        let surplus = (memory.turns.len() + 1).saturating_sub(TURNS_MAX);
        memory.turns.drain(..surplus);
        memory.turns.push(now.at_ms);
    }
}

/// Milliseconds that a need must stay lower before replicas are taken away: as the user says, else the start time, within
/// `HOLD_MS`. One that is taken away and needed again is paid for while it starts and serves nobody: to keep it for just
/// as long costs at most twice what one who knows the load would pay (the ski rental problem, Karlin et al. 1988). Room for
/// a rise is not the hold time's task but the margin's.
pub fn hold_ms(policy: &Policy, memory: &Memory) -> u64 {
    let own = ((1_000.0 * memory.starts.horizon()) as u64).clamp(HOLD_MS.0, HOLD_MS.1);
    (policy.hold_down_ms.unwrap_or(own) << memory.flaps.min(FLAPS_MAX))
        .min(HOLD_MS.1.max(policy.hold_down_ms.unwrap_or(0)))
}

/// How often the hold time is doubled at most, once for each step down that had to be taken back.
pub const FLAPS_MAX: u32 = 4;

/// A step down so long after the last one that had to be taken back takes one doubling back, in milliseconds.
pub const FORGIVE_MS: u64 = 300_000;

/// And so does this time without any, in milliseconds: an hour.
pub const FORGET_MS: u64 = 3_600_000;

/// Bounds of the hold time that is chosen here, in milliseconds: the shortest span that a rise is looked for in, so that a
/// dip of chance is none; and no more than what users know from their other autoscaler.
const HOLD_MS: (u64, u64) = (5_000, 300_000);

/// Whether the app may sleep: `min = 0`, `idle_after` over, good data all that time. Notes when it was last busy;
/// what nobody could see counts as busy.
pub(crate) fn idle(policy: &Policy, now: &Now, window: &Window, memory: &mut Memory) -> Option<String> {
    let new = memory.busy_ms == 0 || memory.busy_ms > now.at_ms;
    let blind = window.doubt(now.at_ms).is_some() || now.at_ms.saturating_sub(memory.noted_ms) > GAP_MS;
    if new || blind || now.held > 0 {
        memory.busy_ms = now.at_ms;
    }
    let last_busy = window.seconds.iter().rev().take(30).find(|s| s.busy() && s.at_ms <= now.at_ms);
    memory.busy_ms = memory.busy_ms.max(last_busy.map_or(0, |s| s.at_ms));
    let after = policy.idle_after_ms.filter(|_| policy.min == 0)?;
    let quiet = now.at_ms.saturating_sub(memory.busy_ms);
    (quiet >= after).then(|| format!("no request for {} s", quiet / 1_000))
}

/// Notes a need for the hold time: the list stays sorted by time, and falls, so the first is the largest.
pub(crate) fn note(hold_ms: u64, at_ms: u64, need: u32, memory: &mut Memory) {
    let gap = memory.noted_ms == 0 || memory.noted_ms > at_ms || at_ms - memory.noted_ms > GAP_MS;
    if gap {
        memory.watched_ms = at_ms;
        memory.recent.clear();
    }
    memory.noted_ms = at_ms;
    while memory.recent.last().is_some_and(|(_, last)| *last <= need) {
        memory.recent.pop();
    }
    memory.recent.push((at_ms, need));
    let first_kept = at_ms.saturating_sub(hold_ms);
    let old = memory.recent.iter().take_while(|(at, _)| *at < first_kept).count();
    memory.recent.drain(..old);
    // Falling and at most max: bounded by itself; a bound all the same, for memories from elsewhere.
    let surplus = memory.recent.len().saturating_sub(1_000);
    memory.recent.drain(..surplus);
}

/// The largest need of the hold time, if needs were noted all through it.
pub(crate) fn held_need(hold_ms: u64, at_ms: u64, memory: &Memory) -> Option<u32> {
    let whole = at_ms.saturating_sub(memory.watched_ms) >= hold_ms;
    memory.recent.first().map(|(_, need)| *need).filter(|_| whole)
}
