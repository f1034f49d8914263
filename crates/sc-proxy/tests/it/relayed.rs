//! The PROXY protocol from a proxy in front: who the client is, before its first byte.

use std::net::SocketAddr;

use sc_core::routes::AppRoutes;
use sc_core::spec::{ProxyProtocol, RouteSpec};
use sc_proxy::{
    Cidr, TlsConfig,
    proxy_protocol::{Ends, Header},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{line::*, *};

fn loopback() -> Vec<Cidr> {
    vec!["127.0.0.0/8".parse().unwrap()]
}

async fn proxy(backend: &Backend, relays: Vec<Cidr>) -> Proxy {
    let proxy = Proxy::start_with(vec![app("web", "", &[(1, backend.addr)])], |config| config.relays = relays);
    proxy.ready().await;
    proxy
}

/// What comes back for these pieces, sent one after the other.
async fn answer(addr: SocketAddr, pieces: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        if stream.write_all(piece).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

const ASK: &[u8] = b"GET /head HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

fn header(version: ProxyProtocol) -> Vec<u8> {
    let ends = Ends { client: "203.0.113.9:5000".parse().unwrap(), server: "192.0.2.1:443".parse().unwrap() };
    Header::Proxied(ends).write(version)
}

#[tokio::test]
async fn the_client_is_the_one_that_the_header_names() {
    let backend = Backend::start("a").await;
    let proxy = proxy(&backend, loopback()).await;
    for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
        let header = header(version);
        let whole = [&header[..], ASK].concat();
        let bytes: Vec<&[u8]> = whole.chunks(1).collect();
        for pieces in [vec![&whole[..]], vec![&header[..], ASK], bytes] {
            let text = answer(proxy.addr, &pieces).await;
            assert!(text.contains("x-forwarded-for: 203.0.113.9\n"), "{version:?}: {text}");
        }
    }
    for unknown in [&b"PROXY UNKNOWN\r\n"[..], &Header::Unknown.write(ProxyProtocol::V2)] {
        let text = answer(proxy.addr, &[unknown, ASK]).await;
        assert!(text.contains("x-forwarded-for: 127.0.0.1\n"), "{text}");
    }
}

#[tokio::test]
async fn without_the_header_nothing_is_served_and_from_others_it_is_not_looked_for() {
    let backend = Backend::start("a").await;
    let behind = proxy(&backend, loopback()).await;
    assert_eq!(answer(behind.addr, &[ASK]).await, "");
    assert_eq!(answer(behind.addr, &[b"PROXY TCP4 me you 1 2\r\n", ASK]).await, "");
    assert_eq!(backend.requests(), 0);
    let open = proxy(&backend, vec!["10.0.0.0/8".parse().unwrap()]).await;
    let text = answer(open.addr, &[ASK]).await;
    assert!(text.contains("x-forwarded-for: 127.0.0.1\n"), "{text}");
    let text = answer(open.addr, &[&header(ProxyProtocol::V1), ASK]).await;
    assert!(text.starts_with("HTTP/1.1 400"), "{text}");
}

#[tokio::test]
async fn a_header_that_does_not_come_ends_the_connection() {
    let backend = Backend::start("a").await;
    let proxy = Proxy::start_with(vec![app("web", "", &[(1, backend.addr)])], |config| {
        config.relays = loopback();
        config.limits.head_timeout = std::time::Duration::from_millis(300);
    });
    proxy.ready().await;
    assert_eq!(answer(proxy.addr, &[]).await, "");
    assert_eq!(answer(proxy.addr, &[b"PROXY TCP4 127."]).await, "");
}

#[tokio::test]
async fn under_tls_the_header_comes_before_the_handshake() {
    let (backend, folder, pair) = (Backend::start("a").await, tempfile::tempdir().unwrap(), Pair::new(&["one.test"]));
    pair.put(folder.path(), "default");
    let proxy = Proxy::start_with(vec![app("web", "", &[(1, backend.addr)])], |config| {
        config.relays = loopback();
        let listen = vec![([127, 0, 0, 1], 0).into()];
        config.tls = TlsConfig { listen, certs: Some(folder.path().into()), ..Default::default() };
    });
    proxy.ready().await;
    let addr = proxy.running.as_ref().unwrap().listen_tls[0];
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(&header(ProxyProtocol::V2)).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(trusting(&[&pair], &["http/1.1"], None));
    let mut stream = connector.connect("one.test".try_into().unwrap(), stream).await.unwrap();
    stream.write_all(ASK).await.unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text).await;
    assert!(text.contains("x-forwarded-for: 203.0.113.9\n"), "{text}");
}

#[tokio::test]
async fn a_tcp_route_hands_the_header_on() {
    let (app_side, port) = (tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(), free_port());
    let mut db =
        AppRoutes { routes: vec![RouteSpec::of_port(port)], ..app("db", "", &[(1, app_side.local_addr().unwrap())]) };
    db.traffic.tcp.proxy_protocol = Some(ProxyProtocol::V1);
    let proxy = Proxy::start_with(vec![db], |config| config.relays = loopback());
    proxy.ready().await;
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    until("the port is open", async || std::net::TcpListener::bind(addr).is_err()).await;
    let mut client = TcpStream::connect(addr).await.unwrap();
    client.write_all(&[&header(ProxyProtocol::V2)[..], b"hello"].concat()).await.unwrap();
    let (mut server, _) = app_side.accept().await.unwrap();
    let want = "PROXY TCP4 203.0.113.9 192.0.2.1 5000 443\r\nhello";
    assert_eq!(heard(&mut server, want.len()).await.unwrap(), want);
}
