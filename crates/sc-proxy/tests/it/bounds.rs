//! What an app bears of one request.

use std::time::Duration;

use http_body_util::BodyExt;
use sc_core::spec::Bounds;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::*;

async fn with(bounds: Bounds) -> (Backend, Proxy) {
    let backend = Backend::start("one").await;
    let mut routes = app("web", "", &[(1, backend.addr)]);
    routes.traffic.bounds = bounds;
    let proxy = Proxy::start(vec![routes]);
    proxy.ready().await;
    (backend, proxy)
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest));
    let _ = read.await.expect("the proxy closes it");
    String::from_utf8_lossy(&rest).into_owned()
}

#[tokio::test]
async fn a_body_that_says_it_is_too_long_is_refused_before_anything_goes_on() {
    let (backend, proxy) = with(Bounds { max_body: Some(100), ..Bounds::default() }).await;
    let mut conn = Conn::open(proxy.addr).await.unwrap();
    let fits = conn.send(request("POST", "x", "/echo", pattern(100))).await.unwrap();
    assert!(fits.status == 200 && fits.body == pattern(100));
    for size in [101, 60_000] {
        let mut conn = Conn::open(proxy.addr).await.unwrap();
        let refused = conn.send(request("POST", "x", "/echo", pattern(size))).await.unwrap();
        assert_eq!((refused.status.as_u16(), refused.field("x-sc-reason")), (413, "body-too-large"));
    }
    let expects =
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 101\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n";
    let refused = raw(proxy.addr, expects).await;
    assert!(refused.starts_with("HTTP/1.1 413"), "{refused}");
    assert_eq!(backend.requests(), 1);
}

#[tokio::test]
async fn a_body_of_unknown_length_is_cut_where_it_becomes_too_long() {
    let (backend, proxy) = with(Bounds { max_body: Some(100), ..Bounds::default() }).await;
    for method in ["POST", "PUT"] {
        let head =
            format!("{method} /digest HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n");
        let chunk = format!("32\r\n{}\r\n", "x".repeat(50));
        let fits = raw(proxy.addr, &format!("{head}{chunk}{chunk}0\r\n\r\n")).await;
        assert!(fits.starts_with("HTTP/1.1 200"), "{fits}");
        let over = raw(proxy.addr, &format!("{head}{chunk}{chunk}1\r\ny\r\n0\r\n\r\n")).await;
        assert!(over.starts_with("HTTP/1.1 413") && over.contains("x-sc-reason: body-too-large"), "{over}");
    }
    until("the backend is let go", async || backend.running() == 0).await;
}

#[tokio::test]
async fn a_body_that_stops_coming_is_not_waited_for() {
    let (_backend, proxy) = with(Bounds { body_idle_ms: Some(200), ..Bounds::default() }).await;
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    stream.write_all(b"POST /digest HTTP/1.1\r\nhost: x\r\ncontent-length: 12\r\n\r\n").await.unwrap();
    for _ in 0..10 {
        stream.write_all(b"a").await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(30), stream.read_u8()).await;
        assert!(early.is_err(), "it is waited for as long as some comes: {early:?}");
    }
    let refused = rest(&mut stream).await;
    assert!(refused.starts_with("HTTP/1.1 408") && refused.contains("x-sc-reason: body-timeout"), "{refused}");
}

#[tokio::test]
async fn an_answer_that_stops_coming_is_broken_off() {
    let (backend, proxy) = with(Bounds { body_idle_ms: Some(300), ..Bounds::default() }).await;
    let mut conn = Conn::open(proxy.addr).await.unwrap();
    let mut drip = conn.sender.send_request(request("GET", "x", "/drip", "")).await.unwrap().into_body();
    for _ in 0..12 {
        drip.frame().await.unwrap().unwrap();
    }
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    stream.write_all(b"GET /stall HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let broken = rest(&mut stream).await;
    assert!(broken.starts_with("HTTP/1.1 200") && broken.ends_with("five!"), "{broken}");
    drop(drip);
    until("the backend is let go", async || backend.running() == 0).await;
}

#[tokio::test]
async fn a_request_ends_when_its_time_is_over_answered_or_not() {
    let (backend, proxy) = with(Bounds { total_ms: Some(400), ..Bounds::default() }).await;
    assert_eq!(get(proxy.addr, "x", "/slow?10").await.status, 200);
    let late = get(proxy.addr, "x", "/slow?30000").await;
    assert_eq!((late.status.as_u16(), late.field("x-sc-reason")), (504, "total-timeout"));
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    stream.write_all(b"GET /drip HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let cut = rest(&mut stream).await;
    assert!(cut.contains("drop\n") && !cut.ends_with("0\r\n\r\n"), "{cut}");
    until("the backend is let go", async || backend.running() == 0).await;
    let mut conn = Conn2::over(TcpStream::connect(proxy.addr).await.unwrap()).await;
    let uri = format!("http://{}/drip", proxy.addr);
    let cut = conn.send(hyper::Request::get(uri).body(Default::default()).unwrap()).await;
    assert!(cut.is_err(), "its stream is reset: {cut:?}");
    until("the backend is let go again", async || backend.running() == 0).await;
    let uri = format!("http://{}/slow?1", proxy.addr);
    let next = conn.send(hyper::Request::get(uri).body(Default::default()).unwrap()).await.unwrap();
    assert_eq!(next.status, 200, "and its connection goes on");
}

#[tokio::test]
async fn a_stream_that_is_silent_both_ways_is_closed() {
    let (_backend, proxy) = with(Bounds { stream_idle_ms: Some(400), ..Bounds::default() }).await;
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    stream
        .write_all(b"GET /upgrade HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        .await
        .unwrap();
    let mut head = vec![0; 1024];
    let n = stream.read(&mut head).await.unwrap();
    assert!(head[..n].starts_with(b"HTTP/1.1 101"));
    let mut back = [0; 4];
    for _ in 0..10 {
        let end = tokio::time::timeout(Duration::from_millis(100), stream.read(&mut back)).await;
        assert!(end.is_err(), "it is open: {end:?}");
        stream.write_all(b"ping").await.unwrap();
        stream.read_exact(&mut back).await.unwrap();
    }
    assert_eq!(rest(&mut stream).await, "");
}
