//! Counts go up and down; what dies is replaced; what nobody asked for goes.

use std::time::Duration;

use sc_core::observed::Run;
use sc_engine::fake::{Behaviour, Call, End};
use sc_manager::commands;

use crate::cluster::{Cluster, always, app, eventually, replica};

#[tokio::test(start_paused = true)]
async fn runs_scales_up_and_down_and_removes() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = manager.run_app("web", 2).await;
    cluster.has(&web, 2).await;
    manager.scale(&web, 5).await;
    cluster.has(&web, 5).await;
    manager.scale(&web, 1).await;
    cluster.has(&web, 1).await;
    commands::stop(&manager.world, &web).await.unwrap();
    cluster.has(&web, 0).await;
    commands::start(&manager.world, &web).await.unwrap();
    cluster.has(&web, 1).await;
    commands::remove(&manager.world, &web).await.unwrap();
    eventually("it is gone", || cluster.desired().apps.is_empty() && cluster.engine.containers().is_empty()).await;
    eventually("its network too", || cluster.engine.networks().is_empty()).await;
    assert!(cluster.desired().claims.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_new_replica_serves_within_moments_of_its_start() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = app("web");
    let begun = tokio::time::Instant::now();
    manager.run_app("web", 1).await;
    cluster.has(&web, 1).await;
    // The fake takes 320 ms from the call to the first answer. The time is the paused clock's: no machine is too slow.
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(420), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_crashed_one_is_replaced() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = manager.run_app("web", 2).await;
    cluster.has(&web, 2).await;
    assert!(cluster.engine.crash(&replica("web-1"), 1));
    eventually("web-1 leaves", || !cluster.routed(&web).contains(&replica("web-1"))).await;
    cluster.has(&web, 2).await;
    assert!(!cluster.running(&web).contains(&replica("web-1")), "its name is not used again");
}

#[tokio::test(start_paused = true)]
async fn a_vanished_one_is_replaced_and_a_stray_one_removed() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = manager.run_app("web", 2).await;
    cluster.has(&web, 2).await;
    let stray = cluster.engine.spec(&replica("web-2")).unwrap();
    assert!(cluster.engine.vanish(&replica("web-2")));
    eventually("web-2 is replaced", || cluster.settled(&web, 2)).await;
    cluster.engine.appear(&stray);
    eventually("the stray one is gone", || !cluster.engine.containers().contains_key(&stray.replica)).await;
    assert!(cluster.settled(&web, 2), "and nothing else happened");
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_backs_off() {
    let cluster = Cluster::new().await;
    let web = app("web");
    let end = End::Exit { after: Duration::from_millis(100), code: 3 };
    let says = vec!["cannot open the database".to_owned()];
    cluster.engine.behave_app(&web, Behaviour { end, says, healthy: false, ..Behaviour::default() });
    let manager = cluster.leader("a").await;
    manager.run_app("web", 1).await;
    // When each one was started, in milliseconds.
    let starts = || -> Vec<u64> {
        let calls = cluster.engine.calls();
        calls.iter().filter(|(_, call)| matches!(call, Call::Start(_))).map(|(at_ms, _)| *at_ms).collect()
    };
    eventually("it was started eight times", || starts().len() >= 8).await;
    assert!(cluster.desired().apps[&web].app.crash.as_ref().is_some_and(|crash| crash.count >= 7));
    let pauses_ms: Vec<u64> = starts().windows(2).map(|two| two[1] - two[0]).collect();
    assert!(pauses_ms.windows(2).all(|two| two[1] > two[0]), "each pause is longer: {pauses_ms:?}");
    assert!(pauses_ms[6] >= 8 * pauses_ms[0], "it grows as a power does: {pauses_ms:?}");
    let told = manager.world.events.last(|event| event.kind == "failed").unwrap();
    assert!(told.data.to_string().contains("cannot open the database"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_start_says_why() {
    let cluster = Cluster::new().await;
    let web = app("web");
    let end = End::Refused("there is no image web:1".to_owned());
    cluster.engine.behave_app(&web, Behaviour { end, ..Behaviour::default() });
    let manager = cluster.leader("a").await;
    manager.run_app("web", 1).await;
    eventually("it is told", || manager.world.events.last(|event| event.text.contains("no image web:1")).is_some())
        .await;
    eventually("it counts as a crash", || cluster.desired().apps[&web].app.crash.is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn stopping_one_lowers_the_count_restarting_one_does_not() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = manager.run_app("web", 3).await;
    cluster.has(&web, 3).await;
    commands::stop_replica(&manager.world, &replica("web-2")).await.unwrap();
    cluster.has(&web, 2).await;
    assert!(!cluster.running(&web).contains(&replica("web-2")));
    assert_eq!(cluster.desired().apps[&web].scale.want, 2);
    commands::restart_replica(&manager.world, &replica("web-1")).await.unwrap();
    eventually("web-1 is replaced", || cluster.settled(&web, 2) && !cluster.running(&web).contains(&replica("web-1")))
        .await;
}

#[tokio::test(start_paused = true)]
async fn one_restarted_behind_our_back_is_probed_anew() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = manager.run_app("web", 2).await;
    cluster.has(&web, 2).await;
    cluster.engine.set_healthy(&replica("web-1"), false);
    assert!(cluster.engine.restart(&replica("web-1")));
    eventually("it leaves the routes", || cluster.routed(&web) == [replica("web-2")]).await;
    cluster.engine.set_healthy(&replica("web-1"), true);
    cluster.has(&web, 2).await;
}

#[tokio::test(start_paused = true)]
async fn apps_do_not_disturb_each_other() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let slow = Behaviour { stop_delay: Duration::from_secs(60), ..Behaviour::default() };
    cluster.engine.behave_app(&app("slow"), slow);
    let one = manager.run_app("slow", 3).await;
    cluster.has(&one, 3).await;
    let drained =
        || cluster.records(&one).values().filter(|r| matches!(r.intent, sc_core::records::Intent::Stop { .. })).count();
    manager.scale(&one, 0).await;
    eventually("they are being stopped", || drained() == 3).await;
    let two = manager.run_app("quick", 2).await;
    eventually("the other app runs meanwhile", || cluster.settled(&two, 2)).await;
    let seen = cluster.engine.containers();
    assert!(seen.iter().any(|(id, s)| id.app == one && matches!(s.run, Run::Running { .. })), "a slow stop held it up");
    cluster.has(&one, 0).await;
    always("and stays", Duration::from_secs(5), || cluster.settled(&two, 2)).await;
}
