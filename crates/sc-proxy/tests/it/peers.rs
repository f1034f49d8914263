//! The PROXY protocol beside HAProxy, whose own it is: in front of this proxy, and behind it.

use std::{net::SocketAddr, path::Path};

use sc_core::spec::{ProxyProtocol, RouteSpec};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use crate::{
    binary::Program,
    support::{line::*, *},
};

/// HAProxy with these lines of configuration, listening at the port; none where it is not installed.
async fn haproxy(folder: &Path, port: u16, lines: &str) -> Option<Program> {
    if std::process::Command::new("haproxy").arg("-v").output().is_err() {
        eprintln!("skipped: HAProxy is needed (Debian: haproxy)");
        return None;
    }
    let file = folder.join("haproxy.cfg");
    let times = "timeout connect 5s\n timeout client 10s\n timeout server 10s\n";
    std::fs::write(&file, format!("defaults\n {times}{lines}\n")).unwrap();
    let program = Program::run("haproxy", &["-db", "-f", file.to_str().unwrap()]);
    until("HAProxy listens", async || TcpStream::connect(local(port)).await.is_ok()).await;
    Some(program)
}

fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// Asks as a client with an address that no proxy has, and gives that address and the answer.
async fn ask(addr: SocketAddr) -> (SocketAddr, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 9], 0).into()).unwrap();
    let mut stream = socket.connect(addr).await.unwrap();
    stream.write_all(b"GET /head HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text).await;
    (stream.local_addr().unwrap(), text)
}

#[tokio::test]
async fn haproxy_in_front_tells_who_the_client_is() {
    let (backend, folder) = (Backend::start("a").await, tempfile::tempdir().unwrap());
    let proxy = Proxy::start_with(vec![app("web", "", &[(1, backend.addr)])], |config| {
        config.relays = vec!["127.0.0.1".parse().unwrap()];
    });
    proxy.ready().await;
    for version in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"] {
        let (front, to) = (free_port(), proxy.addr);
        let lines = format!("listen in\n mode tcp\n bind 127.0.0.1:{front}\n server s {to} {version}");
        let Some(_haproxy) = haproxy(folder.path(), front, &lines).await else { return };
        let (_, text) = ask(local(front)).await;
        assert!(text.contains("x-forwarded-for: 127.0.0.9\n"), "{version}: {text}");
    }
}

#[tokio::test]
async fn haproxy_behind_is_told_who_the_client_is() {
    let (folder, behind, port) = (tempfile::tempdir().unwrap(), free_port(), free_port());
    let answer = "http-request return status 200 content-type text/plain lf-string %[src]:%[src_port]";
    let lines = format!("listen out\n mode http\n bind 127.0.0.1:{behind} accept-proxy\n {answer}");
    let Some(_haproxy) = haproxy(folder.path(), behind, &lines).await else { return };
    for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
        let mut routes = app("db", "", &[(1, local(behind))]);
        routes.routes = vec![RouteSpec::of_port(port)];
        routes.traffic.tcp.proxy_protocol = Some(version);
        let proxy = Proxy::start(vec![routes]);
        proxy.ready().await;
        until("the port is open", async || std::net::TcpListener::bind(local(port)).is_err()).await;
        let (client, text) = ask(local(port)).await;
        assert!(text.ends_with(&client.to_string()), "{version:?}: {text}");
        proxy.running.unwrap().stop().await;
    }
}
