//! The warm pool: what scale-in takes away sleeps, and is woken before anything is started.

use std::time::Duration;

use sc_api::types::SetScale;
use sc_core::{AppId, observed::Run, spec::ScaleSpec};
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
