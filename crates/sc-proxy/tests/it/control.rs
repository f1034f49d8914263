//! Where routes come from, what is kept, what is told.

use std::{path::Path, sync::Arc, time::Duration};

use sc_core::{
    AppId,
    records::{self, Proxy as Record, key},
    routes::AppRoutes,
};
use sc_proxy::{Admin, Config, Source, StartError};
use sc_store::{Memory, Store, Write};

use crate::support::*;

fn web() -> AppId {
    AppId::in_default("web").unwrap()
}

fn started(config: Config) -> (sc_proxy::Running, std::net::SocketAddr, std::net::SocketAddr) {
    let running = sc_proxy::start(config).unwrap();
    let stats = running.stats.strip_prefix("http://").unwrap().parse().unwrap();
    let addr = running.listen[0];
    (running, addr, stats)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sums_agree_to_the_last_request() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let proxy = Proxy::start(vec![app("web", "", &[(1, a.addr), (2, b.addr)])]);
    proxy.ready().await;
    let mut stats = proxy.stats().await;
    let load = Load::start(proxy.addr, "x", 8, 3);
    for _ in 0..3 {
        let frame = stats.next().await;
        let app = &frame.apps[&web()];
        let (requests, completions, in_flight) = backends(app);
        assert_eq!(requests, completions + in_flight, "{app:?}");
    }
    until("load has run", async || load.done() > 500).await;
    let totals = load.stop().await;
    let frame = stats.until("all is quiet", |frame| quiet(frame, "web", totals.done)).await;
    let app = &frame.apps[&web()];
    let ok: u64 = app.backends.values().map(|b| b.completions[1]).sum();
    let timed: u64 = app.backends.values().map(|b| b.latency.count()).sum();
    let seconds: f64 = app.backends.values().map(|b| b.in_flight_seconds).sum();
    let latency: f64 = app.backends.values().map(|b| b.latency.sum_seconds).sum();
    assert_eq!((ok, timed, a.requests() + b.requests()), (totals.done, totals.done, totals.done));
    assert!(
        seconds >= latency * 0.9 && seconds < latency * 10.0 + 1.0,
        "{seconds} s in flight, {latency} s of latency"
    );
    let metrics = get(proxy.stats_addr(), "x", "/metrics").await;
    let line = format!("sc_proxy_requests_total{{app=\"web\",code_class=\"2xx\"}} {}", totals.done);
    assert!(metrics.text().contains(&line), "{}", metrics.text());
    for kind in ["request", "upstream"] {
        let line = format!("sc_proxy_{kind}_duration_seconds_count{{app=\"web\"}} {}\n", totals.done);
        assert!(metrics.text().contains(&line), "{line}: {}", metrics.text());
    }
    let seqs = (stats.next().await.seq, stats.next().await.seq);
    assert_eq!(seqs.0 + 1, seqs.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_while_the_threads_start_is_applied_too() {
    for _ in 0..100 {
        let proxy = Proxy::start_with(vec![], |config| config.threads = 4);
        let revision = proxy.set(vec![app("web", "", &[])]);
        let mut stats = proxy.stats().await;
        stats.until("it is applied", |frame| frame.applied >= revision).await;
    }
}

#[tokio::test]
async fn the_admin_api_answers_on_tcp_and_unix() {
    let a = Backend::start("a").await;
    let proxy = Proxy::start(vec![app("web", "h.test", &[(1, a.addr)])]);
    proxy.ready().await;
    let admin = proxy.stats_addr();
    assert_eq!(get(admin, "x", "/healthz").await.text(), "ok\n");
    let routes: serde_json::Value = serde_json::from_str(get(admin, "x", "/routes").await.text()).unwrap();
    assert_eq!(routes["apps"][0]["backends"][0]["replica"], "web-1");
    assert_eq!(get(admin, "x", "/nothing").await.status, 404);
    assert_eq!(delete(admin, "x", "/routes").await.status, 405);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    std::os::unix::net::UnixListener::bind(&path).unwrap(); // left over by one that was killed
    let proxy = Proxy::start_with(vec![], |config| config.admin = Admin::Unix(path.clone()));
    let stats = proxy.running.as_ref().unwrap().stats.clone();
    assert_eq!(stats, format!("unix:{}", path.display()));
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    let ask = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, ask).await.unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
    assert!(answer.ends_with("ok\n"), "{answer}");
    drop(proxy);
    assert!(!path.exists());
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let given = || Source::Given(tokio::sync::watch::channel(Default::default()).1);
    let error = |change: &dyn Fn(&mut Config)| {
        let mut config = Config::new(given());
        change(&mut config);
        sc_proxy::start(config).err().expect("it must not start")
    };
    let busy = error(&|config| config.listen = vec![taken.local_addr().unwrap()]);
    assert!(busy.to_string().contains("another process listens there"), "{busy}");
    let busy = error(&|config| config.admin = Admin::Tcp(taken.local_addr().unwrap()));
    assert!(matches!(&busy, StartError::Admin { .. }) && busy.to_string().contains("another process"), "{busy}");
    let other = Proxy::start(vec![]);
    let busy = error(&|config| config.listen = vec![other.addr]);
    assert!(matches!(busy, StartError::Listen { .. }), "also when the other is a proxy that shares its port: {busy}");
    assert!(matches!(error(&|config| config.listen = vec![]), StartError::NoListen));
    assert!(matches!(error(&|config| config.id = Some("a b".into())), StartError::Id(_)));
    assert!(matches!(error(&|config| config.data = Some("/proc/nope".into())), StartError::Data { .. }));
    let url = "https://x".to_owned();
    assert!(matches!(
        error(&|config| config.source = Source::Manager { url: url.clone(), token: None }),
        StartError::Manager(_)
    ));
    let missing = error(&|config| config.source = Source::File("/nope.toml".into()));
    assert!(missing.to_string().contains("/nope.toml"), "{missing}");
}

fn write(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[tokio::test]
async fn a_routes_file_is_followed_and_a_bad_edit_changes_nothing() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.toml");
    let good = |addr| format!("[[route]]\napp = \"web\"\nbackends = [\"{addr}\"]\n");
    write(&path, "[[route]]\napp = 5\n");
    let refused = sc_proxy::start(Config::new(Source::File(path.clone()))).err().unwrap();
    assert!(refused.to_string().contains("line 2, column 7"), "{refused}");
    write(&path, &good(a.addr));
    let (_running, addr, admin) = started(Config::new(Source::File(path.clone())));
    until("it serves", async || get(addr, "x", "/").await.status == 200).await;
    write(&path, &good(b.addr));
    until("the new file is in force", async || get(addr, "x", "/").await.text() == "b").await;
    write(&path, &format!("{}host = \"a:1\"", good(a.addr)));
    let broken = async |why: &str| {
        let routes: serde_json::Value = serde_json::from_str(get(admin, "x", "/routes").await.text()).unwrap();
        routes["source"]["broken"].as_str().is_some_and(|text| text.contains(why))
    };
    until("the bad file is refused", async || broken("no port").await).await;
    assert_eq!(get(addr, "x", "/").await.text(), "b", "the last good one serves on");
    std::fs::remove_file(&path).unwrap();
    until("it is missed", async || broken("cannot read").await).await;
    assert_eq!(get(addr, "x", "/").await.text(), "b");
    let metrics = get(admin, "x", "/metrics").await;
    assert!(metrics.text().contains("\nsc_proxy_source_errors_total 2\n"), "{}", metrics.text());
    assert!(metrics.text().contains("\nsc_proxy_source_broken 1\n"), "{}", metrics.text());
    std::fs::write(&path, good(a.addr)).unwrap();
    until("it recovers", async || get(addr, "x", "/").await.text() == "a").await;
    let routes = get(admin, "x", "/routes").await;
    assert!(routes.text().contains("\"broken\": null"), "{}", routes.text());
}

async fn put(store: &dyn Store, key: &str, value: impl Into<Vec<u8>>) -> u64 {
    let write = Write::Put { key: key.to_owned(), value: value.into(), lease: None };
    store.commit(None, vec![], vec![write]).await.unwrap()
}

fn doc(routes: &AppRoutes) -> Vec<u8> {
    records::write(routes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_in_the_store_are_served_and_the_proxy_registers_there() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let folder = tempfile::tempdir().unwrap();
    let config =
        || Config { data: Some(folder.path().join("data")), threads: 2, ..Config::new(Source::Store(store.clone())) };
    let routes_key = key::routes(&web());
    put(&*store, &routes_key, doc(&app("web", "", &[(1, a.addr)]))).await;
    let (running, addr, stats_addr) = started(config());
    until("it serves", async || get(addr, "x", "/").await.text() == "a").await;
    let (id, boot) = (running.id.clone(), running.boot.clone());
    let registered = async || {
        let snapshot = store.load(key::PROXIES).await.unwrap();
        snapshot.entries.get(&key::proxy(&id)).map(|entry| records::read::<Record>("", &entry.value).unwrap())
    };
    until("it is registered", async || registered().await.is_some()).await;
    let record = registered().await.unwrap();
    assert_eq!((record.boot, record.stats, record.listen), (boot, running.stats.clone(), vec![addr]));

    let mut stats = Stats::open(stats_addr).await;
    let revision = put(&*store, &routes_key, doc(&app("web", "", &[(2, b.addr)]))).await;
    stats.until("the change is applied", |frame| frame.applied >= revision).await;
    assert_eq!(get(addr, "x", "/").await.text(), "b");
    let revision = put(&*store, &routes_key, "no json").await;
    stats.until("the unreadable change is passed", |frame| frame.applied >= revision).await;
    assert_eq!(get(addr, "x", "/").await.text(), "b", "the last good routes serve on");
    put(&*store, "default/events/1", "{}").await;
    let revision = put(&*store, &routes_key, doc(&app("web", "", &[(2, b.addr)]))).await;
    stats.until("the good one is back", |frame| frame.applied >= revision).await;
    let delete = Write::Delete { key: key::proxy(&id) };
    store.commit(None, vec![], vec![delete]).await.unwrap();
    until("it registers anew", async || registered().await.is_some()).await;
    running.stop_within(Duration::from_secs(5)).await;
    assert!(registered().await.is_none(), "it signs off");

    // A second life: the same id, another boot.
    let (again, addr, _) = started(config());
    assert_eq!(again.id, id);
    until("it serves", async || get(addr, "x", "/").await.text() == "b").await;
}

/// A store whose watches never see anything.
struct Deaf(Memory);

struct Silence;

#[async_trait::async_trait]
impl sc_store::Watch for Silence {
    async fn next(&mut self) -> Result<sc_store::Changes, sc_store::StoreError> {
        std::future::pending().await
    }
}

#[async_trait::async_trait]
impl Store for Deaf {
    async fn load(&self, prefix: &str) -> Result<sc_store::Snapshot, sc_store::StoreError> {
        self.0.load(prefix).await
    }
    async fn watch(&self, _: &str, _: u64) -> Result<Box<dyn sc_store::Watch>, sc_store::StoreError> {
        Ok(Box::new(Silence))
    }
    async fn commit(
        &self,
        fence: Option<sc_store::Fence>,
        expects: Vec<sc_store::Expect>,
        writes: Vec<Write>,
    ) -> Result<u64, sc_store::StoreError> {
        self.0.commit(fence, expects, writes).await
    }
    async fn grant(&self, ttl: Duration) -> Result<sc_store::LeaseId, sc_store::StoreError> {
        self.0.grant(ttl).await
    }
    async fn keep_alive(&self, lease: sc_store::LeaseId) -> Result<(), sc_store::StoreError> {
        self.0.keep_alive(lease).await
    }
    async fn revoke(&self, lease: sc_store::LeaseId) -> Result<(), sc_store::StoreError> {
        self.0.revoke(lease).await
    }
    fn describe(&self) -> String {
        self.0.describe()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_told_of_a_lost_change_reads_all_routes_anew() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let store: Arc<dyn Store> = Arc::new(Deaf(Memory::new()));
    put(&*store, &key::routes(&web()), doc(&app("web", "", &[(1, a.addr)]))).await;
    let (_running, addr, admin) = started(Config::new(Source::Store(store.clone())));
    until("it serves", async || get(addr, "x", "/").await.text() == "a").await;
    let revision = put(&*store, &key::routes(&web()), doc(&app("web", "", &[(2, b.addr)]))).await;
    let mut stats = Stats::open(admin).await;
    for _ in 0..2 {
        assert!(stats.next().await.applied < revision, "it knows nothing of it");
    }
    let told = Conn::open(admin).await.unwrap().send(request("POST", "x", "/routes/relist", "")).await.unwrap();
    assert_eq!(told.status, 200);
    stats.until("it has read them", |frame| frame.applied >= revision).await;
    assert_eq!(get(addr, "x", "/").await.text(), "b");
}

#[tokio::test]
async fn with_the_source_dead_the_last_routes_serve_also_after_a_restart() {
    let a = Backend::start("a").await;
    let folder = tempfile::tempdir().unwrap();
    let (port, manager) = Manager::start(vec![app("web", "", &[(1, a.addr)])]).await;
    let url = format!("http://127.0.0.1:{port}");
    let source = || Source::Manager { url: url.clone(), token: Some("secret".into()) };
    let config = || Config { data: Some(folder.path().to_owned()), threads: 2, ..Config::new(source()) };
    let (running, addr, stats) = started(config());
    until("it serves", async || get(addr, "x", "/").await.text() == "a").await;
    let applied = Stats::open(stats).await.until("it is applied", |frame| frame.applied == 7).await;
    assert_eq!(applied.proxy, running.id);
    until("the manager knows it", async || manager.registered(&running.id)).await;
    drop(manager);
    assert_eq!(get(addr, "x", "/").await.text(), "a");
    drop(running);
    let (_running, addr, stats) = started(config());
    assert_eq!(get(addr, "x", "/").await.text(), "a", "from the first moment");
    assert_eq!(get(stats, "x", "/readyz").await.status, 200);
    assert_eq!(
        Stats::open(stats).await.next().await.applied,
        0,
        "nothing is claimed that the source has not confirmed"
    );

    std::fs::write(folder.path().join("routes.json"), "{").unwrap();
    let (_broken, addr, stats) = started(config());
    assert_eq!(get(addr, "x", "/").await.field("x-sc-reason"), "no-route");
    assert_eq!(get(stats, "x", "/readyz").await.status, 503);
}

#[tokio::test]
async fn applied_waits_for_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    put(&*store, &key::routes(&web()), doc(&app("web", "", &[]))).await;
    // A folder in the place of the file: the table cannot be kept.
    std::fs::create_dir(folder.path().join("routes.json")).unwrap();
    let config = Config { data: Some(folder.path().to_owned()), ..Config::new(Source::Store(store.clone())) };
    let (_running, _, stats) = started(config);
    until("the routes are in force", async || get(stats, "x", "/routes").await.text().contains("web")).await;
    let mut stats = Stats::open(stats).await;
    for _ in 0..3 {
        assert_eq!(stats.next().await.applied, 0);
    }
    std::fs::remove_dir(folder.path().join("routes.json")).unwrap();
    stats.until("it is kept and applied", |frame| frame.applied > 0).await;
}

/// As much of a manager as a proxy needs.
struct Manager {
    registered: Arc<std::sync::Mutex<Vec<String>>>,
    tasks: tokio::task::JoinSet<()>,
}

impl Manager {
    async fn start(apps: Vec<AppRoutes>) -> (u16, Self) {
        use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let registered = Arc::<std::sync::Mutex<Vec<String>>>::default();
        let (names, mut tasks) = (registered.clone(), tokio::task::JoinSet::new());
        tasks.spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (names, apps) = (names.clone(), apps.clone());
                open.spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let (mut first, mut length, mut allowed) = (String::new(), 0, false);
                    stream.read_line(&mut first).await.unwrap();
                    loop {
                        let mut line = String::new();
                        stream.read_line(&mut line).await.unwrap();
                        let line = line.trim().to_lowercase();
                        if let Some(n) = line.strip_prefix("content-length: ") {
                            length = n.parse().unwrap();
                        }
                        allowed |= line == "authorization: bearer secret";
                        if line.is_empty() {
                            break;
                        }
                    }
                    let mut body = vec![0; length];
                    stream.read_exact(&mut body).await.unwrap();
                    let path = first.split(' ').nth(1).unwrap();
                    assert!(allowed, "the token is sent");
                    let answer = match path.strip_prefix("/v1/proxies/") {
                        Some(id) => {
                            records::read::<Record>("", &body).unwrap();
                            names.lock().unwrap().push(id.to_owned());
                            "HTTP/1.1 204 No Content\r\n\r\n".to_owned()
                        }
                        None => {
                            assert_eq!(path, "/v1/routes");
                            let update =
                                sc_api::types::RoutesUpdate { revision: 7, whole: true, put: apps, delete: vec![] };
                            let line = serde_json::to_string(&update).unwrap();
                            format!("HTTP/1.1 200 OK\r\n\r\n{line}\n\n")
                        }
                    };
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    // Open until the proxy has closed.
                    while stream.read(&mut [0; 64]).await.is_ok_and(|n| n > 0) {}
                });
            }
        });
        (port, Self { registered, tasks })
    }

    fn registered(&self, id: &str) -> bool {
        assert!(!self.tasks.is_empty());
        self.registered.lock().unwrap().iter().any(|name| name == id)
    }
}

/// The value of a metric of an app.
fn value(metrics: &Reply, name: &str) -> u64 {
    let line = metrics.text().lines().find_map(|line| line.strip_prefix(&format!("{name}{{app=\"web\"}} ")));
    line.unwrap_or_else(|| panic!("no {name}: {}", metrics.text())).parse().unwrap()
}

#[tokio::test]
async fn bodies_are_counted_byte_by_byte_and_waits_are_timed() {
    let backend = Backend::start("abc").await;
    let mut routes = app("web", "", &[(1, backend.addr)]);
    routes.traffic.max_in_flight = Some(1);
    let proxy = Proxy::start(vec![routes]);
    proxy.ready().await;
    let (slow, waits) = tokio::join!(get(proxy.addr, "x", "/slow?100"), get(proxy.addr, "x", "/slow?100"));
    assert_eq!((slow.text(), waits.text()), ("abc", "abc"));
    let mut conn = Conn::open(proxy.addr).await.unwrap();
    // It answers when all has come: one that answers ahead of its request's end is not timed.
    conn.send(request("POST", "x", "/digest", pattern(100_000))).await.unwrap();
    let chunked = "POST /digest HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    raw(proxy.addr, &format!("{chunked}5\r\nhello\r\n0\r\n\r\n")).await;
    let mut second = Conn2::over(tokio::net::TcpStream::connect(proxy.addr).await.unwrap()).await;
    let post = hyper::Request::post("http://x/digest").body(bytes::Bytes::from(pattern(70_000)).into()).unwrap();
    second.send(post).await.unwrap();
    let bodies = [pattern(100_000), b"hello".to_vec(), pattern(70_000)];
    let sent = 100_000 + 5 + 70_000;
    let got = 2 * 3 + bodies.map(|body| digest(body).to_string().len() as u64).iter().sum::<u64>();
    until("all is counted", async || {
        let metrics = get(proxy.stats_addr(), "x", "/metrics").await;
        let counted = |what: &str| value(&metrics, &format!("sc_proxy_{what}_bytes_total"));
        (counted("request"), counted("response")) == (sent, got)
    })
    .await;
    let metrics = get(proxy.stats_addr(), "x", "/metrics").await;
    assert_eq!(value(&metrics, "sc_proxy_queue_duration_seconds_count"), 1);
    assert_eq!(value(&metrics, "sc_proxy_upstream_duration_seconds_count"), 5);
    // A stream's bytes, when it ends.
    let mut stream = tokio::net::TcpStream::connect(proxy.addr).await.unwrap();
    let ask = b"GET /upgrade HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, &[&ask[..], &[b'x'; 1_000]].concat()).await.unwrap();
    let mut echo = Vec::new();
    while echo.iter().filter(|byte| **byte == b'x').count() < 1_000 {
        tokio::io::AsyncReadExt::read_buf(&mut stream, &mut echo).await.unwrap();
    }
    drop(stream);
    until("the stream is counted", async || {
        let metrics = get(proxy.stats_addr(), "x", "/metrics").await;
        let counted = |what: &str| value(&metrics, &format!("sc_proxy_{what}_bytes_total"));
        (counted("request"), counted("response")) == (sent + 1_000, got + 1_000)
    })
    .await;
}

#[tokio::test]
async fn what_it_goes_by_is_told_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    Pair::new(&["web.test", "*.web.test"]).put(folder.path(), "web");
    let backend = Backend::start("a").await;
    let proxy = Proxy::start_with(vec![app("web", "web.test", &[(1, backend.addr)])], |config| {
        config.trust = vec!["10.0.0.0/8".parse().unwrap()];
        config.limits.head_timeout = Duration::from_millis(1_500);
        config.tls.listen = vec![([127, 0, 0, 1], 0).into()];
        config.tls.certs = Some(folder.path().to_owned());
    });
    proxy.ready().await;
    let reply = get(proxy.stats_addr(), "x", "/config").await;
    let config: serde_json::Value = serde_json::from_str(reply.text()).unwrap();
    assert_eq!(config["trust"], serde_json::json!(["10.0.0.0/8"]));
    assert_eq!(config["limits"]["head_timeout_seconds"], 1.5);
    assert_eq!(config["limits"]["connections_per_address"], 32_768);
    assert_eq!((&config["threads"], &config["ready"]), (&2.into(), &true.into()));
    assert_eq!((&config["routes"]["apps"], &config["routes"]["revision"]), (&1.into(), &1.into()));
    assert_eq!(config["tls"]["names"], serde_json::json!(["*.web.test", "web.test"]));
    assert!(!reply.text().contains("PRIVATE"), "{}", reply.text());
    assert_eq!(config["listen"], serde_json::json!([proxy.addr]));

    // Its store's or manager's credentials are nobody's business.
    let mut config =
        Config::new(Source::Manager { url: "http://127.0.0.1:1".to_owned(), token: Some("hush".to_owned()) });
    config.threads = 1;
    let (_running, _, admin) = started(config);
    let text = get(admin, "x", "/config").await.text().to_owned();
    assert!(text.contains("http://127.0.0.1:1") && !text.contains("hush"), "{text}");
    assert_eq!(get(admin, "x", "/log").await.status, 404, "a library does not own the log");
}
