//! Which backend a request reaches, and what happens when one fails or none is there.

use std::{
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};

use sc_core::{AppId, spec::Balance, stats::Frame};

use crate::support::*;

fn web() -> AppId {
    AppId::in_default("web").unwrap()
}

#[tokio::test]
async fn load_is_spread_and_follows_what_is_in_flight() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let mut routes = app("web", "", &[(1, a.addr), (2, b.addr)]);
    routes.traffic.balance = Balance::InFlight;
    let proxy = Proxy::start(vec![routes]);
    proxy.ready().await;
    let slow: Vec<_> = (0..6).map(|_| tokio::spawn(get(proxy.addr, "x", "/slow?3000"))).collect();
    until("all run", async || a.running() + b.running() == 6).await;
    assert!(a.running() >= 2 && b.running() >= 2, "{} and {}", a.running(), b.running());
    slow.iter().for_each(|task| task.abort());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_dies_under_load_costs_no_get() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let proxy = Proxy::start(vec![app("web", "", &[(1, a.addr), (2, b.addr)])]);
    proxy.ready().await;
    let load = Load::start(proxy.addr, "x", 8, 0);
    until("load runs", async || load.done() > 300).await;
    drop(a);
    let before = load.done();
    until("it goes on", async || load.done() > before + 500).await;
    let totals = load.stop().await;
    assert!(totals.failed.is_empty(), "{} failed: {:?}", totals.failed.len(), totals.failed.first());
}

#[tokio::test]
async fn a_backend_that_hangs_up_is_left_and_tried_again_later() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let proxy = Proxy::start_with(vec![app("web", "", &[(1, a.addr), (2, b.addr)])], |config| config.threads = 1);
    proxy.ready().await;
    a.seen.hang_up.store(true, SeqCst);
    let ejected = |frame: &Frame| frame.apps[&web()].backends.values().filter(|b| b.ejected).count();
    let mut stats = proxy.stats().await;
    while ejected(&stats.next().await) == 0 {
        for _ in 0..20 {
            assert_eq!(get(proxy.addr, "x", "/").await.text(), "b", "GETs are sent again elsewhere");
        }
    }
    let before = a.requests();
    for _ in 0..10 {
        let posted = Conn::open(proxy.addr).await.unwrap().send(request("POST", "x", "/echo", "z")).await.unwrap();
        assert_eq!(posted.text(), "z");
    }
    assert!(a.requests() <= before + 1, "at most one trial reached it");
    a.seen.hang_up.store(false, SeqCst);
    until("it serves again", async || get(proxy.addr, "x", "/").await.text() == "a").await;
    let mut stats = proxy.stats().await;
    stats.until("it is not ejected", |frame| ejected(frame) == 0).await;
}

#[tokio::test]
async fn a_post_that_may_have_been_worked_on_is_not_sent_twice() {
    let a = Backend::start("a").await;
    let proxy = Proxy::start(vec![app("web", "", &[(1, a.addr)])]);
    proxy.ready().await;
    a.seen.hang_up.store(true, SeqCst);
    let posted = Conn::open(proxy.addr).await.unwrap().send(request("POST", "x", "/echo", "z")).await.unwrap();
    assert_eq!((posted.status.as_u16(), posted.field("x-sc-reason")), (502, "broken"));
    assert_eq!(a.requests(), 1);
    let got = get(proxy.addr, "x", "/").await;
    assert_eq!(got.field("x-sc-reason"), "broken", "a GET is tried three times and then given up");
    assert_eq!(a.requests(), 4);
}

#[tokio::test]
async fn a_body_that_was_kept_is_sent_again_whole() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let proxy = Proxy::start(vec![app("web", "", &[(1, a.addr), (2, b.addr)])]);
    proxy.ready().await;
    a.seen.hang_up.store(true, SeqCst);
    for n in [1usize, 100, 60_000] {
        for _ in 0..6 {
            let body = pattern(n);
            let put =
                Conn::open(proxy.addr).await.unwrap().send(request("PUT", "x", "/echo", body.clone())).await.unwrap();
            assert!(put.body == body, "{:?}", put.status);
        }
    }
}

#[tokio::test]
async fn an_app_whose_only_backend_is_gone_is_waited_for() {
    let a = Backend::start("a").await;
    let addr = a.addr;
    let proxy = Proxy::start(vec![app("web", "", &[(1, addr)])]);
    proxy.ready().await;
    assert_eq!(get(proxy.addr, "x", "/").await.text(), "a");
    drop(a);
    let waiting = tokio::spawn(get(proxy.addr, "x", "/"));
    let mut stats = proxy.stats().await;
    stats.until("it is held", |frame| frame.apps[&web()].held == 1).await;
    let _back = Backend::start_at("back", addr).await;
    assert_eq!(waiting.await.unwrap().text(), "back");
}

#[tokio::test]
async fn requests_are_held_until_a_backend_appears_and_the_first_is_told_at_once() {
    let proxy = Proxy::start(vec![app("web", "", &[])]);
    proxy.ready().await;
    let mut stats = proxy.stats().await;
    stats.next().await;
    let held: Vec<_> = (0..50).map(|_| tokio::spawn(get(proxy.addr, "x", "/"))).collect();
    let urgent = stats.until("an urgent frame", |frame| frame.urgent).await;
    assert!(urgent.apps[&web()].held >= 1);
    stats.until("all are held", |frame| frame.apps[&web()].held == 50).await;
    let a = Backend::start("a").await;
    proxy.set(vec![app("web", "", &[(1, a.addr)])]);
    for task in held {
        assert_eq!(task.await.unwrap().text(), "a");
    }
    let frame = stats.until("none is held", |frame| quiet(frame, "web", 50)).await;
    let app = &frame.apps[&web()];
    assert_eq!((app.held_total, app.rejected, app.queue.count()), (50, 0, 50));
}

#[tokio::test]
async fn a_queue_ends_at_its_length_and_its_deadline() {
    let mut routes = app("web", "", &[]);
    routes.traffic.queue_max = 2;
    routes.traffic.queue_timeout_ms = 400;
    let proxy = Proxy::start(vec![routes.clone()]);
    proxy.ready().await;
    let start = Instant::now();
    let held: Vec<_> = (0..2).map(|_| tokio::spawn(get(proxy.addr, "x", "/"))).collect();
    let mut stats = proxy.stats().await;
    stats.until("two are held", |frame| frame.apps[&web()].held == 2).await;
    let full = get(proxy.addr, "x", "/").await;
    assert_eq!((full.status.as_u16(), full.field("x-sc-reason"), full.field("retry-after")), (503, "queue-full", "1"));
    for task in held {
        let late = task.await.unwrap();
        assert_eq!((late.status.as_u16(), late.field("x-sc-reason")), (503, "queue-timeout"));
    }
    assert!(start.elapsed() >= Duration::from_millis(400));
    routes.stopped = true;
    proxy.apply(vec![routes]).await;
    let stopped = get(proxy.addr, "x", "/").await;
    assert_eq!((stopped.status.as_u16(), stopped.field("x-sc-reason")), (503, "stopped"));
    stats.until("all four are counted as rejected", |frame| frame.apps[&web()].rejected == 4).await;
}

#[tokio::test]
async fn stopping_an_app_frees_those_that_wait() {
    let proxy = Proxy::start(vec![app("web", "", &[])]);
    proxy.ready().await;
    let held: Vec<_> = (0..5).map(|_| tokio::spawn(get(proxy.addr, "x", "/"))).collect();
    let mut stats = proxy.stats().await;
    stats.until("five are held", |frame| frame.apps[&web()].held == 5).await;
    let mut routes = app("web", "", &[]);
    routes.stopped = true;
    proxy.set(vec![routes]);
    for task in held {
        assert_eq!(task.await.unwrap().field("x-sc-reason"), "stopped");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_never_gets_more_than_its_limit_and_nobody_starves() {
    let a = Backend::start("a").await;
    let mut routes = app("web", "", &[(1, a.addr)]);
    routes.traffic.max_in_flight = Some(3);
    let proxy = Proxy::start(vec![routes]);
    proxy.ready().await;
    let tasks: Vec<_> = (0..60).map(|_| tokio::spawn(get(proxy.addr, "x", "/slow?10"))).collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().text(), "a");
    }
    assert_eq!(a.seen.peak.load(SeqCst), 3, "as many as it may, never more");
}

#[tokio::test]
async fn a_cancelled_wait_frees_its_place() {
    let a = Backend::start("a").await;
    let mut routes = app("web", "", &[(1, a.addr)]);
    routes.traffic.max_in_flight = Some(1);
    let proxy = Proxy::start(vec![routes]);
    proxy.ready().await;
    let running = tokio::spawn(get(proxy.addr, "x", "/slow?1500"));
    until("one runs", async || a.running() == 1).await;
    let leaving = tokio::spawn(get(proxy.addr, "x", "/"));
    until("one waits", async || proxy.held().await == 1).await;
    let staying = tokio::spawn(get(proxy.addr, "x", "/"));
    until("two wait", async || proxy.held().await == 2).await;
    leaving.abort();
    until("one has left", async || proxy.held().await == 1).await;
    assert_eq!(staying.await.unwrap().text(), "a");
    assert_eq!(running.await.unwrap().text(), "a");
    until("none waits", async || proxy.held().await == 0).await;
    assert_eq!(a.requests(), 2, "the one that left was never sent");
}

#[tokio::test]
async fn weights_share_the_traffic() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let mut routes = app("web", "", &[(1, a.addr), (2, b.addr)]);
    routes.backends[0].weight = 0;
    let proxy = Proxy::start(vec![routes]);
    proxy.ready().await;
    for _ in 0..50 {
        assert_eq!(get(proxy.addr, "x", "/").await.text(), "b");
    }
}

#[tokio::test]
async fn a_slower_backend_is_left_to_the_faster_one() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let mut routes = app("web", "", &[(1, a.addr), (2, b.addr)]);
    routes.traffic.queue_timeout_ms = 5_000;
    let proxy = Proxy::start(vec![routes]);
    proxy.ready().await;
    // Whichever gets the slow request is the slow one from then on.
    get(proxy.addr, "x", "/slow?2000").await;
    let slow = if a.requests() == 1 { &a } else { &b };
    until("the other has answered", async || {
        get(proxy.addr, "x", "/").await;
        a.requests() > 0 && b.requests() > 0
    })
    .await;
    let before = slow.requests();
    for _ in 0..50 {
        get(proxy.addr, "x", "/").await;
    }
    assert!(slow.requests() <= before + 5, "{} of 50", slow.requests() - before);
}

#[tokio::test]
async fn backends_take_turns_where_asked_to() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let mut routes = app("web", "", &[(1, a.addr), (2, b.addr)]);
    routes.traffic.balance = Balance::RoundRobin;
    let proxy = Proxy::start(vec![routes]);
    proxy.ready().await;
    for _ in 0..10 {
        get(proxy.addr, "x", "/").await;
    }
    assert_eq!((a.requests(), b.requests()), (5, 5));
}
