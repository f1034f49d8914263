//! WebSockets whose replica leaves, or whose proxy stops.

use std::time::{Duration, Instant};

use sc_core::routes::AppRoutes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::*;

const CLOSE: [u8; 4] = [0x88, 2, 0x03, 0xe9];

fn web(drain_ms: u64, backends: &[(u64, std::net::SocketAddr)]) -> Vec<AppRoutes> {
    vec![AppRoutes { drain_ms, ..app("web", "", backends) }]
}

/// An open stream of this protocol; its backend echoes.
async fn open(proxy: &Proxy, protocol: &str) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    let ask = format!("GET /upgrade HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    stream
}

async fn echo(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(back, bytes);
}

async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await.expect("it ends").unwrap();
    rest
}

#[tokio::test]
async fn a_websocket_whose_replica_leaves_is_told_before_the_time_to_drain_is_over() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let drain = Duration::from_millis(2_000);
    let proxy = Proxy::start(web(2_000, &[(1, a.addr)]));
    proxy.ready().await;
    let mut stream = open(&proxy, "websocket").await;
    let mut other = open(&proxy, "echo").await;
    let frame = b"\x81\x05hello";
    echo(&mut stream, frame).await;
    echo(&mut stream, &frame[..4]).await;
    let left = Instant::now();
    proxy.apply(web(2_000, &[(2, b.addr)])).await;
    echo(&mut stream, &frame[4..]).await;
    echo(&mut stream, frame).await;
    assert_eq!(rest(&mut stream).await, CLOSE, "it goes on, and is told to go between two frames");
    let after = left.elapsed();
    assert!(after >= drain * 7 / 10, "no earlier than need be: {after:?}");
    echo(&mut other, b"what is no WebSocket knows no goodbye").await;
}

#[tokio::test]
async fn a_websocket_whose_replica_comes_back_goes_on() {
    let a = Backend::start("a").await;
    let proxy = Proxy::start(web(600, &[(1, a.addr)]));
    proxy.ready().await;
    let mut stream = open(&proxy, "websocket").await;
    proxy.apply(web(600, &[])).await;
    proxy.apply(web(600, &[(1, a.addr)])).await;
    let goodbye = tokio::time::timeout(Duration::from_millis(1_200), stream.read_u8()).await;
    assert!(goodbye.is_err(), "twice as long as it had: {goodbye:?}");
    echo(&mut stream, b"\x81\x02on").await;
    proxy.apply(web(600, &[])).await;
    assert_eq!(rest(&mut stream).await, CLOSE, "but when it leaves again it counts");
}

#[tokio::test]
async fn a_websocket_is_told_that_the_proxy_stops() {
    let a = Backend::start("a").await;
    let mut proxy = Proxy::start(web(30_000, &[(1, a.addr)]));
    proxy.ready().await;
    let mut stream = open(&proxy, "websocket").await;
    let stopping = proxy.running.take().unwrap().stop_within(Duration::from_secs(2));
    let stopping = tokio::spawn(stopping);
    assert_eq!(rest(&mut stream).await, CLOSE);
    stopping.await.unwrap();
}
