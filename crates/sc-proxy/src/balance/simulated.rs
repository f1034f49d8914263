//! The choice in a small world: requests come at random, each backend serves so many at once, and the mean learns.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    Ewma,
    pick::{Candidate, median, pick},
};

/// One backend of the world.
struct Server {
    /// Microseconds of one answer when it is idle; each further request in flight adds as much again.
    service: u64,
    weight: u32,
    /// When it joins, in µs.
    from: u64,
    in_flight: u32,
    taken: u32,
    ewma: Ewma,
}

fn server(service: u64, weight: u32, from: u64) -> Server {
    Server { service, weight, from, in_flight: 0, taken: 0, ewma: Ewma::default() }
}

/// Requests every `gap` µs on average until `end`; returns how many each backend took.
fn run(mut servers: Vec<Server>, gap: u64, end: u64, mut seed: u64) -> Vec<u32> {
    let mut dice = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 32) as u32
    };
    let (mut now, mut ends) = (0, BTreeMap::<(u64, u64), (usize, u64)>::new());
    for serial in 0.. {
        now += u64::from(dice()) % (2 * gap) + 1;
        while let Some(first) = ends.first_entry().filter(|first| first.key().0 <= now) {
            let ((at, _), (i, took)) = first.remove_entry();
            servers[i].in_flight -= 1;
            servers[i].ewma.record(took, at / 1_000);
        }
        if now > end {
            return servers.iter().map(|s| s.taken).collect();
        }
        let millis = now / 1_000;
        let known = || servers.iter().filter_map(|s| s.ewma.micros(millis)).collect();
        let view = |i: usize| {
            let s: &Server = &servers[i];
            let latency = s.ewma.micros(millis).unwrap_or_else(|| median(known()));
            Candidate { in_flight: s.in_flight, latency, weight: s.weight, eligible: now >= s.from }
        };
        let draws = (dice(), dice());
        let chosen = pick(servers.len(), false, draws, view).unwrap();
        let s = &mut servers[chosen];
        (s.in_flight, s.taken) = (s.in_flight + 1, s.taken + 1);
        let took = s.service * u64::from(s.in_flight);
        ends.insert((now + took, serial), (chosen, took));
    }
    unreachable!("the world ends in time")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn equal_backends_get_equal_shares(seed: u64, n in 2usize..8) {
        let taken = run((0..n).map(|_| server(8_000, 1, 0)).collect(), 10_000 / n as u64, 60_000_000, seed);
        let mean = taken.iter().sum::<u32>() / n as u32;
        prop_assert!(taken.iter().all(|t| *t > mean / 2 && *t < mean * 2), "{taken:?}");
    }

    #[test]
    fn a_slow_one_gets_less(seed: u64, times in 5u64..50) {
        let taken = run(vec![server(6_000, 1, 0), server(6_000, 1, 0), server(6_000 * times, 1, 0)], 4_000, 60_000_000, seed);
        prop_assert!(taken[2] * 3 < taken[0].min(taken[1]), "{taken:?}");
    }

    #[test]
    fn a_new_one_is_neither_stampeded_nor_left_out(seed: u64) {
        let old = || server(20_000, 1, 0);
        let second = |from| run(vec![old(), old(), old(), server(20_000, 1, from)], 8_000, 31_000_000, seed)[3];
        let took = second(30_000_000);
        // Its fair part of the one second is 31 of 125.
        prop_assert!((10..=75).contains(&took), "{took}");
    }

    #[test]
    fn idle_ones_share_by_weight(seed: u64) {
        let taken = run(vec![server(1_000, 1, 0), server(1_000, 9, 0)], 20_000, 100_000_000, seed);
        prop_assert!(taken[0] * 4 < taken[1] && taken[0] * 20 > taken[1], "{taken:?}");
    }
}
