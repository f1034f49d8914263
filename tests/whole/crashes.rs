//! Whatever is killed: traffic goes on, commands work again, nothing is doubled, nothing is left over.

use std::time::Duration;

use rand::RngExt;
use sc_tests::{Cloud, Load, LoadSpec, Tally, Target, cloud::StateIn, docker, etcd::AWAY, long, poll, secs};

const HOST: &str = "web.localhost";

/// Three replicas of the reference app under a steady load.
async fn loaded(cloud: &Cloud) -> Load {
    cloud.run("web", &["--host", HOST, "--replicas", "3"]).await;
    cloud.serves(HOST, "/whoami").await;
    let load = Load::start(LoadSpec::steady(cloud.http, vec![Target::host("web", HOST)]));
    load.goes_on(50).await;
    load
}

/// Twenty times SIGKILL at a random instant, every other time in the middle of a change of scale.
async fn manager_dies(mut cloud: Cloud) {
    let load = loaded(&cloud).await;
    let rounds = if long() { 100 } else { 20 };
    for round in 0..rounds {
        if round % 2 == 0 {
            let count = format!("web={}", 2 + (round / 2) % 4);
            cloud.sc(&["scale", &count, "--detach"]).await.ok();
        }
        let instant = rand::rng().random_range(0..400);
        tokio::time::sleep(Duration::from_millis(instant)).await;
        cloud.kill_manager().await;
        load.goes_on(10).await;
        cloud.resume_manager().await;
        cloud.works().await;
    }
    cloud.sc(&["scale", "web=3"]).await.ok();
    cloud.settles("web", 3).await;
    // However quick the twenty rounds were: enough requests to show something.
    load.goes_on(1000u64.saturating_sub(load.so_far().ok)).await;
    load.all_good(1000).await;
    alone(&cloud, 3).await;
}

/// Nothing but what was asked for: the daemons and so many replicas.
async fn alone(cloud: &Cloud, replicas: usize) {
    if cloud.on_docker() {
        let all = docker::containers(&cloud.name).await;
        assert_eq!(all.len(), 3 + replicas, "{all:#?}");
    } else {
        assert_eq!(cloud.really_running("web").await.len(), replicas);
    }
}

/// A replica that dies while nobody looks after it is missed later, and replaced.
async fn replica_dies_unseen(mut cloud: Cloud) {
    let load = loaded(&cloud).await;
    let before = cloud.really_running("web").await;
    cloud.kill_manager().await;
    let (victim, id) = before[0].clone();
    cloud.destroy(&id).await;
    load.goes_on(100).await;
    cloud.resume_manager().await;
    cloud.works().await;
    cloud.settles("web", 3).await;
    let after = cloud.really_running("web").await;
    assert!(after.iter().all(|(name, _)| *name != victim), "a name is never used again: {after:?}");
    for kept in &before[1..] {
        assert!(after.contains(kept), "{kept:?} was adopted and left alone: {after:?}");
    }
    only_posts_in_flight_failed(&load.stop().await);
    alone(&cloud, 3).await;
}

/// A replica that is destroyed may take with it what was already sent to it and must not be sent twice. Nothing else.
pub fn only_posts_in_flight_failed(tally: &Tally) {
    assert!(tally.failed.iter().all(|failure| failure.post), "a GET failed: {:#?}", tally.failed);
    assert!(tally.failed.len() <= 16, "more failed than can have been in flight: {:#?}", tally.failed);
}

/// The store goes away under load and comes back: nothing fails, and commands work again by themselves.
async fn etcd_dies(mut cloud: Cloud) {
    let load = loaded(&cloud).await;
    cloud.kill_etcd().await;
    tokio::time::sleep(AWAY).await;
    load.goes_on(100).await;
    let refused = cloud.sc(&["scale", "web=5"]).await;
    assert_ne!(refused.code, 0, "nobody could have stored it: {refused:?}");
    refused.says(&["etcd"]);
    cloud.resume_etcd().await;
    let scaled = async || (cloud.sc(&["scale", "web=4"]).await.code == 0).then_some(());
    poll(secs(90), "a command to be taken once etcd is back", scaled).await;
    cloud.settles("web", 4).await;
    load.all_good(500).await;
}

/// With manager and etcd dead, the proxy is killed and started again: it serves from its last table. Only what was sent
/// before it listened again may fail.
async fn proxy_alone(mut cloud: Cloud) {
    let load = loaded(&cloud).await;
    cloud.kill_manager().await;
    cloud.kill_etcd().await;
    load.goes_on(100).await;
    load.all_good(100).await;

    cloud.kill_proxy().await;
    let blind = Load::start(LoadSpec::steady(cloud.http, vec![Target::host("web", HOST)]));
    poll(secs(20), "requests to fail", async || (!blind.so_far().failed.is_empty()).then_some(())).await;
    cloud.resume_proxy().await;
    let load = Load::start(LoadSpec::steady(cloud.http, vec![Target::host("web", HOST)]));
    load.goes_on(300).await;
    let blind = blind.stop().await;
    assert!(blind.ok > 0, "the load that met the gap is served again: {blind:#?}");
    load.all_good(300).await;

    cloud.resume_etcd().await;
    cloud.resume_manager().await;
    cloud.works().await;
    cloud.sc(&["scale", "web=2"]).await.ok();
    cloud.settles("web", 2).await;
}

/// A replica is removed by hand under load.
async fn replica_is_destroyed(cloud: Cloud) {
    let load = loaded(&cloud).await;
    for _ in 0..3 {
        let running = cloud.really_running("web").await;
        cloud.destroy(&running[0].1).await;
        let replaced = async || (!cloud.really_running("web").await.contains(&running[0])).then_some(());
        poll(secs(30), "the replica to be gone", replaced).await;
        cloud.settles("web", 3).await;
        load.goes_on(50).await;
    }
    let tally = load.stop().await;
    assert!(tally.failed.iter().all(|failure| failure.post), "a GET failed: {:#?}", tally.failed);
    assert!(tally.failed.len() <= 48, "more failed than can have been in flight: {:#?}", tally.failed);
}

macro_rules! on_every_engine {
    ($($scenario:ident: $docker:ident, $process:ident, $state:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $docker() {
            $scenario(Cloud::docker().await).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $process() {
            $scenario(Cloud::process($state).await).await;
        }
    )*};
}

on_every_engine! {
    manager_dies: manager_dies_on_docker, manager_dies_on_processes, StateIn::Embedded;
    replica_dies_unseen: replica_dies_unseen_on_docker, replica_dies_unseen_on_processes, StateIn::Embedded;
    etcd_dies: etcd_dies_on_docker, etcd_dies_on_processes, StateIn::Etcd;
    proxy_alone: proxy_alone_on_docker, proxy_alone_on_processes, StateIn::Etcd;
    replica_is_destroyed: replica_is_destroyed_on_docker, replica_is_destroyed_on_processes, StateIn::Embedded;
}

/// Docker's restart policy brings the daemons back with nobody's help.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn daemons_come_back_by_themselves_on_docker() {
    let cloud = Cloud::docker().await;
    let load = loaded(&cloud).await;
    for part in ["manager", "etcd"] {
        docker::crash(&format!("{}-{part}", cloud.name)).await;
        load.goes_on(20).await;
        cloud.works().await;
    }
    // Reads are answered from the manager's copy; a command needs etcd back.
    let scaled = async || (cloud.sc(&["scale", "web=2"]).await.code == 0).then_some(());
    poll(secs(60), "a command to be taken again", scaled).await;
    cloud.settles("web", 2).await;
    load.all_good(100).await;
}

/// One of three members of etcd is killed: nothing is noticed, by requests or by commands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_etcds_dies_on_docker() {
    let cloud = Cloud::docker_with(&["--etcd", "3"]).await;
    let load = loaded(&cloud).await;
    for (round, member) in ["etcd", "etcd-2"].into_iter().enumerate() {
        let name = format!("{}-{member}", cloud.name);
        docker::docker(&["kill", &name]).await.ok();
        let count = 2 + round;
        cloud.sc(&["scale", &format!("web={count}")]).await.ok();
        cloud.settles("web", count).await;
        docker::docker(&["start", &name]).await.ok();
        let endpoint = endpoint(&name).await;
        let health = ["exec", &name, "etcdctl", "--endpoints", &endpoint, "endpoint", "health"];
        let healthy = async || (docker::docker(&health).await.code == 0).then_some(());
        poll(secs(60), "the member to be back", healthy).await;
    }
    load.all_good(200).await;
}

/// Where a member listens, by its own arguments.
async fn endpoint(name: &str) -> String {
    let out = docker::docker(&["inspect", "-f", "{{join .Args \" \"}}", name]).await.ok();
    let url = out.stdout.split_whitespace().find_map(|word| word.strip_prefix("--listen-client-urls="));
    url.expect("the member's client URL").to_owned()
}
