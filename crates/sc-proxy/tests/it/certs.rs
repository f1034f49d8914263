//! Certificates and challenges of the store.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hyper::StatusCode;
use sc_core::{
    certs::{self, Cert, Challenge, Origin},
    records,
    routes::AppRoutes,
    rules::Rules,
};
use sc_proxy::{
    Config, Running, Source, TlsConfig,
    source::{Opened, Stored},
};
use sc_store::{Memory, Store, Write};
use sc_vault::{Secret, StoreKey, pair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

/// A record of this certificate, sealed.
fn sealed(key: &StoreKey, name: &str, pair: &Pair) -> Write {
    let read = pair::Pair::read(&pair.cert, &pair.key, 0).unwrap();
    let path = certs::cert_key(name);
    let record = Cert {
        v: 1,
        chain: read.chain,
        key: key.seal(&path, &read.key.0).unwrap(),
        names: read.names,
        not_before_ms: read.not_before_ms,
        not_after_ms: read.not_after_ms,
        source: Origin::Added,
        added_ms: 0,
        extra: Default::default(),
    };
    Write::Put { key: path, value: records::write(&record), lease: None }
}

async fn commit(store: &Arc<dyn Store>, write: Write) -> u64 {
    store.commit(None, Vec::new(), vec![write]).await.unwrap()
}

fn routes(app: &AppRoutes) -> Write {
    Write::Put { key: records::key::routes(&app.app), value: records::write(app), lease: None }
}

struct Place {
    folder: tempfile::TempDir,
    store: Arc<dyn Store>,
    key: StoreKey,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = StoreKey::open_or_make(&folder.path().join("store.key")).unwrap();
        Self { folder, store: Arc::new(Memory::new()), key }
    }

    fn start_on(&self, source: Source) -> (Running, SocketAddr, SocketAddr, SocketAddr) {
        let config = Config {
            tls: TlsConfig { listen: vec![([127, 0, 0, 1], 0).into()], ..TlsConfig::default() },
            threads: 2,
            http1: crate::HTTP1,
            store_key: Some(self.folder.path().join("store.key")),
            data: Some(self.folder.path().join("data")),
            ..Config::new(source)
        };
        let running = sc_proxy::start(config).unwrap();
        let stats = running.stats.strip_prefix("http://").unwrap().parse().unwrap();
        let (http, https) = (running.listen[0], running.listen_tls[0]);
        (running, http, https, stats)
    }

    fn start(&self) -> (Running, SocketAddr, SocketAddr, SocketAddr) {
        self.start_on(Source::Store(self.store.clone()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_serve_are_swapped_and_outlive_the_store_and_a_restart() {
    let (place, backend) = (Place::new(), Backend::start("a").await);
    commit(&place.store, routes(&app("web", "", &[(1, backend.addr)]))).await;
    let (one, two) = (Pair::new(&["one.test"]), Pair::new(&["one.test"]));
    commit(&place.store, sealed(&place.key, "shop", &one)).await;
    let (running, _, https, stats) = place.start();
    let serves = async |https, pair: &Pair| {
        let trusts = trusting(&[pair], &[], None);
        get_tls(https, "one.test", "/", &trusts).await.is_ok_and(|(reply, _)| reply.text() == "a")
    };
    until("the certificate serves", async || serves(https, &one).await).await;
    let mut open = connect(https, "one.test", &trusting(&[&one], &[], None)).await.unwrap();

    commit(&place.store, sealed(&place.key, "shop", &two)).await;
    until("the new one serves", async || serves(https, &two).await).await;
    open.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let _ = open.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "the open connection goes on: {answer}");

    // Sealed with a key that is not here: told, and the last good one serves on.
    let other = StoreKey::open_or_make(&place.folder.path().join("other.key")).unwrap();
    let revision = commit(&place.store, sealed(&other, "shop", &Pair::new(&["one.test"]))).await;
    let mut frames = Stats::open(stats).await;
    let frame = frames.until("it is told", |frame| frame.certs >= revision).await;
    assert!(frame.certs_wrong.is_some_and(|wrong| wrong.contains("another store key")));
    assert!(serves(https, &two).await);
    let kept = place.folder.path().join("data/certs.json");
    until("it is kept", async || std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("\"shop\""))).await;
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    running.stop_within(Duration::from_secs(1)).await;

    // The store is away for good.
    let dead: Arc<dyn Store> = Arc::new(dead::Dead);
    let (running, _, https, _) = place.start_on(Source::Store(dead));
    assert!(serves(https, &two).await, "from the disk");
    running.stop_within(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn challenges_are_answered_on_plain_http_before_any_route_and_nowhere_else() {
    let (place, backend) = (Place::new(), Backend::start("a").await);
    let mut web = app("web", "one.test", &[(1, backend.addr)]);
    web.traffic.rules = Rules { https: true, ..Rules::default() };
    commit(&place.store, routes(&web)).await;
    let (running, http, https, stats) = place.start();
    let challenge = Challenge { v: 1, host: "one.test".into(), answer: "tok.thumb".into(), extra: Default::default() };
    let key = certs::challenge_key("tok");
    let put = Write::Put { key: key.clone(), value: records::write(&challenge), lease: None };
    let revision = commit(&place.store, put).await;
    let mut frames = Stats::open(stats).await;
    frames.until("the challenge is in force", |frame| frame.certs >= revision).await;
    let path = "/.well-known/acme-challenge/tok";
    for host in ["one.test", "other.test"] {
        let reply = get(http, host, path).await;
        assert_eq!((reply.status, reply.text()), (StatusCode::OK, "tok.thumb"), "{host}");
    }
    assert_eq!(
        get(http, "one.test", "/.well-known/acme-challenge/other").await.status,
        301,
        "a request like any other"
    );
    assert_eq!(get(http, "other.test", "/.well-known/acme-challenge/").await.status, 404);
    assert_eq!(get(http, "one.test", "/").await.status, 301);
    let own = std::fs::read_to_string(place.folder.path().join("data/own.crt")).unwrap();
    let key_pem = std::fs::read_to_string(place.folder.path().join("data/own.key")).unwrap();
    let trusts = trusting(&[&Pair { cert: own, key: key_pem }], &[], None);
    let (reply, _) = get_tls(https, "localhost", path, &trusts).await.unwrap();
    assert_eq!(reply.status, 404, "not over TLS");
    let revision = commit(&place.store, Write::Delete { key }).await;
    frames.until("it is gone", |frame| frame.certs >= revision).await;
    assert_eq!(get(http, "one.test", path).await.status, 301);
    running.stop_within(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_given_in_process_serve_too_and_the_folders_go_first() {
    let (backend, folder) = (Backend::start("a").await, tempfile::tempdir().unwrap());
    let (mine, given, other) = (Pair::new(&["one.test"]), Pair::new(&["one.test"]), Pair::new(&["two.test"]));
    mine.put(folder.path(), "one");
    let opened = |pair: &Pair| Arc::new(Opened { chain: pair.cert.clone(), key: Secret(pair.key.clone()) });
    let certs = [("one".to_owned(), opened(&given)), ("two".to_owned(), opened(&other))].into();
    let (sender, receiver) = tokio::sync::watch::channel(Stored { certs, ..Stored::default() });
    let proxy = Proxy::start_with(vec![app("web", "", &[(1, backend.addr)])], |config| {
        config.tls.listen = vec![([127, 0, 0, 1], 0).into()];
        config.tls.certs = Some(folder.path().into());
        config.given_certs = Some(receiver);
    });
    proxy.ready().await;
    let https = proxy.running.as_ref().unwrap().listen_tls[0];
    let serves = async |name: &str, pair: &Pair| get_tls(https, name, "/", &trusting(&[pair], &[], None)).await.is_ok();
    until("the given one serves", async || serves("two.test", &other).await).await;
    assert!(serves("one.test", &mine).await && !serves("one.test", &given).await, "the folder's goes first");
    std::fs::remove_file(folder.path().join("one.crt")).unwrap();
    other.put(folder.path(), "other");
    until("then the store's", async || serves("one.test", &given).await).await;
    sender.send_modify(|stored| stored.certs.clear());
    until("and none", async || !serves("one.test", &given).await).await;
}

/// A store that nobody can reach.
mod dead {
    use async_trait::async_trait;
    use sc_store::{Expect, Fence, LeaseId, Revision, Snapshot, Store, StoreError, Watch, Write};

    pub struct Dead;

    fn away<T>() -> Result<T, StoreError> {
        Err(StoreError::Unavailable { store: "a dead store".into(), source: "it is away".into() })
    }

    #[async_trait]
    impl Store for Dead {
        async fn load(&self, _: &str) -> Result<Snapshot, StoreError> {
            away()
        }
        async fn watch(&self, _: &str, _: Revision) -> Result<Box<dyn Watch>, StoreError> {
            away()
        }
        async fn commit(&self, _: Option<Fence>, _: Vec<Expect>, _: Vec<Write>) -> Result<Revision, StoreError> {
            away()
        }
        async fn grant(&self, _: std::time::Duration) -> Result<LeaseId, StoreError> {
            away()
        }
        async fn keep_alive(&self, _: LeaseId) -> Result<(), StoreError> {
            away()
        }
        async fn revoke(&self, _: LeaseId) -> Result<(), StoreError> {
            away()
        }
        fn describe(&self) -> String {
            "a dead store".to_owned()
        }
    }
}
