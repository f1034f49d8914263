//! A new version on a share of the requests: promoted, withdrawn, gone back by itself, all under load.

use sc_tests::{Cloud, Load, LoadSpec, Target, cloud::StateIn, load::get};

const HOST: &str = "web.localhost";

async fn loaded(cloud: &Cloud) -> Load {
    cloud.run("web", &["--host", HOST, "--replicas", "3", "--env", "GREETING=one"]).await;
    cloud.settles("web", 3).await;
    let load = Load::start(LoadSpec::steady(cloud.http, vec![Target::host("web", HOST)]));
    load.goes_on(50).await;
    load
}

/// How many of so many requests version 2 answers.
async fn share(cloud: &Cloud, of: usize) -> usize {
    let mut new = 0;
    for _ in 0..of {
        let (head, _) = get(cloud.http, HOST, "/whoami").await.expect("an answer");
        new += usize::from(head.headers.get("x-version").is_some_and(|version| version == "2"));
    }
    new
}

/// 10 %, then half, then all; then another one, which is withdrawn.
async fn lives(cloud: Cloud) {
    let load = loaded(&cloud).await;
    cloud
        .run("web", &["--host", HOST, "--env", "GREETING=two", "--canary", "10%"])
        .await
        .says(&["10% of the requests"]);
    let app = cloud.app("web").await;
    assert_eq!((app.version, app.stable, app.canary.as_ref().map(|canary| canary.version)), (1, Some(1), Some(2)));
    cloud.settles("web", 4).await;
    let new = share(&cloud, 500).await;
    assert!((20..=90).contains(&new), "{new} of 500 for 10 %");
    cloud.sc(&["ps", "web"]).await.ok().says(&["canary: its version gets 10%"]);
    cloud.sc(&["describe", "web"]).await.ok().says(&["version 2 gets 10%", "sc promote web"]);
    cloud.sc(&["history", "web"]).await.ok().says(&["canary 10%"]);
    compares(&cloud).await;

    cloud.sc(&["canary", "web", "50%"]).await.ok();
    let new = share(&cloud, 300).await;
    assert!((105..=195).contains(&new), "{new} of 300 for half");

    cloud.sc(&["promote", "web"]).await.ok();
    cloud.settles("web", 3).await;
    assert_eq!((cloud.app("web").await.stable, share(&cloud, 50).await), (Some(2), 50));

    cloud.run("web", &["--host", HOST, "--env", "GREETING=three", "--canary", "30%"]).await;
    assert!(share(&cloud, 200).await < 190, "version 3 has a share");
    cloud.sc(&["rollback", "web"]).await.ok();
    cloud.settles("web", 3).await;
    let app = cloud.app("web").await;
    assert_eq!((app.version, app.canary, share(&cloud, 50).await), (2, None, 50));
    load.goes_on(100).await;
    load.all_good(500).await;
}

/// `sc diff` tells what is new to each of the two versions that serve.
async fn compares(cloud: &Cloud) {
    let file = "[app.web]\nimage = \"sc/matrix:0.1.0\"\nport = 8080\n[app.web.env]\nGREETING = \"two\"\n";
    let file = cloud.write("sc.toml", file);
    let out = cloud.sc(&["diff", "-f", file.to_str().unwrap(), "web"]).await.exits(1);
    let (wanted, canary) = out.stdout.split_once("against version 2, the canary with 10%").expect("two versions");
    assert!(wanted.contains("against version 1, the wanted one"), "{wanted}");
    assert!(wanted.contains("+ env.GREETING = \"two\"") && wanted.contains("- env.GREETING = \"one\""), "{wanted}");
    assert!(canary.contains("- routes.0.host") && !canary.contains("GREETING"), "{canary}");
}

/// One that does not come up: exit 3 with the cause, and nobody noticed.
async fn fails(cloud: Cloud) {
    let load = loaded(&cloud).await;
    let before = cloud.really_running("web").await;
    let matrix = cloud.matrix();
    let mut args = vec!["run", "web"];
    args.extend(matrix.iter().map(String::as_str));
    args.extend(["--host", HOST, "--canary", "10%", "--"]);
    args.extend(cloud.on_docker().then_some("sc-matrix"));
    args.push("--no-such-flag");
    cloud.sc(&args).await.exits(3).says(&["no-such-flag"]);
    cloud.settles("web", 3).await;
    assert_eq!(cloud.really_running("web").await, before);
    load.goes_on(20).await;
    load.all_good(100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn canary_on_docker() {
    lives(Cloud::docker().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn canary_on_processes() {
    lives(Cloud::process(StateIn::Embedded).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_canary_on_processes() {
    fails(Cloud::process(StateIn::Embedded).await).await;
}
