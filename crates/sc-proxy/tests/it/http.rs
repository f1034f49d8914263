//! What a client and a backend see of each other.

use http_body_util::BodyExt;
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

async fn one() -> (Backend, Proxy) {
    let backend = Backend::start("one").await;
    let proxy = Proxy::start(vec![app("web", "web.test", &[(1, backend.addr)])]);
    proxy.ready().await;
    (backend, proxy)
}

#[tokio::test]
async fn requests_go_to_the_app_of_their_host_and_path() {
    let [a, b, c] = [Backend::start("a").await, Backend::start("b").await, Backend::start("c").await];
    let mut api = app("api", "a.test", &[(1, b.addr)]);
    api.routes[0].path = "/api".into();
    api.routes[0].strip = true;
    let apps = vec![api, app("main", "a.test", &[(1, a.addr)]), app("wild", "*.test", &[(1, c.addr)])];
    let proxy = Proxy::start(apps);
    proxy.ready().await;
    for (host, path, want) in [
        ("a.test", "/", "a"),
        ("A.test:80", "/apis", "a"),
        ("a.test", "/api/x", "b"),
        ("a.test", "/%61pi", "b"),
        ("b.test", "/", "c"),
    ] {
        assert_eq!(get(proxy.addr, host, path).await.field("x-backend"), want, "{host}{path}");
    }
    let head = get(proxy.addr, "a.test", "/api/../api//head?q=%2F").await;
    assert!(head.text().starts_with("GET /head?q=%2F HTTP/1.1\n"), "{}", head.text());
    assert!(head.text().contains("\nx-forwarded-prefix: /api\n"), "{}", head.text());
    let none = get(proxy.addr, "other", "/").await;
    assert_eq!((none.status.as_u16(), none.field("x-sc-reason")), (404, "no-route"));
}

#[tokio::test]
async fn a_connection_serves_many_requests_and_so_does_one_to_the_backend() {
    let backend = Backend::start("one").await;
    let proxy = Proxy::start_with(vec![app("web", "", &[(1, backend.addr)])], |config| config.threads = 1);
    proxy.ready().await;
    let mut conn = Conn::open(proxy.addr).await.unwrap();
    for n in 0..100 {
        let posted = conn.send(request("POST", "x", "/echo", format!("{n}"))).await.unwrap();
        assert_eq!(posted.text(), n.to_string());
        assert_eq!(conn.send(request("GET", "x", "/", "")).await.unwrap().text(), "one");
    }
    assert_eq!(backend.seen.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn large_bodies_pass_both_ways_unharmed() {
    let (_backend, proxy) = one().await;
    let sent = pattern(5 << 20);
    let mut conn = Conn::open(proxy.addr).await.unwrap();
    for method in ["POST", "PUT"] {
        let reply = conn.send(request(method, "web.test", "/digest", sent.clone())).await.unwrap();
        assert_eq!(reply.text(), digest(sent.iter().copied()).to_string());
        let reply = conn.send(request(method, "web.test", "/echo", sent.clone())).await.unwrap();
        assert!(reply.body == sent, "an echo of {} bytes", reply.body.len());
    }
    let reply = conn.send(request("GET", "web.test", "/large?4000000", "")).await.unwrap();
    assert!(reply.body == pattern(4_000_000));
    assert_eq!(reply.field("content-length"), "4000000");
}

#[tokio::test]
async fn chunked_bodies_pass_both_ways_for_any_method() {
    let (_backend, proxy) = one().await;
    for method in ["POST", "PUT", "GET"] {
        let answer = raw(
            proxy.addr,
            &format!(
                "{method} /echo HTTP/1.1\r\nhost: web.test\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
                 3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n"
            ),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("transfer-encoding: chunked"), "{answer}");
        let body: String = answer.split("\r\n").filter(|line| line.chars().all(|c| "abcdefg".contains(c))).collect();
        assert_eq!(body, "abcdefg", "{answer}");
    }
}

#[tokio::test]
async fn trailers_pass_to_a_client_that_takes_them() {
    let (_backend, proxy) = one().await;
    let mut conn = Conn::open(proxy.addr).await.unwrap();
    let mut with = request("GET", "web.test", "/trailers", "");
    with.headers_mut().insert("te", "trailers".parse().unwrap());
    let reply = conn.send(with).await.unwrap();
    assert_eq!((reply.text(), &reply.trailers.as_ref().unwrap()["x-sum"]), ("one two", &"3".parse().unwrap()));
}

#[tokio::test]
async fn answers_without_a_body_end_where_they_should() {
    let (_backend, proxy) = one().await;
    let mut conn = Conn::open(proxy.addr).await.unwrap();
    for _ in 0..3 {
        let head = conn.send(request("HEAD", "web.test", "/large?1000", "")).await.unwrap();
        assert_eq!((head.status.as_u16(), head.field("content-length"), head.body.len()), (200, "1000", 0));
        for status in [204, 304] {
            let reply = conn.send(request("GET", "web.test", &format!("/status?{status}"), "")).await.unwrap();
            assert_eq!((reply.status.as_u16(), reply.body.len()), (status, 0));
        }
    }
}

#[tokio::test]
async fn a_client_that_expects_100_gets_it() {
    let (_backend, proxy) = one().await;
    let mut stream = tokio::net::TcpStream::connect(proxy.addr).await.unwrap();
    let head = "POST /echo HTTP/1.1\r\nhost: web.test\r\nexpect: 100-continue\r\ncontent-length: 5\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn an_upgraded_connection_passes_bytes_both_ways_and_is_counted() {
    let (_backend, proxy) = one().await;
    let mut conn = Conn::open(proxy.addr).await.unwrap();
    let mut ask = request("GET", "web.test", "/upgrade", "");
    ask.headers_mut().insert("connection", "Upgrade".parse().unwrap());
    ask.headers_mut().insert("upgrade", "echo".parse().unwrap());
    let response = conn.sender.send_request(ask).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["upgrade"]), (101, &"echo".parse().unwrap()));
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    for n in 0..100 {
        let sent = pattern(n * 100 + 1);
        stream.write_all(&sent).await.unwrap();
        let mut got = vec![0; sent.len()];
        stream.read_exact(&mut got).await.unwrap();
        assert!(got == sent);
    }
    let mut stats = proxy.stats().await;
    let web = sc_core::AppId::in_default("web").unwrap();
    stats.until("the stream is counted", |f| f.apps[&web].streams == 1 && backends(&f.apps[&web]).2 == 1).await;
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    stats.until("it is over", |f| f.apps[&web].streams == 0 && backends(&f.apps[&web]).2 == 0).await;
}

#[tokio::test]
async fn fields_of_one_connection_stay_there_and_ours_are_added() {
    let (_backend, proxy) = one().await;
    let answer = raw(
        proxy.addr,
        "GET /head HTTP/1.1\r\nHost: web.test\r\nConnection: close, X-Secret, X-Forwarded-For\r\nX-Secret: 1\r\n\
         Keep-Alive: 1\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-Ip: 6.6.6.6\r\nX-Kept: yes\r\n\r\n",
    )
    .await;
    let seen = answer.split_once("\r\n\r\n").unwrap().1;
    let mut fields: Vec<_> = seen.lines().skip(1).collect();
    fields.sort_unstable();
    let want = [
        "host: web.test",
        "via: 1.1 sc",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: web.test",
        "x-forwarded-proto: http",
        "x-kept: yes",
    ];
    assert_eq!(fields, want);
    let reply = get(proxy.addr, "web.test", "/hop").await;
    assert_eq!((reply.field("x-mine"), reply.field("keep-alive"), reply.field("x-other")), ("", "", "2"));
    assert_eq!(reply.field("via"), "1.1 sc");
}

#[tokio::test]
async fn a_trusted_peer_speaks_for_its_client() {
    let backend = Backend::start("one").await;
    let trust = |config: &mut sc_proxy::Config| config.trust = vec!["127.0.0.0/8".parse().unwrap()];
    let proxy = Proxy::start_with(vec![app("web", "", &[(1, backend.addr)])], trust);
    proxy.ready().await;
    let mut ask = request("GET", "x", "/head", "");
    ask.headers_mut().insert("x-forwarded-for", "6.6.6.6".parse().unwrap());
    ask.headers_mut().insert("x-forwarded-proto", "https".parse().unwrap());
    let reply = Conn::open(proxy.addr).await.unwrap().send(ask).await.unwrap();
    let text = reply.text();
    assert!(text.contains("x-forwarded-for: 6.6.6.6\nx-forwarded-for: 127.0.0.1\n"), "{text}");
    assert!(text.contains("x-forwarded-proto: https\n"), "{text}");
}

#[tokio::test]
async fn what_is_no_good_request_is_refused() {
    let (backend, proxy) = one().await;
    for (bytes, status) in [
        ("CONNECT web.test:80 HTTP/1.1\r\nhost: web.test:80\r\n\r\n", "405"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: web.test\r\nhost: other\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a@b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: web.test\r\n obs: fold\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost : web.test\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nhost: web.test\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd", "400"),
        ("POST / HTTP/1.1\r\nhost: web.test\r\ncontent-length: +3\r\n\r\nabc", "400"),
        ("POST / HTTP/1.1\r\nhost: web.test\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n", "400"),
        ("POST / HTTP/1.0\r\nhost: web.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
        ("GARBAGE\r\n\r\n", "400"),
    ] {
        let closing = bytes.replacen("\r\n\r\n", "\r\nconnection: close\r\n\r\n", 1);
        let answer = raw(proxy.addr, &closing).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")) || answer.starts_with(&format!("HTTP/1.0 {status}")),
            "{bytes:?} gave {answer}"
        );
    }
    assert_eq!(backend.requests(), 0, "none of them reached the app");
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    let answer = raw(proxy.addr, &format!("GET / HTTP/1.1\r\nhost: web.test\r\n{many}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn two_framings_are_refused() {
    let (backend, proxy) = one().await;
    for fields in ["content-length: 3\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 3"]
    {
        let head = format!("POST /head HTTP/1.1\r\nhost: web.test\r\n{fields}\r\nconnection: close\r\n\r\n");
        let answer = raw(proxy.addr, &format!("{head}1\r\na\r\n0\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    assert_eq!(backend.requests(), 0);
}

#[tokio::test]
async fn http_1_0_and_absolute_targets_are_understood() {
    let (_backend, proxy) = one().await;
    let answer = raw(proxy.addr, "GET /trailers HTTP/1.0\r\nhost: web.test\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with("one two"), "{answer}");
    let absolute = "GET http://web.test/head?x HTTP/1.1\r\nhost: other\r\nconnection: close\r\n\r\n";
    let answer = raw(proxy.addr, absolute).await;
    assert!(answer.contains("GET /head?x HTTP/1.1\nhost: web.test\n"), "{answer}");
}

#[tokio::test]
async fn a_stream_of_events_comes_as_it_is_sent_and_a_client_that_leaves_ends_it() {
    let (backend, proxy) = one().await;
    let mut conn = Conn::open(proxy.addr).await.unwrap();
    let response = conn.sender.send_request(request("GET", "web.test", "/drip", "")).await.unwrap();
    let mut body = response.into_body();
    for _ in 0..3 {
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "drop\n");
    }
    drop((body, conn));
    let mut stats = proxy.stats().await;
    let web = sc_core::AppId::in_default("web").unwrap();
    stats.until("nothing is in flight", |frame| backends(&frame.apps[&web]).2 == 0).await;
    let mut conn = Conn::open(proxy.addr).await.unwrap();
    let slow = tokio::spawn(async move { conn.send(request("GET", "web.test", "/slow?60000", "")).await });
    until("the request runs", async || backend.running() == 1).await;
    slow.abort();
    until("it is cancelled", async || backend.running() == 0).await;
    assert_eq!(backend.seen.cancelled.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_broken_answer_is_not_taken_for_a_whole_one() {
    let (_backend, proxy) = one().await;
    let mut conn = Conn::open(proxy.addr).await.unwrap();
    assert!(conn.send(request("GET", "web.test", "/break", "")).await.is_err());
    assert_eq!(get(proxy.addr, "web.test", "/").await.text(), "one");
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let (_backend, proxy) = one().await;
    let mut stream = tokio::net::TcpStream::connect(proxy.addr).await.unwrap();
    let head = "POST /early HTTP/1.1\r\nhost: web.test\r\ncontent-length: 1000000\r\n\r\nsome";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    let empty: Request<_> = request("GET", "web.test", "/", "");
    assert_eq!(Conn::open(proxy.addr).await.unwrap().send(empty).await.unwrap().text(), "one");
}
