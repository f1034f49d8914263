//! `sc up`, `sc down` and `sc demo`.

use sc_tests::{
    Cloud,
    docker::{containers, docker},
    program,
    programs::{path_with_only, run},
    secs,
};
use tokio::process::Command;

/// Up twice is up once; down keeps the state, and --purge forgets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_and_down_on_docker() {
    let cloud = Cloud::docker().await;
    let before = containers(&cloud.name).await;
    assert_eq!(before.len(), 3, "{before:#?}");
    cloud.up().await.ok();
    assert_eq!(containers(&cloud.name).await, before, "the second time changes nothing");

    cloud.run("web", &["--host", "web.localhost", "--replicas", "2"]).await;
    cloud.sc(&["down", "--instance", &cloud.name]).await.ok();
    let left = containers(&cloud.name).await;
    assert!(left.iter().all(|c| c.state != "running"), "{left:#?}");

    cloud.up().await.ok();
    cloud.works().await;
    cloud.settles("web", 2).await;
    cloud.serves("web.localhost", "/whoami").await;

    cloud.sc(&["down", "--instance", &cloud.name, "--purge"]).await.ok();
    assert_eq!(containers(&cloud.name).await, []);
    let label = format!("label=sc.instance={}", cloud.name);
    for kind in ["network", "volume"] {
        let left = docker(&[kind, "ls", "-q", "--filter", &label]).await.ok();
        assert_eq!(left.stdout, "", "{kind}s are left");
    }
}

/// The demo with nothing around it: no Docker, no protoc, no etcd, an own home.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn demo_needs_nothing() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let path = path_with_only(home.path(), &["sh", "env"]);
    let mut demo = Command::new(program("sc"));
    demo.args(["demo", "--for", "15s", "-o", "json"]).env_clear().env("PATH", path).env("HOME", home.path());
    demo.env("XDG_RUNTIME_DIR", home.path()).current_dir(home.path());
    let out = run(&mut demo, secs(90)).await.ok();
    let summary = out.json();
    for number in ["requests", "failed", "p50_ms", "p99_ms", "max_replicas", "final_replicas", "decisions"] {
        assert!(summary.get(number).is_some(), "{number} is missing in {summary}");
    }
    assert_eq!(summary["failed"], 0, "{summary}");
    assert!(summary["requests"].as_u64().is_some_and(|n| n > 100), "{summary}");
    assert!(summary["max_replicas"].as_u64().is_some_and(|n| n > 1), "{summary}");
}
