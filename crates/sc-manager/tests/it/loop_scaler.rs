//! Apps that scale by themselves.

use std::time::Duration;

use sc_api::types::SetScale;
use sc_core::{AppId, spec::ScaleSpec};
use sc_manager::{commands, view};
use tokio::time::sleep;

use crate::cluster::{Cluster, Manager, always, app, deploy, eventually, spec};

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
    eventually("it sleeps again", || cluster.settled(&web, 0)).await;
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
