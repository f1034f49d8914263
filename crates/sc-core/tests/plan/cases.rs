//! What the plan does in ordinary cases, readable.

use crate::world::{Program, World, app_id, networks, proxy, route, spec};
use sc_core::{
    ReplicaId,
    observed::{Exit, Run, Seen},
    plan::{self, Addressing},
    records::{App, Gone, Intent, Proxy, Replica, Rollout, key},
};

fn settled(want: u32) -> (World, sc_core::AppId) {
    let (mut world, web) = (World::new(networks()), app_id("web"));
    let mut spec = spec(Some(80));
    spec.routes = vec![route("web.example")];
    world.deploy(&web, spec, want, Program::Good);
    world.converge(25, 20);
    (world, web)
}

#[test]
fn a_first_deploy_starts_all_and_lists_them_once_ready() {
    let (mut world, web) = (World::new(networks()), app_id("web"));
    world.deploy(&web, spec(Some(80)), 2, Program::Good);
    insta::assert_snapshot!(world.next_steps(), @r#"
    Assign { app: web, subnet: 2 }: it needs addresses for its replicas
    Start { replica: web-1, version: 1, node: "here", addr: 10.213.1.3:80 }: 2 wanted
    Start { replica: web-2, version: 1, node: "here", addr: 10.213.1.4:80 }: 2 wanted
    "#);
    world.pass(usize::MAX);
    assert_eq!(world.listed(&web), [0u64; 0]);
    world.tick(25);
    insta::assert_snapshot!(world.next_steps(), @r"
    MarkSeen { replica: web-1, restarts: 0 }: the engine has it
    MarkSeen { replica: web-2, restarts: 0 }: the engine has it
    MarkReady(web-1): it passed its probe
    MarkReady(web-2): it passed its probe
    Settle { app: web, version: 1 }: version 1 is rolled out
    ");
    world.converge(25, 5);
    assert_eq!(world.listed(&web), [1, 2]);
}

#[test]
fn a_start_lost_by_a_crash_is_asked_for_again() {
    let (mut world, web) = (World::new(networks()), app_id("web"));
    world.deploy(&web, spec(Some(80)), 1, Program::Good);
    world.pass(usize::MAX);
    world.containers.clear();
    world.now += 1;
    insta::assert_snapshot!(world.next_steps(), @"StartAgain(web-1): the engine does not have it yet");
}

#[test]
fn scaling_in_drains_the_newest_and_waits_for_the_proxies() {
    let (mut world, web) = settled(3);
    world.scale(&web, 2);
    insta::assert_snapshot!(world.next_steps(), @"Drain { replica: web-3, deadline_ms: 1030075 }: 2 wanted");
    let busy = ReplicaId::new(&web, 3);
    world.in_flight.insert(busy.clone(), 1);
    world.pass(usize::MAX);
    world.converge(25, 5); // nothing to do while it is busy
    assert_eq!(world.listed(&web), [1, 2]);
    assert!(world.containers.contains_key(&busy));
    world.in_flight.clear();
    insta::assert_snapshot!(world.next_steps(), @"Stop(web-3): 2 wanted; it is idle");
    world.pass(usize::MAX);
    world.tick(25);
    insta::assert_snapshot!(world.next_steps(), @"Forget(web-3): the engine has it no more");
}

#[test]
fn a_draining_replica_is_stopped_at_its_deadline_and_not_before_its_routes_are_gone() {
    let (mut world, web) = settled(2);
    world.scale(&web, 1);
    world.in_flight.insert(ReplicaId::new(&web, 2), 1);
    world.pass(1); // killed before the routes were published
    world.now += 30_000;
    assert_eq!(world.next_steps(), "", "the stored routes still list it");
    world.publish();
    insta::assert_snapshot!(world.next_steps(), @"Stop(web-2): 1 wanted; its time to drain is over");
}

#[test]
fn a_new_leader_waits_for_a_proxy_that_is_cut_off() {
    let (mut world, web) = settled(2);
    world.scale(&web, 1);
    world.pass(usize::MAX);
    // Its lease ends, its report is lost with the manager, it serves on by its last table.
    world.store.remove(&key::proxy("p1"));
    let cut_off = world.proxies.remove("p1").unwrap();
    world.lead();
    insta::assert_snapshot!(world.next_steps(), @r#"Miss("p1"): its lease has ended"#);
    world.pass(usize::MAX);
    world.tick(20_000);
    assert_eq!(world.next_steps(), "");
    // It comes back.
    world.proxies.insert("p1".to_owned(), cut_off);
    world.put(&key::proxy("p1"), &proxy());
    world.tick(0);
    insta::assert_snapshot!(world.next_steps(), @r#"
    Meet("p1"): it has registered
    Stop(web-2): 1 wanted; it is idle
    "#);
}

/// Nobody reports for it any more, and what is published after its end it has never applied.
#[test]
fn a_proxy_that_has_handed_over_and_ended_holds_up_no_drain() {
    let (mut world, web) = settled(2);
    world.add_proxy("p1.next");
    world.tick(0);
    let ended = Proxy { ended: true, ..proxy() };
    world.put(&key::proxy("p1"), &ended);
    world.lagging.insert("p1".to_owned());
    world.proxies.get_mut("p1").unwrap().1.clear();
    insta::assert_snapshot!(world.next_steps(), @r#"Miss("p1"): it has handed over and ended"#);
    world.pass(usize::MAX);
    world.scale(&web, 1);
    world.pass(usize::MAX);
    world.tick(25);
    insta::assert_snapshot!(world.next_steps(), @"Stop(web-2): 1 wanted; it is idle");
    world.pass(usize::MAX);
    // Its entry goes with the lease; nothing new is concluded from that.
    world.store.remove(&key::proxy("p1"));
    world.converge(25, 5);
    assert_eq!(world.listed(&web), [1]);
    // It starts anew: from then on it is waited for as any other.
    world.put(&key::proxy("p1"), &proxy());
    insta::assert_snapshot!(world.next_steps(), @r#"Meet("p1"): it has registered"#);
    world.pass(usize::MAX);
    world.scale(&web, 0);
    world.pass(usize::MAX);
    world.tick(25);
    assert_eq!(world.next_steps(), "");
}

#[test]
fn a_proxy_that_is_gone_holds_up_no_drain_for_long_and_is_forgotten_at_last() {
    let (mut world, web) = settled(2);
    world.store.remove(&key::proxy("p1"));
    world.proxies.clear();
    world.pass(usize::MAX);
    world.tick(60_000);
    world.scale(&web, 1);
    world.pass(usize::MAX);
    insta::assert_snapshot!(world.next_steps(), @"Stop(web-2): 1 wanted; it is idle");
    world.converge(0, 5);
    world.tick(15 * 60_000);
    insta::assert_snapshot!(world.next_steps(), @r#"Part("p1"): it was gone for long"#);
    world.converge(0, 5);
    assert!(!world.store.contains_key(&key::met("p1")));
}

#[test]
fn a_draining_replica_is_taken_back_when_it_is_wanted_again() {
    let (mut world, web) = settled(3);
    world.in_flight.insert(ReplicaId::new(&web, 3), 1);
    world.scale(&web, 2);
    world.converge(25, 5);
    world.scale(&web, 3);
    insta::assert_snapshot!(world.next_steps(), @"Resume(web-3): 3 wanted");
}

#[test]
fn a_crashed_replica_is_replaced_at_once_and_then_ever_later() {
    let (mut world, web) = settled(2);
    let exit = Exit { code: 139, oom: false, error: String::new(), at_ms: world.now };
    world.containers.get_mut(&ReplicaId::new(&web, 1)).unwrap().run = Run::Exited(exit);
    insta::assert_snapshot!(world.next_steps(), @r#"
    Fail { replica: web-1, deadline_ms: 1000075, crash: Some(CrashLoop { version: 1, count: 1, until_ms: 1000075, last: "ended by signal 11" }) }: ended by signal 11
    Start { replica: web-3, version: 1, node: "here", addr: 10.213.1.5:80 }: 2 wanted
    "#);
    world.converge(25, 10);
    assert_eq!(world.app(&web).crash.unwrap().count, 1);
    world.tick(10_000);
    world.converge(25, 10);
    assert_eq!(world.app(&web).crash, None, "it has recovered");
}

#[test]
fn back_off_grows_with_each_crash_and_ends() {
    let (mut world, web) = (World::new(networks()), app_id("web"));
    world.deploy(&web, spec(Some(80)), 1, Program::Crashes);
    let mut waits = Vec::new();
    for _ in 0..4_000 {
        let before = world.app(&web).crash.map_or(0, |crash| crash.count);
        world.tick(100);
        world.pass(usize::MAX);
        let crash = world.app(&web).crash;
        waits.extend(crash.filter(|crash| crash.count > before).map(|crash| crash.until_ms - world.now));
    }
    assert_eq!(waits[..9], [0, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
    assert!(matches!(world.app(&web).rollout, Rollout::Failed { .. }), "there is nothing to go back to");
}

#[test]
fn a_vanished_replica_is_replaced() {
    let (mut world, web) = settled(2);
    world.containers.remove(&ReplicaId::new(&web, 2));
    insta::assert_snapshot!(world.next_steps(), @r#"
    Fail { replica: web-2, deadline_ms: 1000075, crash: None }: it was removed by somebody else
    Start { replica: web-3, version: 1, node: "here", addr: 10.213.1.5:80 }: 2 wanted
    "#);
}

#[test]
fn a_sick_replica_is_replaced_before_it_is_given_up() {
    let (mut world, web) = settled(2);
    world.sick.insert(ReplicaId::new(&web, 1));
    for _ in 0..3 {
        world.tick(2_000);
    }
    insta::assert_snapshot!(world.next_steps(), @r#"
    MarkUnready { replica: web-1, restarts: 0 }: 3 probes in a row failed: connection refused
    Start { replica: web-3, version: 1, node: "here", addr: 10.213.1.5:80 }: 2 wanted
    "#);
    world.pass(usize::MAX);
    assert_eq!(world.listed(&web), [2]);
    world.tick(25);
    insta::assert_snapshot!(world.next_steps(), @r#"
    MarkSeen { replica: web-3, restarts: 0 }: the engine has it
    MarkReady(web-3): it passed its probe
    Fail { replica: web-1, deadline_ms: 1036100, crash: Some(CrashLoop { version: 1, count: 1, until_ms: 1006100, last: "it is unhealthy: connection refused" }) }: it is unhealthy: connection refused
    Stop(web-1): it is unhealthy: connection refused; it is idle
    "#);
}

#[test]
fn when_all_fail_their_probes_at_most_one_is_given_up_at_a_time() {
    let (mut world, web) = settled(4);
    world.programs.insert((web.clone(), 1), Program::Mute);
    let mut least = 4;
    for _ in 0..1_200 {
        world.tick(100);
        world.pass(usize::MAX);
        least = least.min(world.containers.len());
        let failing = world.desired().apps[&web].replicas.values().filter(|r| r.intent != Intent::Run).count();
        assert!(failing <= 2, "{failing} on their way out at once");
    }
    assert!(least >= 3, "{least} left running");
    world.programs.insert((web.clone(), 1), Program::Good);
    world.converge(500, 1_000);
    assert_eq!(world.ready(&web), 4);
}

#[test]
fn a_restart_behind_our_back_is_probed_anew() {
    let (mut world, web) = settled(1);
    let id = ReplicaId::new(&web, 1);
    world.probing = false;
    world.tick(25);
    world.containers.get_mut(&id).unwrap().restarts += 1;
    insta::assert_snapshot!(world.next_steps(), @"MarkUnready { replica: web-1, restarts: 1 }: it was restarted by somebody else");
    world.pass(usize::MAX);
    assert_eq!(world.listed(&web), [0u64; 0], "the old probe does not count");
    world.probing = true;
    world.converge(25, 5);
    assert_eq!(world.listed(&web), [1]);
}

#[test]
fn one_paused_by_somebody_else_leaves_the_routes_and_is_woken() {
    let (mut world, web) = settled(1);
    world.containers.get_mut(&ReplicaId::new(&web, 1)).unwrap().run = Run::Paused;
    insta::assert_snapshot!(world.next_steps(), @r"
    MarkUnready { replica: web-1, restarts: 0 }: it was paused by somebody else
    Wake(web-1): it shall run and is paused
    ");
    world.converge(25, 5);
    assert_eq!(world.listed(&web), [1]);
}

#[test]
fn a_hung_engine_changes_nothing() {
    let (mut world, web) = settled(2);
    world.engine_answers = false;
    world.containers.clear();
    world.scale(&web, 5);
    world.tick(120_000);
    assert_eq!(world.next_steps(), "");
}

#[test]
fn a_rollout_replaces_one_after_the_other() {
    let (mut world, web) = settled(2);
    world.deploy(&web, spec(Some(80)), 0, Program::Good);
    let mut log = String::new();
    for _ in 0..12 {
        world.tick(25);
        log += &world.next_steps().lines().map(|line| format!("{line}\n")).collect::<String>();
        log += "--\n";
        world.pass(usize::MAX);
        assert!(world.ready(&web) >= 2);
        let run = world.desired().apps[&web].replicas.values().filter(|r| r.intent == Intent::Run).count();
        assert!(run <= 3, "{run}");
    }
    insta::assert_snapshot!(log, @r#"
    Start { replica: web-3, version: 2, node: "here", addr: 10.213.1.5:80 }: 2 wanted
    --
    MarkSeen { replica: web-3, restarts: 0 }: the engine has it
    MarkReady(web-3): it passed its probe
    Drain { replica: web-1, deadline_ms: 1030125 }: version 2 replaces version 1
    Start { replica: web-4, version: 2, node: "here", addr: 10.213.1.6:80 }: 2 wanted
    --
    MarkSeen { replica: web-4, restarts: 0 }: the engine has it
    MarkReady(web-4): it passed its probe
    Drain { replica: web-2, deadline_ms: 1030150 }: version 2 replaces version 1
    Stop(web-1): version 2 replaces version 1; it is idle
    Settle { app: web, version: 2 }: version 2 is rolled out
    --
    Forget(web-1): the engine has it no more
    Stop(web-2): version 2 replaces version 1; it is idle
    Unclaim { app: web, claim: "default/claims/web.example," }: the app no longer has this route
    --
    Forget(web-2): the engine has it no more
    --
    --
    --
    --
    --
    --
    --
    --
    "#);
    assert_eq!(world.app(&web).stable, Some(2));
}

#[test]
fn a_bad_version_goes_back_and_the_old_one_serves_on() {
    for program in [Program::Crashes, Program::Mute, Program::Refused] {
        let (mut world, web) = settled(3);
        let mut bad = spec(Some(80));
        bad.routes = vec![route("new.example")];
        world.deploy(&web, bad, 0, program);
        for _ in 0..800 {
            world.tick(100);
            world.pass(usize::MAX);
            assert_eq!(world.listed(&web), [1, 2, 3], "{program:?}");
            assert_eq!(world.desired().apps[&web].published.as_ref().unwrap().routes.routes, [route("web.example")]);
        }
        let app = world.app(&web);
        assert_eq!((app.version, app.stable), (1, Some(1)));
        assert!(matches!(app.rollout, Rollout::RolledBack { failed: 2, .. }), "{:?}", app.rollout);
        assert_eq!(world.containers.len(), 3);
        assert!(!world.store.contains_key(&key::claim(&route("new.example"))), "the claim of its route is free again");
    }
}

#[test]
fn a_new_deploy_replaces_a_failing_one() {
    let (mut world, web) = settled(2);
    world.deploy(&web, spec(Some(80)), 0, Program::Mute);
    for _ in 0..5 {
        world.tick(100);
        world.pass(usize::MAX);
    }
    world.deploy(&web, spec(Some(80)), 0, Program::Good);
    world.converge(100, 50);
    let app = world.app(&web);
    assert_eq!((app.version, app.stable, app.rollout), (3, Some(3), Rollout::Settled));
}

#[test]
fn a_manager_that_was_away_does_not_blame_the_rollout() {
    let (mut world, web) = settled(1);
    world.deploy(&web, spec(Some(80)), 0, Program::Good);
    world.pass(usize::MAX);
    world.probes.clear();
    world.now += 600_000;
    world.lead();
    assert_eq!(world.app(&web).version, 2);
    world.pass(usize::MAX);
    world.converge(25, 50);
    assert_eq!(world.app(&web).stable, Some(2));
}

#[test]
fn a_removed_app_drains_is_deleted_and_its_addresses_rest() {
    let (mut world, web) = settled(2);
    world.edit::<App>(&key::app(&web), |app| app.deleting = true);
    insta::assert_snapshot!(world.next_steps(), @r"
    Drain { replica: web-2, deadline_ms: 1030075 }: the app is being removed
    Drain { replica: web-1, deadline_ms: 1030075 }: the app is being removed
    ");
    world.converge(25, 20);
    let left: Vec<_> = world.store.keys().filter(|key| !key.contains("/p1")).cloned().collect();
    insta::assert_snapshot!(left.join(" "), @"default/gone/web leader subnets/00002");
    let other = app_id("other");
    world.deploy(&other, spec(Some(80)), 1, Program::Good);
    world.pass(usize::MAX);
    insta::assert_snapshot!(world.get::<Replica>(&key::replica(&ReplicaId::new(&other, 1))).addr, @"10.213.1.131:80");
    world.tick(60_000);
    insta::assert_snapshot!(world.next_steps().lines().filter(|l| l.starts_with("Release")).collect::<String>(), @"Release { subnet: 2 }: no proxy can still know its addresses");
}

#[test]
fn a_name_used_again_goes_on_counting() {
    let (mut world, web) = settled(2);
    world.edit::<App>(&key::app(&web), |app| app.deleting = true);
    world.converge(25, 20);
    world.deploy(&web, spec(Some(80)), 1, Program::Good);
    world.converge(25, 20);
    assert_eq!(world.listed(&web), [3]);
}

#[test]
fn an_unreadable_record_leaves_its_app_alone_whole() {
    for broken in [
        "default/apps/web",
        "default/scale/web",
        "default/versions/web/1",
        "default/replicas/web/2",
        "routes/default/web",
    ] {
        let (mut world, web) = settled(2);
        world.store.get_mut(broken).unwrap().0 = b"{".to_vec();
        let before = world.store.clone();
        world.containers.remove(&ReplicaId::new(&web, 1));
        world.tick(200_000);
        assert_eq!(world.next_steps(), "", "{broken}");
        assert!(world.desired().left_alone.contains_key(&web));
        world.pass(usize::MAX);
        assert_eq!(world.store, before, "{broken}");
    }
}

#[test]
fn an_unreadable_range_stops_the_handing_out_of_ranges() {
    let (mut world, _) = settled(2);
    world.store.get_mut(&key::subnet(2)).unwrap().0 = b"{".to_vec();
    world.deploy(&app_id("other"), spec(Some(80)), 1, Program::Good);
    world.tick(25);
    assert_eq!(world.next_steps(), "");
}

#[test]
fn surplus_containers_go_and_their_names_are_passed_over() {
    let (mut world, web) = settled(1);
    let seen = world.containers[&ReplicaId::new(&web, 1)].clone();
    world.edit::<App>(&key::app(&web), |app| app.next = 5);
    for id in [ReplicaId::new(&web, 3), ReplicaId::new(&web, 5), ReplicaId::new(&app_id("nobodys"), 1)] {
        world.containers.insert(id, seen.clone());
    }
    insta::assert_snapshot!(world.next_steps(), @r"
    Remove(nobodys-1): no record asks for it
    Remove(web-3): no record asks for it
    Remove(web-5): no record asks for it
    ");
    world.scale(&web, 2);
    insta::assert_snapshot!(world.next_steps(), @r#"
    Start { replica: web-6, version: 1, node: "here", addr: 10.213.1.8:80 }: 2 wanted
    Remove(nobodys-1): no record asks for it
    Remove(web-3): no record asks for it
    Remove(web-5): no record asks for it
    "#);
}

#[test]
fn a_removal_expects_that_there_is_still_no_record() {
    let (mut world, web) = settled(1);
    let orphan = ReplicaId::new(&web, 9);
    let mut desired = world.desired();
    let effects = desired.take(&plan::Action::Remove(orphan.clone()), "", world.now);
    let record: Replica = world.get(&key::replica(&ReplicaId::new(&web, 1)));
    world.put(&key::replica(&orphan), &record);
    assert!(!world.commit(&effects), "a newer leader has asked for it in between");
}

#[test]
fn the_name_of_a_stray_is_used_up_before_it_is_removed() {
    let (mut world, web) = settled(1);
    let (stray, nobodys) = (ReplicaId::new(&web, 9), ReplicaId::new(&app_id("old"), 4));
    let seen = world.containers[&ReplicaId::new(&web, 1)].clone();
    for id in [&stray, &nobodys] {
        world.containers.insert(id.clone(), Seen { addr: None, ..seen.clone() });
    }
    world.pass(usize::MAX);
    assert!(!world.containers.contains_key(&stray) && !world.containers.contains_key(&nobodys));
    assert_eq!(world.app(&web).next, 10);
    assert_eq!(world.get::<Gone>(&key::gone(&nobodys.app)).next, 5);
    assert_eq!(world.next_steps(), "");
}

#[test]
fn without_networks_each_app_has_blocks_of_ports() {
    let mut world = World::new(Addressing::Ports { ip: [127, 0, 0, 1].into(), first: 20_000, last: 20_199 });
    let (a, b, c) = (app_id("a"), app_id("b"), app_id("c"));
    world.deploy(&a, spec(Some(80)), 1, Program::Good);
    world.deploy(&b, spec(Some(80)), 2, Program::Good);
    world.deploy(&c, spec(None), 1, Program::Good);
    world.converge(25, 20);
    let addrs: Vec<_> = world.containers.values().map(|seen| seen.addr.unwrap().to_string()).collect();
    insta::assert_snapshot!(addrs.join(" "), @"127.0.0.1:20001 127.0.0.1:20065 127.0.0.1:20066 127.0.0.1:0");
    world.edit::<App>(&key::app(&a), |app| app.scale.max = 100);
    world.scale(&a, 100);
    world.converge(25, 20);
    assert_eq!(world.listed(&a).len(), 100, "two blocks of 64");
}

#[test]
fn a_full_network_starts_no_more_than_it_holds() {
    let (mut world, web) = settled(1);
    world.edit::<App>(&key::app(&web), |app| app.scale.max = 500);
    world.scale(&web, 500);
    world.converge(25, 20);
    assert_eq!(world.listed(&web).len(), 123);
    let lack = plan::lack_of_addresses(&world.desired(), &world.observed(), &web);
    insta::assert_snapshot!(lack.unwrap(), @"all addresses of web's network are in use");
    world.scale(&web, 100);
    assert_eq!(plan::lack_of_addresses(&world.desired(), &world.observed(), &web), None);
}

#[test]
fn a_pool_that_is_used_up_is_named() {
    let mut world = World::new(Addressing::Ports { ip: [127, 0, 0, 1].into(), first: 20_000, last: 20_127 });
    let (a, b, c) = (app_id("a"), app_id("b"), app_id("c"));
    for id in [&a, &b, &c] {
        world.deploy(id, spec(Some(80)), 1, Program::Good);
    }
    world.converge(25, 20);
    let lack = |id| plan::lack_of_addresses(&world.desired(), &world.observed(), id);
    assert_eq!((lack(&a), lack(&b)), (None, None));
    insta::assert_snapshot!(lack(&c).unwrap(), @"the pool of addresses is used up: of 2 ranges 2 belong to apps, 0 rest after removed ones, and the host routes the others elsewhere. Remove apps that are not needed, or give the manager a larger pool");
}

#[test]
fn stopping_one_replica_lowers_the_count() {
    let (mut world, web) = settled(3);
    let mut desired = world.desired();
    let effects = plan::stop_one(&mut desired, &ReplicaId::new(&web, 1), world.now).unwrap();
    assert!(world.commit(&effects));
    world.converge(25, 10);
    assert_eq!(world.listed(&web), [2, 3]);
    let again = plan::stop_one(&mut world.desired(), &ReplicaId::new(&web, 1), world.now);
    insta::assert_snapshot!(again.unwrap_err(), @"web-1 is being stopped already");
}

#[test]
fn restarting_one_replica_replaces_it_first() {
    let (mut world, web) = settled(2);
    let mut desired = world.desired();
    let effects = plan::replace_one(&mut desired, &ReplicaId::new(&web, 1)).unwrap();
    assert!(world.commit(&effects));
    for _ in 0..8 {
        world.tick(25);
        world.pass(usize::MAX);
        assert!(world.listed(&web).len() >= 2);
    }
    assert_eq!(world.listed(&web), [2, 3]);
}

#[test]
fn a_stopped_app_keeps_its_records_and_starts_again() {
    let (mut world, web) = settled(2);
    world.edit::<App>(&key::app(&web), |app| app.stopped = true);
    world.converge(25, 20);
    assert!(world.containers.is_empty());
    assert!(world.desired().apps[&web].published.as_ref().unwrap().routes.stopped);
    world.edit::<App>(&key::app(&web), |app| app.stopped = false);
    world.converge(25, 20);
    assert_eq!(world.listed(&web), [3, 4]);
}

#[test]
fn a_foreign_edit_of_the_routes_is_put_right() {
    let (mut world, web) = settled(1);
    let right = world.store[&key::routes(&web)].0.clone();
    world.edit::<sc_core::routes::AppRoutes>(&key::routes(&web), |routes| routes.traffic.queue_max = 1);
    let stray: sc_core::routes::AppRoutes = world.get(&key::routes(&web));
    world.put("routes/default/nobodys", &stray);
    world.publish();
    assert_eq!(world.store[&key::routes(&web)].0, right);
    assert!(!world.store.contains_key("routes/default/nobodys"));
}

#[test]
fn what_is_deployed_while_nothing_is_wanted_is_proved_when_something_is() {
    let (mut world, web) = settled(1);
    world.scale(&web, 0);
    world.converge(25, 20);
    world.deploy(&web, spec(Some(80)), 0, Program::Crashes);
    insta::assert_snapshot!(world.next_steps(), @"Defer(web): no replicas are wanted");
    world.converge(25, 20);
    assert_eq!(world.app(&web).stable, Some(1), "version 2 has proved nothing");
    world.scale(&web, 1);
    for _ in 0..100 {
        world.tick(100);
        world.pass(usize::MAX);
    }
    assert_eq!(world.app(&web).version, 1);
    assert_eq!(world.listed(&web).len(), 1);
}

#[test]
fn an_app_of_many_versions_and_routes_is_deleted_in_one_commit_each_step() {
    let (mut world, web) = settled(1);
    for version in 0..30 {
        let mut spec = spec(Some(80));
        spec.routes = (0..40).map(|n| route(&format!("r{n}.v{}.example", version % 2))).collect();
        world.deploy(&web, spec, 0, Program::Good);
        world.tick(25);
        world.pass(usize::MAX);
    }
    world.edit::<App>(&key::app(&web), |app| app.deleting = true);
    world.converge(25, 40); // `World::commit` refuses more than 100 operations
    assert!(
        world.store.keys().all(|key| !key.contains("web") || key == "default/gone/web"),
        "{:?}",
        world.store.keys()
    );
}

#[test]
fn the_number_of_versions_is_bounded() {
    let (mut world, web) = settled(1);
    for _ in 0..30 {
        world.deploy(&web, spec(Some(80)), 0, Program::Good);
        world.converge(25, 20);
    }
    assert_eq!(world.desired().apps[&web].versions.len(), plan::VERSIONS_MAX);
}

#[test]
fn routes_of_a_version_hold_once_one_of_it_is_ready() {
    let (mut world, web) = settled(1);
    let mut new = spec(Some(80));
    new.routes = vec![route("new.example")];
    world.deploy(&web, new, 0, Program::Good);
    world.pass(usize::MAX);
    let published = |world: &World| world.desired().apps[&web].published.clone().unwrap().routes.routes;
    assert_eq!(published(&world), [route("web.example")]);
    world.tick(25);
    world.pass(usize::MAX);
    assert_eq!(published(&world), [route("new.example")]);
}
