//! What may change the largest need: bounds, hold time, steps, doubt about the data, sleep.

use crate::{Memory, Now, Policy, Window};

/// A gap in the decisions longer than this starts the hold time anew.
pub const GAP_MS: u64 = 15_000;

/// Milliseconds between two steps up. Within one step the count may double and grow by two more.
pub const STEP_UP_MS: u64 = 1_000;

/// Longest time between two steps down, in milliseconds; a short hold time makes it a third of that.
pub const STEP_DOWN_MS: u64 = 10_000;

/// The most that one step up may reach.
pub fn step_up(from: u32) -> u32 {
    from.saturating_mul(2).saturating_add(2)
}

/// The least that one step down may reach: one replica or a tenth less.
pub fn step_down(from: u32) -> u32 {
    from.saturating_sub((from / 10).max(1))
}

/// Milliseconds between two steps down.
pub fn step_down_ms(policy: &Policy) -> u64 {
    (policy.hold_down_ms / 3).clamp(1_000, STEP_DOWN_MS)
}

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
pub(crate) fn note(policy: &Policy, at_ms: u64, need: u32, memory: &mut Memory) {
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
    let first_kept = at_ms.saturating_sub(policy.hold_down_ms);
    let old = memory.recent.iter().take_while(|(at, _)| *at < first_kept).count();
    memory.recent.drain(..old);
    // Falling and at most max: bounded by itself; a bound all the same, for memories from elsewhere.
    let surplus = memory.recent.len().saturating_sub(1_000);
    memory.recent.drain(..surplus);
}

/// The largest need of the hold time, if needs were noted all through it.
pub(crate) fn held_need(policy: &Policy, at_ms: u64, memory: &Memory) -> Option<u32> {
    let whole = at_ms.saturating_sub(memory.watched_ms) >= policy.hold_down_ms;
    memory.recent.first().map(|(_, need)| *need).filter(|_| whole)
}
