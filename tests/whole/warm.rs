//! What scale-in takes away is frozen, and comes back in the place of new ones: no request notices.

use sc_tests::{Cloud, Load, LoadSpec, Target, cloud::StateIn, load::get, poll, secs};

const HOST: &str = "web.localhost";

/// Waits until exactly these are frozen, really and in `sc ps`.
async fn frozen(cloud: &Cloud, names: &[&str]) {
    let so = async || {
        let really: Vec<String> = cloud.really_frozen("web").await.into_iter().map(|(name, _)| name).collect();
        let shown = cloud.replicas("web").await.into_iter().filter(|view| view.state == "paused");
        (really == names && shown.map(|view| view.replica.to_string()).eq(names.iter().copied())).then_some(())
    };
    poll(secs(60), &format!("{names:?} to be frozen"), so).await;
}

/// 3 → 1 → 3 under load.
async fn away_and_back(cloud: Cloud) {
    cloud.run("web", &["--host", HOST, "--min", "1", "--max", "3", "--warm", "2"]).await;
    cloud.sc(&["scale", "web=3"]).await.ok();
    cloud.settles("web", 3).await;
    let before = cloud.really_running("web").await;
    let load = Load::start(LoadSpec::steady(cloud.http, vec![Target::host("web", HOST)]));
    load.goes_on(50).await;
    for _ in 0..2 {
        cloud.sc(&["scale", "web=1"]).await.ok();
        frozen(&cloud, &["web-2", "web-3"]).await;
        cloud.settles("web", 1).await;
        load.goes_on(100).await;
        let asleep = load.so_far().by_replica;
        cloud.sc(&["scale", "web=3"]).await.ok();
        cloud.settles("web", 3).await;
        assert_eq!(cloud.really_running("web").await, before, "the same ones are back");
        let woken = async || {
            let now = load.so_far().by_replica;
            ["web-2", "web-3"].iter().all(|name| now.get(*name) > asleep.get(*name)).then_some(())
        };
        poll(secs(30), "those that were woken to answer", woken).await;
    }
    load.stop().await.all_good(200);
    let events = cloud.sc(&["events"]).await.ok();
    events.says(&["web-3 is paused", "web-3 is woken"]);
    cloud.sc(&["scale", "web=1", "--warm", "0"]).await.ok();
    cloud.settles("web", 1).await;
    frozen(&cloud, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_sleep_and_come_back_on_docker() {
    away_and_back(Cloud::processes_on_docker().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_sleep_and_come_back_on_processes() {
    away_and_back(Cloud::process(StateIn::Embedded).await).await;
}

/// With `min = 0` the last one is frozen, and the first request wakes it and is answered by it.
async fn from_zero(cloud: Cloud) {
    let program = match cloud.has_containers() {
        true => "image = \"sc/matrix:0.1.0\"".to_owned(),
        false => format!("binary = {:?}", sc_tests::program("sc-matrix").display().to_string()),
    };
    cloud.write(
        "sc.toml",
        &format!(
            "[app.web]\n{program}\nport = 8080\n[[app.web.route]]\nhost = {HOST:?}\n\
             [app.web.scale]\nmin = 0\nmax = 2\nidle_after = \"2s\"\n[app.web.warm]\nsize = 1\n"
        ),
    );
    cloud.sc(&["deploy"]).await.ok();
    cloud.serves(HOST, "/whoami").await;
    let names: Vec<String> = cloud.replicas("web").await.into_iter().map(|view| view.replica.to_string()).collect();
    assert_eq!(names, ["web-1"]);
    for _ in 0..2 {
        frozen(&cloud, &["web-1"]).await;
        let (head, _) = get(cloud.http, HOST, "/whoami").await.expect("the first request to be answered");
        assert_eq!((head.status.as_u16(), head.headers["x-replica"].as_bytes()), (200, &b"web-1"[..]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_request_wakes_the_last_one_on_docker() {
    from_zero(Cloud::processes_on_docker().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_request_wakes_the_last_one_on_processes() {
    from_zero(Cloud::process(StateIn::Embedded).await).await;
}
