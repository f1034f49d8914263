//! `[app.NAME.scale]`: bounds, objective, policies; `[app.NAME.warm]`: what sleeps.

use super::reader::Reader;
use crate::{
    scaling::{BUDGET, ObjectiveSpec, PolicySpec, Resource},
    spec::ScaleSpec,
    units::{parse_duration, parse_size},
    warm::WarmSpec,
};

/// `replicas = 3`, or bounds within which the scaler decides: `max` alone is enough.
pub(super) fn scale(table: &Reader<'_>) -> (Option<ScaleSpec>, Option<u32>) {
    let default = ScaleSpec::default();
    let replicas = table.number("replicas", 0..=u32::MAX);
    let (min, max) = (table.number("min", 0..=u32::MAX), table.number("max", 1..=u32::MAX));
    let auto = max.is_some();
    if replicas.is_some() && auto {
        table.error("replicas", "`replicas` is a fixed count, `max` lets sc choose: give one of them");
    }
    for key in
        ["min", "rps", "cpu", "hold_down", "idle_after", "objective", "policy", "step_up", "step_down", "turns_an_hour"]
    {
        if table.has(key) && max.is_none() {
            table.error(key, format!("`{key}` needs a `max` beside it: with that sc chooses the count"));
        }
    }
    let spec = ScaleSpec {
        min: min.unwrap_or(if auto { default.min } else { 0 }),
        max: max.or(replicas).unwrap_or(default.max).max(1),
        auto,
        rps: table.fraction("rps"),
        cpu: table.share("cpu"),
        hold_down_ms: table.parsed("hold_down", parse_duration).unwrap_or(default.hold_down_ms),
        idle_after_ms: table.parsed("idle_after", parse_duration),
        objective: objective(table),
        policies: policies(table),
        step_up: table.number("step_up", 1..=u32::MAX),
        step_down: table.number("step_down", 1..=u32::MAX),
        turns_an_hour: table.number("turns_an_hour", 0..=60),
        warm: default.warm,
    };
    // A fixed count is where a new app begins, no bound: an app that exists keeps the count it has.
    (auto.then_some(spec), replicas)
}

/// `size = 2`, and for how long and within how much memory; `stopped = 2` beside them, and for how long.
pub(super) fn warm(table: &Reader<'_>) -> WarmSpec {
    let default = WarmSpec::default();
    WarmSpec {
        size: table.number("size", 0..=u32::MAX).unwrap_or(default.size),
        for_ms: table.parsed("pause_for", parse_duration).unwrap_or(default.for_ms),
        memory: table.parsed("memory", parse_size),
        stopped: table.number("stopped", 0..=u32::MAX),
        stop_for_ms: table.parsed("stop_for", parse_duration).unwrap_or(default.stop_for_ms),
    }
}

/// The quantiles that can be named, with the budget each leaves.
const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.1), ("p95", 0.05), ("p99", 0.01), ("p999", 0.001)];

/// `objective = "200ms"`, or `{ p95 = "200ms" }`, with a `budget` of its own if wished.
fn objective(table: &Reader<'_>) -> Option<ObjectiveSpec> {
    if !table.has("objective") {
        return None;
    }
    if !table.is_table("objective") {
        return table.parsed("objective", parse_duration).map(|ms| ObjectiveSpec { ms, budget: BUDGET });
    }
    let inner = table.table("objective")?;
    let named: Vec<_> = QUANTILES.iter().filter(|(name, _)| inner.has(name)).collect();
    let budget = inner.share("budget");
    let spec = match named[..] {
        [(name, left)] => {
            inner.parsed(name, parse_duration).map(|ms| ObjectiveSpec { ms, budget: budget.unwrap_or(*left) })
        }
        _ => {
            table.error("objective", "give one of p50, p90, p95, p99 and p999, like { p95 = \"200ms\" }");
            None
        }
    };
    inner.finish();
    spec
}

fn policies(table: &Reader<'_>) -> Vec<PolicySpec> {
    let read = |policy: Reader<'_>| {
        let spec = policy_of(&policy);
        if spec.is_some() {
            policy.finish();
        }
        // One that cannot be read keeps its place: what is found later is said of the right one.
        spec.unwrap_or(PolicySpec::Fixed { replicas: 0 })
    };
    table.list("policy").unwrap_or_default().into_iter().map(read).collect()
}

/// How often a source is asked if nothing is said, milliseconds.
const EVERY_MS: u64 = 15_000;

fn policy_of(policy: &Reader<'_>) -> Option<PolicySpec> {
    let Some(metric) = policy.text("metric") else {
        policy.error("metric", format!("give its `metric`: {}", PolicySpec::METRICS.join(", ")));
        return None;
    };
    let missing = |key: &'static str| policy.error(key, format!("a policy on {metric} needs its `{key}`"));
    let target = |share: bool| {
        let target = if share { policy.share("target") } else { policy.fraction("target") };
        if target.is_none() && !policy.has("target") {
            missing("target");
        }
        target
    };
    let text = |key: &'static str| {
        policy.text(key).or_else(|| {
            missing(key);
            None
        })
    };
    let every_ms = || policy.parsed("every", parse_duration).unwrap_or(EVERY_MS);
    Some(match &*metric {
        "fixed" => PolicySpec::Fixed {
            replicas: policy.number("replicas", 0..=u32::MAX).or_else(|| {
                missing("replicas");
                None
            })?,
        },
        "rps" => PolicySpec::Rps { target: target(false)? },
        "concurrency" => PolicySpec::Concurrency { target: target(false)? },
        "connections" => PolicySpec::Connections { target: target(false)? },
        "cpu" => PolicySpec::Cpu { target: target(true)? },
        "memory" => PolicySpec::Memory { target: target(true)? },
        "threshold" => PolicySpec::Threshold {
            of: resource(policy),
            up: policy.share("up").unwrap_or(0.9),
            down: policy.share("down").unwrap_or(0.4),
            cooldown_ms: policy.parsed("cooldown", parse_duration).unwrap_or(60_000),
        },
        "schedule" => {
            let (cron, for_ms) = (text("cron"), policy.parsed("for", parse_duration));
            let min = policy.number("min", 0..=u32::MAX);
            if for_ms.is_none() && !policy.has("for") {
                missing("for");
            }
            if min.is_none() && !policy.has("min") {
                missing("min");
            }
            PolicySpec::Schedule { cron: cron?, for_ms: for_ms?, min: min? }
        }
        "prometheus" => {
            let (url, query, target, every_ms) = (text("url"), text("query"), target(false), every_ms());
            PolicySpec::Prometheus { url: url?, query: query?, target: target?, every_ms }
        }
        "http" => PolicySpec::Http { url: text("url")?, target: policy.fraction("target"), every_ms: every_ms() },
        unknown => {
            let near = PolicySpec::METRICS.iter().map(|known| (strsim::jaro_winkler(unknown, known), known));
            let near = near.filter(|(score, _)| *score > 0.75).max_by(|a, b| a.0.total_cmp(&b.0));
            let hint = near.map_or_else(
                || format!("there are {}", PolicySpec::METRICS.join(", ")),
                |(_, known)| format!("did you mean {known:?}?"),
            );
            policy.error("metric", format!("no metric is called {unknown:?}; {hint}"));
            return None;
        }
    })
}

fn resource(policy: &Reader<'_>) -> Resource {
    match policy.text("of").as_deref() {
        None | Some("cpu") => Resource::Cpu,
        Some("memory") => Resource::Memory,
        Some(other) => {
            policy.error("of", format!("{other:?}: a threshold is on \"cpu\" or \"memory\""));
            Resource::Cpu
        }
    }
}
