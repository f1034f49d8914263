//! What is missing or unknown is waited for; nothing is lost, nothing is done twice.

use std::time::Duration;

use sc_api::types::SetScale;
use sc_core::records::key;
use sc_engine::fake::{Call, Fault};
use sc_manager::commands;
use sc_store::{Store, Write};
use tokio::time::sleep;

use crate::cluster::{Cluster, always, app, deploy, eventually, replica, spec};

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_changes_nothing() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = manager.run_app("web", 3).await;
    cluster.has(&web, 3).await;
    let before = cluster.records(&web);
    cluster.engine.set_down(true);
    cluster.engine.vanish(&replica("web-1"));
    eventually("it is said", || manager.world.waiting.text().is_some()).await;
    always("nothing changes", Duration::from_secs(30), || cluster.records(&web) == before).await;
    assert_eq!(cluster.routed(&web).len(), 3);
    cluster.engine.set_down(false);
    eventually("what is really gone is replaced", || cluster.settled(&web, 3)).await;
    assert_eq!(manager.world.waiting.text(), None);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_engine_call_holds_up_only_its_replica() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let stuck = replica("web-2");
    let hangs = stuck.clone();
    cluster.engine.set_faults(Some(std::sync::Arc::new(move |call: &Call| {
        if *call == Call::Start(hangs.clone()) { Fault::Hang.into() } else { Fault::None.into() }
    })));
    let web = manager.run_app("web", 3).await;
    eventually("the others serve", || cluster.routed(&web).len() == 2).await;
    assert!(!cluster.running(&web).contains(&stuck));
    cluster.engine.set_faults(None);
    cluster.has(&web, 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_network_that_could_not_be_removed_is_tried_again() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = manager.run_app("web", 1).await;
    cluster.has(&web, 1).await;
    cluster.engine.set_faults(Some(std::sync::Arc::new(|call: &Call| {
        if matches!(call, Call::RemoveNetwork(_)) { Fault::Fail.into() } else { Fault::None.into() }
    })));
    commands::remove(&manager.world, &web).await.unwrap();
    let tries = || cluster.engine.calls().iter().filter(|(_, call)| matches!(call, Call::RemoveNetwork(_))).count();
    eventually("it was tried more than once", || cluster.desired().apps.is_empty() && tries() >= 3).await;
    assert_eq!(cluster.engine.networks().len(), 1);
    // The manager dies; the next one knows of it by the range's record.
    drop(manager);
    cluster.engine.set_faults(None);
    let _next = cluster.leader("b").await;
    eventually("it is gone at last", || cluster.engine.networks().is_empty()).await;
    eventually("and its range is free", || cluster.desired().subnets.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_waited_for() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = manager.run_app("web", 2).await;
    cluster.has(&web, 2).await;
    cluster.outage.set(true);
    let request = SetScale { count: Some(4), ..SetScale::default() };
    let refused = commands::set_scale(&manager.world, &web, &request).await.unwrap_err();
    assert_eq!((refused.status, refused.kind.as_str()), (503, "/problems/store-unavailable"));
    eventually("it is said", || manager.world.waiting.text().is_some()).await;
    eventually("it leads no more", || manager.world.fence().is_none()).await;
    cluster.engine.vanish(&replica("web-1"));
    always("nothing is done", Duration::from_secs(20), || cluster.engine.containers().len() == 1).await;
    cluster.outage.set(false);
    cluster.has(&web, 2).await;
    assert_eq!(manager.world.waiting.text(), None);
    assert!(manager.world.events.last(|event| event.kind == "store_back").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_foreign_edit_of_the_routes_is_put_right() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = manager.run_app("web", 2).await;
    cluster.has(&web, 2).await;
    let mut routes = cluster.desired().apps[&web].published.clone().unwrap().routes;
    routes.backends.clear();
    let put = |key: String, value: Vec<u8>| Write::Put { key, value, lease: None };
    let stray = sc_core::routes::AppRoutes { app: app("nobody"), ..routes.clone() };
    let writes = vec![
        put(key::routes(&web), sc_core::records::write(&routes)),
        put(key::routes(&app("nobody")), sc_core::records::write(&stray)),
    ];
    cluster.store.commit(None, Vec::new(), writes).await.unwrap();
    eventually("it is as it was", || cluster.settled(&web, 2)).await;
    eventually("the stray one is gone", || cluster.desired().stray_routes.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn events_are_kept_within_bounds_and_outlive_the_manager() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    for n in 0..2_300 {
        manager.world.events.info("test", None, format!("event {n}"));
        if n % 500 == 0 {
            sleep(Duration::from_secs(2)).await;
        }
    }
    let stored = || cluster.store.inspect().entries.keys().filter(|key| key.contains("/events/")).count();
    eventually("the last is stored", || {
        cluster.store.inspect().entries.values().any(|e| String::from_utf8_lossy(&e.value).contains("event 2299"))
    })
    .await;
    assert!(stored() <= sc_manager::events::KEPT + 60, "{}", stored());
    drop(manager);
    let next = cluster.manager("b");
    eventually("the next one knows them", || next.world.events.last(|e| e.text == "event 2299").is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn commands_at_the_same_time_are_all_kept() {
    let cluster = Cluster::new().await;
    let one = cluster.leader("a").await;
    let two = cluster.manager("b");
    let web = one.run_app("web", 1).await;
    eventually("both know it", || two.world.desired().is_some_and(|d| d.apps.contains_key(&web))).await;
    let (spec_a, spec_b) = (deploy(spec("web", "a"), 1), deploy(spec("web", "b"), 1));
    let (a, b) =
        tokio::join!(commands::deploy(&one.world, &web, &spec_a), commands::deploy(&two.world, &web, &spec_b),);
    let (a, b) = (a.unwrap().version, b.unwrap().version);
    assert_eq!([a.min(b), a.max(b)], [2, 3], "each has a version of its own");
    eventually("the later one is rolled out", || cluster.desired().apps[&web].app.stable == Some(3)).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_emptied_or_exchanged_touches_nothing() {
    let cluster = Cluster::new().await;
    let id = |value: &str| Write::Put { key: "id".to_owned(), value: value.as_bytes().to_vec(), lease: None };
    cluster.store.commit(None, Vec::new(), vec![id("mine")]).await.unwrap();
    let settings =
        sc_manager::Settings { store_id: Some("mine".to_owned()), ..sc_manager::Settings::new("a", "unused") };
    let manager = cluster.manager_set(cluster.parts(), settings);
    eventually("it leads", || manager.world.fence().is_some() && manager.world.desired().is_some()).await;
    let web = manager.run_app("web", 2).await;
    cluster.has(&web, 2).await;
    let all = cluster.store.inspect().entries.into_keys().filter(|key| !key.contains("/events/") && key != "leader");
    let gone: Vec<Write> = all.map(|key| Write::Delete { key }).collect();
    cluster.store.commit(None, Vec::new(), gone).await.unwrap();
    eventually("it is said", || manager.world.waiting.text().is_some_and(|text| text.contains("emptied"))).await;
    cluster.store.commit(None, Vec::new(), vec![id("other")]).await.unwrap();
    eventually("it is said", || manager.world.waiting.text().is_some_and(|text| text.contains("other"))).await;
    always("all run on", Duration::from_secs(20), || cluster.running(&web).len() == 2).await;
}
