//! New versions: rolled out under load, gone back from when they are bad, kept for a return.

use sc_tests::{Cloud, Load, LoadSpec, Target, cloud::StateIn, poll, secs};
use serde_json::Value;

const HOST: &str = "web.localhost";

async fn loaded(cloud: &Cloud) -> Load {
    cloud.run("web", &["--host", HOST, "--replicas", "3", "--env", "GREETING=one"]).await;
    cloud.settles("web", 3).await;
    let load = Load::start(LoadSpec::steady(cloud.http, vec![Target::host("web", HOST)]));
    load.goes_on(50).await;
    load
}

async fn wanted_version(cloud: &Cloud) -> u64 {
    cloud.app("web").await.version
}

/// A new version under load: every replica is replaced, no request fails, the count stays.
async fn rolls(cloud: Cloud) {
    let load = loaded(&cloud).await;
    cloud.sc(&["scale", "web=4"]).await.ok();
    let first = wanted_version(&cloud).await;
    cloud.run("web", &["--host", HOST, "--env", "GREETING=two"]).await;
    cloud.settles("web", 4).await;
    let second = wanted_version(&cloud).await;
    assert!(second > first, "a changed spec is a new version");
    let replicas = cloud.replicas("web").await;
    assert!(replicas.iter().all(|r| r.version == second), "{replicas:#?}");

    // Back again, with history.
    cloud.sc(&["rollback", "web"]).await.ok();
    cloud.settles("web", 4).await;
    let history: Value = cloud.sc(&["history", "web", "-o", "json"]).await.ok().json();
    assert!(history.as_array().is_some_and(|versions| versions.len() >= 2), "{history}");
    load.goes_on(300).await;
    load.all_good(300).await;
}

/// A version that cannot become healthy: the old one serves on, exit 3, the cause and the last log lines are shown.
async fn goes_back(cloud: Cloud) {
    let load = loaded(&cloud).await;
    let before = cloud.really_running("web").await;
    let matrix = cloud.matrix();
    let mut args = vec!["run", "web"];
    args.extend(matrix.iter().map(String::as_str));
    args.extend(["--host", HOST, "--", "--no-such-flag"]);
    let words: &[&str] = if cloud.on_docker() { &["sc-matrix"] } else { &[] };
    let (flags, last) = args.split_at(args.len() - 1);
    let args = [flags, words, last].concat();
    cloud.sc(&args).await.exits(3).says(&["no-such-flag"]);
    let same = async || (cloud.really_running("web").await == before).then_some(());
    poll(secs(60), "only the old replicas to run", same).await;
    cloud.settles("web", 3).await;
    load.goes_on(20).await;
    load.all_good(100).await;
    cloud.sc(&["history", "web"]).await.ok().says(&["failed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deploy_rolls_on_docker() {
    rolls(Cloud::docker().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deploy_rolls_on_processes() {
    rolls(Cloud::process(StateIn::Embedded).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_deploy_goes_back_on_docker() {
    goes_back(Cloud::docker().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_deploy_goes_back_on_processes() {
    goes_back(Cloud::process(StateIn::Embedded).await).await;
}

/// Several apps in one file; the same file again changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_file_many_apps() {
    let cloud = Cloud::process(StateIn::Embedded).await;
    let binary = sc_tests::program("sc-matrix");
    let app = |name: &str, host: &str| {
        format!(
            "[app.{name}]\nbinary = {binary:?}\nport = 8080\n[[app.{name}.route]]\nhost = \"{host}\"\n[app.{name}.scale]\nreplicas = 2\n\n"
        )
    };
    cloud.write("sc.toml", &[app("red", "red.localhost"), app("blue", "blue.localhost")].concat());
    cloud.sc(&["deploy"]).await.ok();
    cloud.settles("red", 2).await;
    cloud.settles("blue", 2).await;
    let load = Load::start(LoadSpec::steady(
        cloud.http,
        vec![Target::host("red", "red.localhost"), Target::host("blue", "blue.localhost")],
    ));
    load.goes_on(200).await;
    load.all_good(200).await;
    let before = cloud.really_running("red").await;
    cloud.sc(&["deploy"]).await.ok();
    assert_eq!(cloud.really_running("red").await, before, "nothing changed, so nothing moved");
}
