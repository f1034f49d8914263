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
    for _ in 0..15 {
        stream.write_all(b"a").await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
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
