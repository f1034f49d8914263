//! Apps that scale by themselves.

use std::time::Duration;

use sc_api::types::SetScale;
use sc_core::{
    AppId,
    observed::Run,
    routes::AppRoutes,
    scaling::ObjectiveSpec,
    spec::{ScaleSpec, Traffic},
};
use sc_manager::{commands, view};
use tokio::time::sleep;

use crate::cluster::{Cluster, Manager, Serves, always, app, deploy, eventually, replica, spec};

async fn auto_app(manager: &Manager, min: u32) -> AppId {
    let id = app("web");
    let scale = ScaleSpec {
        min,
        max: 6,
        auto: true,
        rps: Some(50.0),
        hold_down_ms: 10_000,
        idle_after_ms: (min == 0).then_some(20_000),
        ..ScaleSpec::default()
    };
    let request = sc_api::types::Deploy { scale: Some(scale), replicas: None, ..deploy(spec("web", "1"), 1) };
    commands::deploy(&manager.world, &id, &request).await.unwrap();
    id
}

#[tokio::test(start_paused = true)]
async fn the_count_follows_the_load_and_says_why() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = auto_app(&manager, 1).await;
    cluster.has(&web, 1).await;
    cluster.proxy.rps.lock().unwrap().insert(web.clone(), 190);
    eventually("it grows", || cluster.desired().apps[&web].scale.want == 4).await;
    cluster.has(&web, 4).await;
    let desired = cluster.desired();
    let why = view::why(&manager.world, &web, &desired.apps[&web], None);
    assert!(why.decision.is_some() && why.text.contains("rps"), "{why:?}");
    let scaled = manager.world.events.last(|event| event.kind == "scaled").unwrap();
    assert!(scaled.data["want"].as_u64() >= Some(2), "{scaled:?}");
    let then = view::why(&manager.world, &web, &desired.apps[&web], Some(scaled.at_ms));
    assert_eq!(then.decision.unwrap().want, scaled.data["want"]);
    cluster.proxy.rps.lock().unwrap().insert(web.clone(), 20);
    eventually("it shrinks", || cluster.desired().apps[&web].scale.want == 1).await;
}

#[tokio::test(start_paused = true)]
async fn it_wakes_for_a_request_that_waits() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = auto_app(&manager, 0).await;
    cluster.has(&web, 0).await;
    sleep(Duration::from_secs(3)).await;
    cluster.proxy.held.lock().unwrap().insert(web.clone(), 1);
    eventually("it wakes", || cluster.running(&web).len() == 1).await;
    cluster.proxy.held.lock().unwrap().clear();
    let kept = || cluster.engine.containers().values().all(|seen| matches!(seen.run, Run::Exited(_)));
    eventually("it sleeps again", || kept() && cluster.routed(&web).is_empty()).await;
    assert_eq!(cluster.engine.containers().len(), 1, "its container is kept");
    cluster.proxy.held.lock().unwrap().insert(web.clone(), 1);
    eventually("the same one serves again", || cluster.routed(&web) == [replica("web-1")]).await;
    cluster.proxy.held.lock().unwrap().clear();
    let none = SetScale { stopped: Some(0), ..SetScale::default() };
    commands::set_scale(&manager.world, &web, &none).await.unwrap();
    eventually("it sleeps, and nothing is kept", || cluster.settled(&web, 0)).await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_and_a_fixed_count_are_respected() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = auto_app(&manager, 1).await;
    cluster.has(&web, 1).await;
    let pause = SetScale { pause_ms: Some(30_000), ..SetScale::default() };
    commands::set_scale(&manager.world, &web, &pause).await.unwrap();
    cluster.proxy.rps.lock().unwrap().insert(web.clone(), 190);
    always("it holds still", Duration::from_secs(25), || cluster.desired().apps[&web].scale.want == 1).await;
    eventually("then it grows", || cluster.desired().apps[&web].scale.want == 4).await;
    manager.scale(&web, 2).await;
    cluster.has(&web, 2).await;
    always("it stays", Duration::from_secs(30), || cluster.desired().apps[&web].scale.want == 2).await;
}

#[tokio::test(start_paused = true)]
async fn no_reports_never_lower() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = auto_app(&manager, 1).await;
    cluster.proxy.rps.lock().unwrap().insert(web.clone(), 190);
    cluster.has(&web, 4).await;
    // The record goes, as when the proxy dies and its lease runs out.
    let gone = sc_store::Write::Delete { key: sc_core::records::key::proxy("p1") };
    sc_store::Store::commit(&cluster.store, None, Vec::new(), vec![gone]).await.unwrap();
    always("it stays", Duration::from_secs(120), || cluster.desired().apps[&web].scale.want == 4).await;
}

/// An app with nothing but a maximum and an objective, that has served 30 requests a second for a while.
async fn with_objective(cluster: &Cluster, manager: &Manager, max: u32, ms: u64, serves: Serves) -> AppId {
    let id = app("web");
    let objective = Some(ObjectiveSpec { ms, budget: 0.05 });
    let scale = ScaleSpec { min: 1, max, auto: true, objective, ..ScaleSpec::default() };
    let request = sc_api::types::Deploy { scale: Some(scale), replicas: None, ..deploy(spec("web", "1"), 1) };
    commands::deploy(&manager.world, &id, &request).await.unwrap();
    cluster.has(&id, 1).await;
    cluster.proxy.serves.lock().unwrap().insert(id.clone(), serves);
    cluster.proxy.rps.lock().unwrap().insert(id.clone(), 30);
    let learned = || manager.world.decision(&id).is_some_and(|decision| decision.capacity_rps.is_some());
    eventually("it learns what a replica takes", learned).await;
    id
}

fn told(manager: &Manager, kind: &str) -> Option<String> {
    manager.world.events.last(|event| event.kind == kind).map(|event| event.text.clone())
}

fn published(cluster: &Cluster, id: &AppId) -> AppRoutes {
    cluster.desired().apps[id].published.clone().unwrap().routes
}

#[tokio::test(start_paused = true)]
async fn load_beyond_the_maximum_is_told_and_shed_until_it_is_over() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    // Fifty a second each; beyond that all are late, unless no more are let in than can be answered.
    let serves: Serves = |rps, replicas, bounded| match rps <= 50 * replicas || bounded {
        true => (rps.min(50 * replicas), 0.05),
        false => (50 * replicas, 2.0),
    };
    let web = with_objective(&cluster, &manager, 2, 200, serves).await;
    let usual = Traffic::default();
    assert_eq!(published(&cluster, &web).traffic, usual, "nothing is bounded while all is well");

    cluster.proxy.rps.lock().unwrap().insert(web.clone(), 300);
    let bounded = || published(&cluster, &web).traffic.max_in_flight.is_some();
    eventually("it is bounded", bounded).await;
    cluster.has(&web, 2).await;
    let missing = told(&manager, "max_reached").unwrap();
    assert!(missing.contains("is at its max, ") && missing.contains("replicas are missing"), "{missing}");
    let traffic = published(&cluster, &web).traffic;
    // 50 requests a second, each half of 200 ms, and some are at work for longer.
    assert!((5..=12).contains(&traffic.max_in_flight.unwrap()), "{traffic:?}");
    assert!((10..=50).contains(&traffic.queue_timeout_ms), "{traffic:?}");
    assert!(told(&manager, "overload").unwrap().contains("get 503"));
    let desired = cluster.desired();
    assert!(view::why(&manager.world, &web, &desired.apps[&web], None).text.contains("get 503"));
    let revision = || cluster.desired().apps[&web].published.as_ref().unwrap().revision;
    sleep(Duration::from_secs(30)).await;
    let before = revision();
    always("the routes stay", Duration::from_secs(30), || bounded() && revision() == before).await;

    // Another manager takes over meanwhile.
    drop(manager);
    let manager = cluster.leader("b").await;
    always("it stays bounded", Duration::from_secs(20), bounded).await;
    cluster.proxy.rps.lock().unwrap().insert(web.clone(), 30);
    eventually("all is as usual", || published(&cluster, &web).traffic == usual).await;
    assert!(told(&manager, "overload").unwrap().contains("takes all requests again"));
}

#[tokio::test(start_paused = true)]
async fn an_objective_that_no_load_reaches_is_told() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let serves: Serves = |rps, _, _| (rps, 0.25);
    let id = app("web");
    let objective = Some(ObjectiveSpec { ms: 100, budget: 0.05 });
    let scale = ScaleSpec { min: 1, max: 3, auto: true, objective, ..ScaleSpec::default() };
    let request = sc_api::types::Deploy { scale: Some(scale), replicas: None, ..deploy(spec("web", "1"), 1) };
    commands::deploy(&manager.world, &id, &request).await.unwrap();
    cluster.has(&id, 1).await;
    cluster.proxy.serves.lock().unwrap().insert(id.clone(), serves);
    cluster.proxy.rps.lock().unwrap().insert(id.clone(), 4);
    eventually("it is told", || told(&manager, "unreachable").is_some()).await;
    assert!(told(&manager, "unreachable").unwrap().contains("not reached even at low load"));
}

#[tokio::test(start_paused = true)]
async fn replicas_that_do_not_help_are_told() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = with_objective(&cluster, &manager, 6, 200, |rps, _, _| (rps, 0.05)).await;
    always("nothing is told", Duration::from_secs(30), || told(&manager, "no_help").is_none()).await;
    // A database behind it becomes slow.
    cluster.proxy.serves.lock().unwrap().insert(web.clone(), |rps, _, _| (rps, 1.0));
    eventually("it is told", || told(&manager, "no_help").is_some()).await;
    assert!(told(&manager, "no_help").unwrap().contains("more replicas do not make answers faster"));
}
