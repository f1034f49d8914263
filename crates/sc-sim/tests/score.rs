//! The contest on a short load, and the stories as golden text. After a change of the scaler that is meant, look at the
//! difference and accept it with `INSTA_UPDATE=always cargo nextest run -p sc-sim`.

use sc_sim::score::{
    Contest, Row, story,
    trace::{Shape, Trace},
};

/// Ten minutes that rise to the double and fall.
fn contest(only: &[&str]) -> Contest {
    let counts = (0..10).map(|minute: i32| 600.0 + 120.0 * f64::from(5 - (minute - 5).abs())).collect();
    Contest {
        traces: vec![Trace { name: "hill".into(), bucket: 60, counts }],
        shape: Shape::Ramp,
        start_seconds: 5,
        peak: 4,
        seeds: 1,
        days: 1.0,
        objective: 0.2,
        only: only.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn play(contest: &Contest) -> Vec<Row> {
    let mut all = Vec::new();
    contest.play(|rows| all.extend(rows));
    all
}

#[test]
fn every_scaler_has_its_rows_and_the_oracle_is_the_measure() {
    let rows = play(&contest(&[]));
    let names: Vec<&str> = rows.iter().map(|row| row.scaler.as_str()).collect();
    let peers = ["static", "kpa", "hpa", "aws", "nomad", "threshold", "react"];
    for name in peers {
        assert!(names.contains(&name) && names.contains(&format!("{name}-tuned").as_str()), "{name}: {names:?}");
    }
    let of = |name: &str| rows.iter().find(|row| row.scaler == name).expect("a row");
    assert_eq!(of("oracle").vs_oracle, 1.0);
    assert!(of("sc").violation_pct < 5.0, "{:?}", of("sc"));
    assert!(of("sc").replica_seconds < of("static").replica_seconds, "{:?}", of("sc"));
    for row in rows.iter().filter(|row| row.reaches == Some(true)) {
        assert!(row.violation_pct <= of("sc").violation_pct, "{row:?}");
    }
}

#[test]
fn the_same_seeds_give_the_same_rows() {
    let contest = contest(&["sc", "kpa"]);
    assert_eq!(play(&contest), play(&contest));
}

/// The fluid stands in for the requests where there are too many of them: its score must be like theirs.
#[test]
fn the_fluid_scores_as_the_requests_do() {
    use sc_sim::score::{run, run::MOST_REQUESTS, scalers::kpa::Kpa};
    let contest = contest(&[]);
    for seed in 1..4 {
        let exact = contest.run(&contest.traces[0], seed);
        assert!(exact.requests() < MOST_REQUESTS);
        let fluid = run::Run { as_fluid: true, ..exact.clone() };
        let of = |play: &run::Run| run::run(play, &mut Kpa::new(0.7, 16), |_, _| ());
        let (exact, fluid) = (of(&exact), of(&fluid));
        let cost = fluid.replica_seconds / exact.replica_seconds;
        assert!((cost - 1.0).abs() < 0.1, "seed {seed}: {cost}");
        assert!((fluid.violation_pct() - exact.violation_pct()).abs() < 1.0, "seed {seed}: {fluid:?} {exact:?}");
    }
}

#[test]
fn stories() {
    for name in story::STORIES {
        insta::assert_snapshot!(name, story::tell(name).expect("a story"));
    }
    assert_eq!(story::tell("nobody knows"), None);
}
