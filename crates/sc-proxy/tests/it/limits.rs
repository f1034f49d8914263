//! Bounds of time: whoever is too slow is cut off.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::*;

async fn proxy() -> (Backend, Proxy) {
    let backend = Backend::start("one").await;
    let mut routes = app("web", "", &[(1, backend.addr)]);
    routes.traffic.response_timeout_ms = 500;
    let proxy = Proxy::start_with(vec![routes], |config| {
        config.limits.head_timeout = Duration::from_millis(500);
        config.limits.idle_timeout = Duration::from_millis(500);
    });
    proxy.ready().await;
    (backend, proxy)
}

async fn closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest));
    let _ = read.await.expect("the proxy closes it");
    rest
}

#[tokio::test]
async fn a_head_that_comes_drop_by_drop_is_not_waited_for() {
    let (_backend, proxy) = proxy().await;
    let mut slow = TcpStream::connect(proxy.addr).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let (mut read, mut write) = slow.into_split();
    let drops = tokio::spawn(async move {
        while write.write_all(b"x: y\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), read.read_to_end(&mut rest));
    let _ = read.await.expect("the proxy closes it");
    assert!(!String::from_utf8_lossy(&rest).contains("200"), "{rest:?}");
    drops.abort();
}

#[tokio::test]
async fn idle_connections_are_closed_used_or_not() {
    let (_backend, proxy) = proxy().await;
    let mut unused = TcpStream::connect(proxy.addr).await.unwrap();
    assert!(closed(&mut unused).await.is_empty());
    let mut used = TcpStream::connect(proxy.addr).await.unwrap();
    used.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let answer = closed(&mut used).await;
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_a_504_and_a_slow_body_is_not() {
    let (backend, proxy) = proxy().await;
    let late = get(proxy.addr, "x", "/slow?30000").await;
    assert_eq!((late.status.as_u16(), late.field("x-sc-reason")), (504, "response-timeout"));
    until("the backend is let go", async || backend.running() == 0).await;
    let mut conn = Conn::open(proxy.addr).await.unwrap();
    let mut body = conn.sender.send_request(request("GET", "x", "/drip", "")).await.unwrap().into_body();
    for _ in 0..30 {
        http_body_util::BodyExt::frame(&mut body).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_slow_upload_that_goes_on_is_waited_for() {
    let (_backend, proxy) = proxy().await;
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    stream
        .write_all(b"POST /digest HTTP/1.1\r\nhost: x\r\ncontent-length: 15\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    for sent in 1..=15 {
        stream.write_all(b"a").await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(100), stream.peek(&mut [0])).await;
        assert!(early.is_err() || sent == 15, "it is waited for: {early:?}");
    }
    let answer = String::from_utf8(closed(&mut stream).await).unwrap();
    assert!(answer.ends_with(&digest([b'a'; 15]).to_string()), "{answer}");
}

#[tokio::test]
async fn more_connections_than_allowed_wait_their_turn() {
    let backend = Backend::start("one").await;
    let proxy = Proxy::start_with(vec![app("web", "", &[(1, backend.addr)])], |config| {
        config.limits.connections = 2;
        config.threads = 1;
    });
    proxy.ready().await;
    let first = Conn::open(proxy.addr).await.unwrap();
    let mut second = Conn::open(proxy.addr).await.unwrap();
    assert_eq!(second.send(request("GET", "x", "/", "")).await.unwrap().text(), "one");
    let third = tokio::spawn(get(proxy.addr, "x", "/"));
    let early = tokio::time::timeout(Duration::from_millis(300), async {
        while !third.is_finished() {
            tokio::task::yield_now().await
        }
    });
    assert!(early.await.is_err(), "no room yet");
    drop((first, second));
    assert_eq!(third.await.unwrap().text(), "one");
}

/// Whether connections are open: of those in a list, how many the proxy still answers.
async fn served(streams: &mut [TcpStream]) -> usize {
    let mut served = 0;
    for stream in streams {
        let asked = stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let mut head = [0; 16];
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut head)).await;
        served += usize::from(asked.is_ok() && matches!(read, Ok(Ok(1..))) && head.starts_with(b"HTTP/1.1 200"));
    }
    served
}

async fn connections(addr: std::net::SocketAddr, n: usize) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for _ in 0..n {
        all.push(TcpStream::connect(addr).await.unwrap());
    }
    all
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_no_more() {
    let backend = Backend::start("one").await;
    let proxy = Proxy::start_with(vec![app("web", "", &[(1, backend.addr)])], |config| {
        config.limits.connections_per_address = Some(3);
    });
    // Polled over one connection: the others of this address are being closed meanwhile.
    proxy.ready().await;
    let mut streams = connections(proxy.addr, 5).await;
    assert_eq!(served(&mut streams).await, 3);
    let metrics = get(proxy.stats_addr(), "x", "/metrics").await;
    assert!(metrics.text().contains("\nsc_proxy_refused_connections_total 2\n"), "{}", metrics.text());
    drop(streams);
    until("places are free again", async || served(&mut connections(proxy.addr, 1).await).await == 1).await;
    // One that speaks another protocol is still one of its address.
    let mut upgraded = Vec::new();
    for _ in 0..3 {
        until("it is taken", async || {
            let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
            let ask = b"GET /upgrade HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
            let mut head = [0; 12];
            let taken = stream.write_all(ask).await.is_ok() && stream.read_exact(&mut head).await.is_ok();
            if taken {
                upgraded.push(stream);
            }
            taken && head.ends_with(b"101")
        })
        .await;
    }
    assert_eq!(served(&mut connections(proxy.addr, 1).await).await, 0);
}

#[tokio::test]
async fn who_speaks_for_others_is_not_counted() {
    let backend = Backend::start("one").await;
    let range = || vec!["127.0.0.0/8".parse().unwrap()];
    let routes = || vec![app("web", "", &[(1, backend.addr)])];
    let proxy = Proxy::start_with(routes(), |config| {
        config.limits.connections_per_address = Some(1);
        config.trust = range();
    });
    proxy.ready().await;
    assert_eq!(served(&mut connections(proxy.addr, 4).await).await, 4);
    // Behind a PROXY header it is the client that counts.
    let proxy = Proxy::start_with(routes(), |config| {
        config.limits.connections_per_address = Some(1);
        config.relays = range();
    });
    proxy.ready().await;
    let mut streams = connections(proxy.addr, 4).await;
    for (stream, client) in streams.iter_mut().zip(["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.1"]) {
        stream.write_all(format!("PROXY TCP4 {client} 192.0.2.9 1000 80\r\n").as_bytes()).await.unwrap();
        // One after the other: the first of an address is served.
        until("it is answered or closed", async || {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
            let mut head = [0; 4096];
            !matches!(stream.try_read(&mut head), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        })
        .await;
    }
    assert_eq!(served(&mut streams[..3]).await, 3);
    assert_eq!(served(&mut streams[3..]).await, 0);
}

#[tokio::test]
async fn heads_are_as_large_as_they_may_be() {
    let backend = Backend::start("one").await;
    let proxy = Proxy::start_with(vec![app("web", "", &[(1, backend.addr)])], |config| {
        (config.limits.head_bytes, config.limits.head_fields, config.limits.uri_bytes) = (2_000, 10, 500);
    });
    proxy.ready().await;
    let ask = |target: usize, field: usize, fields: usize| {
        let (target, field, fields) = ("x".repeat(target - 1), "y".repeat(field), "a: b\r\n".repeat(fields - 3));
        format!("GET /{target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nz: {field}\r\n{fields}\r\n")
    };
    for (target, field, fields, status) in
        [(500, 100, 10, "200"), (501, 100, 10, "414"), (10, 1_900, 3, "200"), (10, 2_100, 3, "431"), (10, 1, 11, "431")]
    {
        let answer = raw(proxy.addr, &ask(target, field, fields)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{target} {field} {fields}: {answer}");
    }
    let mut conn = Conn2::over(TcpStream::connect(proxy.addr).await.unwrap()).await;
    for (target, fields, status) in [(499, 9, 200), (501, 1, 414), (10, 11, 431)] {
        let uri = format!("http://x/{}", "x".repeat(target));
        let request = (0..fields).fold(hyper::Request::get(uri), |request, n| request.header(format!("x-{n}"), "y"));
        let reply = conn.send(request.body(Default::default()).unwrap()).await.unwrap();
        assert_eq!(reply.status.as_u16(), status, "{target} {fields}");
    }
}

#[tokio::test]
async fn an_http2_connection_has_so_many_requests_at_once() {
    let backend = Backend::start("one").await;
    let proxy = Proxy::start_with(vec![app("web", "", &[(1, backend.addr)])], |config| config.limits.h2_streams = 3);
    proxy.ready().await;
    let mut conn = Conn2::over(TcpStream::connect(proxy.addr).await.unwrap()).await;
    // With the first answer the client knows the server's settings.
    conn.send(hyper::Request::get("http://x/").body(Default::default()).unwrap()).await.unwrap();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let mut conn = conn.clone();
        let request = hyper::Request::get("http://x/slow?50").body(Default::default()).unwrap();
        all.spawn(async move { conn.send(request).await.unwrap().status });
    }
    assert!(all.join_all().await.iter().all(|status| *status == 200));
    assert!(backend.seen.peak.load(std::sync::atomic::Ordering::SeqCst) <= 3);
}
