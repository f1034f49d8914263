//! Short stories that show how our scaler takes what happens to everybody, told second by second where something changes.

use std::fmt::Write;

use super::{
    app::App,
    fault::{Fault, Spell},
    run::{Run, run},
    scalers::sc::Sc,
};

/// Names of the stories.
pub const STORIES: [&str; 14] = [
    "flash-crowd",
    "slow-dependency",
    "memory-leak",
    "start-up-storm",
    "bad-deploy",
    "same-deploy",
    "dead-metrics",
    "proxy-restart",
    "boundary",
    "plain-max",
    "plain-max-waits",
    "too-slow",
    "after-a-burst",
    "bursts",
];

/// Seconds of a story.
const SECONDS: u64 = 1_200;
/// Seconds before it begins: the app is at rest, and its capacity not known.
const BEFORE: u64 = 300;

/// A story by its name, in lines; none of an unknown name.
pub fn tell(name: &str) -> Option<String> {
    let app = App::new(4, 0.04, 0.5, 0.2);
    let each = app.capacity(10) / 10.0;
    let steady = |replicas: f64| series(|_| replicas * each);
    let from = |fault| vec![Spell { from: BEFORE, to: BEFORE + 300, fault }];
    let ever = |fault| vec![Spell { from: 0, to: SECONDS, fault }];
    let (rates, spells): (Vec<f64>, Vec<Spell>) = match name {
        "flash-crowd" => {
            let rate = |at: u64| if (BEFORE..BEFORE + 300).contains(&at) { 20.0 * each } else { each * 0.8 };
            (series(rate), vec![])
        }
        "slow-dependency" => (steady(4.0), from(Fault::Slow { factor: 6.0 })),
        "memory-leak" => (steady(4.0), from(Fault::Leak { every: 60 })),
        "start-up-storm" => {
            let rate = |at: u64| if at < BEFORE { 2.0 * each } else { 6.0 * each };
            (series(rate), ever(Fault::StartTax { share: 0.5 }))
        }
        "bad-deploy" => (steady(4.0), vec![deploy(2.0)]),
        "same-deploy" => (steady(4.0), vec![deploy(1.0)]),
        "dead-metrics" => (steady(4.0), from(Fault::Blind)),
        "proxy-restart" => (steady(4.0), from(Fault::ProxyRestart)),
        "boundary" => (steady(4.0), vec![]),
        // No objective.
        "plain-max" => (hill(each), vec![]),
        // The same of an app that waits nine tenths of the time, so that its CPU says nothing.
        "plain-max-waits" => (hill(each), ever(Fault::Slow { factor: 1.0 / WAITS })),
        // An app that needs longer than the objective for one request alone.
        "too-slow" => (steady(0.5), vec![]),
        // A burst to the double, and more than before is left of it.
        "after-a-burst" => {
            let replicas = |at: u64| [4.0, 8.0, 6.0][usize::from(at >= BEFORE) + usize::from(at >= BEFORE + 60)];
            (series(|at| each * replicas(at)), vec![])
        }
        // Twenty seconds of the double in each of three minutes.
        "bursts" => {
            let burst = |at: u64| (BEFORE..BEFORE + 180).contains(&at) && at % 60 < 20;
            (series(|at| each * if burst(at) { 8.0 } else { 4.0 }), vec![])
        }
        _ => return None,
    };
    let needed = rates.iter().map(|rate| app.needed(*rate)).collect();
    let play = Run {
        app: match name {
            "plain-max-waits" => app.slower(WAITS),
            "too-slow" => app.slower(8.0),
            _ => app,
        },
        rates: std::sync::Arc::new(rates),
        needed: std::sync::Arc::new(needed),
        start_seconds: 5,
        spells,
        seed: 7,
        as_fluid: false,
    };
    let (mut text, mut last, mut told) = (format!("{name}\n"), 0, vec![]);
    let sc = if name.starts_with("plain-max") { Sc::plain(40) } else { Sc::new(40, 0.2) };
    let metrics = run(&play, &mut sc.telling(), |moment, scaler| {
        if moment.want != last {
            let _ = writeln!(text, "{:5} s  {}", moment.at, scaler.reason());
            last = moment.want;
        }
        for alert in scaler.alerts() {
            if !told.contains(&alert) {
                let _ = writeln!(text, "{:5} s  alert: {alert}", moment.at);
                told.push(alert);
            }
        }
    });
    let _ = writeln!(text, "late {:.1} %, {:.0} replica-seconds", metrics.violation_pct(), metrics.replica_seconds);
    Some(text)
}

/// The part of a request in which the waiting app works.
const WAITS: f64 = 0.1;

/// A new version whose requests take `factor` times the work.
fn deploy(factor: f64) -> Spell {
    Spell { from: BEFORE, to: SECONDS, fault: Fault::Deploy { factor } }
}

/// From two replicas' load to eight's and back.
fn hill(each: f64) -> Vec<f64> {
    series(|at| each * (2.0 + 6.0 * (1.0 - (at as f64 / 600.0 - 1.0).abs())))
}

fn series(rate: impl Fn(u64) -> f64) -> Vec<f64> {
    (0..SECONDS).map(rate).collect()
}
