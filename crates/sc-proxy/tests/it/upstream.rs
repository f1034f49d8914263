//! Backends that speak HTTP/2 or TLS.

use std::{net::SocketAddr, sync::atomic::Ordering::*, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode};
use sc_core::{
    routes::AppRoutes,
    spec::{BackendTls, Protocol, Verify},
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use crate::support::*;

fn spoken(protocol: Protocol, backends: &[(u64, SocketAddr)]) -> AppRoutes {
    let mut app = app("web", "web.test", backends);
    app.traffic.protocol = protocol;
    app.traffic.queue_timeout_ms = 3_000;
    app
}

fn ask(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let uri = format!("http://web.test{path}");
    Request::builder().method(method).uri(uri).body(Full::new(body.into())).unwrap()
}

async fn known(proxy: &Proxy) -> Conn2 {
    Conn2::over(TcpStream::connect(proxy.addr).await.unwrap()).await
}

async fn served(app: AppRoutes) -> Proxy {
    let proxy = Proxy::start(vec![app]);
    proxy.ready().await;
    proxy
}

#[tokio::test]
async fn many_requests_share_few_connections() {
    let backend = Backend2::start("a").await;
    let proxy = served(spoken(Protocol::H2c, &[(1, backend.addr)])).await;
    let conn = known(&proxy).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..300_usize {
        let (mut conn, addr) = (conn.clone(), proxy.addr);
        tasks.spawn(async move {
            let body = pattern(n * 501);
            let reply = conn.send(ask("POST", "/echo", body.clone())).await.unwrap();
            assert!(reply.status == StatusCode::OK && reply.body == body, "request {n}");
            assert!(conn.send(ask("GET", "/large?150000", "")).await.unwrap().body == pattern(150_000));
            assert_eq!(get(addr, "web.test", "/").await.text(), "a");
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let connections = backend.count(|seen| &seen.connections);
    assert!((1..=16).contains(&connections), "{connections} connections for 900 requests");
    let mut stats = proxy.stats().await;
    stats.until("all is counted", |frame| quiet(frame, "web", 900)).await;
}

#[tokio::test]
async fn heads_are_those_of_http2() {
    let backend = Backend2::start("a").await;
    let proxy = served(spoken(Protocol::H2c, &[(1, backend.addr)])).await;
    let text = get(proxy.addr, "web.test", "/head?x").await.text().to_owned();
    assert!(text.starts_with("GET http://web.test/head?x\n"), "{text}");
    for gone in ["host:", "connection:", "transfer-encoding:", "upgrade:"] {
        assert!(!text.contains(&format!("\n{gone}")), "{text}");
    }
    assert!(text.contains("x-forwarded-for: 127.0.0.1\n") && text.contains("via: "), "{text}");
    let mut conn = known(&proxy).await;
    let mut request = ask("GET", "/head", "");
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    let text = conn.send(request).await.unwrap().text().to_owned();
    assert!(text.contains("te: trailers\n"), "{text}");
}

#[tokio::test]
async fn a_head_is_as_large_as_over_http1() {
    let backend = Backend2::start("a").await;
    let proxy = served(spoken(Protocol::H2c, &[(1, backend.addr)])).await;
    let mut conn = Conn::open(proxy.addr).await.unwrap();
    for (size, want) in [(20_000, "wide"), (65_000, "wide"), (70_000, "")] {
        let reply = conn.send(request("GET", "web.test", &format!("/wide?{size}"), "")).await;
        // The client here takes no head of more than 400 KiB; the proxy none of more than 64.
        let reply = reply.unwrap();
        let reason = reply.field("x-sc-reason").to_owned();
        match want {
            "" => assert_eq!((reply.status.as_u16(), &reason[..]), (502, "response-head-too-large")),
            _ => assert_eq!((reply.status.as_u16(), reply.text()), (200, want), "{size}"),
        }
    }
}

#[tokio::test]
async fn a_backend_gets_no_more_streams_than_it_allows() {
    let backend = Backend2::start_with("a", 3, None).await;
    let proxy = served(spoken(Protocol::H2c, &[(1, backend.addr)])).await;
    let conn = known(&proxy).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let mut conn = conn.clone();
        tasks.spawn(async move { conn.send(ask("POST", "/", "x")).await.unwrap().status });
    }
    while let Some(status) = tasks.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
    assert!(backend.count(|seen| &seen.peak) <= 3);
}

/// A limit on requests in flight holds over shared connections too.
#[tokio::test]
async fn a_limit_in_flight_is_kept() {
    let backend = Backend2::start("a").await;
    let mut app = spoken(Protocol::H2c, &[(1, backend.addr)]);
    // Two at a time, forty take longer than the others may wait where much else runs.
    (app.traffic.max_in_flight, app.traffic.queue_timeout_ms) = (Some(2), 20_000);
    let proxy = served(app).await;
    let mut tasks = tokio::task::JoinSet::new();
    let conn = known(&proxy).await;
    for _ in 0..40 {
        let mut conn = conn.clone();
        tasks.spawn(async move { conn.send(ask("GET", "/", "")).await.unwrap().status });
    }
    while let Some(status) = tasks.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
    assert!(backend.count(|seen| &seen.peak) <= 2);
}

/// A client that reads nothing holds its own stream's window, and no other's on the same connection.
#[tokio::test]
async fn one_that_does_not_read_stalls_no_other() {
    let backend = Backend2::start("a").await;
    let proxy = Proxy::start_with(vec![spoken(Protocol::H2c, &[(1, backend.addr)])], |config| config.threads = 1);
    proxy.ready().await;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
        stream.write_all(b"GET /large?8000000 HTTP/1.1\r\nhost: web.test\r\n\r\n").await.unwrap();
        stalled.push(stream);
    }
    until("all have begun", async || backend.count(|seen| &seen.requests) == 20).await;
    let mut conn = known(&proxy).await;
    for _ in 0..20 {
        let reply = tokio::time::timeout(Duration::from_secs(10), conn.send(ask("GET", "/large?500000", ""))).await;
        assert!(reply.expect("others are served").unwrap().body == pattern(500_000));
    }
    assert_eq!(backend.count(|seen| &seen.connections), 1);
}

#[tokio::test]
async fn its_connections_end_when_it_leaves_the_table() {
    let (old, new) = (Backend2::start("old").await, Backend2::start("new").await);
    let proxy = served(spoken(Protocol::H2c, &[(1, old.addr)])).await;
    let (send, body) = http_body_util::channel::Channel::<Bytes>::new(4);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(TcpStream::connect(proxy.addr).await.unwrap()),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    let request = Request::builder().method("POST").uri("http://web.test/echo").body(body).unwrap();
    let response = sender.send_request(request).await.unwrap();
    proxy.apply(vec![spoken(Protocol::H2c, &[(2, new.addr)])]).await;
    assert_eq!(get(proxy.addr, "web.test", "/").await.text(), "new");
    assert_eq!(old.count(|seen| &seen.closed), 0, "its stream is not over");
    let mut send = send;
    send.send_data("last".into()).await.unwrap();
    drop(send);
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(body.to_bytes(), "last");
    until("its connections are closed", async || old.count(|seen| &seen.closed) == old.count(|seen| &seen.connections))
        .await;
}

#[tokio::test]
async fn what_it_refuses_goes_elsewhere_even_if_not_idempotent() {
    let (refusing, other) = (Backend2::start("refusing").await, Backend2::start("other").await);
    refusing.seen.refuse.store(true, SeqCst);
    let proxy = served(spoken(Protocol::H2c, &[(1, refusing.addr), (2, other.addr)])).await;
    let mut conn = known(&proxy).await;
    for _ in 0..10 {
        assert_eq!(conn.send(ask("POST", "/", "body")).await.unwrap().text(), "other");
    }
    assert!(refusing.count(|seen| &seen.requests) > 0, "it was asked at all");
    let mut stats = proxy.stats().await;
    let frame = stats.until("all is counted", |frame| quiet(frame, "web", 10)).await;
    assert!(frame.apps.values().all(|app| app.backends.values().all(|b| !b.ejected)), "refusing is no failure");
}

#[tokio::test]
async fn what_it_may_have_done_is_not_done_again() {
    let failing = Backend2::start("failing").await;
    failing.seen.fail.store(true, SeqCst);
    let proxy = served(spoken(Protocol::H2c, &[(1, failing.addr)])).await;
    let mut conn = known(&proxy).await;
    assert_eq!(conn.send(ask("POST", "/", "body")).await.unwrap().status, StatusCode::BAD_GATEWAY);
    assert_eq!(failing.count(|seen| &seen.requests), 1);
}

/// GOAWAY that leaves a request out: it is sent again, elsewhere, with its body.
#[tokio::test]
async fn what_a_goaway_leaves_out_is_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = Backend2::start("other").await;
    let leaving = listener.local_addr().unwrap();
    let proxy = served(spoken(Protocol::H2c, &[(1, leaving)])).await;
    let asked = {
        let mut conn = known(&proxy).await;
        tokio::spawn(async move { conn.send(ask("POST", "/echo", "kept")).await })
    };
    let mut stream = first_request(&listener).await;
    proxy.apply(vec![spoken(Protocol::H2c, &[(1, leaving), (2, other.addr)])]).await;
    let none_done = [0_u32.to_be_bytes(), 0_u32.to_be_bytes()].concat();
    stream.write_all(&frame::bytes(frame::GOAWAY, 0, 0, &none_done)).await.unwrap();
    let reply = asked.await.unwrap().unwrap();
    assert_eq!((reply.text(), reply.headers["x-backend"].to_str().unwrap()), ("kept", "other"));
}

/// A peer that says nothing any more is noticed by a PING.
#[tokio::test]
async fn a_dead_peer_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let app = spoken(Protocol::H2c, &[(1, listener.local_addr().unwrap())]);
    let proxy = Proxy::start_with(vec![app], |config| config.limits.upstream_ping = Duration::from_millis(200));
    proxy.ready().await;
    let asked = {
        let mut conn = known(&proxy).await;
        tokio::spawn(async move { conn.send(ask("POST", "/", "")).await })
    };
    let silent = first_request(&listener).await;
    let reply = tokio::time::timeout(Duration::from_secs(20), asked).await.expect("it is noticed").unwrap().unwrap();
    assert_eq!(reply.status, StatusCode::BAD_GATEWAY);
    drop(silent);
}

fn under_tls(protocol: Protocol, addr: SocketAddr, verify: Verify, name: Option<&str>) -> AppRoutes {
    let mut app = spoken(protocol, &[(1, addr)]);
    app.traffic.queue_timeout_ms = 300;
    app.traffic.tls = BackendTls { verify, server_name: name.map(str::to_owned) };
    app
}

#[tokio::test]
async fn http2_under_tls_to_those_who_are_known() {
    let (pair, stranger) = (Pair::new(&["web.test", "inner.test"]), Pair::new(&["web.test"]));
    let backend = Backend2::start_with("a", 100, Some(&pair)).await;
    let ca = |pair: &Pair| Verify::Ca(pair.cert.clone());
    let proxy = served(under_tls(Protocol::H2, backend.addr, ca(&pair), None)).await;
    let text = get(proxy.addr, "web.test", "/head").await.text().to_owned();
    assert!(text.starts_with("GET https://web.test/head\n"), "{text}");
    let cases = [
        (ca(&pair), Some("inner.test"), 200),
        (ca(&pair), Some("other.test"), 503),
        (ca(&stranger), None, 503),
        (Verify::System, None, 503),
        (Verify::None, Some("other.test"), 200),
    ];
    for (verify, name, status) in cases {
        let what = format!("{verify:?} {name:?}");
        proxy.apply(vec![under_tls(Protocol::H2, backend.addr, verify, name)]).await;
        assert_eq!(get(proxy.addr, "web.test", "/").await.status.as_u16(), status, "{what}");
    }
}

/// The proxy as its own backend: HTTP/1.1 under TLS, upgrades and bodies included.
#[tokio::test]
async fn http1_under_tls() {
    let (backend, folder) = (Backend::start("a").await, tempfile::tempdir().unwrap());
    let pair = Pair::new(&["web.test"]);
    pair.put(folder.path(), "web");
    let inner = Proxy::start_with(vec![app("web", "web.test", &[(1, backend.addr)])], |config| {
        let listen = vec![([127, 0, 0, 1], 0).into()];
        config.tls = sc_proxy::TlsConfig { listen, certs: Some(folder.path().into()), client_ca: None };
    });
    inner.ready().await;
    let tls = inner.running.as_ref().unwrap().listen_tls[0];
    let proxy = served(under_tls(Protocol::Https, tls, Verify::Ca(pair.cert.clone()), None)).await;
    let mut conn = known(&proxy).await;
    for n in [0, 1, 300_000] {
        assert!(conn.send(ask("POST", "/echo", pattern(n))).await.unwrap().body == pattern(n));
    }
    let text = get(proxy.addr, "web.test", "/head").await.text().to_owned();
    assert!(text.starts_with("GET /head HTTP/1.1\n"), "{text}");
    let connects = proxy.stats().await.until("it is counted", |frame| quiet(frame, "web", 4)).await;
    drop(connects);
}
