//! The count changes under load, by hand and by itself, and no request notices.

use sc_tests::{Cloud, Load, LoadSpec, Target, cloud::StateIn, poll, secs};

const HOST: &str = "web.localhost";

/// 2 → 8 → 2 under load.
async fn up_and_down(cloud: Cloud) {
    cloud.run("web", &["--host", HOST, "--replicas", "2"]).await;
    cloud.settles("web", 2).await;
    let load = Load::start(LoadSpec::steady(cloud.http, vec![Target::host("web", HOST)]));
    load.goes_on(50).await;
    cloud.sc(&["scale", "web=8"]).await.ok();
    cloud.settles("web", 8).await;
    let busy = async || (load.so_far().by_replica.len() >= 8).then_some(());
    poll(secs(30), "all eight replicas to answer", busy).await;
    cloud.sc(&["scale", "web=2"]).await.ok();
    cloud.settles("web", 2).await;
    load.goes_on(500).await;
    load.all_good(500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scale_up_and_down_on_docker() {
    up_and_down(Cloud::docker().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scale_up_and_down_on_processes() {
    up_and_down(Cloud::process(StateIn::Embedded).await).await;
}

/// What would happen is said, and nothing happens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_says_what_would_be_and_changes_nothing() {
    let cloud = Cloud::process(StateIn::Embedded).await;
    cloud.run("web", &["--host", HOST, "--replicas", "1"]).await;
    cloud.settles("web", 1).await;
    let state = async || {
        let view = cloud.app("web").await;
        let events = cloud.sc(&["events", "-o", "json"]).await.ok().stdout;
        (view.want, view.scale, view.version, cloud.really_running("web").await, events)
    };
    let before = state().await;
    for (args, words) in [
        (&["web=3"][..], "web: 1 → 3 replicas"),
        (&["web", "--auto", "--min", "2", "--max", "5"], "web: 1 → 2 replicas, sc chooses from 2 to 5"),
        (&["web", "--max", "5"], "web: 1 → 1 replicas, sc chooses from"),
        (&["web", "--pause", "1h"], "web: 1 → 1 replicas, held for 1h"),
        (&["web=1"], "web: nothing would change (1 replicas)"),
    ] {
        let args = [&["scale"], args, &["--dry-run"]].concat();
        cloud.sc(&args).await.ok().says(&[words]);
    }
    for refused in [&["web=100000"][..], &["web", "--min", "5", "--max", "2"], &["web=3", "--max", "2"]] {
        let args = [&["scale"], refused, &["--dry-run"]].concat();
        assert_ne!(cloud.sc(&args).await.code, 0, "{args:?}");
    }
    assert_eq!(state().await, before);
}

/// Beyond the bounds: refused with what would be possible.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scale_beyond_the_cap_is_refused() {
    let cloud = Cloud::process(StateIn::Embedded).await;
    cloud.run("web", &["--host", HOST, "--replicas", "1"]).await;
    let out = cloud.sc(&["scale", "web=100000"]).await;
    assert_ne!(out.code, 0, "{out:?}");
    out.says(&["100"]);
    assert_ne!(cloud.sc(&["scale", "web", "--min", "5", "--max", "2"]).await.code, 0);
    cloud.settles("web", 1).await;
}

/// With only a maximum given, load raises the count and rest lowers it; `sc why` has the numbers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_raises_the_count_by_itself() {
    let cloud = Cloud::process(StateIn::Embedded).await;
    cloud.run("web", &["--host", HOST, "--min", "1", "--max", "4", "--", "--slots", "2", "--wait", "50"]).await;
    cloud.serves(HOST, "/whoami").await;
    let load = Load::start(LoadSpec::steady(cloud.http, vec![Target::host("web", HOST)]).rate(100));
    let grown = async || (cloud.app("web").await.ready >= 2).then_some(());
    poll(secs(60), "the scaler to add a replica", grown).await;
    cloud.sc(&["why", "web"]).await.ok().says(&["web"]);
    // Decided again from its recorded inputs.
    cloud.sc(&["why", "web", "--replay"]).await.ok().says(&["byte for byte"]);
    load.all_good(50).await;
}
