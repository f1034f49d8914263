//! Sends one case after the other through a proxy and judges what became of it.

use std::{net::SocketAddr, time::Duration};

use sc_core::{
    AppId, ReplicaId,
    routes::{AppRoutes, BackendRoute},
    spec::RouteSpec,
};
use sc_proxy::{Config, Http1, Running, Source, config::Given};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::{Instant, timeout},
};

use super::backend::{Backend, Seen};

/// Both ways of speaking HTTP/1.1.
pub const PATHS: [Http1; 2] = [Http1::Fast, Http1::Hyper];
/// Long enough for whatever is to come.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// A good answer of a backend.
pub const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// Sent after every attack: a second request that must never be seen unless the first one ended where it seemed to.
pub const NEXT: &str = "GET /next HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// A proxy in front of one recording backend.
pub struct Bench {
    pub backend: Backend,
    pub addr: SocketAddr,
    pub running: Running,
    _routes: watch::Sender<Given>,
}

impl Bench {
    pub async fn start(http1: Http1, answer: impl Into<Vec<u8>>) -> Self {
        Self::start_with(http1, answer, &[], |_| ()).await
    }

    /// `prefixes`: these paths go to an app of their own, `guarded`, with no backend and no waiting.
    pub async fn start_with(
        http1: Http1,
        answer: impl Into<Vec<u8>>,
        prefixes: &[&str],
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let backend = Backend::start(answer).await;
        let mut apps = vec![app("web", &["/"], Some(backend.addr))];
        if !prefixes.is_empty() {
            apps.push(AppRoutes { stopped: true, ..app("guarded", prefixes, None) });
        }
        let (routes, given) = watch::channel(Given { revision: 1, apps });
        let mut config = Config::new(Source::Given(given));
        config.threads = 1;
        config.http1 = http1;
        change(&mut config);
        let running = sc_proxy::start(config).unwrap();
        let bench = Self { backend, addr: running.listen[0], running, _routes: routes };
        bench.until_routed().await;
        bench
    }

    async fn until_routed(&self) {
        let stats = self.running.stats.strip_prefix("http://").unwrap().parse().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = exchange(stats, b"GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
            if answer.starts_with("HTTP/1.1 200") {
                return;
            }
            assert!(Instant::now() < deadline, "never ready: {answer}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Sends the bytes and then [`NEXT`], and reads until the connection is closed.
    pub async fn attack(&self, bytes: &[u8]) -> Outcome {
        let sent = [bytes, NEXT.as_bytes()].concat();
        let answer = exchange(self.addr, &sent).await;
        Outcome { answer }
    }

    /// The attack was refused, and nothing of it or after it has reached the backend.
    pub async fn refuses(&self, name: &str, bytes: &[u8], statuses: &[&str]) {
        let seen = self.backend.requests().len();
        let outcome = self.attack(bytes).await;
        let shown = String::from_utf8_lossy(bytes);
        let status = outcome.status();
        assert!(statuses.contains(&status), "{name}: {shown:?} gave {:?}", outcome.answer);
        let all = self.backend.requests();
        assert_eq!(all.len(), seen, "{name}: {shown:?} was answered {status}, yet this went on: {:?}", &all[seen..]);
        assert_eq!(outcome.answers(), 1, "{name}: {:?}", outcome.answer);
        self.backend_is_clean(name, &shown);
    }

    /// The attack's first request went on, in the only reading it has, and [`NEXT`] was a request of its own.
    pub async fn passes(&self, name: &str, bytes: &[u8]) -> Seen {
        let seen = self.backend.requests().len();
        let outcome = self.attack(bytes).await;
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(outcome.status(), "200", "{name}: {shown:?} gave {:?}", outcome.answer);
        let new = self.backend.requests().split_off(seen);
        self.backend_is_clean(name, &shown);
        let targets: Vec<_> = new.iter().map(Seen::target).collect();
        assert!(new.len() == 2 && targets[1] == "/next", "{name}: {shown:?} became {targets:?}");
        new.into_iter().next().unwrap()
    }

    /// Whatever became of it, the backend had no doubts. The client sends nothing more after it.
    pub async fn mutated(&self, name: &str, bytes: &[u8]) {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        let sent = [bytes, NEXT.as_bytes()].concat();
        let talk = async {
            let _ = stream.write_all(&sent).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        };
        let shown = String::from_utf8_lossy(bytes);
        assert!(timeout(PATIENCE, talk).await.is_ok(), "{name}: {shown:?} is never ended");
        self.backend_is_clean(name, &shown);
    }

    /// No byte that has reached the backend has two readings.
    pub fn backend_is_clean(&self, name: &str, shown: &str) {
        for connection in self.backend.connections() {
            assert_eq!(connection.fault, None, "{name}: {shown:?}: {:?}", String::from_utf8_lossy(&connection.bytes));
        }
    }
}

/// What a client got.
#[derive(Debug)]
pub struct Outcome {
    pub answer: String,
}

impl Outcome {
    /// The first status; empty if the connection was closed without an answer.
    pub fn status(&self) -> &str {
        self.answer.split(' ').nth(1).unwrap_or_default()
    }

    /// How many answers came; our own and those of [`GOOD`] have no status line in their bodies.
    pub fn answers(&self) -> usize {
        self.answer.matches("HTTP/1.").count()
    }
}

/// Sends bytes and reads until the other side closes.
pub async fn exchange(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let mut answer = Vec::new();
    let (mut read, mut write) = stream.split();
    let send = async {
        let _ = write.write_all(bytes).await; // it may be closed before all is sent
    };
    let receive = async {
        let read = timeout(PATIENCE, read.read_to_end(&mut answer)).await;
        read.unwrap_or_else(|_| panic!("not closed after {:?}", String::from_utf8_lossy(bytes))).is_ok()
    };
    tokio::join!(send, receive);
    String::from_utf8_lossy(&answer).into_owned()
}

fn app(name: &str, prefixes: &[&str], backend: Option<SocketAddr>) -> AppRoutes {
    let id = AppId::in_default(name).unwrap();
    let backends =
        backend.iter().map(|addr| BackendRoute { replica: ReplicaId::new(&id, 1), addr: *addr, weight: 1, version: 1 });
    let backends = backends.collect();
    let route =
        |path: &&str| RouteSpec { host: None, path: (*path).to_owned(), strip: false, redirect: None, tcp: None };
    let routes = prefixes.iter().map(route).collect();
    AppRoutes::new(id, routes, backends)
}
