//! Clients that are slow with a request's body: it is their time, not the replica's.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use sc_core::{routes::AppRoutes, spec::Protocol, stats::Frame};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::*;

/// How long nothing may come of a body here.
const BODY: Duration = Duration::from_millis(600);
/// Longer than that, ticks included.
const LONGER: Duration = Duration::from_millis(1_400);

fn impatient(backends: &[(u64, SocketAddr)]) -> AppRoutes {
    let mut routes = app("web", "", backends);
    routes.traffic.response_timeout_ms = 300;
    routes
}

async fn proxy(routes: AppRoutes) -> Proxy {
    let proxy = Proxy::start_with(vec![routes], |config| config.limits.body_timeout = BODY);
    proxy.ready().await;
    proxy
}

async fn begin(addr: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest));
    let _ = read.await.expect("the proxy closes it");
    String::from_utf8_lossy(&rest).into_owned()
}

/// What has come, up to the end or to the end of a head.
async fn rest_or_next(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.windows(4).any(|four| four == b"\r\n\r\n") {
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_buf(&mut text));
        if read.await.expect("an answer").expect("no reset") == 0 {
            break;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Nothing comes for so long.
async fn silent(stream: &mut TcpStream, span: Duration) {
    let early = tokio::time::timeout(span, stream.peek(&mut [0])).await;
    assert!(early.is_err(), "it is waited for: {early:?}");
}

/// How many latencies were counted of the app's replicas, and their sum.
fn latencies(frame: &Frame) -> (u64, f64) {
    let backends = frame.apps.values().flat_map(|app| app.backends.values());
    backends.fold((0, 0.0), |(count, sum), b| {
        (count + b.latency.buckets.values().sum::<u64>(), sum + b.latency.sum_seconds)
    })
}

async fn http2(addr: SocketAddr) -> h2::client::SendRequest<Bytes> {
    let (sender, connection) = h2::client::handshake(TcpStream::connect(addr).await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

fn post(path: &str) -> hyper::Request<()> {
    hyper::Request::post(format!("http://x{path}")).body(()).unwrap()
}

#[tokio::test]
async fn a_client_that_stalls_gets_408_and_no_replica_pays_for_it() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let proxy = proxy(impatient(&[(1, one.addr), (2, two.addr)])).await;
    let mut stalled = Vec::new();
    for method in ["POST", "PUT"] {
        for framing in ["content-length: 10\r\n\r\nab", "transfer-encoding: chunked\r\n\r\n2\r\nab\r\n"] {
            for _ in 0..5 {
                let request = format!("{method} /digest HTTP/1.1\r\nhost: x\r\n{framing}");
                stalled.push(begin(proxy.addr, &request).await);
            }
        }
    }
    for stream in &mut stalled {
        let refused = rest(stream).await;
        assert!(refused.starts_with("HTTP/1.1 408") && refused.contains("x-sc-reason: body-timeout"), "{refused}");
    }
    let mut client = http2(proxy.addr).await;
    for _ in 0..10 {
        let (response, mut send) = client.send_request(post("/digest"), false).unwrap();
        send.send_data("ab".into(), false).unwrap();
        let response = tokio::time::timeout(Duration::from_secs(10), response).await.expect("it is refused").unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-sc-reason"]),
            (408, &"body-timeout".parse().unwrap())
        );
    }
    let frame = proxy.stats().await.until("all is counted", |frame| quiet(frame, "web", 30)).await;
    assert!(frame.apps.values().all(|app| app.backends.values().all(|b| !b.ejected)), "{frame:?}");
}

/// One that was answered before it had sent all, and sends on for a while, is read until it has: a reset would cost it the answer.
/// hyper's server closes then, and has no way to be told otherwise.
#[tokio::test]
async fn a_client_that_sends_on_after_its_answer_reads_it() {
    if crate::HTTP1 == sc_proxy::Http1::Hyper {
        return;
    }
    let backend = Backend::start("abc").await;
    let proxy = proxy(app("web", "", &[(1, backend.addr)])).await;
    let mut stream = begin(proxy.addr, "POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: 400000\r\n\r\n").await;
    for piece in 0..8 {
        let sent = stream.write_all(&[b'x'; 50_000]).await;
        assert!(sent.is_ok(), "piece {piece}: {sent:?}");
        tokio::time::sleep(Duration::from_millis(400)).await; // A slow client.
    }
    let answer = rest_or_next(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn the_time_of_an_upload_is_not_the_replicas() {
    let backend = Backend::start("one").await;
    let proxy = proxy(impatient(&[(1, backend.addr)])).await;
    for method in ["POST", "PUT"] {
        let head = format!("{method} /digest HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 4\r\n\r\n");
        let mut stream = begin(proxy.addr, &head).await;
        for _ in 0..4 {
            // Together far longer than the replica may take.
            silent(&mut stream, Duration::from_millis(250)).await;
            stream.write_all(b"a").await.unwrap();
        }
        let answer = rest(&mut stream).await;
        assert!(answer.ends_with(&digest([b'a'; 4]).to_string()), "{answer}");
    }
    let mut stats = proxy.stats().await;
    let frame = stats.until("both are counted", |frame| quiet(frame, "web", 2)).await;
    let (count, sum) = latencies(&frame);
    assert!(count == 2 && sum < 0.6, "{count} of {sum} s in all");
    // Of an answer that came before its request was sent in full nothing is learned.
    let mut stream =
        begin(proxy.addr, "POST /early HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9\r\n\r\nab").await;
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 413"));
    let frame = stats.until("it is counted", |frame| quiet(frame, "web", 3)).await;
    assert_eq!(latencies(&frame).0, 2);
}

#[tokio::test]
async fn a_request_that_stands_still_behind_its_answers_head_is_broken_off() {
    let backend = Backend::start("one").await;
    let proxy = proxy(impatient(&[(1, backend.addr)])).await;
    let mut stream = begin(proxy.addr, "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n").await;
    let broken = rest(&mut stream).await;
    assert!(broken.starts_with("HTTP/1.1 200"), "{broken}");
    let mut client = http2(proxy.addr).await;
    let (response, _send) = client.send_request(post("/echo"), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    let end = tokio::time::timeout(Duration::from_secs(10), body.data()).await.expect("it is reset");
    assert!(end.unwrap().is_err());
    until("the backend is let go", async || backend.running() == 0).await;
}

#[tokio::test]
async fn what_moves_either_way_goes_on() {
    let backend = Backend::start("one").await;
    let proxy = proxy(impatient(&[(1, backend.addr)])).await;
    let request = "POST /drip HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n";
    let mut down = begin(proxy.addr, request).await;
    let (mut all, mut piece) = (Vec::new(), [0; 4096]);
    while all.windows(4).filter(|window| window == b"drop").count() < 40 {
        let n = tokio::time::timeout(Duration::from_secs(10), down.read(&mut piece)).await.unwrap().unwrap();
        assert!(n > 0, "it goes on");
        all.extend_from_slice(&piece[..n]);
    }
    let mut stream = begin(
        proxy.addr,
        "POST /upgrade HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let mut head = vec![0; 1024];
    let n = stream.read(&mut head).await.unwrap();
    assert!(head[..n].starts_with(b"HTTP/1.1 101"));
    silent(&mut stream, LONGER).await;
    stream.write_all(b"ping").await.unwrap();
    stream.read_exact(&mut head[..4]).await.unwrap();
    assert_eq!(&head[..4], b"ping");
}

/// A stream of gRPC may be silent, as a WebSocket may.
#[tokio::test]
async fn a_silent_stream_of_grpc_goes_on() {
    let backend = Backend2::start("a").await;
    let mut routes = impatient(&[(1, backend.addr)]);
    routes.traffic.protocol = Protocol::H2c;
    let proxy = proxy(routes).await;
    let mut client = http2(proxy.addr).await;
    let mut call = post("/echo");
    call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let (response, mut send) = client.send_request(call, false).unwrap();
    let mut body = response.await.unwrap().into_body();
    let early = tokio::time::timeout(LONGER, body.data()).await;
    assert!(early.is_err(), "it is open: {early:?}");
    send.send_data("late".into(), true).unwrap();
    assert_eq!(body.data().await.unwrap().unwrap(), "late");
}
