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
    load.all_good(200).await;
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

/// One is frozen, then stopped with its container kept, then started again before a new one is made; then it goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_slept_for_long_is_stopped_and_started_again_on_docker() {
    let mut cloud = Cloud::processes_on_docker().await;
    let file = |stop_for: &str| {
        format!(
            "[app.web]\nimage = \"sc/matrix:0.1.0\"\nport = 8080\n[[app.web.route]]\nhost = {HOST:?}\n[app.web.scale]\n\
             min = 1\nmax = 3\n[app.web.warm]\nsize = 1\npause_for = \"2s\"\nstopped = 1\nstop_for = {stop_for:?}\n"
        )
    };
    cloud.write("sc.toml", &file("10m"));
    cloud.sc(&["deploy"]).await.ok();
    cloud.sc(&["scale", "web=2"]).await.ok();
    cloud.settles("web", 2).await;
    let before = cloud.really_running("web").await;
    let addr = cloud.replicas("web").await[1].addr;
    let load = Load::start(LoadSpec::steady(cloud.http, vec![Target::host("web", HOST)]));
    load.goes_on(50).await;
    cloud.sc(&["scale", "web=1"]).await.ok();
    let stopped = async |cloud: &Cloud| {
        let really = cloud.really_stopped("web").await;
        let shown = cloud.replicas("web").await.into_iter().filter(|view| view.state == "stopped").count();
        (really.len() == 1 && really == before[1..] && shown == 1).then_some(())
    };
    poll(secs(60), "web-2 to be stopped and kept", async || stopped(&cloud).await).await;
    // Another manager finds it so.
    cloud.kill_manager().await;
    cloud.resume_manager().await;
    cloud.works().await;
    stopped(&cloud).await.expect("it is kept");
    cloud.sc(&["scale", "web=3"]).await.ok();
    cloud.settles("web", 3).await;
    let now = cloud.really_running("web").await;
    assert_eq!((&now[..2], now[2].0.as_str()), (&before[..], "web-3"), "the same container, and a new one");
    assert_eq!(cloud.replicas("web").await[1].addr, addr);
    let answered = load.so_far().by_replica;
    let serves = async || (load.so_far().by_replica.get("web-2") > answered.get("web-2")).then_some(());
    poll(secs(30), "web-2 to answer again", serves).await;
    load.all_good(100).await;
    cloud.sc(&["events"]).await.ok().says(&["web-2 is stopped and kept", "web-2 is started again"]);

    cloud.write("sc.toml", &file("1s"));
    cloud.sc(&["deploy"]).await.ok();
    cloud.sc(&["scale", "web=1"]).await.ok();
    let gone = async || {
        let left = [cloud.really_frozen("web").await, cloud.really_stopped("web").await].concat();
        left.is_empty().then_some(())
    };
    poll(secs(60), "none to be kept", gone).await;
    cloud.settles("web", 1).await;
}
