//! Canaries: on trial, promoted, withdrawn, failed.

use std::time::Duration;

use sc_api::types::{Deploy, Rollback, SetCanary};
use sc_core::{AppId, records::Rollout};
use sc_engine::fake::{Behaviour, End};
use sc_manager::commands;

use crate::cluster::{Cluster, Manager, always, app, deploy, eventually, spec};

fn on_trial(mark: &str, share: &str) -> Deploy {
    Deploy { canary: Some(share.parse().unwrap()), scale: None, ..deploy(spec("web", mark), 1) }
}

/// How many replicas are routed of each version, and the share of the last in thousandths.
fn shares(cluster: &Cluster, web: &AppId) -> (usize, usize, u64) {
    let published = cluster.desired().apps[web].published.clone().unwrap();
    let sum = |new: bool| {
        let of = published.routes.backends.iter().filter(|b| (b.version > 1) == new);
        of.fold((0, 0), |(n, sum), backend| (n + 1, sum + u64::from(backend.weight)))
    };
    let ((old, rest), (new, mine)) = (sum(false), sum(true));
    (old, new, 1_000 * mine / (mine + rest))
}

async fn three(cluster: &Cluster) -> (Manager, AppId) {
    let manager = cluster.leader("a").await;
    let web = manager.run_app("web", 3).await;
    cluster.has(&web, 3).await;
    (manager, web)
}

#[tokio::test(start_paused = true)]
async fn a_version_is_tried_by_shares_and_promoted() {
    let cluster = Cluster::new().await;
    let (manager, web) = three(&cluster).await;
    let accepted = commands::deploy(&manager.world, &web, &on_trial("2", "10%")).await.unwrap();
    assert_eq!((accepted.version, accepted.changed), (2, true));
    eventually("it has its share", || shares(&cluster, &web) == (3, 1, 100)).await;
    assert!(!commands::deploy(&manager.world, &web, &on_trial("2", "10%")).await.unwrap().changed, "so already");
    commands::set_canary(&manager.world, &web, &SetCanary { share: "60%".parse().unwrap() }).await.unwrap();
    eventually("it has more", || shares(&cluster, &web) == (2, 2, 600)).await;
    // Another manager changes nothing.
    drop(manager);
    let manager = cluster.leader("b").await;
    always("the share stays", Duration::from_secs(5), || shares(&cluster, &web) == (2, 2, 600)).await;
    assert_eq!(commands::promote(&manager.world, &web).await.unwrap().version, 2);
    let done = || cluster.desired().apps[&web].app.stable == Some(2) && cluster.settled(&web, 3);
    eventually("it is out", done).await;
    assert_eq!(cluster.desired().apps[&web].app.canary, None);
    assert_eq!(commands::promote(&manager.world, &web).await.unwrap_err().kind, "/problems/no-canary");
}

#[tokio::test(start_paused = true)]
async fn a_version_is_withdrawn_by_a_rollback_or_a_deploy_of_what_runs() {
    let cluster = Cluster::new().await;
    let (manager, web) = three(&cluster).await;
    for by_deploy in [false, true] {
        commands::deploy(&manager.world, &web, &on_trial("new", "10%")).await.unwrap();
        eventually("it has its share", || shares(&cluster, &web).2 == 100).await;
        let back = match by_deploy {
            false => commands::rollback(&manager.world, &web, &Rollback::default()).await.unwrap(),
            true => commands::deploy(&manager.world, &web, &deploy(spec("web", "1"), 1)).await.unwrap(),
        };
        assert_eq!((back.version, back.changed), (1, true));
        cluster.has(&web, 3).await;
        let app = cluster.desired().apps[&web].app.clone();
        assert_eq!((app.version, app.canary), (1, None));
        eventually("it is settled", || cluster.desired().apps[&web].app.rollout == Rollout::Settled).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_version_deployed_without_a_share_is_promoted() {
    let cluster = Cluster::new().await;
    let (manager, web) = three(&cluster).await;
    commands::deploy(&manager.world, &web, &on_trial("2", "10%")).await.unwrap();
    eventually("it has its share", || shares(&cluster, &web).2 == 100).await;
    assert_eq!(commands::deploy(&manager.world, &web, &deploy(spec("web", "2"), 1)).await.unwrap().version, 2);
    eventually("it is out", || cluster.desired().apps[&web].app.stable == Some(2) && cluster.settled(&web, 3)).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_goes_back_and_says_why() {
    let cluster = Cluster::new().await;
    let (manager, web) = three(&cluster).await;
    let bad = Behaviour {
        end: End::Exit { after: Duration::from_millis(200), code: 7 },
        says: vec!["no such table: users".to_owned()],
        healthy: false,
        ..Behaviour::default()
    };
    cluster.engine.behave_version(&web, 2, bad);
    commands::deploy(&manager.world, &web, &on_trial("2", "10%")).await.unwrap();
    let back = || {
        assert_eq!(cluster.routed(&web).len(), 3, "nobody notices");
        matches!(cluster.desired().apps[&web].app.rollout, Rollout::RolledBack { failed: 2, .. })
    };
    eventually("it goes back", back).await;
    cluster.has(&web, 3).await;
    let app = cluster.desired().apps[&web].app.clone();
    let Rollout::RolledBack { cause, .. } = app.rollout else { panic!("{:?}", app.rollout) };
    assert!(cause.contains("no such table: users"), "{cause}");
    assert_eq!((app.version, app.canary, app.crash), (1, None, None));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_tried_is_refused() {
    let cluster = Cluster::new().await;
    let manager = cluster.leader("a").await;
    let web = app("web");
    // A new app has nothing to share the requests with.
    let first = Deploy { canary: Some("10%".parse().unwrap()), ..deploy(spec("web", "1"), 3) };
    commands::deploy(&manager.world, &web, &first).await.unwrap();
    cluster.has(&web, 3).await;
    assert_eq!(cluster.desired().apps[&web].app.canary, None);
    let mut other = on_trial("2", "10%");
    other.spec.traffic.protocol = sc_core::spec::Protocol::H2c;
    let refused = commands::deploy(&manager.world, &web, &other).await.unwrap_err();
    assert!(refused.status == 422 && refused.detail.contains("protocol"), "{}", refused.detail);
    commands::deploy(&manager.world, &web, &deploy(spec("web", "2"), 1)).await.unwrap();
    let refused = commands::deploy(&manager.world, &web, &on_trial("3", "10%")).await.unwrap_err();
    assert_eq!(refused.kind, "/problems/rollout-running");
    let refused = commands::set_canary(&manager.world, &web, &SetCanary { share: "5%".parse().unwrap() }).await;
    assert_eq!(refused.unwrap_err().kind, "/problems/no-canary");
}
