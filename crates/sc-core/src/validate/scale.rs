//! What a count's bounds and policies may not be.

use super::{Found, LONGEST_MS};
use crate::{
    cron::{Cron, DAYS_MAX},
    scaling::PolicySpec,
    spec::{AppSpec, ScaleSpec},
    warm::WarmSpec,
};

/// The most policies of one app.
pub const POLICIES_MAX: usize = 32;

pub(super) fn scale(scale: &ScaleSpec, max_replicas: u32, found: &mut Found) {
    if scale.max > max_replicas {
        found
            .add("scale.max", &format!("{} is over this manager's limit of {max_replicas} replicas an app", scale.max));
    }
    if scale.min > scale.max {
        found.add("scale.min", &format!("min {} is above max {}", scale.min, scale.max));
    }
    if scale.max == 0 {
        found.add("scale.max", "at most 0 replicas would never serve; to stop an app, use `sc stop`");
    }
    if scale.rps.is_some_and(|rps| !(rps.is_finite() && rps > 0.0)) {
        found.add("scale.rps", "give the requests per second one replica shall serve, above 0");
    }
    if scale.cpu.is_some_and(|cpu| !(0.01..=1.0).contains(&cpu)) {
        found.add("scale.cpu", "give a share of the CPU limit between 1% and 100%");
    }
    if scale.hold_down_ms > LONGEST_MS || scale.idle_after_ms.is_some_and(|ms| !(1_000..=LONGEST_MS).contains(&ms)) {
        found.add("scale", "hold_down is at most a year, idle_after between 1s and a year");
    }
    if scale.idle_after_ms.is_some() && scale.min > 0 {
        found.add("scale.idle_after", "an app sleeps only with min = 0");
    }
    if scale.objective.is_some_and(|o| !(1..=600_000).contains(&o.ms) || !(1e-4..=0.5).contains(&o.budget)) {
        found.add("scale.objective", "give a time from 1ms to 10m, and a budget from 0.01% to 50%");
    }
    if scale.step_up == Some(0) || scale.step_down == Some(0) {
        found.add("scale", "a step of 0 replicas would never get anywhere; to hold the count, use `sc scale --pause`");
    }
    if scale.warm.for_ms > LONGEST_MS || scale.warm.for_ms < 1_000 {
        found.add("warm.pause_for", "give a time between 1s and a year");
    }
    if scale.warm.stop_for_ms > LONGEST_MS || scale.warm.stop_for_ms < 1_000 {
        found.add("warm.stop_for", "give a time between 1s and a year");
    }
    if scale.policies.len() > POLICIES_MAX {
        found.add("scale.policy", &format!("at most {POLICIES_MAX} policies"));
    }
    for (i, policy) in scale.policies.iter().enumerate() {
        for (key, what) in wrong(policy, scale) {
            found.add(&format!("scale.policy.{i}.{key}"), &what);
        }
    }
}

/// What of an app may not sleep.
pub(super) fn warm(warm: &WarmSpec, spec: &AppSpec, found: &mut Found) {
    if warm.size.max(warm.stopped.unwrap_or(0)) > 0 && spec.port.is_none() {
        found.add("warm", "an app without a port works unasked: nobody could tell when it may be frozen or stopped");
    }
    if warm.memory.is_some() && spec.resources.memory.is_none() {
        found.add("warm.memory", "a budget is reckoned with each replica's limit: give the app's resources.memory too");
    }
}

/// What is wrong with one policy: its key, and what would be right.
fn wrong(policy: &PolicySpec, scale: &ScaleSpec) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let above_0 = |n: f64| n.is_finite() && n > 0.0;
    let share = |n: f64| (0.01..=1.0).contains(&n);
    let within = |n: u32| (n > scale.max).then(|| format!("{n} is above max {}", scale.max));
    match policy {
        PolicySpec::Fixed { replicas } => found.extend(within(*replicas).map(|what| ("replicas", what))),
        PolicySpec::Rps { target } | PolicySpec::Concurrency { target } | PolicySpec::Connections { target } => {
            if !above_0(*target) {
                found.push(("target", "give what one replica shall take, above 0".to_owned()));
            }
        }
        PolicySpec::Cpu { target } | PolicySpec::Memory { target } => {
            if !share(*target) {
                found.push(("target", "give a share of the limit between 1% and 100%".to_owned()));
            }
        }
        PolicySpec::Threshold { up, down, cooldown_ms, .. } => {
            if !(share(*up) && share(*down) && down < up) {
                found.push(("down", "give shares between 1% and 100%, `down` below `up`".to_owned()));
            }
            if *cooldown_ms > LONGEST_MS {
                found.push(("cooldown", "give at most a year".to_owned()));
            }
        }
        PolicySpec::Schedule { cron, for_ms, min } => {
            found.extend(Cron::parse(cron).err().map(|error| ("cron", error.to_string())));
            if !(60_000..=DAYS_MAX * 86_400_000).contains(for_ms) {
                found.push(("for", format!("give a time from 1m to {DAYS_MAX}d")));
            }
            found.extend(within(*min).map(|what| ("min", what)));
        }
        PolicySpec::Prometheus { url, query, target, every_ms } => {
            found.extend(source(url, *every_ms));
            if query.trim().is_empty() {
                found.push(("query", "give a query that results in one number".to_owned()));
            }
            if !above_0(*target) {
                found.push(("target", "give how much of it one replica takes, above 0".to_owned()));
            }
        }
        PolicySpec::Http { url, target, every_ms } => {
            found.extend(source(url, *every_ms));
            if target.is_some_and(|target| !above_0(target)) {
                found.push(("target", "give how much of it one replica takes, above 0".to_owned()));
            }
        }
    }
    found
}

fn source(url: &str, every_ms: u64) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let host = url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
    if host.is_none_or(str::is_empty) || url.contains(char::is_whitespace) || url.len() > 2_048 {
        found.push(("url", format!("{url:?}: give a URL like http://127.0.0.1:9090")));
    }
    if !(1_000..=3_600_000).contains(&every_ms) {
        found.push(("every", "give a time from 1s to 1h".to_owned()));
    }
    found
}
