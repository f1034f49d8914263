//! A proxy whose routes the test gives, and a reader of its frames.

use std::{net::SocketAddr, time::Duration};

use sc_core::{
    AppId, ReplicaId,
    routes::{AppRoutes, BackendRoute},
    spec::RouteSpec,
    stats::{AppStats, Frame},
};
use sc_proxy::{Config, Running, Source, config::Given};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    sync::watch,
};

/// A proxy with two threads.
pub struct Proxy {
    pub running: Option<Running>,
    pub addr: SocketAddr,
    routes: watch::Sender<Given>,
}

impl Proxy {
    pub fn start(apps: Vec<AppRoutes>) -> Self {
        Self::start_with(apps, |_| ())
    }

    pub fn start_with(apps: Vec<AppRoutes>, change: impl FnOnce(&mut Config)) -> Self {
        let (routes, given) = watch::channel(Given { revision: 1, apps });
        let mut config = Config::new(Source::Given(given));
        config.threads = 2;
        config.http1 = crate::HTTP1;
        change(&mut config);
        let running = sc_proxy::start(config).unwrap();
        let addr = running.listen[0];
        Self { running: Some(running), addr, routes }
    }

    /// New routes. Gives their revision.
    pub fn set(&self, apps: Vec<AppRoutes>) -> u64 {
        let mut revision = 0;
        self.routes.send_modify(|given| {
            given.apps = apps;
            given.revision += 1;
            revision = given.revision;
        });
        revision
    }

    pub fn stats_addr(&self) -> SocketAddr {
        self.running.as_ref().unwrap().stats.strip_prefix("http://").unwrap().parse().unwrap()
    }

    pub async fn stats(&self) -> Stats {
        Stats::open(self.stats_addr()).await
    }

    /// How many requests wait, now.
    pub async fn held(&self) -> u64 {
        let reply = super::get(self.stats_addr(), "x", "/routes").await;
        let routes: serde_json::Value = serde_json::from_str(reply.text()).unwrap();
        routes["apps"].as_array().unwrap().iter().map(|app| app["held"].as_u64().unwrap()).sum()
    }

    /// New routes, applied on every thread.
    pub async fn apply(&self, apps: Vec<AppRoutes>) {
        let mut stats = self.stats().await;
        let revision = self.set(apps);
        stats.until("the routes are applied", |frame| frame.applied >= revision).await;
    }

    pub async fn ready(&self) {
        let addr = self.stats_addr();
        super::until("it has routes", async || super::get(addr, "x", "/readyz").await.status == 200).await;
    }
}

/// A reader of frames.
pub struct Stats(Lines<BufReader<TcpStream>>);

impl Stats {
    pub async fn open(addr: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"GET /stats HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        Self(BufReader::new(stream).lines())
    }

    pub async fn next(&mut self) -> Frame {
        loop {
            let line = tokio::time::timeout(Duration::from_secs(10), self.0.next_line()).await;
            let line = line.expect("a frame comes each second").unwrap().expect("the stream has no end");
            if line.starts_with('{') {
                return serde_json::from_str(&line).unwrap();
            }
        }
    }

    pub async fn until(&mut self, what: &str, mut condition: impl FnMut(&Frame) -> bool) -> Frame {
        let deadline = std::time::Instant::now() + Duration::from_secs(15);
        loop {
            let frame = self.next().await;
            if condition(&frame) {
                return frame;
            }
            assert!(std::time::Instant::now() < deadline, "in vain: waited until {what}; last: {frame:?}");
        }
    }
}

/// An app at a host, with replicas numbered as given.
pub fn app(name: &str, host: &str, backends: &[(u64, SocketAddr)]) -> AppRoutes {
    let id = AppId::in_default(name).unwrap();
    let backend = |(n, addr): &(u64, SocketAddr)| BackendRoute {
        replica: ReplicaId::new(&id, *n),
        addr: *addr,
        weight: 1,
        version: 1,
    };
    let backends = backends.iter().map(backend).collect();
    let host = (!host.is_empty()).then(|| host.to_owned());
    let routes = vec![RouteSpec { host, path: "/".into(), strip: false, redirect: None, tcp: None }];
    AppRoutes::new(id, routes, backends)
}

/// The backends of an app's stats, summed: requests, completions, in flight.
pub fn backends(app: &AppStats) -> (u64, u64, u64) {
    app.backends
        .values()
        .fold((0, 0, 0), |(r, c, f), b| (r + b.requests, c + b.completions.iter().sum::<u64>(), f + b.in_flight))
}

/// Whether nothing of an app is under way and so many requests have come.
pub fn quiet(frame: &Frame, name: &str, arrivals: u64) -> bool {
    let app = frame.apps.get(&AppId::in_default(name).unwrap());
    app.is_some_and(|app| app.arrivals == arrivals && app.held == 0 && backends(app).2 == 0)
}
