//! The suite on a real etcd, and what only it can go through.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::process::Signal;
use sc_store::{Etcd, EtcdConfig, Revision, Store, StoreError};
use tokio::time::{Instant, timeout};

use super::{
    cases::{expect, increment, put},
    etcd_server::Server,
};

/// Longer than any call's own deadline.
pub const AT_MOST: Duration = Duration::from_secs(15);

/// Tries until it works.
pub async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, StoreError>) -> T {
    let end = Instant::now() + Duration::from_secs(40);
    let mut pause = tokio::time::interval(Duration::from_millis(50));
    loop {
        match timeout(AT_MOST, attempt()).await.expect("every call has a deadline") {
            Ok(value) => return value,
            Err(error) => assert!(Instant::now() < end, "{what}: {error:?}"),
        }
        pause.tick().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_passes_the_suite() {
    let server = Server::new("http", &[]);
    super::all(|case| {
        let config = EtcdConfig { prefix: format!("/{case}/"), ..server.config() };
        Arc::new(Etcd::new(config).expect("a sound configuration"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_killed_and_back_on_the_same_handle() {
    let mut server = Server::new("http", &[]);
    let store = server.store();
    let first = eventually("the first commit", async || store.commit(None, vec![], vec![put("a", "1")]).await).await;
    let mut watch = store.watch("", first).await.unwrap();
    server.kill();
    let gone = timeout(AT_MOST, store.load("")).await.expect("a deadline").unwrap_err();
    assert!(matches!(gone, StoreError::Unavailable { .. }), "{gone:?}");
    assert!(gone.to_string().contains(&server.url), "it says which: {gone}");
    let gone =
        timeout(AT_MOST, store.commit(None, vec![], vec![put("a", "2")])).await.expect("a deadline").unwrap_err();
    assert!(matches!(gone, StoreError::Unavailable { .. }), "nothing was sent: {gone:?}");
    assert!(matches!(timeout(AT_MOST, watch.next()).await.expect("noticed"), Err(StoreError::WatchLost)));
    server.start();
    let snapshot = eventually("after its return", async || store.load("").await).await;
    assert_eq!(&*snapshot.entries["a"].value, b"1", "what was acknowledged is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_may_be_made_before_etcd_runs() {
    let mut server = Server::new("http", &[]);
    server.kill();
    let store = server.store();
    assert!(matches!(store.load("").await, Err(StoreError::Unavailable { .. })));
    server.start();
    eventually("once it runs", async || store.load("").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_etcd_is_given_up_in_time_and_what_was_sent_is_in_doubt() {
    let server = Server::new("http", &[]);
    let store = server.store();
    let first = eventually("the first commit", async || store.commit(None, vec![], vec![put("a", "1")]).await).await;
    server.signal(Signal::STOP);
    let result = timeout(AT_MOST, store.commit(None, vec![expect("a", first)], vec![put("a", "2")])).await;
    let load = timeout(AT_MOST, store.load("")).await;
    server.signal(Signal::CONT);
    assert!(matches!(result.expect("a deadline"), Err(StoreError::Unknown { .. })));
    assert!(matches!(load.expect("a deadline"), Err(StoreError::Unavailable { .. })));
    let snapshot = eventually("after it woke", async || store.load("").await).await;
    assert!(matches!(&*snapshot.entries["a"].value, b"1" | b"2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_quota_is_said_read_on_and_left_again() {
    let quota = 4 << 20;
    let server = Server::new("http", &["--quota-backend-bytes".into(), quota.to_string()]);
    let store = server.store();
    let mut writes = 0_u64;
    let error = loop {
        let write = put(&format!("fill/{}", writes % 3), vec![b'x'; 500_000]);
        match store.commit(None, vec![], vec![write]).await {
            Ok(_) => writes += 1,
            Err(error) => break error,
        }
        assert!(writes < 100, "the quota holds");
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(error.to_string().contains("etcdctl"), "it says what to do: {error}");
    let health = store.health().await.expect("it says how it is");
    let trouble = &health.troubles[0];
    assert!(trouble.what.contains("NOSPACE") && trouble.fix.contains("etcdctl defrag"), "{health:?}");
    assert!(health.bytes.is_some_and(|bytes| bytes > quota / 2), "{health:?}");
    assert_eq!(health.quota, Some(quota), "{health:?}");
    let snapshot = store.load("fill/").await.expect("reads go on");
    assert!(!snapshot.entries.is_empty());

    // What the message says.
    server.ctl(&["compact", &snapshot.revision.to_string()]);
    server.ctl(&["defrag"]);
    server.ctl(&["alarm", "disarm"]);
    eventually("there is room again", async || store.commit(None, vec![], vec![put("a", "1")]).await).await;
    assert_eq!(store.health().await.expect("it is well").troubles, []);
    let mut watch = store.watch("", 1).await.unwrap();
    let lost = timeout(AT_MOST, watch.next()).await.expect("an answer");
    assert!(matches!(lost, Err(StoreError::WatchLost)), "what was compacted cannot be watched: {lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_passwords() {
    let server = Server::new("http", &[]);
    eventually("etcd is up", async || server.store().load("").await).await;
    server.ctl(&["user", "add", "root:secret"]);
    server.ctl(&["user", "add", "proxy:word"]);
    server.ctl(&["role", "add", "reader"]);
    server.ctl(&["role", "grant-permission", "reader", "--prefix=true", "read", "/sc/v1/routes/"]);
    server.ctl(&["role", "grant-permission", "reader", "--prefix=true", "readwrite", "/sc/v1/proxies/"]);
    server.ctl(&["user", "grant-role", "proxy", "reader"]);
    server.ctl(&["user", "grant-role", "root", "root"]);
    server.ctl(&["auth", "enable"]);
    let store = |user: Option<(&str, &str)>| {
        let user = user.map(|(user, password)| (user.to_owned(), password.to_owned()));
        Etcd::new(EtcdConfig { user, ..server.config() }).expect("a sound configuration")
    };
    let root = store(Some(("root", "secret")));
    eventually("root may", async || root.commit(None, vec![], vec![put("routes/default/a", "1")]).await).await;
    for wrong in [None, Some(("root", "wrong")), Some(("nobody", "x"))] {
        let result = store(wrong).load("").await;
        assert!(matches!(result, Err(StoreError::Denied { .. })), "{wrong:?}: {result:?}");
    }
    let proxy = store(Some(("proxy", "word")));
    assert_eq!(proxy.load("routes/").await.unwrap().entries.len(), 1);
    assert!(matches!(proxy.load("default/apps/").await, Err(StoreError::Denied { .. })));
    let mut watch = proxy.watch("routes/", 0).await.expect("it may watch what it may read");
    let changes = timeout(AT_MOST, watch.next()).await.expect("an answer").expect("its part of the changes");
    assert_eq!(changes.keys.last().map(|(key, _)| key.as_str()), Some("routes/default/a"));
    let written = proxy.commit(None, vec![], vec![put("routes/default/a", "2")]).await;
    assert!(matches!(written, Err(StoreError::Denied { .. })), "{written:?}");

    // Least rights suffice: no other key is touched on the way, not even to say why a commit did not happen.
    let own = proxy.commit(None, vec![], vec![put("proxies/one", "1")]).await.expect("its own record");
    let late = proxy.commit(None, vec![expect("proxies/one", 0)], vec![put("proxies/one", "2")]).await;
    assert!(matches!(late, Err(StoreError::Conflict)), "{late:?}");
    proxy.commit(None, vec![expect("proxies/one", own)], vec![]).await.expect("a check without writes");

    // Changing the password makes etcd forget the tokens given out: the same handle gets another.
    let passwd = ["--user", "root:secret", "user", "passwd", "proxy", "--interactive=false"];
    server.ctl_with_input(&passwd, "word\n");
    assert_eq!(proxy.load("routes/").await.expect("with a new token").entries.len(), 1);
    server.ctl_with_input(&passwd, "word\n");
    proxy.commit(None, vec![], vec![put("proxies/one", "3")]).await.expect("a commit, too");
    server.ctl_with_input(&passwd, "another\n");
    let result = proxy.load("routes/").await;
    assert!(matches!(result, Err(StoreError::Denied { .. })), "{result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (ours, other) = (authority("ours"), authority("another"));
    let signed = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &ours).unwrap();
        (file(&format!("{name}.pem"), certificate.pem()), file(&format!("{name}.key"), key.serialize_pem()))
    };
    let (ca, other) = (file("ca.pem", ours.pem()), file("other.pem", other.pem()));
    let (server_cert, client) = (signed("server"), signed("client"));
    let show = |path: &std::path::Path| path.display().to_string();
    let arguments = [
        format!("--cert-file={}", show(&server_cert.0)),
        format!("--key-file={}", show(&server_cert.1)),
        format!("--trusted-ca-file={}", show(&ca)),
        "--client-cert-auth=true".to_owned(),
    ];
    let server = Server::new("https", &arguments);
    let with = |ca: &std::path::Path, identity| {
        let config = EtcdConfig { ca: Some(ca.to_owned()), identity, ..server.config() };
        Etcd::new(config).expect("a sound configuration")
    };
    let good = with(&ca, Some(client.clone()));
    eventually("both are known", async || good.commit(None, vec![], vec![put("a", "1")]).await).await;
    for (what, store) in
        [("another authority", with(&other, Some(client))), ("no certificate of ours", with(&ca, None))]
    {
        let error = timeout(AT_MOST, store.load("")).await.expect("a deadline").expect_err(what);
        let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(why.contains(&server.url) && why.contains("certificate"), "{what}: {error}: {why}");
    }
    let without = Etcd::new(server.config()).err().expect("https needs an authority").to_string();
    assert!(without.contains("certificate"), "{without}");
    assert!(
        !format!("{:?}", EtcdConfig { user: Some(("u".into(), "hidden".into())), ..server.config() })
            .contains("hidden")
    );
    let missing = with(std::path::Path::new("no/such/file.pem"), None).load("").await.unwrap_err();
    let source = std::error::Error::source(&missing).map(ToString::to_string).unwrap_or_default();
    assert!(source.contains("no/such/file.pem"), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_killed_is_not_noticed() {
    let mut servers = Server::cluster();
    for victim in 0..3 {
        let endpoints = servers.iter().map(|server| server.url.clone()).collect();
        let store = Etcd::new(EtcdConfig { endpoints, ..EtcdConfig::default() }).expect("a sound configuration");
        eventually("all three up", async || store.commit(None, vec![], vec![put("up", "x")]).await).await;
        servers[victim].kill();
        for n in 0..10 {
            let key = format!("{victim}/{n}");
            eventually("two of three", async || store.commit(None, vec![], vec![put(&key, "x")]).await).await;
            eventually("two of three", async || store.load("").await).await;
        }
        servers[victim].start();
        servers[victim].wait();
    }
}

/// Counts under SIGKILLs, and compares with what etcd has in the end: an acknowledged increment is in it, one that was
/// refused is not, one in doubt may be.
#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_a_counter_under_kills_is_linearizable() {
    let mut server = Server::new("http", &[]);
    let store = server.store();
    eventually("etcd is up", async || store.load("").await).await;
    let (sure, doubtful) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let stop = tokio_util::sync::CancellationToken::new();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 {
        // A connection each, so that they do not fail together.
        let (store, sure, doubtful, stop) = (server.store(), sure.clone(), doubtful.clone(), stop.clone());
        clients.spawn(async move {
            let mut last: Revision = 0;
            while !stop.is_cancelled() {
                match increment(&store).await {
                    Ok(true) => _ = sure.fetch_add(1, Ordering::Relaxed),
                    Err(StoreError::Unknown { .. }) => _ = doubtful.fetch_add(1, Ordering::Relaxed),
                    Ok(false) => {}
                    Err(StoreError::Unavailable { .. }) => tokio::task::yield_now().await,
                    Err(error) => panic!("{error:?}"),
                }
                if let Ok(snapshot) = store.load("counter").await {
                    assert!(snapshot.revision >= last, "time does not run backwards");
                    last = snapshot.revision;
                }
            }
        });
    }
    for round in 1..=4_u64 {
        eventually("enough done", async || match sure.load(Ordering::Relaxed) >= round * 50 {
            true => Ok(()),
            false => Err(StoreError::WatchLost),
        })
        .await;
        server.kill();
        server.start();
    }
    stop.cancel();
    timeout(Duration::from_secs(60), clients.join_all()).await.expect("the clients end");
    let snapshot = eventually("the end", async || store.load("counter").await).await;
    let count: u64 = std::str::from_utf8(&snapshot.entries["counter"].value).unwrap().parse().unwrap();
    let (sure, doubtful) = (sure.load(Ordering::Relaxed), doubtful.load(Ordering::Relaxed));
    assert!((sure..=sure + doubtful).contains(&count), "{count} is not within {sure} + up to {doubtful}");
}
