//! TCP routes: a port of the proxy leads to an app, whatever is spoken there.

use std::net::SocketAddr;

use sc_core::{
    AppId,
    routes::AppRoutes,
    spec::{ProxyProtocol, RouteSpec},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{line::*, *};

fn db(port: u16, backends: &[&Echo]) -> AppRoutes {
    let backends: Vec<_> = backends.iter().zip(1..).map(|(echo, n)| (n, echo.addr)).collect();
    at_port(port, app("db", "", &backends))
}

fn at_port(port: u16, app: AppRoutes) -> AppRoutes {
    AppRoutes { routes: vec![RouteSpec::of_port(port)], ..app }
}

fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

async fn listens(port: u16) {
    until("the port is open", async || TcpStream::connect(local(port)).await.is_ok()).await;
}

fn db_stats(frame: &sc_core::stats::Frame) -> &sc_core::stats::AppStats {
    &frame.apps[&AppId::in_default("db").unwrap()]
}

#[tokio::test]
async fn bytes_pass_both_ways_and_each_end_is_passed_on() {
    let (echo, port) = (Echo::start("a").await, free_port());
    let proxy = Proxy::start(vec![db(port, &[&echo])]);
    proxy.ready().await;
    listens(port).await;
    let (mut stream, name) = greeted(local(port)).await.unwrap();
    assert_eq!(name, 'a');
    let sent = pattern(3 << 20);
    let (mut from, mut to) = stream.split();
    let sending = async {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let (_, read) = tokio::join!(sending, from.read_to_end(&mut got));
    read.unwrap();
    assert_eq!(got.split_off(sent.len()), b"bye", "what the app says after the client has ended");
    assert!(got == sent);
}

#[tokio::test]
async fn a_client_may_go_on_after_the_app_has_ended() {
    let (app_side, port) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), free_port());
    let backend = app_side.local_addr().unwrap();
    let proxy = Proxy::start(vec![at_port(port, app("db", "", &[(1, backend)]))]);
    proxy.ready().await;
    until("the port is open", async || std::net::TcpListener::bind(local(port)).is_err()).await;
    let mut client = TcpStream::connect(local(port)).await.unwrap();
    let (mut server, _) = app_side.accept().await.unwrap();
    server.write_all(b"that is all").await.unwrap();
    server.shutdown().await.unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "that is all");
    client.write_all(b"thanks").await.unwrap();
    client.shutdown().await.unwrap();
    let mut text = String::new();
    server.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "thanks");
}

#[tokio::test]
async fn an_open_connection_is_a_stream_and_in_flight_until_it_ends() {
    let (echo, port) = (Echo::start("a").await, free_port());
    let proxy = Proxy::start(vec![db(port, &[&echo])]);
    proxy.ready().await;
    listens(port).await;
    let mut stats = proxy.stats().await;
    stats.until("the one that looked has gone", |f| db_stats(f).streams == 0).await;
    let open = [greeted(local(port)).await.unwrap(), greeted(local(port)).await.unwrap()];
    let both = |f: &sc_core::stats::Frame| db_stats(f).streams == 2 && backends(db_stats(f)).2 == 2;
    let frame = stats.until("two are open", both).await;
    assert!(db_stats(&frame).arrivals >= 2);
    drop(open);
    let none = |f: &sc_core::stats::Frame| db_stats(f).streams == 0 && backends(db_stats(f)).2 == 0;
    let frame = stats.until("both have ended", none).await;
    let (requests, completions, _) = backends(db_stats(&frame));
    assert_eq!((requests, completions), (db_stats(&frame).arrivals, db_stats(&frame).arrivals));
}

#[tokio::test]
async fn a_connection_goes_to_the_replica_with_the_fewest() {
    let (a, b, c, port) = (Echo::start("a").await, Echo::start("b").await, Echo::start("c").await, free_port());
    let proxy = Proxy::start(vec![db(port, &[&a, &b, &c])]);
    proxy.ready().await;
    listens(port).await;
    let mut stats = proxy.stats().await;
    stats.until("the one that looked has gone", |f| db_stats(f).streams == 0).await;
    let mut open = Vec::new();
    for _ in 0..12 {
        open.push(greeted(local(port)).await.unwrap());
    }
    let with = |open: &[(TcpStream, char)], name| open.iter().filter(|(_, n)| *n == name).count();
    assert_eq!(['a', 'b', 'c'].map(|name| with(&open, name)), [4, 4, 4]);
    open.retain(|(_, name)| *name != 'b');
    stats.until("those have ended", |f| db_stats(f).streams == 8).await;
    for _ in 0..4 {
        let (stream, name) = greeted(local(port)).await.unwrap();
        assert_eq!(name, 'b');
        open.push((stream, name));
    }
}

#[tokio::test]
async fn a_silent_connection_is_closed_and_a_talking_one_is_not() {
    let (echo, port) = (Echo::start("a").await, free_port());
    let mut routes = db(port, &[&echo]);
    routes.traffic.tcp.idle_timeout_ms = 1_000;
    let proxy = Proxy::start(vec![routes]);
    proxy.ready().await;
    listens(port).await;
    let (mut silent, _) = greeted(local(port)).await.unwrap();
    let (mut talking, _) = greeted(local(port)).await.unwrap();
    let mut rest = Vec::new();
    let mut ended = tokio::spawn(async move { silent.read_to_end(&mut rest).await });
    let mut words = tokio::time::interval(std::time::Duration::from_millis(50));
    for _ in 0..200 {
        words.tick().await;
        talking.write_all(b"x").await.unwrap();
        assert_eq!(heard(&mut talking, 1).await.as_deref(), Some("x"));
        if ended.is_finished() {
            assert_eq!((&mut ended).await.unwrap().unwrap_or(0), 0);
            return;
        }
    }
    panic!("the silent one is still open");
}

#[tokio::test]
async fn replacing_backends_cuts_no_connection() {
    let (a, b, port) = (Echo::start("a").await, Echo::start("b").await, free_port());
    let proxy = Proxy::start(vec![db(port, &[&a])]);
    proxy.ready().await;
    listens(port).await;
    let (mut old, _) = greeted(local(port)).await.unwrap();
    let other = at_port(port, app("db", "", &[(2, b.addr)]));
    proxy.apply(vec![other]).await;
    assert_eq!(greeted(local(port)).await.unwrap().1, 'b');
    old.write_all(b"still here").await.unwrap();
    assert_eq!(heard(&mut old, 10).await.as_deref(), Some("still here"));
}

#[tokio::test]
async fn a_replica_that_cannot_be_reached_is_passed_over() {
    let (echo, port) = (Echo::start("a").await, free_port());
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = Proxy::start(vec![at_port(port, app("db", "", &[(1, dead), (2, echo.addr)]))]);
    proxy.ready().await;
    listens(port).await;
    for _ in 0..20 {
        assert_eq!(greeted(local(port)).await.unwrap().1, 'a');
    }
}

#[tokio::test]
async fn a_connection_waits_for_the_first_replica_within_bounds() {
    let (echo, port) = (Echo::start("a").await, free_port());
    let mut empty = db(port, &[]);
    empty.traffic.queue_max = 1;
    let proxy = Proxy::start(vec![empty]);
    proxy.ready().await;
    until("the port is open", async || std::net::TcpListener::bind(local(port)).is_err()).await;
    let mut first = TcpStream::connect(local(port)).await.unwrap();
    first.write_all(b"early").await.unwrap();
    until("it waits", async || proxy.held().await == 1).await;
    assert!(greeted(local(port)).await.is_none(), "no more may wait");
    proxy.apply(vec![db(port, &[&echo])]).await;
    assert_eq!(heard(&mut first, 6).await.as_deref(), Some("aearly"));
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_place_in_the_line_up() {
    let port = free_port();
    let proxy = Proxy::start(vec![db(port, &[])]);
    proxy.ready().await;
    until("the port is open", async || std::net::TcpListener::bind(local(port)).is_err()).await;
    let client = TcpStream::connect(local(port)).await.unwrap();
    until("it waits", async || proxy.held().await == 1).await;
    client.set_zero_linger().unwrap();
    drop(client);
    until("nobody waits", async || proxy.held().await == 0).await;
}

#[tokio::test]
async fn ports_come_and_go_with_the_routes_and_open_connections_stay() {
    let (echo, one, other) = (Echo::start("a").await, free_port(), free_port());
    let proxy = Proxy::start(vec![db(one, &[&echo])]);
    proxy.ready().await;
    listens(one).await;
    let (mut open, _) = greeted(local(one)).await.unwrap();
    proxy.apply(vec![db(other, &[&echo])]).await;
    assert!(greeted(local(other)).await.is_some());
    until("the port is closed", async || TcpStream::connect(local(one)).await.is_err()).await;
    open.write_all(b"!").await.unwrap();
    assert_eq!(heard(&mut open, 1).await.as_deref(), Some("!"));
    proxy.apply(vec![db(one, &[&echo])]).await;
    until("it is open again", async || greeted(local(one)).await.is_some()).await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_and_served_once_it_is_free() {
    let (echo, port) = (Echo::start("a").await, free_port());
    let other = std::net::TcpListener::bind(local(port)).unwrap();
    let proxy = Proxy::start(vec![db(port, &[&echo])]);
    proxy.ready().await;
    let told = get(proxy.stats_addr(), "x", "/routes").await.text().to_owned();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let fault = told["tcp"]["faults"][port.to_string()].as_str().unwrap_or_default().to_owned();
    assert!(fault.contains("another process listens there"), "{told}");
    let metrics = get(proxy.stats_addr(), "x", "/metrics").await;
    assert!(metrics.text().contains("\nsc_proxy_tcp_ports_closed 1\n"));
    drop(other);
    until("it is served", async || greeted(local(port)).await.is_some()).await;
    assert!(get(proxy.stats_addr(), "x", "/metrics").await.text().contains("\nsc_proxy_tcp_ports_closed 0\n"));
}

#[tokio::test]
async fn a_stop_lets_connections_go_on_for_the_grace() {
    let (echo, port) = (Echo::start("a").await, free_port());
    let mut proxy = Proxy::start(vec![db(port, &[&echo])]);
    proxy.ready().await;
    listens(port).await;
    let (mut open, _) = greeted(local(port)).await.unwrap();
    let stopping = tokio::spawn(proxy.running.take().unwrap().stop());
    until("the port is closed", async || TcpStream::connect(local(port)).await.is_err()).await;
    open.write_all(b"!").await.unwrap();
    assert_eq!(heard(&mut open, 1).await.as_deref(), Some("!"));
    assert!(!stopping.is_finished());
    open.shutdown().await.unwrap();
    assert_eq!(heard(&mut open, 3).await.as_deref(), Some("bye"));
    tokio::time::timeout(std::time::Duration::from_secs(10), stopping).await.expect("nothing is left").unwrap();
}

#[tokio::test]
async fn replicas_are_told_who_the_client_is() {
    let (app_side, port) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), free_port());
    let mut routes = at_port(port, app("db", "", &[(1, app_side.local_addr().unwrap())]));
    routes.traffic.tcp.proxy_protocol = Some(ProxyProtocol::V1);
    let proxy = Proxy::start(vec![routes.clone()]);
    proxy.ready().await;
    until("the port is open", async || std::net::TcpListener::bind(local(port)).is_err()).await;
    let mut client = TcpStream::connect(local(port)).await.unwrap();
    let (mut server, _) = app_side.accept().await.unwrap();
    client.write_all(b"hello").await.unwrap();
    let own = client.local_addr().unwrap().port();
    let want = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {own} {port}\r\nhello");
    assert_eq!(heard(&mut server, want.len()).await.unwrap(), want);

    routes.traffic.tcp.proxy_protocol = Some(ProxyProtocol::V2);
    proxy.apply(vec![routes]).await;
    let client = TcpStream::connect(local(port)).await.unwrap();
    let (mut server, _) = app_side.accept().await.unwrap();
    let mut header = [0; 28];
    server.read_exact(&mut header).await.unwrap();
    let own = client.local_addr().unwrap().port();
    assert!(header.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01"));
    assert_eq!(header[24..], [own.to_be_bytes(), port.to_be_bytes()].concat());
}
