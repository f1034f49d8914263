//! Backends and proxies that come and go under load.

use std::time::Duration;

use sc_core::{AppId, ReplicaId};

use crate::support::*;

fn web() -> AppId {
    AppId::in_default("web").unwrap()
}

fn check(totals: &Totals) {
    assert!(totals.failed.is_empty(), "{} failed of {}: {:?}", totals.failed.len(), totals.done, totals.failed.first());
}

/// The whole drain protocol, many times: a new backend comes, an old one leaves the routes, is idle, and is stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacements_fail_no_request_get_or_post() {
    let replacements = if std::env::var_os("SC_TEST_LONG").is_some() { 1_000 } else { 100 };
    let mut running = vec![(1, Backend::start("1").await), (2, Backend::start("2").await)];
    let routes = |running: &[(u64, Backend)]| {
        let addrs: Vec<_> = running.iter().map(|(n, backend)| (*n, backend.addr)).collect();
        vec![app("web", "", &addrs)]
    };
    let proxy = Proxy::start(routes(&running));
    proxy.ready().await;
    let mut stats = proxy.stats().await;
    let load = Load::start(proxy.addr, "x", 8, 5);
    for n in 3..3 + replacements {
        running.push((n, Backend::start("n").await));
        let (old, leaving) = running.remove(0);
        let revision = proxy.set(routes(&running));
        let idle = |frame: &sc_core::stats::Frame| {
            let replica = ReplicaId::new(&web(), old);
            let in_flight = frame.apps[&web()].backends.get(&replica).map_or(0, |b| b.in_flight);
            frame.applied >= revision && in_flight == 0
        };
        stats.until("the old one is drained", idle).await;
        let before = leaving.requests();
        leaving.stop().await;
        assert!(before > 0 || n < 5, "each had its share");
    }
    let totals = load.stop().await;
    check(&totals);
    assert!(totals.done > 500 && totals.refused == 0, "{totals:?}");
}

#[tokio::test]
async fn a_backend_that_left_the_routes_gets_nothing_new_and_its_requests_finish() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let proxy = Proxy::start(vec![app("web", "", &[(1, a.addr)])]);
    proxy.ready().await;
    let mut stats = proxy.stats().await;
    let slow = tokio::spawn(get(proxy.addr, "x", "/slow?1500"));
    until("it runs", async || a.running() == 1).await;
    proxy.apply(vec![app("web", "", &[(2, b.addr)])]).await;
    let one = ReplicaId::new(&web(), 1);
    let before = a.requests();
    for _ in 0..20 {
        assert_eq!(get(proxy.addr, "x", "/").await.text(), "b");
    }
    assert_eq!(a.requests(), before);
    stats.until("it is still reported", |frame| frame.apps[&web()].backends[&one].in_flight == 1).await;
    proxy.apply(vec![]).await;
    let gone = get(proxy.addr, "x", "/").await;
    assert_eq!(gone.field("x-sc-reason"), "no-route");
    let frame = stats.next().await;
    assert_eq!(frame.apps[&web()].backends[&one].in_flight, 1, "also when its app is gone");
    assert_eq!(slow.await.unwrap().text(), "a");
    let done = stats.until("it is done", |frame| frame.apps[&web()].backends[&one].in_flight == 0).await;
    assert_eq!(done.apps[&web()].backends[&one].completions[1], before);
}

/// It may take as long as the grace, and what leaves the routes meanwhile is not to wait for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_stops_still_applies_what_is_published_while_its_requests_finish() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let mut proxy = Proxy::start(vec![app("web", "", &[(1, a.addr), (2, b.addr)])]);
    proxy.ready().await;
    let mut stats = proxy.stats().await;
    // It has two threads: one of them, if not both, has nothing to wait for.
    let mut conn = Conn::open(proxy.addr).await.unwrap();
    let endless = conn.sender.send_request(request("GET", "x", "/drip", "")).await.unwrap();
    let (addr, running) = (proxy.addr, proxy.running.take().unwrap());
    let stopping = tokio::spawn(running.stop_within(Duration::from_secs(60)));
    until("it does not accept", async || tokio::net::TcpStream::connect(addr).await.is_err()).await;
    for n in 0..3 {
        let revision = proxy.set(vec![app("web", &format!("{n}.example"), &[])]);
        let frame = stats.until("it is applied", |frame| frame.applied >= revision).await;
        let in_flight = |frame: &sc_core::stats::Frame| backends(&frame.apps[&web()]).2;
        assert_eq!(in_flight(&frame), 1, "what it still has is reported");
    }
    assert!(!stopping.is_finished());
    drop((endless, conn));
    stopping.await.unwrap();
}

#[tokio::test]
async fn idle_connections_to_a_backend_that_left_are_closed_and_never_used_for_another() {
    let a = Backend::start("a").await;
    let addr = a.addr;
    let proxy = Proxy::start(vec![app("web", "", &[(1, addr)])]);
    proxy.ready().await;
    for _ in 0..10 {
        get(proxy.addr, "x", "/").await;
    }
    proxy.apply(vec![app("web", "", &[])]).await;
    // A graceful stop of the backend ends as soon as its connections do.
    tokio::time::timeout(Duration::from_secs(5), a.stop()).await.expect("no connection is left");
    let _next = Backend::start_at("next", addr).await;
    proxy.apply(vec![app("web", "", &[(2, addr)])]).await;
    assert_eq!(get(proxy.addr, "x", "/").await.text(), "next");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_stopped_under_load_finishes_what_it_took() {
    let a = Backend::start("a").await;
    let mut proxy = Proxy::start(vec![app("web", "", &[(1, a.addr)])]);
    proxy.ready().await;
    let load = Load::start(proxy.addr, "x", 8, 3);
    until("load runs", async || load.done() > 200).await;
    let slow = tokio::spawn(get(proxy.addr, "x", "/slow?800"));
    until("a slow one runs", async || a.running() >= 1).await;
    let stopping = tokio::spawn(proxy.running.take().unwrap().stop_within(Duration::from_secs(20)));
    assert_eq!(slow.await.unwrap().text(), "a");
    stopping.await.unwrap();
    let totals = load.stop().await;
    check(&totals);
    assert!(tokio::net::TcpStream::connect(proxy.addr).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_stop_ends_streams_at_its_deadline() {
    let a = Backend::start("a").await;
    let mut proxy = Proxy::start(vec![app("web", "", &[(1, a.addr)])]);
    proxy.ready().await;
    let mut conn = Conn::open(proxy.addr).await.unwrap();
    let response = conn.sender.send_request(request("GET", "x", "/drip", "")).await.unwrap();
    let running = proxy.running.take().unwrap();
    let stopped = running.stop_within(Duration::from_millis(300));
    tokio::time::timeout(Duration::from_secs(10), stopped).await.expect("it ends");
    assert!(http_body_util::BodyExt::collect(response.into_body()).await.is_err(), "cut, not ended");
}
