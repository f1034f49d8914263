//! HTTPS: certificates by name, swapped while it serves; tickets; client certificates.

use std::net::SocketAddr;

use hyper::StatusCode;
use rustls::HandshakeKind;
use sc_proxy::TlsConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

fn loopback() -> Vec<SocketAddr> {
    vec![([127, 0, 0, 1], 0).into()]
}

/// A proxy with HTTPS over these certificates.
fn proxy(backend: &Backend, tls: TlsConfig) -> (Proxy, SocketAddr) {
    let proxy = Proxy::start_with(vec![app("web", "", &[(1, backend.addr)])], |config| {
        config.tls = TlsConfig { listen: loopback(), ..tls };
    });
    let addr = proxy.running.as_ref().unwrap().listen_tls[0];
    (proxy, addr)
}

#[tokio::test]
async fn each_name_has_its_certificate_and_a_new_one_is_taken_while_connections_stay() {
    let (backend, folder) = (Backend::start("a").await, tempfile::tempdir().unwrap());
    let (one, wild) = (Pair::new(&["one.test"]), Pair::new(&["*.wild.test"]));
    one.put(folder.path(), "default");
    wild.put(folder.path(), "wild");
    let (proxy, addr) = proxy(&backend, TlsConfig { certs: Some(folder.path().into()), ..Default::default() });
    proxy.ready().await;
    for (name, pair) in [("one.test", &one), ("x.wild.test", &wild)] {
        let (reply, _) = get_tls(addr, name, "/head", &trusting(&[pair], &["http/1.1"], None)).await.unwrap();
        assert!(reply.text().contains("x-forwarded-proto: https\n"), "{}", reply.text());
    }
    let old = trusting(&[&one], &[], None);
    assert!(get_tls(addr, "x.wild.test", "/", &old).await.is_err(), "not this certificate");
    let mut open = connect(addr, "one.test", &old).await.unwrap();
    let suite = open.get_ref().1.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256, "not the first one of the client's");

    let new = Pair::new(&["one.test"]);
    new.put(folder.path(), "default");
    let fresh = || trusting(&[&new], &[], None);
    until("the new certificate serves", async || get_tls(addr, "one.test", "/", &fresh()).await.is_ok()).await;
    std::fs::write(folder.path().join("wild.crt"), "nothing").unwrap();
    Pair::new(&["third.test"]).put(folder.path(), "third");
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(100));
    for _ in 0..15 {
        looks.tick().await;
        get_tls(addr, "one.test", "/", &fresh()).await.expect("what is broken is refused whole");
        let known = get_tls(addr, "x.wild.test", "/", &trusting(&[&wild], &[], None)).await;
        known.expect("the last good certificate serves on");
    }
    open.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let _ = open.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with('a'), "the open connection goes on: {answer}");
}

#[tokio::test]
async fn a_ticket_is_good_on_every_thread() {
    let (backend, folder) = (Backend::start("a").await, tempfile::tempdir().unwrap());
    let pair = Pair::new(&["one.test"]);
    pair.put(folder.path(), "one");
    let (proxy, addr) = proxy(&backend, TlsConfig { certs: Some(folder.path().into()), ..Default::default() });
    proxy.ready().await;
    let config = trusting(&[&pair], &[], None);
    let mut kinds = Vec::new();
    for _ in 0..16 {
        kinds.push(get_tls(addr, "one.test", "/", &config).await.unwrap().1);
    }
    assert_eq!(kinds[0], HandshakeKind::Full);
    assert!(kinds[1..].iter().all(|kind| *kind == HandshakeKind::Resumed), "{kinds:?}");
}

#[tokio::test]
async fn without_a_certificate_it_makes_one_and_keeps_it() {
    let (backend, folder) = (Backend::start("a").await, tempfile::tempdir().unwrap());
    let start = || {
        let proxy = Proxy::start_with(vec![app("web", "", &[(1, backend.addr)])], |config| {
            config.tls.listen = loopback();
            config.data = Some(folder.path().into());
        });
        let addr = proxy.running.as_ref().unwrap().listen_tls[0];
        (proxy, addr)
    };
    for _ in 0..2 {
        let (proxy, addr) = start();
        proxy.ready().await;
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let pair = Pair { cert: read("own.crt"), key: read("own.key") };
        let config = trusting(&[&pair], &[], None);
        assert_eq!(get_tls(addr, "localhost", "/", &config).await.unwrap().0.text(), "a");
    }
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(folder.path().join("own.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn only_clients_with_a_certificate_come_in_where_one_is_asked_for() {
    let (backend, folder) = (Backend::start("a").await, tempfile::tempdir().unwrap());
    let (pair, client) = (Pair::new(&["one.test"]), Pair::new(&["client.test"]));
    pair.put(folder.path(), "one");
    let client_ca = folder.path().join("clients.ca");
    std::fs::write(&client_ca, &client.cert).unwrap();
    let tls = TlsConfig { certs: Some(folder.path().into()), client_ca: Some(client_ca), ..Default::default() };
    let (proxy, addr) = proxy(&backend, tls);
    proxy.ready().await;
    let known = trusting(&[&pair], &[], Some(&client));
    assert_eq!(get_tls(addr, "one.test", "/", &known).await.unwrap().0.status, StatusCode::OK);
    assert!(get_tls(addr, "one.test", "/", &trusting(&[&pair], &[], None)).await.is_err());
}

#[tokio::test]
async fn large_bodies_come_whole_and_plain_http_is_no_handshake() {
    let (backend, folder) = (Backend::start("a").await, tempfile::tempdir().unwrap());
    let pair = Pair::new(&["one.test"]);
    pair.put(folder.path(), "one");
    let (proxy, addr) = proxy(&backend, TlsConfig { certs: Some(folder.path().into()), ..Default::default() });
    proxy.ready().await;
    let config = trusting(&[&pair], &[], None);
    for size in [0, 1, 16_384, 3_000_001] {
        let (reply, _) = get_tls(addr, "one.test", &format!("/large?{size}"), &config).await.unwrap();
        assert!(reply.body == pattern(size), "{size} bytes");
    }
    assert!(!raw(addr, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.contains("200"));
    assert_eq!(get_tls(addr, "one.test", "/", &config).await.unwrap().0.text(), "a");
}

#[test]
fn certificates_that_are_not_right_stop_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let start = |certs: &std::path::Path| {
        let (_keep, given) = tokio::sync::watch::channel(Default::default());
        let mut config = sc_proxy::Config::new(sc_proxy::Source::Given(given));
        config.tls = TlsConfig { listen: loopback(), certs: Some(certs.into()), client_ca: None };
        sc_proxy::start(config).err().expect("it does not start").to_string()
    };
    assert!(start(&folder.path().join("nowhere")).contains("nowhere"));
    std::fs::write(folder.path().join("x.crt"), Pair::new(&["x"]).cert).unwrap();
    assert!(start(folder.path()).contains("x.key"));
    std::fs::write(folder.path().join("x.key"), Pair::new(&["x"]).key).unwrap();
    assert!(start(folder.path()).contains("do not go together"));
}
