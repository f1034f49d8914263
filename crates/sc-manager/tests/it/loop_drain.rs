//! A replica is stopped only when every proxy has let go of it, or at its deadline.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use sc_core::records::Intent;
use tokio::time::{Instant, sleep};

use crate::cluster::{Cluster, always, eventually, replica};

#[tokio::test(start_paused = true)]
async fn open_requests_are_waited_for() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = manager.run_app("web", 2).await;
    cluster.has(&web, 2).await;
    for name in ["web-1", "web-2"] {
        cluster.proxy.in_flight.lock().unwrap().insert(replica(name), 3);
    }
    sleep(Duration::from_secs(2)).await;
    manager.scale(&web, 1).await;
    let leaving = || cluster.records(&web).values().any(|r| matches!(r.intent, Intent::Drain { .. }));
    eventually("one leaves", leaving).await;
    always("it runs on", Duration::from_secs(6), || cluster.running(&web).len() == 2).await;
    assert_eq!(cluster.routed(&web).len(), 1, "it gets nothing new");
    cluster.proxy.in_flight.lock().unwrap().clear();
    cluster.has(&web, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_has_not_taken_the_routes_is_waited_for() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = manager.run_app("web", 2).await;
    cluster.has(&web, 2).await;
    *cluster.proxy.stuck_at.lock().unwrap() = Some(cluster.store.inspect().revision);
    sleep(Duration::from_secs(2)).await;
    manager.scale(&web, 1).await;
    always("it runs on", Duration::from_secs(6), || cluster.running(&web).len() == 2).await;
    *cluster.proxy.stuck_at.lock().unwrap() = None;
    cluster.has(&web, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_has_missed_the_routes_is_told_long_before_the_deadline() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = manager.run_app("web", 2).await;
    cluster.has(&web, 2).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(cluster.proxy.told.load(SeqCst), 0, "it has missed nothing so far");
    *cluster.proxy.stuck_at.lock().unwrap() = Some(cluster.store.inspect().revision);
    cluster.proxy.obeys.store(true, SeqCst);
    let begun = Instant::now();
    manager.scale(&web, 1).await;
    cluster.has(&web, 1).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(cluster.proxy.told.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn but_not_for_ever() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = manager.run_app("web", 2).await;
    cluster.has(&web, 2).await;
    for name in ["web-1", "web-2"] {
        cluster.proxy.in_flight.lock().unwrap().insert(replica(name), 1);
    }
    sleep(Duration::from_secs(2)).await;
    let begun = Instant::now();
    manager.scale(&web, 1).await;
    eventually("it is stopped at its deadline", || cluster.running(&web).len() == 1).await;
    let took = begun.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(14)).contains(&took), "{took:?}");
}
