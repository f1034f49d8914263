//! HTTP/2 with clients: by ALPN and by prior knowledge, many requests at once, floods.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode};
use sc_proxy::TlsConfig;
use tokio::net::TcpStream;

use crate::support::*;

fn ask(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let uri = format!("http://web.test{path}");
    Request::builder().method(method).uri(uri).body(Full::new(body.into())).unwrap()
}

async fn known(proxy: &Proxy) -> Conn2 {
    Conn2::over(TcpStream::connect(proxy.addr).await.unwrap()).await
}

async fn one() -> (Backend, Proxy) {
    let backend = Backend::start("a").await;
    let proxy = Proxy::start(vec![app("web", "web.test", &[(1, backend.addr)])]);
    proxy.ready().await;
    (backend, proxy)
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let (_backend, proxy) = one().await;
    let conn = known(&proxy).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..300_usize {
        let mut conn = conn.clone();
        tasks.spawn(async move {
            let body = pattern(n * 1_001);
            let reply = conn.send(ask("POST", "/echo", body.clone())).await.unwrap();
            assert!(reply.status == StatusCode::OK && reply.body == body, "request {n}");
            assert!(conn.send(ask("GET", "/large?200000", "")).await.unwrap().body == pattern(200_000));
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let mut stats = proxy.stats().await;
    stats.until("all is counted", |frame| quiet(frame, "web", 600)).await;
}

#[tokio::test]
async fn heads_and_trailers_go_on_as_they_should() {
    let (_backend, proxy) = one().await;
    let mut conn = known(&proxy).await;
    let mut request = ask("GET", "/head?x", "");
    request.headers_mut().append("cookie", "a=1".parse().unwrap());
    request.headers_mut().append("cookie", "b=2".parse().unwrap());
    let reply = conn.send(request).await.unwrap();
    let text = reply.text();
    assert!(text.starts_with("GET /head?x HTTP/1.1\n"), "{text}");
    assert!(text.contains("host: web.test\n") && text.contains("cookie: a=1; b=2\n"), "{text}");
    let mut request = ask("GET", "/trailers", "");
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    let reply = conn.send(request).await.unwrap();
    assert_eq!(reply.text(), "one two");
    assert_eq!(reply.trailers.unwrap()["x-sum"], "3");
    let unrouted = Request::builder().uri("http://other.test/").body(Full::default()).unwrap();
    assert_eq!(conn.send(unrouted).await.unwrap().status, StatusCode::NOT_FOUND);
    assert_eq!(conn.send(ask("GET", "/status?418", "")).await.unwrap().status, StatusCode::IM_A_TEAPOT);
}

/// Requests with a body and without: what one kind leaves idle the other takes.
#[tokio::test]
async fn one_connection_to_a_backend_serves_all_kinds_of_requests() {
    let backend = Backend::start("a").await;
    let proxy = Proxy::start_with(vec![app("web", "web.test", &[(1, backend.addr)])], |config| config.threads = 1);
    proxy.ready().await;
    let mut conn = known(&proxy).await;
    for n in 0..20 {
        assert_eq!(conn.send(ask("GET", "/large?50000", "")).await.unwrap().body, pattern(50_000));
        assert_eq!(conn.send(ask("GET", "/text?1", "")).await.unwrap().text(), "a line of text\n");
        assert_eq!(conn.send(ask("HEAD", "/large?1000", "")).await.unwrap().body.len(), 0);
        assert_eq!(conn.send(ask("POST", "/echo", format!("{n}"))).await.unwrap().text(), n.to_string());
    }
    assert_eq!(backend.seen.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
}

/// What of a head could not be written as HTTP/1.1 with the same meaning is malformed (RFC 9113 section 8).
#[tokio::test]
async fn heads_that_are_malformed_go_no_further() {
    let (backend, proxy) = one().await;
    let mut conn = known(&proxy).await;
    conn.send(ask("GET", "/", "")).await.unwrap();
    let before = backend.requests();
    let built = |method: &str, target: &str, fields: &[(&str, &str)]| {
        let request = Request::builder().method(method).uri(target);
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(Full::<Bytes>::default()).unwrap()
    };
    let web = "http://web.test/head";
    for (name, request) in [
        ("an empty length", built("GET", web, &[("content-length", "")])),
        ("two lengths", built("POST", web, &[("content-length", "0"), ("content-length", "0")])),
        ("a list of lengths", built("POST", web, &[("content-length", "0, 0")])),
        ("no slash", built("GET", "http://web.test?x", &[])),
        ("a backslash", built("GET", "http://web.test/x\\..\\head", &[])),
        ("a blank before a value", built("GET", web, &[("x", " a")])),
        ("a blank behind a value", built("GET", web, &[("x", "a\t")])),
        ("another host", built("GET", web, &[("host", "other.test")])),
        ("another port", built("GET", web, &[("host", "web.test:8080")])),
        ("an empty host", built("GET", web, &[("host", "")])),
        ("a port beyond 65535", built("GET", "http://web.test:65536/", &[])),
        ("TRACE", built("TRACE", web, &[])),
    ] {
        let reply = conn.send(request).await;
        // What h2 finds malformed itself ends the stream.
        let status = reply.map_or(400, |reply| reply.status.as_u16());
        assert_eq!(status, if name == "TRACE" { 405 } else { 400 }, "{name}");
    }
    assert_eq!(backend.requests(), before, "none of them went on");
    let same =
        conn.send(built("GET", web, &[("host", "WEB.test:80"), ("content-length", "0"), ("X", "a b")])).await.unwrap();
    assert!(same.text().contains("host: web.test\n") && same.text().contains("content-length: 0\n"), "{}", same.text());
    assert!(conn.send(ask("GET", "/", "")).await.unwrap().text() == "a", "and the connection goes on");
}

/// A client on HTTP/2 speaks for others no more than one on HTTP/1.1.
#[tokio::test]
async fn no_spelling_of_a_field_speaks_for_another() {
    let (_backend, proxy) = one().await;
    let mut conn = known(&proxy).await;
    let mut request = ask("GET", "/head", "");
    for name in
        ["x-forwarded-ssl", "x_forwarded_for", "x_real_ip", "content_length", "proxy", "x-forwarded-", "http2-settings"]
    {
        request.headers_mut().insert(name, "evil".parse().unwrap());
    }
    request.headers_mut().insert("x_mine", "fine".parse().unwrap());
    let reply = conn.send(request).await.unwrap();
    assert!(reply.text().contains("x_mine: fine\n") && !reply.text().contains("evil"), "{}", reply.text());
}

#[tokio::test]
async fn a_broken_answer_ends_its_stream_and_no_other() {
    let (_backend, proxy) = one().await;
    let mut conn = known(&proxy).await;
    let beside = {
        let mut conn = conn.clone();
        tokio::spawn(async move { conn.send(ask("GET", "/slow?300", "")).await })
    };
    assert!(conn.send(ask("GET", "/break", "")).await.is_err());
    assert_eq!(beside.await.unwrap().unwrap().text(), "a");
}

#[tokio::test]
async fn tls_agrees_on_it() {
    let (backend, folder) = (Backend::start("a").await, tempfile::tempdir().unwrap());
    let pair = Pair::new(&["web.test"]);
    pair.put(folder.path(), "web");
    let proxy = Proxy::start_with(vec![app("web", "web.test", &[(1, backend.addr)])], |config| {
        let listen = vec![([127, 0, 0, 1], 0).into()];
        config.tls = TlsConfig { listen, certs: Some(folder.path().into()), client_ca: None };
    });
    proxy.ready().await;
    let addr = proxy.running.as_ref().unwrap().listen_tls[0];
    let stream = connect(addr, "web.test", &trusting(&[&pair], &["h2", "http/1.1"], None)).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut conn = Conn2::over(stream).await;
    let reply = conn.send(ask("GET", "/head", "")).await.unwrap();
    assert!(reply.text().contains("x-forwarded-proto: https\n"), "{}", reply.text());
}

#[tokio::test]
async fn a_stop_lets_requests_finish_and_the_client_go() {
    let backend = Backend::start("a").await;
    let mut proxy = Proxy::start(vec![app("web", "web.test", &[(1, backend.addr)])]);
    proxy.ready().await;
    let mut conn = known(&proxy).await;
    let mut idle = known(&proxy).await;
    assert_eq!(idle.send(ask("GET", "/", "")).await.unwrap().text(), "a");
    let slow = {
        let mut conn = conn.clone();
        tokio::spawn(async move { conn.send(ask("GET", "/slow?700", "")).await })
    };
    until("it runs", async || backend.running() == 1).await;
    proxy.running.take().unwrap().stop().await;
    assert_eq!(slow.await.unwrap().unwrap().text(), "a");
    assert!(conn.send(ask("GET", "/", "")).await.is_err() && idle.send(ask("GET", "/", "")).await.is_err());
}

/// Sends requests and takes each back at once; gives how many were taken before the proxy had enough.
async fn rapid_reset(proxy: &Proxy) -> usize {
    let stream = TcpStream::connect(proxy.addr).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let task = tokio::spawn(connection);
    for n in 0..20_000 {
        let Ok(mut sender) = sender.clone().ready().await else { return n };
        let request = Request::builder().uri("http://web.test/slow?5000").body(()).unwrap();
        let Ok((_, mut stream)) = sender.send_request(request, false) else { return n };
        stream.send_reset(h2::Reason::CANCEL);
        if task.is_finished() {
            return n;
        }
        if n % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    usize::MAX
}

#[tokio::test]
async fn a_flood_of_resets_ends_its_connection_and_hurts_no_other() {
    let (backend, proxy) = one().await;
    let mut other = known(&proxy).await;
    assert!(rapid_reset(&proxy).await < 20_000);
    let reply = tokio::time::timeout(Duration::from_secs(10), other.send(ask("GET", "/", ""))).await;
    assert_eq!(reply.unwrap().unwrap().text(), "a");
    until("nothing is left of it", async || backend.running() == 0).await;
}

#[tokio::test]
async fn a_head_larger_than_allowed_is_refused() {
    let (backend, proxy) = one().await;
    let mut conn = known(&proxy).await;
    let mut request = ask("GET", "/", "");
    for n in 0..30 {
        let name: hyper::header::HeaderName = format!("x-large-{n}").parse().unwrap();
        request.headers_mut().insert(name, "y".repeat(4_000).parse().unwrap());
    }
    match conn.send(request).await {
        Ok(reply) => assert_eq!(reply.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        Err(error) => assert!(!error.is_timeout(), "{error}"),
    }
    assert_eq!(backend.requests(), 0);
    let mut conn = known(&proxy).await;
    assert_eq!(conn.send(ask("GET", "/", "")).await.unwrap().text(), "a");
}

#[tokio::test]
async fn another_protocol_on_one_of_many_streams_reaches_an_http1_backend() {
    use hyper::ext::Protocol;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let backend = Backend::start("a").await;
    let second = Backend2::start("b").await;
    let mut h2 = app("second", "second.test", &[(1, second.addr)]);
    h2.traffic.protocol = sc_core::spec::Protocol::H2c;
    let proxy = Proxy::start(vec![app("web", "web.test", &[(1, backend.addr)]), h2]);
    proxy.ready().await;
    let mut conn = known(&proxy).await;
    // The server's settings say that it can (RFC 8441 section 3): they have come with an answer.
    conn.send(ask("GET", "/", "")).await.unwrap();
    let connect = |host: &str, path: &str| {
        let uri = format!("http://{host}{path}");
        Request::connect(uri).extension(Protocol::from_static("websocket")).body(Full::<Bytes>::default()).unwrap()
    };
    let response = conn.0.send_request(connect("web.test", "/upgrade")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("upgrade") && !response.headers().contains_key("connection"));
    let mut stream = hyper_util::rt::TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    for n in [1, 70_000] {
        stream.write_all(&pattern(n)).await.unwrap();
        let mut back = vec![0; n];
        stream.read_exact(&mut back).await.unwrap();
        assert!(back == pattern(n));
    }
    assert_eq!(conn.send(ask("GET", "/", "")).await.unwrap().text(), "a", "and requests go on beside it");
    let mut stats = proxy.stats().await;
    let streams = |frame: &sc_core::stats::Frame| frame.apps.values().map(|app| app.streams).sum::<u64>();
    stats.until("it is counted", |frame| streams(frame) == 1).await;
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    stats.until("it has ended", |frame| streams(frame) == 0).await;
    // An answer that is no agreement is none here either; and to HTTP/2 backends nothing is tunnelled.
    for (host, path, status) in
        [("web.test", "/status?403", 403), ("web.test", "/", 502), ("second.test", "/", 501), ("none.test", "/", 404)]
    {
        let refused = conn.0.send_request(connect(host, path)).await.unwrap();
        assert_eq!(refused.status().as_u16(), status, "{host} {path}");
    }
    // Nor is anything but WebSocket (RFC 9220 section 3), least of all HTTP itself.
    let before = backend.requests();
    for protocol in ["h2c", "HTTP/2.0", "connect-udp", "echo"] {
        let other = Request::connect("http://web.test/upgrade").extension(Protocol::from(protocol));
        let refused = conn.0.send_request(other.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        assert_eq!(refused.status(), 501, "{protocol}");
    }
    assert_eq!(backend.requests(), before);
    let plain = Request::connect("web.test:80").body(Full::<Bytes>::default()).unwrap();
    assert_eq!(conn.0.send_request(plain).await.unwrap().status(), 405);
}
