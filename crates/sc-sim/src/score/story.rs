//! Short stories that show how our scaler takes what happens to everybody, told second by second where something changes.

use std::fmt::Write;

use super::{
    app::App,
    fault::{Fault, Spell},
    run::{Run, run},
    scalers::sc::Sc,
};

/// Names of the stories.
pub const STORIES: [&str; 9] = [
    "flash-crowd",
    "slow-dependency",
    "memory-leak",
    "start-up-storm",
    "bad-deploy",
    "dead-metrics",
    "proxy-restart",
    "boundary",
    "plain-max",
];

/// Seconds of a story.
const SECONDS: u64 = 1_200;
/// Seconds before it begins: the app is at rest, and its capacity not known.
const BEFORE: u64 = 300;

/// A story by its name, in lines; none of an unknown name.
pub fn tell(name: &str) -> Option<String> {
    let app = App::new(4, 0.04, 0.5, 0.2);
    let each = app.capacity(10) / 10.0;
    let steady = |replicas: f64| move |_: u64| replicas * each;
    let from = |fault| Spell { from: BEFORE, to: BEFORE + 300, fault };
    let (rates, spells): (Vec<f64>, Vec<Spell>) = match name {
        "flash-crowd" => {
            let rate = |at: u64| if (BEFORE..BEFORE + 300).contains(&at) { 20.0 * each } else { each * 0.8 };
            (series(rate), vec![])
        }
        "slow-dependency" => (series(steady(4.0)), vec![from(Fault::Slow { factor: 6.0 })]),
        "memory-leak" => (series(steady(4.0)), vec![from(Fault::Leak { every: 60 })]),
        "start-up-storm" => {
            let rate = |at: u64| if at < BEFORE { 2.0 * each } else { 6.0 * each };
            (series(rate), vec![Spell { from: 0, to: SECONDS, fault: Fault::StartTax { share: 0.5 } }])
        }
        "bad-deploy" => {
            (series(steady(4.0)), vec![Spell { from: BEFORE, to: SECONDS, fault: Fault::Deploy { factor: 2.0 } }])
        }
        "dead-metrics" => (series(steady(4.0)), vec![from(Fault::Blind)]),
        "proxy-restart" => (series(steady(4.0)), vec![from(Fault::ProxyRestart)]),
        "boundary" => (series(steady(4.0)), vec![]),
        // No objective: from two replicas' load to eight's and back.
        "plain-max" => (series(|at| each * (2.0 + 6.0 * (1.0 - (at as f64 / 600.0 - 1.0).abs()))), vec![]),
        _ => return None,
    };
    let needed = rates.iter().map(|rate| app.needed(*rate)).collect();
    let play = Run {
        app,
        rates: std::sync::Arc::new(rates),
        needed: std::sync::Arc::new(needed),
        start_seconds: 5,
        spells,
        seed: 7,
        as_fluid: false,
    };
    let (mut text, mut last, mut late) = (format!("{name}\n"), 0, 0.0);
    let sc = if name == "plain-max" { Sc::plain(40) } else { Sc::new(40, 0.2) };
    let metrics = run(&play, &mut sc.telling(), |moment, scaler| {
        late += moment.bad;
        if moment.want != last {
            let _ = writeln!(text, "{:5} s  {}", moment.at, scaler.reason());
            last = moment.want;
        }
    });
    let _ = writeln!(text, "late {:.1} %, {:.0} replica-seconds", metrics.violation_pct(), metrics.replica_seconds);
    Some(text)
}

fn series(rate: impl Fn(u64) -> f64) -> Vec<f64> {
    (0..SECONDS).map(rate).collect()
}
