//! Scale to zero: what nobody uses sleeps, the first request wakes it, and what is open keeps it awake.

use hyper::http::StatusCode;
use sc_tests::{Cloud, Load, LoadSpec, Target, load::get, poll, secs};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const HOST: &str = "web.localhost";
/// Milliseconds without use after which it sleeps.
const IDLE_MS: u64 = 2_000;

/// An app that sleeps soon, on Docker; `command`: arguments of its program.
async fn sleepy(command: &str) -> Cloud {
    let cloud = Cloud::processes_on_docker().await;
    cloud.write(
        "sc.toml",
        &format!(
            "[app.web]\nimage = \"sc/matrix:0.1.0\"\nport = 8080\ncommand = [\"/usr/bin/sc-matrix\"{command}]\n\
             [[app.web.route]]\nhost = {HOST:?}\n[app.web.scale]\nmin = 0\nmax = 2\nidle_after = \"{IDLE_MS}ms\"\n"
        ),
    );
    cloud.sc(&["deploy"]).await.ok();
    cloud
}

async fn sleeps(cloud: &Cloud) {
    let none = async || cloud.really_running("web").await.is_empty().then_some(());
    poll(secs(60), "the app to sleep", none).await;
}

/// The scaler's latest decision on the app: when, and how many.
async fn decided(cloud: &Cloud) -> Option<(u64, u64)> {
    let why = cloud.sc(&["why", "web", "-o", "json"]).await.ok().json();
    Some((why["decision"]["at_ms"].as_u64()?, why["decision"]["want"].as_u64()?))
}

/// Waits until the scaler has decided long after `from` what it decides when nobody uses an app, and never took it away.
async fn stays_awake_past(cloud: &Cloud, from: u64, ms: u64) {
    let later = async || {
        let (at, want) = decided(cloud).await?;
        assert!(want > 0, "it was put to sleep {} ms after somebody began to use it", at.saturating_sub(from));
        (at > from + ms).then_some(())
    };
    poll(secs(60), "later decisions", later).await;
    assert!(!cloud.really_running("web").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_app_sleeps_and_its_first_request_is_answered_on_docker() {
    let cloud = sleepy("").await;
    let answered = async || {
        let (head, _) = get(cloud.http, HOST, "/whoami").await.expect("the first request to be answered");
        assert_eq!(head.status, StatusCode::OK);
        head.headers["x-replica"].to_str().unwrap().to_owned()
    };
    let kept = async |count: usize| {
        sleeps(&cloud).await;
        let kept = async || Some(cloud.really_stopped("web").await).filter(|kept| kept.len() == count);
        poll(secs(60), &format!("{count} to be kept stopped"), kept).await
    };
    sleeps(&cloud).await;
    let first = answered().await;
    // Nothing was said, so its container is kept and started again, each time.
    for _ in 0..2 {
        let before = kept(1).await;
        assert_eq!(answered().await, first);
        assert_eq!(cloud.really_running("web").await, before);
    }
    // Not for another version, nor when told otherwise.
    kept(1).await;
    cloud.sc(&["restart", "web"]).await.ok();
    kept(0).await;
    let second = answered().await;
    assert_ne!(second, first);
    kept(1).await;
    cloud.sc(&["scale", "web", "--stopped", "0"]).await.ok();
    kept(0).await;
    assert_ne!(answered().await, second);
    kept(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_websocket_keeps_it_awake_on_docker() {
    let cloud = sleepy(", \"--test-endpoints\"").await;
    sleeps(&cloud).await;
    let mut socket = TcpStream::connect(cloud.http).await.unwrap();
    let request = format!(
        "GET /tunnel HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(head.len() < 4_096);
        head.push(tokio::time::timeout(secs(30), socket.read_u8()).await.expect("an answer").unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    let open = async || decided(&cloud).await.filter(|(_, want)| *want > 0);
    let (opened, _) = poll(secs(30), "it to be wanted", open).await;
    // Nothing is sent for several times as long as it takes to fall asleep.
    stays_awake_past(&cloud, opened, 4 * IDLE_MS).await;
    socket.write_all(b"still there?").await.unwrap();
    let mut said = [0; 12];
    tokio::time::timeout(secs(30), socket.read_exact(&mut said)).await.expect("what was sent").unwrap();
    assert_eq!(&said, b"still there?");
    drop(socket);
    sleeps(&cloud).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_keeps_it_awake_on_docker() {
    let cloud = sleepy(", \"--wait\", \"8000\"").await;
    sleeps(&cloud).await;
    let http = cloud.http;
    let asked = tokio::spawn(async move { get(http, HOST, "/whoami").await });
    let open = async || decided(&cloud).await.filter(|(_, want)| *want > 0);
    let (opened, _) = poll(secs(30), "it to be wanted", open).await;
    stays_awake_past(&cloud, opened, 3 * IDLE_MS).await;
    let (head, _) = asked.await.unwrap().expect("an answer");
    assert_eq!(head.status, StatusCode::OK);
    sleeps(&cloud).await;
}

/// A manager that is killed while replicas are being added: another one goes on from the same count, and knows what a
/// replica takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_killed_in_a_scale_up_forgets_nothing_on_docker() {
    let mut cloud = Cloud::processes_on_docker().await;
    cloud
        .run(
            "web",
            &["--host", HOST, "--min", "1", "--max", "4", "--", "/usr/bin/sc-matrix", "--slots", "2", "--wait", "50"],
        )
        .await;
    cloud.serves(HOST, "/whoami").await;
    let load = Load::start(LoadSpec::steady(cloud.http, vec![Target::host("web", HOST)]).rate(70));
    let look = async |cloud: &Cloud| {
        let why = cloud.sc(&["why", "web", "-o", "json"]).await.ok().json();
        Some((why["decision"]["want"].as_u64()?, why["decision"]["capacity_rps"].as_f64()?))
    };
    let learned = async || look(&cloud).await.filter(|(want, _)| *want >= 2);
    poll(secs(60), "it to learn what a replica takes", learned).await;
    let more = Load::start(LoadSpec::steady(cloud.http, vec![Target::host("web", HOST)]).rate(60));
    let rises = async || {
        let (want, capacity) = look(&cloud).await?;
        let ready = cloud.app("web").await.ready;
        (want > u64::from(ready) || want >= 4).then_some((want, capacity))
    };
    let (want, capacity) = poll(secs(60), "more replicas to be wanted than there are", rises).await;
    cloud.kill_manager().await;
    more.goes_on(50).await;
    cloud.resume_manager().await;
    cloud.works().await;
    assert!(u64::from(cloud.app("web").await.want) >= want, "the count is what it was, or more");
    let (after, known) = poll(secs(30), "the first decision", async || look(&cloud).await).await;
    assert!(after >= want, "{want} → {after}");
    assert!((0.5..=2.0).contains(&(known / capacity)), "a replica took {capacity} requests/s, {known} after");
    let have = async || (u64::from(cloud.app("web").await.ready) >= want).then_some(());
    poll(secs(60), "the scale-up to be completed", have).await;
    more.all_good(50).await;
    load.all_good(50).await;
}
