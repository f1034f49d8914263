//! The warm pool: what scale-in takes away sleeps, and is woken before anything is started.

use std::{sync::Arc, time::Duration};

use sc_api::types::SetScale;
use sc_core::{AppId, observed::Run, spec::ScaleSpec, warm::WarmSpec};
use sc_engine::fake::{Call, Fate, Fault};
use sc_manager::{commands, view};
use tokio::time::Instant;

use crate::cluster::{Cluster, Manager, always, deploy, eventually, replica};

async fn warm(manager: &Manager, web: &AppId, size: u32) {
    let request = SetScale { warm: Some(size), ..SetScale::default() };
    commands::set_scale(&manager.world, web, &request).await.unwrap();
}

/// Whether these are frozen, and no others.
fn frozen(cluster: &Cluster, names: &[&str]) -> bool {
    let all = cluster.engine.containers();
    let frozen = all.into_iter().filter(|(_, seen)| seen.run == Run::Paused).map(|(id, _)| id.to_string());
    frozen.collect::<Vec<_>>() == names
}

#[tokio::test(start_paused = true)]
async fn replicas_sleep_and_are_back_within_moments_under_their_names() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = manager.run_app("web", 3).await;
    warm(&manager, &web, 2).await;
    cluster.has(&web, 3).await;
    let before = cluster.engine.containers();
    manager.scale(&web, 1).await;
    eventually("two sleep", || frozen(&cluster, &["web-2", "web-3"])).await;
    assert_eq!(cluster.routed(&web), [replica("web-1")]);
    let event = manager.world.events.last(|event| event.kind == "paused").unwrap();
    assert_eq!(event.text, "web-3 is paused: 1 wanted; it is idle");
    let counted = r#"sc_replicas{app="web",state="paused"} 2"#;
    eventually("they are counted", || manager.world.metrics.text().contains(counted)).await;
    let converged = || {
        let desired = cluster.desired();
        view::app_view(&manager.world, &desired, &web, &desired.apps[&web]).unwrap().converged
    };
    eventually("that is as wanted", converged).await;
    always("they sleep on", Duration::from_secs(30), || frozen(&cluster, &["web-2", "web-3"])).await;

    let begun = Instant::now();
    manager.scale(&web, 3).await;
    eventually("all serve", || cluster.settled(&web, 3)).await;
    // The time is the paused clock's. The fake takes 320 ms for a start.
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(100), "{took:?}");
    assert_eq!(cluster.engine.containers().keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert!(manager.world.events.last(|event| event.kind == "woken").is_some());
}

/// Whether these are kept and stopped, and no others.
fn parked(cluster: &Cluster, names: &[&str]) -> bool {
    let all = cluster.engine.containers();
    let parked = all.into_iter().filter(|(_, seen)| matches!(seen.run, Run::Exited(_))).map(|(id, _)| id.to_string());
    parked.collect::<Vec<_>>() == names
}

#[tokio::test(start_paused = true)]
async fn one_that_slept_for_its_time_is_stopped_and_kept_and_started_again_before_a_new_one_is_made() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = crate::cluster::app("web");
    let mut scale = ScaleSpec { min: 1, max: 4, ..ScaleSpec::default() };
    scale.warm = WarmSpec { size: 1, for_ms: 10_000, memory: None, stopped: Some(1), stop_for_ms: 60_000 };
    let request =
        sc_api::types::Deploy { scale: Some(scale), replicas: Some(3), ..deploy(crate::cluster::spec("web", "1"), 1) };
    commands::deploy(&manager.world, &web, &request).await.unwrap();
    cluster.has(&web, 3).await;
    manager.scale(&web, 1).await;
    eventually("one sleeps, one is parked", || frozen(&cluster, &["web-2"]) && parked(&cluster, &["web-3"])).await;
    assert_eq!(
        manager.world.events.last(|event| event.kind == "parked").unwrap().text,
        "web-3 is stopped and kept: 1 wanted; it is idle"
    );
    let counted = r#"sc_replicas{app="web",state="stopped"} 1"#;
    eventually("it is counted", || manager.world.metrics.text().contains(counted)).await;
    manager.scale(&web, 4).await;
    eventually("all serve", || cluster.settled(&web, 4)).await;
    let names: Vec<String> = cluster.engine.containers().keys().map(ToString::to_string).collect();
    assert_eq!(names, ["web-1", "web-2", "web-3", "web-4"]);
    let event = manager.world.events.last(|event| event.kind == "revived").unwrap();
    assert_eq!(event.text, "web-3 is started again: 4 wanted");
    assert!(manager.world.events.last(|event| event.kind == "crashed").is_none());

    // Nobody needs them: paused, parked, gone. Another manager takes over in between.
    manager.scale(&web, 3).await;
    eventually("one sleeps", || cluster.engine.containers().values().any(|seen| seen.run == Run::Paused)).await;
    drop(manager);
    let manager = cluster.leader("b").await;
    let stopped = || cluster.engine.containers().values().any(|seen| matches!(seen.run, Run::Exited(_)));
    eventually("it is parked", stopped).await;
    always("it is kept", Duration::from_secs(30), stopped).await;
    cluster.has(&web, 3).await;
    drop(manager);
}

#[tokio::test(start_paused = true)]
async fn a_parked_one_that_the_engine_does_not_start_is_replaced() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = manager.run_app("web", 2).await;
    let request = SetScale { stopped: Some(1), ..SetScale::default() };
    commands::set_scale(&manager.world, &web, &request).await.unwrap();
    cluster.has(&web, 2).await;
    manager.scale(&web, 1).await;
    eventually("one is parked", || parked(&cluster, &["web-2"])).await;
    let faults = |call: &Call| match call {
        Call::Revive(_) => Fault::Fail.into(),
        _ => Fate::default(),
    };
    cluster.engine.set_faults(Some(Arc::new(faults)));
    manager.scale(&web, 2).await;
    eventually("a new one serves", || cluster.routed(&web) == [replica("web-1"), replica("web-3")]).await;
    cluster.has(&web, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_one_does_not_sleep_before_it_is_done() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = manager.run_app("web", 2).await;
    warm(&manager, &web, 2).await;
    cluster.has(&web, 2).await;
    cluster.proxy.in_flight.lock().unwrap().insert(replica("web-2"), 1);
    // The proxy says so in its next frame.
    always("both serve", Duration::from_secs(2), || cluster.settled(&web, 2)).await;
    manager.scale(&web, 1).await;
    always("it works", Duration::from_secs(8), || frozen(&cluster, &[])).await;
    cluster.proxy.in_flight.lock().unwrap().clear();
    eventually("it sleeps", || frozen(&cluster, &["web-2"])).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_one_sleeps_and_the_first_request_wakes_it_at_once() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = crate::cluster::app("web");
    let mut scale = ScaleSpec { min: 0, max: 3, auto: true, idle_after_ms: Some(5_000), ..ScaleSpec::default() };
    scale.warm.size = 1;
    let request =
        sc_api::types::Deploy { scale: Some(scale), replicas: Some(1), ..deploy(crate::cluster::spec("web", "1"), 1) };
    commands::deploy(&manager.world, &web, &request).await.unwrap();
    cluster.has(&web, 1).await;
    eventually("it sleeps", || frozen(&cluster, &["web-1"]) && cluster.routed(&web).is_empty()).await;

    cluster.proxy.held.lock().unwrap().insert(web.clone(), 1);
    let wanted = || cluster.desired().apps[&web].scale.want == 1;
    eventually("it is wanted", wanted).await;
    let begun = Instant::now();
    eventually("it serves", || cluster.routed(&web) == [replica("web-1")]).await;
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    cluster.proxy.held.lock().unwrap().clear();
    eventually("it sleeps again", || frozen(&cluster, &["web-1"])).await;
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_takes_over_wakes_what_another_put_to_sleep() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = manager.run_app("web", 2).await;
    warm(&manager, &web, 1).await;
    cluster.has(&web, 2).await;
    manager.scale(&web, 1).await;
    eventually("one sleeps", || frozen(&cluster, &["web-2"])).await;
    drop(manager);
    let manager = cluster.leader("b").await;
    always("it sleeps on", Duration::from_secs(5), || frozen(&cluster, &["web-2"])).await;
    manager.scale(&web, 2).await;
    cluster.has(&web, 2).await;
    warm(&manager, &web, 0).await;
    manager.scale(&web, 1).await;
    cluster.has(&web, 1).await;
}
