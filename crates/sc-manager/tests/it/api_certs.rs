//! Certificates over the API: sealed in the store, opened for proxies, refused with the reason.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use sc_api::{
    Problem,
    client::ClientError,
    types::{CertsUpdate, PutCert},
};
use sc_core::certs::{Cert, cert_key};
use sc_store::{Memory, Store, Write};
use tokio::net::TcpStream;

use crate::server::Server;

fn made(names: &[&str], days: i64) -> PutCert {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    let now = std::time::SystemTime::now();
    params.not_before = (now - Duration::from_secs(100 * 86_400)).into();
    let end = Duration::from_secs(days.unsigned_abs() * 86_400);
    params.not_after = if days < 0 { (now - end).into() } else { (now + end).into() };
    let key = rcgen::KeyPair::generate().unwrap();
    PutCert { chain: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

fn problem<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Problem {
    match result {
        Err(ClientError::Problem(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

async fn stored(store: &dyn Store, name: &str) -> Option<Cert> {
    let key = cert_key(name);
    let all = store.load(&key).await.unwrap();
    all.entries.get(&key).map(|entry| serde_json::from_slice(&entry.value).unwrap())
}

#[tokio::test]
async fn they_are_added_sealed_listed_and_removed() {
    let store = Arc::new(Memory::new());
    let server = Server::start_on(store.clone(), |_| ()).await;
    let client = server.client();
    assert_eq!(client.certs().await.unwrap(), []);
    let (good, soon) = (made(&["a.test", "*.a.test"], 90), made(&["b.test"], 10));
    let added = client.put_cert("shop", &good).await.unwrap();
    assert_eq!((added.names, added.changed), (vec!["*.a.test".to_owned(), "a.test".to_owned()], true));
    assert!(!client.put_cert("shop", &good).await.unwrap().changed);
    client.put_cert("soon", &soon).await.unwrap();
    let record = stored(store.as_ref(), "shop").await.unwrap();
    assert!(!serde_json::to_string(&record).unwrap().contains("PRIVATE"), "{record:?}");
    let states: Vec<_> = client.certs().await.unwrap().into_iter().map(|cert| (cert.name, cert.state)).collect();
    assert_eq!(states, [("shop".into(), "ok".into()), ("soon".into(), "ends soon".into())] as [(String, String); 2]);
    let found = client.doctor().await.unwrap();
    assert!(found.iter().any(|found| found.what == "certificate soon" && found.level == "warning"), "{found:#?}");
    server
        .until("its end is told", async |_| {
            server.running.world.events.since(0, &Default::default()).0.iter().any(|e| e.kind == "cert_ends_soon")
        })
        .await;
    assert_eq!(problem(client.remove_cert("shopp").await).status, 404);
    client.remove_cert("shop").await.unwrap();
    assert_eq!(stored(store.as_ref(), "shop").await, None);
}

#[tokio::test]
async fn another_manager_does_not_tell_again_what_ends_soon() {
    let store = Arc::new(Memory::new());
    let told = |server: &Server, name: &str| {
        let events = server.running.world.events.since(0, &Default::default()).0;
        events.iter().filter(|e| e.kind == "cert_ends_soon" && e.data["certificate"] == name).count()
    };
    let server = Server::start_on(store.clone(), |_| ()).await;
    server.client().put_cert("soon", &made(&["b.test"], 10)).await.unwrap();
    server.until("its end is told", async |_| told(&server, "soon") == 1).await;
    let written = async || store.load("default/events/").await.unwrap().entries;
    let is_told = |entry: &sc_store::Entry| String::from_utf8_lossy(&entry.value).contains("cert_ends_soon");
    server.until("that is written", async |_| written().await.values().any(is_told)).await;
    drop(server);

    let server = Server::start_on(store.clone(), |_| ()).await;
    server.client().put_cert("later", &made(&["c.test"], 10)).await.unwrap();
    server.until("another's end is told", async |_| told(&server, "later") == 1).await;
    assert_eq!(told(&server, "soon"), 1);
    // Its successor's end is news.
    server.client().put_cert("soon", &made(&["b.test"], 9)).await.unwrap();
    server.until("the successor's end is told", async |_| told(&server, "soon") == 2).await;
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_whole() {
    let server = Server::start().await;
    let client = server.client();
    let (good, other) = (made(&["a.test"], 90), made(&["a.test"], 90));
    let mixed = PutCert { key: other.key, ..good.clone() };
    let garbage = PutCert { chain: "garbage".into(), key: "garbage".into() };
    for (name, put, what) in [
        ("a", &mixed, "not the certificate's"),
        ("a", &garbage, "no certificate"),
        ("a", &made(&["a.test"], -1), "expired"),
        ("a", &made(&[], 90), "names no host"),
        ("acme:a.test", &good, "no name for a certificate"),
        ("A", &good, "no name for a certificate"),
    ] {
        let refused = problem(client.put_cert(name, put).await);
        assert_eq!(refused.status, 422, "{refused:?}");
        assert!(refused.detail.contains(what) && refused.hint.is_some(), "{refused:?}");
    }
    assert_eq!(client.certs().await.unwrap(), []);
}

#[tokio::test]
async fn another_store_key_is_told_and_unknown_fields_stay() {
    let store = Arc::new(Memory::new());
    let server = Server::start_on(store.clone(), |_| ()).await;
    server.client().put_cert("shop", &made(&["a.test"], 90)).await.unwrap();
    let mut record = serde_json::to_value(stored(store.as_ref(), "shop").await.unwrap()).unwrap();
    record["later"] = serde_json::json!(1);
    let value = serde_json::to_vec(&record).unwrap();
    store.commit(None, Vec::new(), vec![Write::Put { key: cert_key("shop"), value, lease: None }]).await.unwrap();
    // A manager with another key.
    server.running.stop().await;
    let other = Server::start_on(store.clone(), |_| ()).await;
    let client = other.client();
    let seen = client.certs().await.unwrap();
    assert!(seen[0].state == "broken" && seen[0].detail.contains("another store key"), "{seen:?}");
    let found = client.doctor().await.unwrap();
    assert!(found.iter().any(|found| found.what == "certificate shop" && found.level == "error"), "{found:#?}");
    client.put_cert("shop", &made(&["a.test"], 90)).await.unwrap();
    assert_eq!(client.certs().await.unwrap()[0].state, "ok");
    assert_eq!(stored(store.as_ref(), "shop").await.unwrap().extra["later"], 1);
}

#[tokio::test]
async fn proxies_with_the_token_get_them_opened_and_others_nothing() {
    let server = Server::start().await;
    let good = made(&["a.test"], 90);
    server.client().put_cert("shop", &good).await.unwrap();
    let stream = TcpStream::connect(server.running.addrs[0]).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let bare = Request::get("/v1/certs/opened").header("host", "x").body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(sender.send_request(bare).await.unwrap().status(), 401);
    let stream = TcpStream::connect(server.running.addrs[0]).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = server.request("GET", "/v1/certs/opened").body(Empty::<Bytes>::new()).unwrap();
    let mut body = sender.send_request(request).await.unwrap().into_body();
    let mut next = async || -> CertsUpdate {
        let frame = tokio::time::timeout(Duration::from_secs(10), body.frame()).await.unwrap().unwrap().unwrap();
        serde_json::from_slice(&frame.into_data().unwrap()).unwrap()
    };
    let first = next().await.all.unwrap();
    assert!(first.certs["shop"].key.contains("PRIVATE KEY") && first.broken.is_empty());
    assert!(!format!("{first:?}").contains("PRIVATE KEY"), "nor in a log");
    server.client().remove_cert("shop").await.unwrap();
    let mut last = next().await;
    while last.all.is_none() {
        last = next().await;
    }
    assert!(last.all.unwrap().certs.is_empty());
}
