//! Deploys roll, go back when they must, and never touch the count.

use std::time::Duration;

use sc_core::{plan::Desired, records::Rollout};
use sc_engine::fake::{Behaviour, End};
use sc_manager::commands;

use crate::cluster::{Cluster, deploy, eventually, spec};

fn versions(desired: &Desired) -> Vec<u64> {
    desired.apps.values().flat_map(|app| app.replicas.values().map(|r| r.version)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_deploy_rolls_and_keeps_the_count() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = manager.run_app("web", 2).await;
    cluster.has(&web, 2).await;
    manager.scale(&web, 4).await;
    cluster.has(&web, 4).await;
    let request = sc_api::types::Deploy { scale: None, ..deploy(spec("web", "2"), 1) };
    let accepted = commands::deploy(&manager.world, &web, &request).await.unwrap();
    assert_eq!((accepted.version, accepted.changed), (2, true));
    let done = || {
        let routed = cluster.routed(&web).len();
        assert!((4..=5).contains(&routed), "never fewer than wanted, never more than one above: {routed}");
        cluster.desired().apps[&web].app.stable == Some(2) && cluster.settled(&web, 4)
    };
    eventually("version 2 is out", done).await;
    assert_eq!(versions(&cluster.desired()), [2; 4]);
    assert_eq!(cluster.desired().apps[&web].app.rollout, Rollout::Settled);
    let again = commands::deploy(&manager.world, &web, &request).await.unwrap();
    assert_eq!((again.version, again.changed), (2, false), "the same again is nothing new");
}

#[tokio::test(start_paused = true)]
async fn a_bad_deploy_goes_back_and_says_why() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = manager.run_app("web", 3).await;
    cluster.has(&web, 3).await;
    let bad = Behaviour {
        end: End::Exit { after: Duration::from_millis(200), code: 7 },
        says: vec!["no such table: users".to_owned()],
        healthy: false,
        ..Behaviour::default()
    };
    cluster.engine.behave_version(&web, 2, bad);
    commands::deploy(&manager.world, &web, &deploy(spec("web", "2"), 1)).await.unwrap();
    let back = || {
        assert!(cluster.routed(&web).len() >= 3, "the old version serves on");
        matches!(cluster.desired().apps[&web].app.rollout, Rollout::RolledBack { failed: 2, .. })
    };
    eventually("it goes back", back).await;
    cluster.has(&web, 3).await;
    let app = cluster.desired().apps[&web].app.clone();
    assert_eq!((app.version, app.stable), (1, Some(1)));
    let Rollout::RolledBack { cause, .. } = app.rollout else { panic!("{:?}", app.rollout) };
    assert!(cause.contains("no such table: users"), "{cause}");
    assert_eq!(versions(&cluster.desired()), [1; 3]);
}

#[tokio::test(start_paused = true)]
async fn rolling_back_by_hand() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = manager.run_app("web", 2).await;
    cluster.has(&web, 2).await;
    commands::deploy(&manager.world, &web, &deploy(spec("web", "2"), 1)).await.unwrap();
    eventually("version 2 is out", || cluster.desired().apps[&web].app.stable == Some(2)).await;
    let back = commands::rollback(&manager.world, &web, &Default::default()).await.unwrap();
    assert_eq!(back.version, 1);
    eventually("version 1 is back", || cluster.desired().apps[&web].app.stable == Some(1) && cluster.settled(&web, 2))
        .await;
    let missing = sc_api::types::Rollback { version: Some(9) };
    assert_eq!(commands::rollback(&manager.world, &web, &missing).await.unwrap_err().status, 404);
}

/// Nobody wants to go back to what never served.
#[tokio::test(start_paused = true)]
async fn a_rollback_passes_over_versions_that_failed() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = manager.run_app("web", 2).await;
    cluster.has(&web, 2).await;
    let bad = || Behaviour {
        end: End::Exit { after: Duration::from_millis(200), code: 7 },
        healthy: false,
        ..Behaviour::default()
    };
    for version in [2, 3] {
        cluster.engine.behave_version(&web, version, bad());
        commands::deploy(&manager.world, &web, &deploy(spec("web", &version.to_string()), 1)).await.unwrap();
        let back = || matches!(cluster.desired().apps[&web].app.rollout, Rollout::RolledBack { failed, .. } if failed == version);
        eventually("it goes back", back).await;
    }
    commands::deploy(&manager.world, &web, &deploy(spec("web", "4"), 1)).await.unwrap();
    let out = |version| cluster.desired().apps[&web].app.stable == Some(version);
    eventually("version 4 is out", || out(4)).await;
    let marks = || {
        let views = sc_manager::view::versions(&cluster.desired().apps[&web]);
        views.iter().map(|view| format!("{} {}", view.version, view.mark)).collect::<Vec<_>>()
    };
    assert_eq!(marks(), ["1 ", "2 failed", "3 failed", "4 wanted"]);
    let accepted = commands::rollback(&manager.world, &web, &Default::default()).await.unwrap();
    assert_eq!(accepted.version, 1);
    eventually("version 1 is back", || out(1)).await;
    assert_eq!(marks(), ["1 wanted", "2 failed", "3 failed", "4 "]);
    // One that is named is tried, and if it serves now it is one like the others.
    let none = commands::rollback(&manager.world, &web, &Default::default()).await.unwrap_err();
    assert!(none.detail.contains("that did not fail"), "{none:?}");
    cluster.engine.behave_version(&web, 3, Behaviour::default());
    commands::rollback(&manager.world, &web, &sc_api::types::Rollback { version: Some(3) }).await.unwrap();
    eventually("version 3 is out", || out(3)).await;
    assert_eq!(marks()[1..3], ["2 failed", "3 wanted"]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_replaces_all() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = manager.run_app("web", 3).await;
    cluster.has(&web, 3).await;
    let before = cluster.running(&web);
    commands::restart(&manager.world, &web).await.unwrap();
    let replaced = || cluster.settled(&web, 3) && cluster.running(&web).iter().all(|id| !before.contains(id));
    eventually("all are new", replaced).await;
}
