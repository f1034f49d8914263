//! A canary's life, readable.

use crate::world::{Program, World, app_id, networks, route, spec};
use sc_core::{
    AppId,
    records::{App, Intent, Rollout, key},
};

fn settled(want: u32) -> (World, AppId) {
    let (mut world, web) = (World::new(networks()), app_id("web"));
    world.deploy(&web, with_route("web.example"), want, Program::Good);
    world.converge(25, 20);
    (world, web)
}

fn with_route(host: &str) -> sc_core::spec::AppSpec {
    let mut spec = spec(Some(80));
    spec.routes = vec![route(host)];
    spec
}

/// How many replicas shall run of the first version and of the second.
fn counts(world: &World, web: &AppId) -> (usize, usize) {
    let desired = world.desired();
    let of = |version| {
        desired.apps[web].replicas.values().filter(|r| r.intent == Intent::Run && r.version == version).count()
    };
    (of(1), of(2))
}

#[test]
fn a_canary_starts_beside_what_runs_and_gets_its_share_once_it_is_ready() {
    let (mut world, web) = settled(3);
    world.canary(&web, with_route("new.example"), "10%", Program::Good);
    insta::assert_snapshot!(world.next_steps(), @"Start { replica: web-4, version: 2, node: \"here\", addr: 10.213.1.6:80 }: 1 of the canary wanted");
    world.pass(usize::MAX);
    assert_eq!((world.share(&web, 2), world.listed(&web).len()), (0.0, 3));
    world.tick(25);
    insta::assert_snapshot!(world.next_steps(), @r"
    MarkSeen { replica: web-4, restarts: 0 }: the engine has it
    MarkReady(web-4): it passed its probe
    CanaryUp(web): version 2 serves 10% of the requests
    ");
    world.converge(25, 20);
    assert_eq!((counts(&world, &web), world.share(&web, 2)), ((3, 1), 100.0));
    let app = world.app(&web);
    assert_eq!((app.version, app.stable, app.rollout), (1, Some(1), Rollout::Settled));
    // The new version's routes hold once it is promoted; nobody else may have them meanwhile.
    assert_eq!(world.desired().apps[&web].published.as_ref().unwrap().routes.routes, [route("web.example")]);
    assert!(world.store.contains_key(&key::claim(&route("new.example"))));
}

#[test]
fn a_large_share_takes_the_place_of_old_replicas_and_a_lower_one_gives_it_back() {
    let (mut world, web) = settled(4);
    world.canary(&web, with_route("web.example"), "75%", Program::Good);
    world.converge(25, 40);
    assert_eq!((counts(&world, &web), world.share(&web, 2)), ((2, 3), 750.0));
    let now = world.now;
    world.edit::<App>(&key::app(&web), |app| {
        app.canary = Some(app.canary.as_ref().unwrap().with_share("20%".parse().unwrap(), now));
    });
    world.tick(25);
    world.pass(usize::MAX);
    assert_eq!(world.share(&web, 2), 500.0, "two of the four wanted cannot take more than half");
    world.converge(25, 40);
    assert_eq!((counts(&world, &web), world.share(&web, 2)), ((4, 1), 200.0));
}

#[test]
fn a_canary_is_promoted_by_a_rollout_of_the_rest() {
    let (mut world, web) = settled(3);
    world.canary(&web, with_route("new.example"), "10%", Program::Good);
    world.converge(25, 20);
    world.promote(&web);
    world.converge(25, 40);
    let app = world.app(&web);
    assert_eq!((app.version, app.stable, app.canary, app.rollout), (2, Some(2), None, Rollout::Settled));
    assert_eq!((counts(&world, &web), world.listed(&web)), ((0, 3), vec![4, 5, 6]));
    assert!(!world.store.contains_key(&key::claim(&route("web.example"))));
}

#[test]
fn a_canary_is_withdrawn() {
    let (mut world, web) = settled(3);
    world.canary(&web, with_route("web.example"), "10%", Program::Good);
    world.converge(25, 20);
    world.edit::<App>(&key::app(&web), |app| app.canary = None);
    insta::assert_snapshot!(world.next_steps(), @r"
    Roll(web): version 1 is to replace what runs
    Drain { replica: web-4, deadline_ms: 1030150 }: version 2 is withdrawn, version 1 serves on
    Settle { app: web, version: 1 }: version 1 is rolled out
    ");
    world.converge(25, 20);
    assert_eq!(world.listed(&web), [1, 2, 3]);
}

#[test]
fn a_canary_that_fails_goes_back_by_itself() {
    for (program, cause) in [
        (Program::Crashes, "version 2 crashed 3 times in a row: exit status 1"),
        (Program::Refused, "version 2 crashed 3 times in a row: no such image"),
        (Program::Mute, "no replica of version 2 became ready within 60 s: web-4: connection refused"),
    ] {
        let (mut world, web) = settled(3);
        let before = world.store[&key::scale(&web)].clone();
        world.canary(&web, with_route("new.example"), "10%", program);
        for _ in 0..80 {
            world.tick(1_000);
            world.pass(usize::MAX);
            assert_eq!(world.share(&web, 2), 0.0);
        }
        world.converge(25, 20);
        let Rollout::RolledBack { failed: 2, cause: told, .. } = world.app(&web).rollout else { panic!("{program:?}") };
        assert_eq!(told, cause);
        assert_eq!((world.app(&web).canary, world.listed(&web)), (None, vec![1, 2, 3]));
        assert_eq!(world.app(&web).crash, None, "the crashes were not the wanted version's");
        assert_eq!(world.store[&key::scale(&web)], before);
    }
}

#[test]
fn one_that_was_up_goes_back_only_after_crashes_in_a_row() {
    let (mut world, web) = settled(3);
    world.canary(&web, with_route("web.example"), "10%", Program::Good);
    world.converge(25, 20);
    world.tick(3_600_000);
    let crash = |world: &mut World| {
        let canary = world.desired().apps[&web].replicas.iter().find(|(_, r)| r.version == 2).map(|(n, _)| *n);
        world.containers.remove(&sc_core::ReplicaId::new(&web, canary.unwrap()));
        world.pass(usize::MAX);
    };
    crash(&mut world);
    world.converge(25, 20);
    assert_eq!((counts(&world, &web), world.share(&web, 2)), ((3, 1), 100.0), "it is repaired");
    world.programs.insert((web.clone(), 2), Program::Crashes);
    crash(&mut world);
    for _ in 0..20 {
        world.tick(1_000);
        world.pass(usize::MAX);
    }
    assert!(matches!(world.app(&web).rollout, Rollout::RolledBack { failed: 2, .. }));
    assert_eq!(world.listed(&web), [1, 2, 3]);
}

#[test]
fn a_stopped_and_a_sleeping_app_keep_their_canary() {
    let (mut world, web) = settled(3);
    world.canary(&web, with_route("web.example"), "10%", Program::Good);
    world.converge(25, 20);
    world.scale(&web, 0);
    world.converge(25, 20);
    assert_eq!(counts(&world, &web), (0, 0));
    world.tick(3_600_000);
    world.scale(&web, 2);
    world.converge(25, 20);
    assert_eq!((counts(&world, &web), world.share(&web, 2)), ((2, 1), 100.0));
}
