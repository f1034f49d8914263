//! What the policies ask for that a user gave.

use sc_core::{
    cron::Cron,
    scaling::{PolicySpec, Resource},
};

use super::{Ask, SPARE};
use crate::{Memory, Now, Policy, Sample, Window, demand::Demand, window::noise};

/// A source's number older than this many of its intervals is no longer true.
const INTERVALS: u64 = 3;

/// What each policy asks for; remarks on sources that failed.
pub(super) fn ask(
    policy: &Policy,
    now: &Now,
    demand: Option<Demand>,
    window: &Window,
    memory: &Memory,
) -> (Vec<Ask>, Vec<String>) {
    let (mut asks, mut remarks) = (Vec::new(), Vec::new());
    for (i, one) in policy.policies.iter().enumerate() {
        match one {
            PolicySpec::Fixed { replicas } => {
                asks.push(Ask::fixed("fixed", *replicas, format!("fixed = {replicas}")));
            }
            PolicySpec::Rps { target } => asks.extend(demand.and_then(|demand| {
                let spare = noise(demand.now, 10).max(SPARE * demand.now);
                Ask::shared("rps", demand.soon, spare, *target, "rps")
            })),
            PolicySpec::Concurrency { target } => {
                let inside = |s: &Sample| Some((s.in_flight - s.streams).max(0.0) + s.held);
                asks.extend(mean_ask("concurrency", window, now, inside, *target, "in flight"));
            }
            PolicySpec::Connections { target } => {
                asks.extend(mean_ask("connections", window, now, |s| Some(s.streams), *target, "connections"));
            }
            PolicySpec::Cpu { .. } => {} // See `super::cpu`: it also stands without a policy.
            PolicySpec::Memory { target } => asks.extend(used(Resource::Memory, window, now).and_then(|share| {
                let load = share * f64::from(now.ready);
                let mut ask = Ask::shared("memory", load, SPARE * load, *target, "limits")?;
                ask.formula = format!(
                    "ceil({:.0} % of the limit ÷ {:.0} % × {} replicas) = {}",
                    share * 100.0,
                    target * 100.0,
                    now.ready,
                    ask.up
                );
                Some(ask)
            })),
            PolicySpec::Threshold { of, up, down, cooldown_ms } => {
                asks.extend(threshold(*of, (*up, *down), *cooldown_ms, window, now, memory));
            }
            PolicySpec::Schedule { cron, for_ms, min } => asks.extend(schedule(cron, *for_ms, *min, now)),
            PolicySpec::Prometheus { target, every_ms, .. } => match outside(window, now, i, *every_ms) {
                Ok(value) => asks.extend(Ask::shared("prometheus", value, SPARE * value, *target, "units")),
                Err(failed) => fail("prometheus", failed, now, &mut asks, &mut remarks),
            },
            PolicySpec::Http { target, every_ms, .. } => match outside(window, now, i, *every_ms) {
                Ok(value) => {
                    let spare = target.map_or(0.0, |_| SPARE * value);
                    asks.extend(Ask::shared("http", value, spare, target.unwrap_or(1.0), "units"));
                }
                Err(failed) => fail("http", failed, now, &mut asks, &mut remarks),
            },
        }
    }
    (asks, remarks)
}

/// A source that fails holds the count: nothing is known, so nothing is lowered, and nothing raised for its sake.
fn fail(signal: &'static str, failed: String, now: &Now, asks: &mut Vec<Ask>, remarks: &mut Vec<String>) {
    asks.push(Ask::fixed(signal, now.want, format!("{failed}: stays {}", now.want)));
    remarks.push(format!("{signal}: {failed}: never lower"));
}

/// A source's number, while it is fresh.
fn outside(window: &Window, now: &Now, policy: usize, every_ms: u64) -> Result<f64, String> {
    let known = window.outside.iter().find(|outside| usize::from(outside.policy) == policy);
    let known = known.ok_or_else(|| "no answer yet".to_owned())?;
    let age = now.at_ms.saturating_sub(known.at_ms);
    let sound = known.value.is_finite() && known.value >= 0.0;
    if age > INTERVALS * every_ms {
        return Err(format!("the last answer is {} s old", age / 1_000));
    }
    sound.then_some(known.value).ok_or_else(|| format!("{} is no amount", known.value))
}

fn mean_ask(
    signal: &'static str,
    window: &Window,
    now: &Now,
    value: impl Fn(&Sample) -> Option<f64>,
    target: f64,
    unit: &'static str,
) -> Option<Ask> {
    let ten = window.mean(now.at_ms, 10, &value)?;
    let two = window.mean(now.at_ms, 2, &value).unwrap_or(ten);
    let load = ten.max(two - 2.0 * two.sqrt()); // What the last two seconds show beyond chance.
    Ask::shared(signal, load, SPARE * load, target, unit)
}

/// The share of the limit in use, mean of the last 10 s.
fn used(of: Resource, window: &Window, now: &Now) -> Option<f64> {
    let share = |used: Option<f64>, limit: Option<f64>| Some(used? / limit.filter(|limit| *limit > 0.0)?);
    window.mean(now.at_ms, 10, |s| match of {
        Resource::Cpu => share(s.cpu, s.cpu_limit),
        Resource::Memory => share(s.memory, s.memory_limit),
    })
}

fn threshold(
    of: Resource,
    (up, down): (f64, f64),
    cooldown_ms: u64,
    window: &Window,
    now: &Now,
    memory: &Memory,
) -> Option<Ask> {
    let share = used(of, window, now)?;
    let last = memory.raised_ms.max(memory.lowered_ms);
    let cool = last > now.at_ms || now.at_ms - last >= cooldown_ms;
    let (to, what) = if share > up && cool {
        (now.want.saturating_add(1), format!("above {:.0} %: one more", up * 100.0))
    } else if share < down && cool {
        (now.want.saturating_sub(1), format!("below {:.0} %: one less", down * 100.0))
    } else if cool {
        (now.want, format!("between {:.0} % and {:.0} %", down * 100.0, up * 100.0))
    } else {
        (now.want, format!("{} s of the cooldown are left", (last + cooldown_ms - now.at_ms).div_ceil(1_000)))
    };
    let name = if of == Resource::Cpu { "CPU" } else { "memory" };
    Some(Ask::fixed("threshold", to, format!("{name} at {:.0} % of its limit, {what}", share * 100.0)))
}

fn schedule(cron: &str, for_ms: u64, min: u32, now: &Now) -> Option<Ask> {
    let start = Cron::parse(cron).ok()?.last_start(now.at_ms, for_ms)?;
    let left = (start + for_ms - now.at_ms).div_ceil(60_000);
    Some(Ask::fixed("schedule", min, format!("\"{cron}\" asks for {min}, for {left} min more")))
}
