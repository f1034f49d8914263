//! A proxy that stands alone: weights and active probes of a routes file, draining by hand.

use std::{path::Path, sync::atomic::Ordering::SeqCst};

use sc_proxy::{Config, Running, Source};
use serde_json::Value;

use crate::support::*;

fn write(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

fn start(path: &Path) -> (Running, std::net::SocketAddr, std::net::SocketAddr) {
    let mut config = Config::new(Source::File(path.to_owned()));
    (config.threads, config.http1) = (2, crate::HTTP1);
    let running = sc_proxy::start(config).unwrap();
    let (addr, admin) = (running.listen[0], running.stats.strip_prefix("http://").unwrap().parse().unwrap());
    (running, addr, admin)
}

/// A field of a backend's entry in the admin API.
async fn live(admin: std::net::SocketAddr, backend: &Backend, field: &str) -> Value {
    let routes: Value = serde_json::from_str(get(admin, "x", "/routes").await.text()).unwrap();
    let all = routes["apps"].as_array().unwrap().iter().flat_map(|app| app["backends"].as_array().unwrap());
    let mut here = all.filter(|b| b["addr"] == backend.addr.to_string());
    here.next().map_or(Value::Null, |b| b[field].clone())
}

/// The answers to some requests, sorted, each name once.
async fn answers(addr: std::net::SocketAddr, n: usize) -> String {
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..n {
        let reply = get(addr, "x", "/").await;
        names.insert(format!("{} {}", reply.status.as_u16(), reply.text()));
    }
    names.into_iter().collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn a_backend_with_no_weight_serves_only_when_no_other_can() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.toml");
    let text =
        format!("[[route]]\napp = \"web\"\nbackends = [\"{}\", {{ addr = \"{}\", weight = 0 }}]\n", a.addr, b.addr);
    write(&path, &text);
    let (_running, addr, admin) = start(&path);
    until("it serves", async || get(addr, "x", "/").await.status == 200).await;
    assert_eq!(answers(addr, 40).await, "200 a");
    assert_eq!(live(admin, &b, "weight").await, 0);
    a.stop().await;
    until("the other serves", async || get(addr, "x", "/").await.text() == "b").await;
}

#[tokio::test]
async fn a_backend_whose_probes_fail_is_passed_over_until_they_succeed() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.toml");
    let health = "[route.health]\npath = \"/\"\ninterval = \"20ms\"\nunhealthy_after = 2\n";
    let text = format!("[[route]]\napp = \"web\"\nbackends = [\"{}\", \"{}\"]\n{health}", a.addr, b.addr);
    write(&path, &text);
    let (_running, addr, admin) = start(&path);
    until("it serves", async || get(addr, "x", "/").await.status == 200).await;
    b.seen.hang_up.store(true, SeqCst);
    until("b is down", async || live(admin, &b, "healthy").await == false).await;
    assert_eq!(answers(addr, 40).await, "200 a");
    let mut stats = Stats::open(admin).await;
    let ejected =
        |frame: &sc_core::stats::Frame| frame.apps.values().any(|app| app.backends.values().any(|b| b.ejected));
    stats.until("the manager would see it", ejected).await;
    b.seen.hang_up.store(false, SeqCst);
    until("b is healthy", async || live(admin, &b, "healthy").await == true).await;
    a.seen.hang_up.store(true, SeqCst);
    until("a is down", async || live(admin, &a, "healthy").await == false).await;
    assert_eq!(answers(addr, 40).await, "200 b");
    a.seen.hang_up.store(false, SeqCst);
    until("a is healthy", async || live(admin, &a, "healthy").await == true).await;

    // All down: the probes say nothing of use.
    let odd = text.replace("path = \"/\"", "path = \"/status?500\"");
    write(&path, &odd);
    let down = async || live(admin, &a, "healthy").await == false && live(admin, &b, "healthy").await == false;
    until("all are down", down).await;
    assert!(answers(addr, 40).await.split(", ").all(|answer| answer.starts_with("200 ")));
    write(&path, text.split("[route.health]").next().unwrap());
    let well = async || live(admin, &a, "healthy").await == true && live(admin, &b, "healthy").await == true;
    until("nobody asks any more", well).await;
}

#[tokio::test]
async fn a_backend_drained_by_hand_gets_no_new_request() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let mut web = app("web", "", &[(1, a.addr), (2, b.addr)]);
    web.traffic.balance = sc_core::spec::Balance::RoundRobin;
    let proxy = Proxy::start(vec![web]);
    proxy.ready().await;
    let admin = proxy.stats_addr();
    let post = async |path: &str| {
        let mut conn = Conn::open(admin).await.unwrap();
        conn.send(request("POST", "x", path, "")).await.unwrap().status.as_u16()
    };
    until("both serve", async || answers(proxy.addr, 20).await == "200 a, 200 b").await;
    let slow = tokio::spawn(get(proxy.addr, "x", "/slow?300"));
    assert_eq!(post("/backends/web-2/drain").await, 200);
    assert_eq!(answers(proxy.addr, 40).await, "200 a");
    assert_eq!(slow.await.unwrap().status, 200);
    assert_eq!(live(admin, &b, "drained").await, true);
    assert_eq!(post("/backends/web-2/undrain").await, 200);
    until("both serve", async || answers(proxy.addr, 20).await == "200 a, 200 b").await;
    assert_eq!(post("/backends/web-1/drain?seconds=3").await, 200);
    assert_eq!(answers(proxy.addr, 1).await, "200 b");
    until("it ends by itself", async || answers(proxy.addr, 20).await == "200 a, 200 b").await;
    for (path, status) in [
        ("/backends/web-9/drain", 404),
        ("/backends/nobody/drain", 404),
        ("/backends/web-1/drain?seconds=0", 400),
        ("/backends/web-1/explode", 404),
        ("/routes", 404),
    ] {
        assert_eq!(post(path).await, status, "{path}");
    }
    let mut conn = Conn::open(admin).await.unwrap();
    let mut page = request("POST", "x", "/backends/web-1/drain", "");
    page.headers_mut().insert("origin", "http://evil.test".parse().unwrap());
    assert_eq!(conn.send(page).await.unwrap().status, 403);
}
