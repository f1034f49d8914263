//! Properties of one decision, whatever was measured.

use proptest::prelude::*;
use sc_core::stats::Histogram;
use sc_scale::{
    Capacity, Memory, Now, Objective, Policy, Sample, Window, decide,
    hindsight::{Hindsight, Largest, Way},
    window::STALE_MS,
};

const AT: u64 = 1_700_000_000_000;

/// Everything that goes into a decision.
#[derive(Debug, Clone)]
struct Inputs {
    policy: Policy,
    now: Now,
    window: Window,
    memory: Memory,
}

impl Inputs {
    fn decide(&self) -> u32 {
        decide(&self.policy, &self.now, &self.window, self.memory.clone()).0.want
    }
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let one = (
        0.0f64..2_000.0,
        0.0f64..1.2,
        0.001f64..2.0,
        0u32..20,
        prop::option::of(0.0f64..20.0),
        prop::bool::weighted(0.9),
    );
    prop::collection::vec(one, 0..60).prop_map(|list| list.into_iter().map(sample).collect())
}

fn sample((arrivals, done, seconds, ready, cpu, complete): (f64, f64, f64, u32, Option<f64>, bool)) -> Sample {
    let arrivals = arrivals.round();
    let completed = (arrivals * done).floor();
    let mut latency = Histogram::default();
    (0..completed.min(50.0) as u64).for_each(|_| latency.record((seconds * 1e9) as u64));
    Sample {
        arrivals,
        completions: [0.0, completed, 0.0, 0.0, 0.0, 0.0],
        in_flight: completed * seconds,
        latency,
        ready,
        cpu,
        cpu_limit: cpu.map(|_| f64::from(ready)),
        complete,
        ..Sample::default()
    }
}

/// A memory as earlier seconds of this kind leave it, or an empty one.
fn memories() -> impl Strategy<Value = Memory> {
    (any::<bool>(), prop::option::of(10.0f64..90.0), 0u32..30, 0u64..60_000).prop_map(|(empty, rps, need, ago)| {
        if empty {
            return Memory::default();
        }
        let bins = rps.into_iter().flat_map(|rps| {
            let bin = rps as i16 % 100;
            [
                (bin, sc_scale::capacity::Bin { seconds: 20.0, over: 0.0 }),
                (bin + 1, sc_scale::capacity::Bin { seconds: 0.0, over: 40.0 }),
            ]
        });
        let capacity =
            Capacity { version: 1, low_load_seconds: Some(0.05), bins: bins.collect(), ..Capacity::default() };
        Memory {
            recent: vec![(AT - ago, need)],
            watched_ms: AT - 120_000,
            noted_ms: AT - 1_000,
            capacity,
            hindsight: Hindsight {
                stands: need % 2 == 0,
                stand: Way { ready_for: Largest(vec![(AT - ago, f64::from(need) * 20.0)]), ..Way::default() },
                ..Hindsight::default()
            },
            ..Memory::default()
        }
    })
}

fn inputs() -> impl Strategy<Value = Inputs> {
    let policy = (
        0u32..5,
        0u32..30,
        prop::option::of(1.0f64..300.0),
        prop::option::of(0.1f64..1.0),
        0u64..60_000,
        prop::option::of(0u64..60_000),
        prop::option::of((0.01f64..2.0, 0.001f64..0.2)),
    )
        .prop_map(|(min, max, rps, cpu, hold_down_ms, idle_after_ms, objective)| Policy {
            objective: objective.map(|(seconds, budget)| Objective { seconds, budget }),
            min,
            max,
            rps,
            cpu,
            hold_down_ms: Some(hold_down_ms),
            idle_after_ms,
            ..Policy::default()
        });
    let held = prop::sample::select(vec![0, 0, 1, 200]);
    let now = (0u32..30, 0u32..30, held, 0u32..4, 0u32..4).prop_map(|(want, ready, held, warm, stopped)| Now {
        at_ms: AT,
        want,
        ready,
        held,
        version: 1,
        warm,
        stopped,
    });
    (policy, now, samples(), memories()).prop_map(|(policy, now, list, memory)| {
        let mut window = Window::default();
        let first = AT - list.len() as u64 * 1_000;
        for (second, sample) in (1..).zip(list) {
            window.push(Sample { at_ms: first + second * 1_000, ..sample });
        }
        Inputs { policy, now, window, memory }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn always_within_the_bounds(inputs in inputs()) {
        let want = inputs.decide();
        prop_assert!(want <= inputs.policy.max, "{want}");
        prop_assert!(want >= inputs.policy.min.min(inputs.policy.max), "{want}");
    }

    #[test]
    fn stale_missing_or_partial_data_never_lowers(inputs in inputs(), age in STALE_MS + 1..600_000, kind in 0..3) {
        let mut inputs = inputs;
        match kind {
            0 => inputs.window = Window::default(),
            1 => inputs.window.seconds.iter_mut().for_each(|s| s.at_ms -= age),
            _ => inputs.window.seconds.iter_mut().for_each(|s| s.complete = false),
        }
        prop_assert!(inputs.decide() >= inputs.now.want.min(inputs.policy.max));
    }

    #[test]
    fn more_load_never_gives_fewer(inputs in inputs(), factor in 1.0f64..20.0, held in 0u64..50) {
        let mut more = inputs.clone();
        more.now.held += held;
        for s in &mut more.window.seconds {
            s.arrivals *= factor;
            s.in_flight *= factor;
            s.held *= factor;
            s.cpu = s.cpu.map(|cpu| cpu * factor);
        }
        prop_assert!(more.decide() >= inputs.decide(), "{} < {}", more.decide(), inputs.decide());
    }

    /// Those that sleep are woken when they are needed, so nobody has to be there before that.
    #[test]
    fn more_asleep_never_gives_more(inputs in inputs(), warm in 1u32..10) {
        let mut more = inputs.clone();
        more.now.warm += warm;
        prop_assert!(more.decide() <= inputs.decide());
    }

    /// Nor do more that can be started again.
    #[test]
    fn more_stopped_never_gives_more(inputs in inputs(), stopped in 1u32..10, seconds in 0.1..20.0f64) {
        let mut inputs = inputs;
        inputs.memory.starts.revived_seconds = Some(seconds);
        let mut more = inputs.clone();
        more.now.stopped += stopped;
        prop_assert!(more.decide() <= inputs.decide());
    }

    /// The largest need wins: a signal beside another can only ask for more.
    #[test]
    fn another_signal_never_gives_fewer(inputs in inputs()) {
        let mut without = inputs.clone();
        without.window.seconds.iter_mut().for_each(|s| s.cpu = None);
        prop_assert!(inputs.decide() >= without.decide());
    }

    #[test]
    fn equal_inputs_give_equal_bytes_also_after_a_trip_through_json(inputs in inputs()) {
        let bytes = |i: &Inputs| serde_json::to_string(&decide(&i.policy, &i.now, &i.window, i.memory.clone())).unwrap();
        let again = Inputs {
            policy: serde_json::from_str(&serde_json::to_string(&inputs.policy).unwrap()).unwrap(),
            now: serde_json::from_str(&serde_json::to_string(&inputs.now).unwrap()).unwrap(),
            window: serde_json::from_str(&serde_json::to_string(&inputs.window).unwrap()).unwrap(),
            memory: serde_json::from_str(&serde_json::to_string(&inputs.memory).unwrap()).unwrap(),
        };
        prop_assert_eq!(bytes(&inputs), bytes(&again));
    }

    #[test]
    fn memory_stays_small(inputs in inputs()) {
        let mut memory = inputs.memory.clone();
        for second in 0..200 {
            let now = Now { at_ms: AT + second * 1_000, ..inputs.now };
            memory = decide(&inputs.policy, &now, &inputs.window, memory).1;
        }
        prop_assert!(serde_json::to_vec(&memory).unwrap().len() < 32 * 1024);
    }
}

fn quiet(seconds: u64, sample: &Sample) -> Window {
    let mut window = Window::default();
    (0..seconds).for_each(|s| window.push(Sample { at_ms: AT - (seconds - 1 - s) * 1_000, ..sample.clone() }));
    window
}

fn sleepy() -> Policy {
    Policy { min: 0, max: 5, idle_after_ms: Some(60_000), ..Policy::default() }
}

fn awake(window: Window) -> Inputs {
    let memory = Memory { busy_ms: AT - 61_000, noted_ms: AT - 1_000, watched_ms: AT - 100_000, ..Memory::default() };
    Inputs {
        policy: sleepy(),
        now: Now { at_ms: AT, want: 1, ready: 1, held: 0, version: 1, warm: 0, ..Now::default() },
        window,
        memory,
    }
}

#[test]
fn an_idle_app_sleeps_and_the_first_held_request_wakes_it() {
    let idle = Sample { ready: 1, complete: true, ..Sample::default() };
    assert_eq!(awake(quiet(70, &idle)).decide(), 0);
    let mut asleep = awake(quiet(70, &Sample { complete: true, ..Sample::default() }));
    (asleep.now.want, asleep.now.ready) = (0, 0);
    assert_eq!(asleep.decide(), 0);
    asleep.now.held = 1;
    assert_eq!(asleep.decide(), 1);
}

/// A climb that is beyond doubt: 10 requests a second more each second.
fn climbing() -> Inputs {
    let sample = |s: u64| Sample { at_ms: AT - (59 - s) * 1_000, arrivals: 10.0 * s as f64, ready: 12, ..complete() };
    let mut window = Window::default();
    (0..60).for_each(|s| window.push(sample(s)));
    let policy = Policy { min: 1, max: 40, rps: Some(50.0), ..Policy::default() };
    let mut memory = Memory::default();
    memory.starts.seconds = Some(15.0);
    Inputs {
        policy,
        now: Now { at_ms: AT, want: 12, ready: 12, held: 0, version: 1, warm: 0, ..Now::default() },
        window,
        memory,
    }
}

fn complete() -> Sample {
    Sample { complete: true, ..Sample::default() }
}

#[test]
fn with_enough_asleep_it_looks_only_as_far_ahead_as_waking_takes() {
    let cold = climbing().decide();
    let with = |warm| {
        let mut inputs = climbing();
        inputs.now.warm = warm;
        inputs.decide()
    };
    assert!(cold >= 14, "a start takes 15 s: {cold}");
    assert!((12..=13).contains(&with(3)), "{}", with(3));
    let mut short = climbing();
    (short.now.warm, short.policy.rps) = (1, Some(40.0));
    let mut none = short.clone();
    none.now.warm = 0;
    assert_eq!(short.decide(), none.decide(), "one that sleeps is not enough, so some must be started");
}

#[test]
fn starts_and_wakings_are_learned_apart() {
    let mut inputs = climbing();
    inputs.memory = Memory::default();
    let mut rise = |warm: u32, seconds: u64| {
        (inputs.now.want, inputs.now.ready, inputs.now.warm) = (2, 2, warm);
        let (decision, memory) = decide(&inputs.policy, &inputs.now, &inputs.window, inputs.memory.clone());
        assert!(decision.want > 2);
        let later = Now { at_ms: AT + seconds * 1_000, want: decision.want, ready: decision.want, ..inputs.now };
        inputs.memory = decide(&inputs.policy, &later, &inputs.window, memory).1;
        inputs.memory.raised_ms = 0;
        inputs.memory.starts.clone()
    };
    assert_eq!((rise(0, 9).seconds, rise(20, 1).woken_seconds), (Some(9.0), Some(1.0)));
    let both = rise(20, 1);
    assert_eq!((both.horizon(), both.woken_horizon()), (9.0, 1.0));
}

#[test]
fn what_was_stopped_and_kept_is_reckoned_with_as_it_was_seen_to_start() {
    let with = |warm, stopped, seconds| {
        let mut inputs = climbing();
        (inputs.now.warm, inputs.now.stopped) = (warm, stopped);
        inputs.memory.starts.revived_seconds = seconds;
        inputs.decide()
    };
    let cold = with(0, 0, None);
    assert_eq!(with(0, 9, None), cold, "as long as a new one takes, until it is known");
    assert!(with(0, 9, Some(1.0)) < cold && with(1, 9, Some(1.0)) < cold);
    assert_eq!(with(0, 9, Some(60.0)), cold, "never longer than a new one");
    let mut inputs = climbing();
    inputs.memory = Memory::default();
    (inputs.now.want, inputs.now.ready, inputs.now.warm, inputs.now.stopped) = (2, 2, 1, 20);
    let (decision, memory) = decide(&inputs.policy, &inputs.now, &inputs.window, inputs.memory.clone());
    assert!(decision.want > 3, "more than those that sleep");
    let later = Now { at_ms: AT + 4_000, want: decision.want, ready: decision.want, ..inputs.now };
    let starts = decide(&inputs.policy, &later, &inputs.window, memory).1.starts;
    assert_eq!((starts.revived_seconds, starts.seconds, starts.woken_seconds), (Some(4.0), None, None));
}

#[test]
fn an_open_stream_or_a_request_in_flight_keeps_it_awake() {
    let stream = Sample { ready: 1, streams: 1.0, in_flight: 1.0, complete: true, ..Sample::default() };
    assert_eq!(awake(quiet(70, &stream)).decide(), 1);
    let slow = Sample { ready: 1, in_flight: 1.0, complete: true, ..Sample::default() };
    assert_eq!(awake(quiet(70, &slow)).decide(), 1);
}

#[test]
fn a_blind_spell_counts_as_busy() {
    let mut inputs = awake(quiet(70, &Sample { ready: 1, complete: true, ..Sample::default() }));
    inputs.window.seconds.iter_mut().for_each(|s| s.complete = false);
    let (decision, memory) = decide(&inputs.policy, &inputs.now, &inputs.window, inputs.memory);
    assert_eq!((decision.want, memory.busy_ms), (1, AT));
}

#[test]
fn the_decision_says_why_in_words() {
    let busy = Sample { arrivals: 182.0, ready: 2, complete: true, ..Sample::default() };
    let policy = Policy { max: 10, rps: Some(50.0), ..Policy::default() };
    let now = Now { at_ms: AT, want: 2, ready: 2, held: 0, version: 1, warm: 0, ..Now::default() };
    let (decision, _) = decide(&policy, &now, &quiet(60, &busy), Memory::default());
    insta::assert_snapshot!(serde_json::to_string_pretty(&decision).unwrap(), @r#"
    {
      "at_ms": 1700000000000,
      "from": 2,
      "want": 4,
      "needs": [
        {
          "signal": "min",
          "replicas": 1,
          "formula": "min = 1"
        },
        {
          "signal": "rps",
          "replicas": 4,
          "formula": "ceil(182.0 rps ÷ 50.0 rps per replica) = 4"
        }
      ],
      "winner": "rps",
      "guards": [],
      "reason": "2 → 4: rps: ceil(182.0 rps ÷ 50.0 rps per replica) = 4",
      "would_change": "above 200.0 rps: 5; below 136.4 rps for 5 s: 3",
      "alerts": [],
      "capacity_sure": false,
      "capacity_rps": null
    }
    "#);
}
