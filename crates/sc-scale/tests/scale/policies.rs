//! What each policy asks for, alone and beside others.

use sc_core::scaling::{PolicySpec, Resource};
use sc_scale::{Decision, Memory, Now, Outside, Policy, Sample, Window, decide};

/// Monday, 2 November 2026, 08:30 UTC.
const AT: u64 = 1_793_608_200_000;

fn window(sample: &Sample) -> Window {
    let mut window = Window::default();
    (0..60).for_each(|s| window.push(Sample { at_ms: AT - (59 - s) * 1_000, complete: true, ..sample.clone() }));
    window
}

fn decided(policies: Vec<PolicySpec>, window: &Window, want: u32, memory: Memory) -> Decision {
    let policy = Policy { max: 20, policies, ..Policy::default() };
    let now = Now { at_ms: AT, want, ready: want, held: 0, version: 1, warm: 0, ..Now::default() };
    decide(&policy, &now, window, memory).0
}

fn want(policies: Vec<PolicySpec>, sample: &Sample) -> u32 {
    decided(policies, &window(sample), 2, Memory::default()).want
}

/// A load that every metric shows.
fn load() -> Sample {
    Sample {
        arrivals: 90.0,
        in_flight: 45.0,
        streams: 15.0,
        ready: 2,
        cpu: Some(1.9),
        cpu_limit: Some(2.0),
        memory: Some(1.2e9),
        memory_limit: Some(2e9),
        ..Sample::default()
    }
}

#[test]
fn each_metric_asks_by_its_target() {
    assert_eq!(want(vec![PolicySpec::Fixed { replicas: 3 }], &Sample { ready: 2, ..Sample::default() }), 3);
    assert_eq!(want(vec![PolicySpec::Rps { target: 20.0 }], &load()), 5);
    assert_eq!(want(vec![PolicySpec::Concurrency { target: 10.0 }], &load()), 3);
    assert_eq!(want(vec![PolicySpec::Connections { target: 5.0 }], &load()), 3);
    assert_eq!(want(vec![PolicySpec::Cpu { target: 0.5 }], &load()), 4);
    assert_eq!(want(vec![PolicySpec::Memory { target: 0.3 }], &load()), 4);
}

#[test]
fn the_largest_need_wins() {
    let all =
        vec![PolicySpec::Rps { target: 20.0 }, PolicySpec::Cpu { target: 0.5 }, PolicySpec::Fixed { replicas: 3 }];
    let decision = decided(all, &window(&load()), 2, Memory::default());
    assert_eq!((decision.want, &*decision.winner), (5, "rps"));
}

#[test]
fn a_threshold_steps_once_a_cooldown() {
    let policy = || vec![PolicySpec::Threshold { of: Resource::Cpu, up: 0.9, down: 0.4, cooldown_ms: 60_000 }];
    assert_eq!(want(policy(), &load()), 3);
    let risen = Memory { raised_ms: AT - 30_000, ..Memory::default() };
    let decision = decided(policy(), &window(&load()), 3, risen);
    assert_eq!(decision.want, 3, "{}", decision.reason);
    let calm = Sample { cpu: Some(1.0), ..load() };
    assert_eq!(want(policy(), &calm), 2);
    let idle =
        Memory { recent: vec![(AT - 30_000, 1)], watched_ms: AT - 90_000, noted_ms: AT - 1_000, ..Memory::default() };
    assert_eq!(decided(policy(), &window(&Sample { cpu: Some(0.1), ..load() }), 2, idle).want, 1);
}

#[test]
fn a_schedule_is_a_floor_in_its_hours() {
    let hours = |hours| vec![PolicySpec::Schedule { cron: "0 8 * * 1-5".into(), for_ms: hours, min: 4 }];
    assert_eq!(want(hours(3_600_000), &Sample { ready: 2, ..Sample::default() }), 4);
    assert_eq!(want(hours(60_000), &Sample { ready: 2, ..Sample::default() }), 2);
}

#[test]
fn a_source_that_fails_holds_the_count() {
    let policy =
        || vec![PolicySpec::Prometheus { url: String::new(), query: String::new(), target: 10.0, every_ms: 15_000 }];
    let mut seconds = window(&Sample { ready: 2, ..Sample::default() });
    let low =
        Memory { recent: vec![(AT - 30_000, 1)], watched_ms: AT - 90_000, noted_ms: AT - 1_000, ..Memory::default() };
    let decision = decided(policy(), &seconds, 2, low.clone());
    assert_eq!((decision.want, &*decision.guards.join("; ")), (2, "prometheus: no answer yet: never lower"));
    seconds.outside.push(Outside { policy: 0, at_ms: AT - 5_000, value: 35.0 });
    assert_eq!(decided(policy(), &seconds, 2, low.clone()).want, 4);
    seconds.outside[0].value = 1.0;
    assert_eq!(decided(policy(), &seconds, 2, low.clone()).want, 1);
    seconds.outside[0].at_ms = AT - 100_000;
    assert_eq!(decided(policy(), &seconds, 2, low).want, 2);
}

#[test]
fn an_engine_that_measures_no_more_holds_the_count() {
    let low =
        Memory { recent: vec![(AT - 30_000, 1)], watched_ms: AT - 90_000, noted_ms: AT - 1_000, ..Memory::default() };
    let blind = Sample { cpu: None, cpu_limit: None, memory: None, memory_limit: None, ..load() };
    for one in [
        PolicySpec::Cpu { target: 0.5 },
        PolicySpec::Memory { target: 0.3 },
        PolicySpec::Threshold { of: Resource::Cpu, up: 0.9, down: 0.4, cooldown_ms: 60_000 },
    ] {
        let mut seconds = window(&load());
        for s in 1..=40 {
            seconds.push(Sample { at_ms: AT + s * 1_000, complete: true, ..blind.clone() });
        }
        let policy = Policy { max: 20, policies: vec![one], ..Policy::default() };
        let now = Now { at_ms: AT + 40_000, want: 4, ready: 4, version: 1, ..Now::default() };
        let memory = Memory { noted_ms: now.at_ms - 1_000, ..low.clone() };
        let decision = decide(&policy, &now, &seconds, memory.clone()).0;
        assert_eq!(decision.want, 4, "{}", decision.reason);
        // One that never measured anything is no reason to doubt what is known.
        let never = Window { seconds: seconds.seconds.iter().skip(60).cloned().collect(), ..Window::default() };
        assert!(decide(&policy, &now, &never, memory).0.want < 4);
    }
}

/// What comes of it, second after second, each with its policy and sample.
fn played(seconds: u64, mut want: u32, memory: Memory, of: impl Fn(u64) -> (Policy, Sample)) -> (u32, Memory) {
    let (mut window, mut memory) = (Window::default(), Memory { watched_ms: AT - 100_000, noted_ms: AT, ..memory });
    for second in 1..=seconds {
        let (policy, sample) = of(second);
        let at_ms = AT + second * 1_000;
        window.push(Sample { at_ms, ready: want, complete: true, ..sample });
        let now = Now { at_ms, want, ready: want, version: 1, ..Now::default() };
        let (decision, next) = decide(&policy, &now, &window, memory);
        (want, memory) = (decision.want, next);
    }
    (want, memory)
}

/// However short the hold time.
#[test]
fn what_is_measured_no_more_holds_the_count_from_the_first_second_on() {
    for hold_ms in [0, 1_000, 5_000] {
        let policy = Policy {
            max: 20,
            policies: vec![PolicySpec::Cpu { target: 0.5 }],
            hold_down_ms: Some(hold_ms),
            ..Policy::default()
        };
        let (want, _) = played(60, 4, Memory::default(), |second| {
            let cpu = (second < 30).then_some(1.9);
            (policy.clone(), Sample { arrivals: 90.0, cpu, cpu_limit: cpu.map(|_| 4.0), ..Sample::default() })
        });
        assert_eq!(want, 4, "hold {hold_ms} ms");
    }
}

#[test]
fn numbers_that_are_none_hold_the_count() {
    for (arrivals, expected) in [(f64::NAN, 10), (f64::INFINITY, 10), (1e308, 20), (1e18, 20)] {
        let policy = Policy { max: 20, rps: Some(10.0), hold_down_ms: Some(1_000), ..Policy::default() };
        let (want, _) = played(40, 10, Memory::default(), |second| {
            (policy.clone(), Sample { arrivals: if second < 20 { 95.0 } else { arrivals }, ..Sample::default() })
        });
        assert!(want >= expected, "{arrivals}: {want}");
    }
}

/// A floor that is raised soon after a step down does not say that the step was wrong.
#[test]
fn a_floor_that_rises_is_no_flap() {
    let (_, memory) = played(400, 12, Memory::default(), |second| {
        let min = if second % 100 >= 50 { 12 } else { 1 };
        let policy = Policy { min, max: 50, rps: Some(10.0), hold_down_ms: Some(2_000), ..Policy::default() };
        (policy, Sample { arrivals: 50.0, ..Sample::default() })
    });
    assert_eq!(memory.flaps, 0);
}

/// Taken back in several steps up, it counts once; and is forgotten after an hour without another.
#[test]
fn a_step_down_is_taken_back_once() {
    let lowered = Memory { lowered_ms: AT, lowered_load: 400.0, ..Memory::default() };
    let of = |_| {
        let policy = Policy { max: 50, rps: Some(10.0), step_up: Some(1), ..Policy::default() };
        (policy, Sample { arrivals: 400.0, ..Sample::default() })
    };
    let (want, memory) = played(30, 30, lowered.clone(), of);
    assert_eq!((want, memory.flaps), (40, 1));
    assert_eq!(played(3_700, 30, lowered, of).1.flaps, 0);
}

#[test]
fn the_flap_budget_and_the_steps_are_kept() {
    let idle = Sample { ready: 10, ..Sample::default() };
    let low =
        Memory { recent: vec![(AT - 30_000, 1)], watched_ms: AT - 90_000, noted_ms: AT - 1_000, ..Memory::default() };
    let now = Now { at_ms: AT, want: 10, ready: 10, held: 0, version: 1, warm: 0, ..Now::default() };
    let rps = || vec![PolicySpec::Rps { target: 20.0 }];
    let steps = Policy { max: 20, policies: rps(), step_down: Some(3), step_up: Some(4), ..Policy::default() };
    assert_eq!(decide(&steps, &now, &window(&idle), low.clone()).0.want, 7);
    let few = Now { want: 2, ..now };
    assert_eq!(decide(&steps, &few, &window(&Sample { arrivals: 300.0, ..idle.clone() }), low.clone()).0.want, 6);
    let budget = Policy { max: 20, policies: rps(), turns_an_hour: Some(2), ..Policy::default() };
    let turned = Memory { turns: vec![AT - 1_000_000, AT - 2_000_000], ..low.clone() };
    assert_eq!(decide(&budget, &now, &window(&idle), turned).0.want, 10);
    let long_ago = Memory { turns: vec![AT - 1_000_000, AT - 4_000_000], ..low };
    assert_eq!(decide(&budget, &now, &window(&idle), long_ago).0.want, 9);
}
