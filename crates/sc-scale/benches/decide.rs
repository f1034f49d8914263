//! One decision over a full window, most signals on. Aim: at most 20 µs.
#![allow(missing_docs)]

use sc_core::stats::Histogram;
use sc_scale::{Memory, Now, Policy, Sample, Window, decide};

fn main() {
    divan::main();
}

#[divan::bench]
fn full_window(bencher: divan::Bencher) {
    let (mut window, mut memory) = (Window::default(), Memory::default());
    let policy = Policy { max: 50, ..Policy::default() };
    let mut at_ms = 1_700_000_000_000;
    for second in 0..900u64 {
        at_ms += 1_000;
        let rps = 200.0 + (second % 300) as f64;
        let mut latency = Histogram::default();
        (0..rps as u64).for_each(|n| latency.record(20_000_000 + n * (second % 300) * 2_000));
        window.push(Sample {
            at_ms,
            arrivals: rps,
            completions: [0.0, rps, 0.0, 0.0, 0.0, 0.0],
            in_flight: 20.0,
            latency,
            ready: 4,
            cpu: Some(2.0),
            cpu_limit: Some(4.0),
            complete: true,
            ..Sample::default()
        });
        memory = decide(
            &policy,
            &Now { at_ms, want: 4, ready: 4, held: 0, version: 1, warm: 0, ..Now::default() },
            &window,
            memory,
        )
        .1;
    }
    let now = Now { at_ms: at_ms + 1, want: 4, ready: 4, held: 0, version: 1, warm: 0, ..Now::default() };
    memory.capacity.learned_ms -= 1_000;
    bencher.with_inputs(|| memory.clone()).bench_values(|memory| decide(&policy, &now, &window, memory));
}
