//! Clients that take their time: each phase has its own bound.

use std::time::Duration;

use sc_proxy::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::bench::{Bench, GOOD, PATHS, PATIENCE, exchange};

fn hasty(config: &mut Config) {
    config.limits.head_timeout = Duration::from_millis(400);
    config.limits.idle_timeout = Duration::from_millis(400);
}

/// Sends a drop every 20 ms; true once the proxy closes, false if it does not.
async fn dripping_is_cut(bench: &Bench, start: &str, drop: &str) -> bool {
    let mut stream = TcpStream::connect(bench.addr).await.unwrap();
    stream.write_all(start.as_bytes()).await.unwrap();
    let (mut read, mut write) = stream.split();
    let drip = async {
        while write.write_all(drop.as_bytes()).await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
        std::future::pending().await
    };
    let mut answer = Vec::new();
    let closed = timeout(PATIENCE, read.read_to_end(&mut answer));
    tokio::select! { closed = closed => closed.is_ok(), () = drip => false }
}

#[tokio::test]
async fn a_head_that_trickles_in_is_cut_off() {
    for http1 in PATHS {
        let bench = Bench::start_with(http1, GOOD, &[], hasty).await;
        assert!(dripping_is_cut(&bench, "GET / HT", "x").await, "{http1:?}: the request line");
        assert!(dripping_is_cut(&bench, "GET / HTTP/1.1\r\nhost: a\r\n", "x: y\r\n").await, "{http1:?}: fields");
        assert!(dripping_is_cut(&bench, "", "\r\n").await, "{http1:?}: empty lines");
        let second = "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\n";
        assert!(dripping_is_cut(&bench, second, "x: y\r\n").await, "{http1:?}: the second head");
    }
}

/// While some wait, others are served; and what waits holds no backend.
#[tokio::test]
async fn slow_clients_do_not_stand_in_the_way() {
    for http1 in PATHS {
        let bench = Bench::start(http1, GOOD).await;
        let mut slow = Vec::new();
        for _ in 0..300 {
            let mut stream = TcpStream::connect(bench.addr).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n").await.unwrap();
            slow.push(stream);
        }
        assert_eq!(bench.backend.connections().len(), 0, "{http1:?}");
        bench.passes("among slow ones", b"GET /fine HTTP/1.1\r\nhost: a\r\n\r\n").await;
        for stream in &mut slow {
            stream.write_all(b"connection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{http1:?}: {answer}");
        }
    }
}

/// Whoever does not read an answer does not make the proxy keep it: the backend waits instead.
#[tokio::test]
async fn an_answer_that_is_not_read_is_not_piled_up() {
    let size = 64 << 20;
    for http1 in PATHS {
        let large =
            [format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n").into_bytes(), vec![b'x'; size]].concat();
        let bench = Bench::start(http1, large).await;
        let before = resident_kib();
        let mut clients = Vec::new();
        for _ in 0..4 {
            let mut stream = TcpStream::connect(bench.addr).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            let mut first = [0; 12];
            stream.read_exact(&mut first).await.unwrap();
            assert_eq!(&first, b"HTTP/1.1 200", "{http1:?}");
            clients.push(stream);
        }
        let end = Instant::now() + Duration::from_millis(500);
        while Instant::now() < end {
            let grown = resident_kib().saturating_sub(before);
            assert!(grown < 40 * 1024, "{http1:?}: grew by {grown} KiB, though nobody reads");
            sleep(Duration::from_millis(50)).await;
        }
        drop(clients);
        let answer = exchange(
            bench.running.stats.strip_prefix("http://").unwrap().parse().unwrap(),
            b"GET /healthz HTTP/1.0\r\nhost: a\r\n\r\n",
        )
        .await;
        assert!(answer.contains("200"), "{answer}");
    }
}

pub fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
