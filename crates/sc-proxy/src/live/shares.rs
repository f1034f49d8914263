//! The shares of versions, with given dice.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use proptest::prelude::*;
use sc_core::{
    AppId, ReplicaId,
    routes::{AppRoutes, BackendRoute},
    spec::{Balance, RouteSpec, Traffic},
};

use super::{App, Ask, Choice, Registry, Table};
use crate::sticky::{Mark, Stay, Tag};

/// Replicas 1 to `old` of version 1 and as many more of version 2, with these weights each.
fn app(balance: Balance, tcp: bool, old: (u64, u32), new: (u64, u32), limit: Option<u32>) -> Arc<App> {
    let app = AppId::in_default("web").unwrap();
    let backend = |n: u64, version, weight| BackendRoute {
        replica: ReplicaId::new(&app, n),
        addr: ([127, 0, 0, 1], 1000 + n as u16).into(),
        weight,
        version,
    };
    let backends = (1..=old.0).map(|n| backend(n, 1, old.1)).chain((1..=new.0).map(|n| backend(old.0 + n, 2, new.1)));
    let at_port = tcp.then(|| RouteSpec::of_port(5432)).into_iter().collect();
    let traffic = Traffic { balance, max_in_flight: limit, ..Traffic::default() };
    let routes = AppRoutes { traffic, by_version: true, ..AppRoutes::new(app.clone(), at_port, backends.collect()) };
    let routes = BTreeMap::from([(app, Arc::new(routes))]);
    let (table, _) = Registry::new(1).table(&routes, &Table::default(), Instant::now());
    table.apps[0].clone()
}

fn dice(mut seed: u64) -> impl FnMut() -> u32 {
    move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 32) as u32
    }
}

/// How many of so many requests each member got. Each stays for a while, so that some are in flight.
fn taken(app: &App, requests: usize, seed: u64) -> Vec<usize> {
    let (mut dice, mut taken, mut open) = (dice(seed), vec![0; app.members.len()], Vec::new());
    for _ in 0..requests {
        let Choice::Member { at, .. } = app.choose(Ask::default(), &mut dice, || 0) else { panic!("there is room") };
        taken[at] += 1;
        open.push(at);
        if open.len() > 6 {
            app.members[open.remove(0)].backend.leave();
        }
    }
    taken
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the balance, however slow the new version is, and however many replicas each has.
    #[test]
    fn a_version_gets_its_share(
        seed: u64,
        balance in prop_oneof![Just(Balance::Latency), Just(Balance::InFlight), Just(Balance::RoundRobin)],
        tcp: bool,
        old in 1u64..6,
        new in 1u64..4,
        percent in prop_oneof![Just(10u32), Just(25), Just(50), Just(90)],
        slow: bool,
    ) {
        let app = app(balance, tcp, (old, (100 - percent) * new as u32), (new, percent * old as u32), None);
        for member in &app.members {
            member.backend.ewma.record(if slow && member.version == 2 { 900_000 } else { 9_000 }, 0);
        }
        let taken = taken(&app, 20_000, seed);
        let of_new: usize = taken[old as usize..].iter().sum();
        prop_assert!(of_new.abs_diff(200 * percent as usize) < 200, "{of_new} of 20000 for {percent} %: {taken:?}");
        for (at, n) in taken.iter().enumerate() {
            let (all, of) = if at < old as usize { (20_000 - of_new, old) } else { (of_new, new) };
            prop_assert!(n * of as usize * 2 > all && n * of as usize <= all * 2, "{at} of {taken:?}");
        }
    }
}

#[test]
fn a_version_without_room_leaves_its_requests_to_the_other() {
    let app = app(Balance::Latency, false, (2, 1), (1, 2), Some(3));
    let mut roll = dice(7);
    let chosen: Vec<_> = (0..10).map(|_| app.choose(Ask::default(), &mut roll, || 0)).collect();
    assert!(chosen[..9].iter().all(|choice| matches!(choice, Choice::Member { .. })), "{chosen:?}");
    assert_eq!(chosen[9], Choice::Full);
}

#[test]
fn a_client_stays_with_its_version_also_when_its_replica_is_gone() {
    let app = app(Balance::Latency, false, (3, 1), (2, 10), None);
    let mut roll = dice(1);
    let gone = Tag::of(&"web-99".parse().unwrap());
    for version in [1, 2] {
        let stay = Stay { replica: gone, version: Some(Mark::of(&app.id, version)) };
        for _ in 0..100 {
            let ask = Ask { preferred: Some(stay), ..Ask::default() };
            let Choice::Member { at, .. } = app.choose(ask, &mut roll, || 0) else { panic!("there is room") };
            assert_eq!(app.members[at].version, version);
            assert_eq!(app.mark_of(app.members[at].backend.tag), stay.version);
        }
    }
    let mark = Some(Mark::of(&app.id, 3));
    let ask = Ask { preferred: Some(Stay { replica: gone, version: mark }), ..Ask::default() };
    let new = (0..1_000).filter(|_| matches!(app.choose(ask, &mut roll, || 0), Choice::Member { at, .. } if at > 2));
    let new = new.count();
    assert!((830..=905).contains(&new), "a client of a version that is gone is drawn anew: {new} of 1000 for 20 in 23");
}
