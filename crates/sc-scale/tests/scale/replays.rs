//! What was recorded decides again as it did, byte for byte.

use proptest::prelude::*;
use sc_scale::{
    Memory, Now, Policy, Window, decide,
    replay::{Replay, Row, Start, Taker, digest},
};

use crate::plant::{App, Loop};

const APP: App = App { slots: 4.0, service: 0.05, start: 2 };

/// A recording as files keep it: text, a segment each.
#[derive(Default)]
struct Tape {
    segments: Vec<(String, Vec<String>)>,
    taker: Option<Taker>,
}

impl Tape {
    /// One decision, recorded. `cut`: a new segment begins here, as after so many rows.
    fn decide(&mut self, cut: bool, policy: &Policy, now: &Now, window: &Window, memory: Memory) -> (String, Memory) {
        match &self.taker {
            Some(taker) if cut => self.segments.push((serde_json::to_string(&taker.go_on(&memory)).unwrap(), vec![])),
            Some(_) => {}
            None => {
                let (taker, start) = Taker::begin(policy, window, &memory);
                self.taker = Some(taker);
                self.segments.push((serde_json::to_string(&start).unwrap(), vec![]));
            }
        }
        let row = self.taker.as_mut().unwrap().take(policy, now, window).unwrap();
        let (decision, memory) = decide(policy, now, window, memory);
        let row = serde_json::to_string(&row.decided(&decision)).unwrap();
        self.segments.last_mut().unwrap().1.push(row);
        (digest(&decision), memory)
    }

    fn read(&self, segment: usize) -> (Start, Vec<Row>) {
        let (start, rows) = &self.segments[segment];
        (serde_json::from_str(start).unwrap(), rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect())
    }

    /// The digests that come out when each segment is replayed.
    fn replayed(&self) -> Vec<String> {
        let mut digests = Vec::new();
        let mut before: Option<(Window, Vec<Row>)> = None;
        for segment in 0..self.segments.len() {
            let (start, rows) = self.read(segment);
            let window = start.window.clone().unwrap_or_default();
            let mut replay = Replay::begin(start, before.as_ref().map(|(window, rows)| (window.clone(), &rows[..])));
            digests.extend(rows.iter().map(|row| digest(&replay.step(row))));
            before = Some((window, rows));
        }
        digests
    }
}

fn run(loads: &[f64], cut: usize, tape: &mut Tape) -> Vec<String> {
    let mut world = Loop::new(APP, Policy { min: 1, max: 20, ..Policy::default() });
    let mut digests = Vec::new();
    for (second, load) in loads.iter().enumerate() {
        let memory = world.memory.clone();
        world.second(load.round());
        let (digest, _) = tape.decide(second % cut == 0, &world.policy, &world.now, &world.window, memory);
        digests.push(digest);
    }
    digests
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_was_recorded_decides_again_as_it_did(
        loads in prop::collection::vec(0.0f64..900.0, 20..120),
        cut in 900usize..2_000,
    ) {
        let mut tape = Tape::default();
        let digests = run(&loads, cut, &mut tape);
        prop_assert_eq!(tape.replayed(), digests);
    }
}

#[test]
fn a_segment_that_goes_on_needs_the_one_before_only() {
    let loads: Vec<f64> = (0..2_900).map(|second| 300.0 + 250.0 * (f64::from(second) / 90.0).sin()).collect();
    let mut tape = Tape::default();
    let digests = run(&loads, 950, &mut tape);
    assert_eq!(tape.segments.len(), 4);
    assert!(tape.segments[1..].iter().all(|(start, _)| !start.contains("window")));
    assert_eq!(tape.replayed(), digests);
    // A changed input is noticed.
    let row = &mut tape.segments[2].1[10];
    *row = row.replacen("\"want\":", "\"want\":1", 1);
    assert_ne!(tape.replayed(), digests);
}

#[test]
fn a_busy_day_fits_into_64_mib() {
    let loads: Vec<f64> = (0..950).map(|second| 300.0 + 250.0 * (f64::from(second) / 90.0).sin()).collect();
    let mut tape = Tape::default();
    run(&loads, 950, &mut tape);
    let bytes: usize =
        tape.segments.iter().map(|(start, rows)| start.len() + rows.iter().map(String::len).sum::<usize>()).sum();
    let day = bytes as f64 / 950.0 * 86_400.0;
    assert!(day < f64::from(64 << 20), "{:.1} MiB a day", day / f64::from(1 << 20));
}
