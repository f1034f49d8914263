//! What the plan does with warm replicas.

use crate::world::{Program, World, app_id, networks, route, spec};
use sc_core::{
    AppId, ReplicaId,
    observed::{Exit, Run},
    plan,
    records::{App, Intent, Replica, key},
    spec::AppSpec,
    warm::WarmSpec,
};

fn app_spec() -> AppSpec {
    AppSpec { routes: vec![route("web.example")], ..spec(Some(80)) }
}

fn warm(world: &mut World, web: &AppId, warm: WarmSpec) {
    world.edit::<App>(&key::app(web), |app| app.scale.warm = warm);
}

/// Three replicas serve, two of which are taken away.
fn scaled_in(size: u32) -> (World, AppId) {
    let (mut world, web) = (World::new(networks()), app_id("web"));
    world.deploy(&web, app_spec(), 3, Program::Good);
    warm(&mut world, &web, WarmSpec { size, ..WarmSpec::default() });
    world.converge(25, 20);
    world.scale(&web, 1);
    world.converge(25, 20);
    (world, web)
}

fn asleep(world: &World, web: &AppId) -> Vec<u64> {
    let sleeps = |(_, replica): &(&u64, &Replica)| matches!(replica.intent, Intent::Pause { .. });
    world.desired().apps[web].replicas.iter().filter(sleeps).map(|(n, _)| *n).collect()
}

fn frozen(world: &World) -> usize {
    world.containers.values().filter(|seen| seen.run == Run::Paused).count()
}

#[test]
fn what_scale_in_takes_away_is_frozen_and_woken_again() {
    let (mut world, web) = scaled_in(2);
    assert_eq!((asleep(&world, &web), frozen(&world)), (vec![2, 3], 2));
    assert_eq!(world.listed(&web), [1]);
    world.scale(&web, 4);
    insta::assert_snapshot!(world.next_steps(), @r#"
    Wake(web-2): 4 wanted
    Wake(web-3): 4 wanted
    Start { replica: web-4, version: 1, node: "here", addr: 10.213.1.6:80 }: 4 wanted
    "#);
    world.pass(usize::MAX);
    assert_eq!(world.listed(&web), [1], "one that was woken has to answer first");
    world.converge(25, 20);
    assert_eq!(world.listed(&web), [1, 2, 3, 4]);
    assert_eq!(frozen(&world), 0);
}

#[test]
fn without_a_warm_pool_nothing_sleeps() {
    let (world, web) = scaled_in(0);
    assert_eq!(world.desired().apps[&web].replicas.len(), 1);
    assert_eq!(world.containers.len(), 1);
}

#[test]
fn the_pool_is_bounded_by_its_size_and_by_its_memory() {
    let (mut world, web) = scaled_in(1);
    assert_eq!(asleep(&world, &web), [2]);
    warm(&mut world, &web, WarmSpec { size: 5, memory: Some(1 << 20), ..WarmSpec::default() });
    insta::assert_snapshot!(world.next_steps(), @r"
    Drain { replica: web-2, deadline_ms: 1030175 }: at most 0 may sleep
    Stop(web-2): at most 0 may sleep; it is idle
    ");
    let resources = |memory| sc_core::spec::Resources { memory, ..Default::default() };
    let spec = WarmSpec { size: 5, memory: Some(300), ..WarmSpec::default() };
    assert_eq!([None, Some(100), Some(1), Some(301)].map(|limit| spec.most(&resources(limit))), [0, 3, 5, 0]);
}

#[test]
fn it_drains_before_it_sleeps_and_one_out_of_time_is_stopped() {
    let (mut world, web) = (World::new(networks()), app_id("web"));
    world.deploy(&web, app_spec(), 2, Program::Good);
    warm(&mut world, &web, WarmSpec { size: 2, ..WarmSpec::default() });
    world.converge(25, 20);
    let busy = ReplicaId::new(&web, 2);
    world.in_flight.insert(busy.clone(), 1);
    world.scale(&web, 1);
    for _ in 0..5 {
        world.tick(25);
        world.pass(usize::MAX);
    }
    assert!(matches!(world.desired().replica(&busy).unwrap().intent, Intent::Drain { .. }));
    world.tick(60_000);
    insta::assert_snapshot!(world.next_steps(), @"Stop(web-2): 1 wanted; its time to drain is over");
}

#[test]
fn one_that_nobody_needs_is_stopped_after_its_time() {
    let (mut world, _) = scaled_in(2);
    world.tick(599_000);
    insta::assert_snapshot!(world.next_steps(), @"");
    world.tick(1_000);
    insta::assert_snapshot!(world.next_steps(), @r"
    Drain { replica: web-2, deadline_ms: 1630150 }: it slept for 600 s and was not needed
    Drain { replica: web-3, deadline_ms: 1630150 }: it slept for 600 s and was not needed
    Stop(web-2): it slept for 600 s and was not needed; it is idle
    Stop(web-3): it slept for 600 s and was not needed; it is idle
    ");
    world.converge(25, 20);
    assert_eq!(world.containers.len(), 1);
}

#[test]
fn the_last_one_sleeps_too_and_is_woken_by_the_first_want() {
    let (mut world, web) = scaled_in(2);
    world.scale(&web, 0);
    world.converge(25, 20);
    assert_eq!(asleep(&world, &web), [2, 3], "the pool was full: the third is gone");
    world.scale(&web, 1);
    insta::assert_snapshot!(world.next_steps(), @"Wake(web-2): 1 wanted");
}

type Change = fn(&mut World, &AppId);

/// After which nothing that sleeps is of use any more.
const CHANGES: [(&str, Change); 4] = [
    ("version", |world, web| {
        let mut new = app_spec();
        new.env.insert("NEW".to_owned(), "1".to_owned());
        world.deploy(web, new, 0, Program::Good);
    }),
    ("restart", |world, web| world.edit::<App>(&key::app(web), |app| app.restart += 1)),
    ("stop", |world, web| world.edit::<App>(&key::app(web), |app| app.stopped = true)),
    ("removal", |world, web| world.edit::<App>(&key::app(web), |app| app.deleting = true)),
];

#[test]
fn a_new_version_a_restart_a_stop_and_a_removal_leave_none_asleep() {
    let max: Change = |world, web| world.edit::<App>(&key::app(web), |app| app.scale.max = 1);
    for (what, change) in CHANGES.into_iter().chain([("max", max)]) {
        let (mut world, web) = scaled_in(2);
        change(&mut world, &web);
        world.converge(25, 40);
        assert_eq!(frozen(&world), 0, "{what}");
        assert!(world.containers.len() <= 1, "{what}: {:?}", world.containers);
    }
}

#[test]
fn a_warm_one_takes_the_place_of_one_that_died() {
    let (mut world, web) = scaled_in(2);
    let exit = Exit { code: 137, oom: true, error: String::new(), at_ms: world.now };
    world.containers.get_mut(&ReplicaId::new(&web, 1)).unwrap().run = Run::Exited(exit);
    insta::assert_snapshot!(world.next_steps().lines().last().unwrap(), @"Wake(web-2): 1 wanted");
    world.converge(25, 20);
    assert_eq!((world.listed(&web), asleep(&world, &web)), (vec![2], vec![3]));
}

#[test]
fn one_that_dies_in_its_sleep_is_no_crash_of_the_app() {
    let (mut world, web) = scaled_in(1);
    let exit = Exit { code: 137, oom: true, error: String::new(), at_ms: world.now };
    world.containers.get_mut(&ReplicaId::new(&web, 2)).unwrap().run = Run::Exited(exit);
    world.converge(25, 20);
    assert_eq!(world.app(&web).crash, None);
    assert_eq!(world.containers.len(), 1);
}

#[test]
fn a_call_lost_by_a_crash_is_made_again_either_way() {
    let (mut world, web) = scaled_in(2);
    let two = ReplicaId::new(&web, 2);
    world.containers.get_mut(&two).unwrap().run = Run::Running { since_ms: world.now };
    insta::assert_snapshot!(world.next_steps(), @"Pause(web-2): it shall sleep and runs");
    world.converge(25, 20);
    world.scale(&web, 2);
    world.loses_calls = true;
    world.tick(25);
    world.pass(usize::MAX);
    world.loses_calls = false;
    world.tick(25);
    insta::assert_snapshot!(world.next_steps(), @"Wake(web-2): it shall run and is paused");
    world.converge(25, 20);
    assert_eq!(world.listed(&web), [1, 2]);
}

#[test]
fn one_that_does_not_answer_after_its_sleep_is_replaced() {
    let (mut world, web) = scaled_in(1);
    world.sick.insert(ReplicaId::new(&web, 2));
    world.scale(&web, 2);
    for _ in 0..40 {
        world.tick(1_000);
        world.pass(usize::MAX);
        assert!(!world.listed(&web).contains(&2));
    }
    assert_eq!(world.listed(&web), [1, 4]);
}

#[test]
fn stopping_one_that_sleeps_leaves_the_count() {
    let (mut world, web) = scaled_in(2);
    let mut desired = world.desired();
    let effects = plan::stop_one(&mut desired, &ReplicaId::new(&web, 2), world.now).unwrap();
    assert!(world.commit(&effects));
    world.converge(25, 20);
    assert_eq!((world.listed(&web), asleep(&world, &web)), (vec![1], vec![3]));
}

#[test]
fn a_record_of_a_sleeping_replica_without_its_time_can_be_read() {
    let intent: Intent = serde_json::from_str(r#"{"do":"pause"}"#).unwrap();
    assert_eq!(intent, Intent::Pause { since_ms: 0 });
}

/// Three replicas serve, two of which are taken away: one is frozen, one parked.
fn one_of_each() -> (World, AppId) {
    let (mut world, web) = (World::new(networks()), app_id("web"));
    world.deploy(&web, app_spec(), 3, Program::Good);
    warm(&mut world, &web, WarmSpec { size: 1, stopped: Some(1), ..WarmSpec::default() });
    world.converge(25, 20);
    world.scale(&web, 1);
    world.converge(25, 20);
    (world, web)
}

fn parked(world: &World, web: &AppId) -> Vec<u64> {
    let parked = |(_, replica): &(&u64, &Replica)| matches!(replica.intent, Intent::Park { .. });
    world.desired().apps[web].replicas.iter().filter(parked).map(|(n, _)| *n).collect()
}

#[test]
fn a_parked_one_is_started_again_after_those_that_sleep_and_before_new_ones() {
    let (mut world, web) = one_of_each();
    assert_eq!((asleep(&world, &web), parked(&world, &web)), (vec![2], vec![3]));
    let three = ReplicaId::new(&web, 3);
    assert!(matches!(world.containers[&three].run, Run::Exited(_)), "kept, and stopped");
    let addr = world.desired().replica(&three).unwrap().addr;
    world.scale(&web, 4);
    insta::assert_snapshot!(world.next_steps(), @r#"
    Wake(web-2): 4 wanted
    Revive { replica: web-3, restarts: 0 }: 4 wanted
    Start { replica: web-4, version: 1, node: "here", addr: 10.213.1.6:80 }: 4 wanted
    "#);
    world.pass(usize::MAX);
    assert_eq!(world.listed(&web), [1], "one that was started again has to answer first");
    world.converge(25, 20);
    assert_eq!(world.listed(&web), [1, 2, 3, 4]);
    assert_eq!(world.desired().replica(&three).unwrap().addr, addr);
    assert_eq!(world.app(&web).crash, None, "its old end was no crash");
}

#[test]
fn a_paused_one_is_parked_after_its_time_and_gone_after_that_of_the_parked() {
    let (mut world, web) = scaled_in(1);
    warm(&mut world, &web, WarmSpec { size: 1, stopped: Some(1), stop_for_ms: 3_600_000, ..WarmSpec::default() });
    world.tick(600_000);
    insta::assert_snapshot!(world.next_steps(), @"Park(web-2): it slept for 600 s and was not needed");
    world.converge(25, 20);
    assert_eq!((frozen(&world), parked(&world, &web)), (0, vec![2]));
    world.tick(3_599_000);
    insta::assert_snapshot!(world.next_steps(), @"");
    world.tick(1_000);
    insta::assert_snapshot!(world.next_steps(), @r"
    Drain { replica: web-2, deadline_ms: 5230225 }: it was stopped for 3600 s and was not needed
    Stop(web-2): it was stopped for 3600 s and was not needed; it has ended
    ");
    world.converge(25, 20);
    assert_eq!(world.containers.len(), 1);
}

#[test]
fn the_last_place_below_the_maximum_is_a_paused_ones_and_then_its_own_when_it_is_parked() {
    let (mut world, web) = one_of_each();
    world.edit::<App>(&key::app(&web), |app| app.scale.max = 2);
    world.converge(25, 20);
    assert_eq!((asleep(&world, &web), parked(&world, &web)), (vec![2], vec![]));
    world.tick(600_000);
    insta::assert_snapshot!(world.next_steps(), @"Park(web-2): it slept for 600 s and was not needed");
}

#[test]
fn what_does_not_sleep_may_be_parked_alone() {
    let (mut world, web) = (World::new(networks()), app_id("web"));
    world.deploy(&web, app_spec(), 3, Program::Good);
    warm(&mut world, &web, WarmSpec { stopped: Some(5), ..WarmSpec::default() });
    world.converge(25, 20);
    world.scale(&web, 1);
    world.converge(25, 20);
    assert_eq!((frozen(&world), parked(&world, &web)), (0, vec![2, 3]));
    warm(&mut world, &web, WarmSpec::default());
    world.converge(25, 20);
    assert_eq!(world.containers.len(), 1);
}

#[test]
fn an_address_of_a_parked_one_is_given_to_nobody() {
    let ports = plan::Addressing::Ports { ip: [127, 0, 0, 1].into(), first: 20_000, last: 20_063 };
    let (mut world, web) = (World::new(ports), app_id("web"));
    world.deploy(&web, app_spec(), 2, Program::Good);
    warm(&mut world, &web, WarmSpec { stopped: Some(1), ..WarmSpec::default() });
    world.converge(25, 20);
    world.scale(&web, 1);
    world.converge(25, 20);
    let two = world.desired().replica(&ReplicaId::new(&web, 2)).unwrap().addr;
    // It is still being stopped, so a new one is made; the next in turn would get its address.
    let (now, web_2) = (world.now, ReplicaId::new(&web, 2));
    world.containers.get_mut(&web_2).unwrap().run = Run::Running { since_ms: now };
    world.edit::<App>(&key::app(&web), |app| app.next = 2 + 64);
    world.scale(&web, 2);
    world.converge(25, 20);
    let new = world.desired().replica(&ReplicaId::new(&web, 66)).unwrap().addr;
    assert_ne!(new, two);
    assert_eq!(parked(&world, &web), [2]);
}

#[test]
fn calls_about_a_parked_one_that_a_crash_lost_are_made_again() {
    let (mut world, web) = one_of_each();
    let three = ReplicaId::new(&web, 3);
    let end = world.containers[&three].run.clone();
    world.containers.get_mut(&three).unwrap().run = Run::Running { since_ms: world.now };
    insta::assert_snapshot!(world.next_steps(), @"Park(web-3): it shall be stopped and is not");
    // One that is still being stopped is not started again: another one is.
    world.scale(&web, 3);
    let steps = world.next_steps();
    assert!(!steps.contains("Revive") && steps.contains("Start {"), "{steps}");
    world.scale(&web, 1);
    world.containers.get_mut(&three).unwrap().run = end;
    world.scale(&web, 3);
    world.loses_calls = true;
    world.tick(25);
    world.pass(usize::MAX);
    world.loses_calls = false;
    world.tick(25);
    insta::assert_snapshot!(world.next_steps(), @r"
    Wake(web-2): it shall run and is paused
    Revive { replica: web-3, restarts: 0 }: it shall run and is stopped
    ");
    world.converge(25, 20);
    assert_eq!(world.listed(&web), [1, 2, 3]);
}

#[test]
fn a_parked_one_that_cannot_be_started_again_is_replaced_and_is_no_crash() {
    let (mut world, web) = one_of_each();
    world.scale(&web, 3);
    world.loses_calls = true;
    world.tick(25);
    world.pass(usize::MAX);
    world.loses_calls = false;
    world.refused.insert(ReplicaId::new(&web, 3), "address already in use".to_owned());
    world.converge(25, 20);
    assert_eq!((world.listed(&web), world.app(&web).crash), (vec![1, 2, 4], None));
}

#[test]
fn a_parked_one_that_vanished_is_forgotten_and_one_that_does_not_come_up_again_is_replaced_at_once() {
    let (mut world, web) = one_of_each();
    let three = ReplicaId::new(&web, 3);
    world.containers.remove(&three);
    world.converge(25, 20);
    assert_eq!((world.app(&web).crash, parked(&world, &web)), (None, vec![]));
    let (mut world, web) = one_of_each();
    world.scale(&web, 3);
    world.tick(25);
    world.pass(usize::MAX);
    let exit = Exit { code: 1, oom: false, error: String::new(), at_ms: world.now };
    world.containers.get_mut(&three).unwrap().run = Run::Exited(exit);
    world.pass(usize::MAX);
    assert_eq!((world.app(&web).crash, parked(&world, &web)), (None, vec![]), "what its last run left may be to blame");
    let failed = world.desired().replica(&three).map(|replica| replica.intent.clone());
    assert!(matches!(failed, Some(Intent::Stop { why }) if why.contains("what its last run left")), "and it goes");
    world.converge(25, 20);
    assert_eq!(world.listed(&web), [1, 2, 4], "a new one, without a wait");

    // Once it has served it is like any other.
    let (mut world, web) = one_of_each();
    world.scale(&web, 3);
    world.converge(25, 20);
    assert_eq!(world.listed(&web), [1, 2, 3]);
    let exit = Exit { code: 1, oom: false, error: String::new(), at_ms: world.now };
    world.containers.get_mut(&three).unwrap().run = Run::Exited(exit);
    world.pass(usize::MAX);
    assert_eq!(world.app(&web).crash.map(|crash| crash.count), Some(1));
}

/// One replica serves, of an app that the scaler may take to zero, and is taken away.
fn to_zero(stopped: Option<u32>) -> (World, AppId) {
    let (mut world, web) = (World::new(networks()), app_id("web"));
    world.deploy(&web, app_spec(), 2, Program::Good);
    world.edit::<App>(&key::app(&web), |app| (app.scale.auto, app.scale.warm.stopped) = (true, stopped));
    world.converge(25, 20);
    world.scale(&web, 0);
    world.converge(25, 20);
    (world, web)
}

#[test]
fn what_goes_to_zero_by_itself_keeps_one_stopped_unless_told_otherwise() {
    let (mut world, web) = to_zero(None);
    assert_eq!((parked(&world, &web), world.containers.len()), (vec![1], 1), "one of two");
    world.scale(&web, 1);
    insta::assert_snapshot!(world.next_steps(), @"Revive { replica: web-1, restarts: 0 }: 1 wanted");
    world.scale(&web, 0);
    world.tick(86_400_000);
    world.converge(25, 20);
    assert_eq!(world.containers.len(), 0, "for a day");

    assert_eq!(to_zero(Some(0)).0.containers.len(), 0);
    let unattended: Change = |world, web| world.edit::<App>(&key::app(web), |app| app.scale.auto = false);
    let min: Change = |world, web| world.edit::<App>(&key::app(web), |app| app.scale.min = 1);
    let off: Change = |world, web| world.edit::<App>(&key::app(web), |app| app.scale.warm.stopped = Some(0));
    for (what, change) in CHANGES.into_iter().chain([("by hand", unattended), ("min", min), ("off", off)]) {
        let (mut world, web) = to_zero(None);
        change(&mut world, &web);
        world.converge(25, 40);
        let kept = world.containers.values().filter(|seen| !matches!(seen.run, Run::Running { .. })).count();
        assert_eq!(kept, 0, "{what}: {:?}", world.containers);
    }
}

#[test]
fn a_parked_one_gets_its_whole_time_to_start_again() {
    let (mut world, web) = one_of_each();
    let three = ReplicaId::new(&web, 3);
    world.sick.insert(three.clone());
    world.scale(&web, 3);
    for _ in 0..10 {
        world.tick(500);
        world.pass(usize::MAX);
    }
    assert_eq!(world.desired().replica(&three).map(|replica| replica.intent.clone()), Some(Intent::Run));
    world.sick.clear();
    world.converge(25, 20);
    assert_eq!(world.listed(&web), [1, 2, 3]);
}

#[test]
fn a_new_version_a_stop_and_a_removal_leave_none_parked() {
    for (what, change) in CHANGES {
        let (mut world, web) = one_of_each();
        change(&mut world, &web);
        world.converge(25, 40);
        assert!(world.containers.len() <= 1, "{what}: {:?}", world.containers);
    }
}
