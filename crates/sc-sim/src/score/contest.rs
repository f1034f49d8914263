//! All scalers on all traces. Ours is given the largest count and the objective. The peers run with their published defaults,
//! and tuned in hindsight: the cheapest of their settings with no more violations than ours. Both are far more than a
//! user has, since the true capacity differs by trace and seed.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use serde::Serialize;

use super::{
    app::App,
    metrics::Metrics,
    run::{Moment, Run, run},
    scalers::{
        Scaler, aws::Aws, constant::Constant, hpa::Hpa, kpa::Kpa, nomad::Nomad, oracle::Oracle, react::React, sc::Sc,
        threshold::Threshold,
    },
    trace::{Shape, Trace},
};
use crate::dice::Dice;

/// What is played.
#[derive(Debug, Clone)]
pub struct Contest {
    /// On these loads.
    pub traces: Vec<Trace>,
    /// Up-sampled so.
    pub shape: Shape,
    /// Seconds that a start takes.
    pub start_seconds: u64,
    /// Replicas needed at the peak. All scalers may use twice as many.
    pub peak: u32,
    /// Runs per trace, each with an app and chance of its own.
    pub seeds: u64,
    /// Days of the trace at most.
    pub days: f64,
    /// Seconds within which an answer must come.
    pub objective: f64,
    /// Only these scalers, a name for its defaults and tuned, `NAME-tuned` for that alone; all when empty.
    pub only: Vec<String>,
}

/// One scaler on one trace: means over the seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The trace's name.
    pub trace: String,
    /// `ramp` or `step`.
    pub shape: &'static str,
    /// `sc`, `oracle`, `static`, a peer's name with its defaults, or `NAME-tuned`.
    pub scaler: String,
    /// The setting, for a person.
    pub setting: String,
    /// Of a tuned one: whether any of its settings has no more violations than ours. If none has, the one with the fewest is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reaches: Option<bool>,
    /// Runs that this is the mean of.
    pub seeds: u64,
    /// Percentage of requests answered later than the objective, or not at all.
    pub violation_pct: f64,
    /// Ready, starting and draining replicas × seconds.
    pub replica_seconds: f64,
    /// Those in relation to the oracle's.
    pub vs_oracle: f64,
    /// Mean share of needed replicas that were missing, %.
    pub theta_u: f64,
    /// Mean surplus in relation to those needed, %.
    pub theta_o: f64,
    /// Time with too few, %.
    pub tau_u: f64,
    /// Time with too many, %.
    pub tau_o: f64,
    /// Time in which supply and demand did not move alike, %.
    pub upsilon: f64,
    /// Over a fixed count: the mean of what is needed.
    pub elastic_speedup: f64,
    /// Changes of the wanted count per hour.
    pub actions_per_hour: f64,
    /// Requests that had to wait for a slot.
    pub held: f64,
    /// Requests turned away.
    pub rejected: f64,
    /// What ours has learned that a replica takes, in relation to the truth; a mean over the seeds that know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_ratio: Option<f64>,
}

/// One way to set a scaler.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    Sc,
    Oracle,
    /// This share of the most that is needed.
    Static(f64),
    Kpa(f64),
    Hpa(f64),
    Aws(f64),
    Nomad(f64),
    Threshold(f64, f64),
    React(f64),
}

/// A scaler with its default and what it is tuned over.
struct Entry {
    name: &'static str,
    default: Rule,
    sweep: Vec<Rule>,
}

/// The targets that peers are tuned over: 30 to 90 % in steps of 5.
fn targets(rule: impl Fn(f64) -> Rule) -> Vec<Rule> {
    (6..=18).map(|n| rule(f64::from(n) * 0.05)).collect()
}

fn entries() -> Vec<Entry> {
    let limits =
        [(0.9, 0.4), (0.9, 0.6), (0.8, 0.5), (0.7, 0.4), (0.6, 0.4), (0.6, 0.3), (0.5, 0.3), (0.5, 0.2), (0.4, 0.2)];
    vec![
        Entry { name: "sc", default: Rule::Sc, sweep: vec![] },
        Entry { name: "oracle", default: Rule::Oracle, sweep: vec![] },
        Entry { name: "static", default: Rule::Static(1.0), sweep: targets(Rule::Static) },
        Entry { name: "kpa", default: Rule::Kpa(0.7), sweep: targets(Rule::Kpa) },
        Entry { name: "hpa", default: Rule::Hpa(0.8), sweep: targets(Rule::Hpa) },
        Entry { name: "aws", default: Rule::Aws(0.5), sweep: targets(Rule::Aws) },
        Entry { name: "nomad", default: Rule::Nomad(0.7), sweep: targets(Rule::Nomad) },
        Entry {
            name: "threshold",
            default: Rule::Threshold(0.9, 0.4),
            sweep: limits.map(|(upper, lower)| Rule::Threshold(upper, lower)).to_vec(),
        },
        Entry { name: "react", default: Rule::React(1.0), sweep: targets(Rule::React) },
    ]
}

/// The names of all scalers.
pub fn names() -> impl Iterator<Item = String> {
    entries().into_iter().map(|entry| entry.name.to_owned())
}

/// The names of those that are tuned in hindsight.
pub fn tuned() -> impl Iterator<Item = String> {
    entries().into_iter().filter(|entry| !entry.sweep.is_empty()).map(|entry| tuned_name(entry.name))
}

fn tuned_name(name: &str) -> String {
    format!("{name}-tuned")
}

impl Rule {
    fn setting(self) -> String {
        match self {
            Rule::Sc => "max and objective".to_owned(),
            Rule::Oracle => "knows the load over the start time".to_owned(),
            Rule::Static(share) => format!("{:.0} % of the most needed", share * 100.0),
            Rule::Kpa(target) => format!("concurrency {:.0} %", target * 100.0),
            Rule::Hpa(target) | Rule::Aws(target) | Rule::Nomad(target) => format!("cpu {:.0} %", target * 100.0),
            Rule::Threshold(upper, lower) => format!("cpu {:.0}/{:.0} %", upper * 100.0, lower * 100.0),
            Rule::React(share) => format!("{:.0} % of the true capacity", share * 100.0),
        }
    }

    fn scaler(self, run: &Run, max: u32, objective: f64) -> Box<dyn Scaler> {
        let most = run.needed.iter().copied().max().unwrap_or(1);
        match self {
            Rule::Sc => Box::new(Sc::new(max, objective)),
            Rule::Oracle => Box::new(Oracle { needed: run.needed.clone(), start_seconds: run.start_seconds }),
            Rule::Static(share) => Box::new(Constant((f64::from(most) * share).ceil().max(1.0) as u32)),
            Rule::Kpa(target) => Box::new(Kpa::new(target, max)),
            Rule::Hpa(target) => Box::new(Hpa::new(target, max)),
            Rule::Aws(target) => Box::new(Aws::new(target, max)),
            Rule::Nomad(target) => Box::new(Nomad::new(target, max)),
            Rule::Threshold(upper, lower) => Box::new(Threshold::new(upper, lower, max)),
            Rule::React(share) => Box::new(React::new(share * run.app.capacity(most) / f64::from(most), max)),
        }
    }
}

/// A run's outcome.
#[derive(Debug, Clone)]
struct Outcome {
    metrics: Metrics,
    capacity_ratio: Option<f64>,
}

impl Contest {
    /// The run of a trace and a seed.
    pub fn run(&self, trace: &Trace, seed: u64) -> Run {
        let dice = Dice::named(seed, &trace.name);
        let app = App::draw(&dice, self.objective);
        let rates = trace.rates(self.shape, self.days);
        Run::new(app, &rates, self.peak, self.start_seconds, dice.next())
    }

    /// The most replicas that any scaler may ask for.
    pub fn max(&self) -> u32 {
        self.peak.saturating_mul(2)
    }

    /// Plays it, trace by trace, and gives the rows of each as soon as they are there.
    pub fn play(&self, mut rows: impl FnMut(Vec<Row>)) {
        for trace in &self.traces {
            let runs: Vec<Run> = in_parallel(self.seeds as usize, |seed| self.run(trace, seed as u64 + 1));
            rows(self.rows(trace, &runs));
        }
    }

    /// Each scaler's run with its defaults, second by second.
    pub fn watch(&self, trace: &Trace, seed: u64) -> Vec<(String, Vec<Moment>)> {
        let play = self.run(trace, seed);
        let watched = |entry: Entry| {
            let mut scaler = entry.default.scaler(&play, self.max(), self.objective);
            let mut moments = Vec::with_capacity(play.rates.len());
            run(&play, scaler.as_mut(), |moment, _| moments.push(moment));
            (entry.name.to_owned(), moments)
        };
        entries().into_iter().filter(|entry| self.shows(entry.name)).map(watched).collect()
    }

    fn rows(&self, trace: &Trace, runs: &[Run]) -> Vec<Row> {
        let entries: Vec<Entry> = entries().into_iter().filter(|entry| self.tunes(entry.name)).collect();
        // Ours and the oracle always run: the others are compared with them. The fixed count is what ε is measured by.
        let mut rules = vec![Rule::Sc, Rule::Oracle];
        for rule in entries.iter().flat_map(|entry| std::iter::once(entry.default).chain(entry.sweep.iter().copied())) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        let outcomes =
            in_parallel(rules.len() * runs.len(), |job| self.one(rules[job / runs.len()], &runs[job % runs.len()]));
        let of = |rule: Rule| {
            let at = rules.iter().position(|known| *known == rule).unwrap_or(0);
            &outcomes[at * runs.len()..(at + 1) * runs.len()]
        };
        let fixed: Vec<Metrics> = in_parallel(runs.len(), |seed| self.fixed(&runs[seed]));
        let row = |name: String, rule: Rule| self.row(trace, name, rule, of(rule), of(Rule::Oracle), &fixed);
        let bar = row("sc".to_owned(), Rule::Sc).violation_pct;
        let mut rows = Vec::new();
        for entry in &entries {
            if self.shows(entry.name) {
                rows.push(row(entry.name.to_owned(), entry.default));
            }
            let swept: Vec<Row> = entry.sweep.iter().map(|rule| row(tuned_name(entry.name), *rule)).collect();
            rows.extend(best(swept, bar));
        }
        rows
    }

    /// Whether a scaler's row with its defaults is asked for.
    fn shows(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// Whether its row tuned in hindsight is.
    fn tunes(&self, name: &str) -> bool {
        self.shows(name) || self.only.contains(&tuned_name(name))
    }

    fn one(&self, rule: Rule, play: &Run) -> Outcome {
        let mut scaler = rule.scaler(play, self.max(), self.objective);
        let metrics = run(play, scaler.as_mut(), |_, _| ());
        let most = play.needed.iter().copied().max().unwrap_or(1);
        let truth = play.app.capacity(most) / f64::from(most);
        Outcome { metrics, capacity_ratio: scaler.learned().map(|learned| learned / truth) }
    }

    /// A count that stays: the mean of what is needed.
    fn fixed(&self, play: &Run) -> Metrics {
        let sum: f64 = play.needed.iter().map(|n| f64::from(*n)).sum();
        let mean = (sum / play.needed.len().max(1) as f64).ceil() as u32;
        run(play, &mut Constant(mean), |_, _| ())
    }

    fn row(
        &self,
        trace: &Trace,
        name: String,
        rule: Rule,
        ours: &[Outcome],
        oracle: &[Outcome],
        fixed: &[Metrics],
    ) -> Row {
        let n = ours.len().max(1) as f64;
        let mean = |value: &dyn Fn(usize) -> f64| (0..ours.len()).map(value).sum::<f64>() / n;
        let of = |value: fn(&Metrics) -> f64| mean(&|i| value(&ours[i].metrics));
        let known: Vec<f64> = ours.iter().filter_map(|outcome| outcome.capacity_ratio).collect();
        Row {
            trace: trace.name.clone(),
            shape: self.shape.name(),
            scaler: name,
            setting: rule.setting(),
            reaches: None,
            seeds: self.seeds,
            violation_pct: of(Metrics::violation_pct),
            replica_seconds: of(|m| m.replica_seconds),
            vs_oracle: mean(&|i| ours[i].metrics.replica_seconds / oracle[i].metrics.replica_seconds.max(1.0)),
            theta_u: of(Metrics::theta_u),
            theta_o: of(Metrics::theta_o),
            tau_u: of(Metrics::tau_u),
            tau_o: of(Metrics::tau_o),
            upsilon: of(Metrics::upsilon),
            elastic_speedup: mean(&|i| ours[i].metrics.elastic_speedup(&fixed[i])),
            actions_per_hour: of(Metrics::actions_per_hour),
            held: of(|m| m.held),
            rejected: of(|m| m.rejected),
            capacity_ratio: (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64),
        }
    }
}

/// The cheapest of those with no more violations than the bar; if there is none, the one with the fewest.
fn best(swept: Vec<Row>, bar: f64) -> Option<Row> {
    let reaches = |row: &Row| row.violation_pct <= bar;
    let cheapest =
        swept.iter().filter(|row| reaches(row)).min_by(|a, b| a.replica_seconds.total_cmp(&b.replica_seconds));
    let fewest = swept.iter().min_by(|a, b| a.violation_pct.total_cmp(&b.violation_pct));
    cheapest.or(fewest).map(|row| Row { reaches: Some(reaches(row)), ..row.clone() })
}

/// Computes `n` things on all cores; the order of the results is that of the numbers.
fn in_parallel<T: Send>(n: usize, job: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(n.max(1));
    let (next, results) = (AtomicUsize::new(0), Mutex::new((0..n).map(|_| None).collect::<Vec<Option<T>>>()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(at) = Some(next.fetch_add(1, Relaxed)).filter(|at| *at < n) {
                    let result = job(at);
                    results.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(result);
                }
            });
        }
    });
    // A job that panics ends the scope with a panic: here all have ended well.
    results.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect()
}
