//! A manager with its interface on real sockets; store and engine are fakes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, client::conn::http1};
use hyper_util::rt::TokioIo;
use sc_api::client::{Client, Target};
use sc_core::AppId;
use sc_engine::fake::{Fake, FakeConfig};
use sc_manager::{
    Config, Parts, Running,
    clock::{Clock, SystemClock},
    proxies::{Frames, StatsSource},
    start_with,
};
use sc_store::{Memory, Store};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::cluster::{FakeProber, Outage, deploy, spec};

pub struct Server {
    pub running: Running,
    pub outage: Arc<Outage>,
    pub engine: Fake,
    pub token: String,
    pub folder: tempfile::TempDir,
}

struct NoProxies;

#[async_trait::async_trait]
impl StatsSource for NoProxies {
    async fn open(&self, _id: &str, _stats: &str) -> Result<Frames, String> {
        Err("there are none".to_owned())
    }

    async fn relist(&self, _stats: &str) -> Result<(), String> {
        Err("there are none".to_owned())
    }
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let outage = Arc::new(Outage::default());
        let store = Arc::new(Memory::with_faults(outage.clone()));
        Self { outage, ..Self::start_on(store, change).await }
    }

    pub async fn start_on(store: Arc<dyn Store>, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let outage = Arc::default();
        let engine = Fake::new(FakeConfig { start_ms: SystemClock.now_ms(), ..FakeConfig::default() });
        let parts = Parts {
            store,
            engine: Arc::new(engine.clone()),
            prober: Arc::new(FakeProber(engine.clone())),
            stats: Arc::new(NoProxies),
            clock: Arc::new(SystemClock),
        };
        let mut config = Config { blob_max: 4 << 20, max_replicas: 10, ..Config::new(folder.path()) };
        change(&mut config);
        let running = start_with(config, parts).await.unwrap();
        let token = std::fs::read_to_string(&running.token).unwrap();
        let server = Self { running, outage, engine, token, folder };
        server
            .until("it leads", async |client| client.version().await.is_ok_and(|v| v.leads && v.waiting_for.is_none()))
            .await;
        server
    }

    pub fn client(&self) -> Client {
        Client::new(Target::Tcp(self.running.addrs[0].to_string()), Some(self.token.clone()))
    }

    pub fn on_socket(&self, token: Option<String>) -> Client {
        Client::new(Target::Unix(self.running.socket.clone().unwrap()), token)
    }

    /// Waits for something to be so, at most 20 seconds.
    pub async fn until(&self, what: &str, so: impl AsyncFn(Client) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !so(self.client()).await {
            assert!(Instant::now() < end, "not so: {what}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn run_app(&self, name: &str, replicas: u32) -> AppId {
        let id = AppId::in_default(name).unwrap();
        self.client().deploy(&id, &deploy(spec(name, "1"), replicas)).await.unwrap();
        self.converged(&id).await;
        id
    }

    pub async fn converged(&self, id: &AppId) {
        self.until("it is as wanted", async |client| client.app(id).await.is_ok_and(|app| app.converged)).await;
    }

    /// One request as it is, with the token. The body may be long; it is not waited for.
    pub async fn raw(&self, request: Request<Full<Bytes>>) -> (u16, Bytes) {
        let stream = TcpStream::connect(self.running.addrs[0]).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let response: Response<_> = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        (status, response.into_body().collect().await.unwrap().to_bytes())
    }

    pub fn request(&self, method: &str, path: &str) -> hyper::http::request::Builder {
        let builder = Request::builder().method(method).uri(path).header("host", "localhost");
        builder.header("authorization", format!("Bearer {}", self.token))
    }
}

pub fn whole(bytes: impl Into<Bytes>) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    stream::iter([Ok(bytes.into())])
}

pub fn problem(body: &[u8]) -> sc_api::Problem {
    serde_json::from_slice(body).unwrap_or_else(|e| panic!("no problem: {e}: {}", String::from_utf8_lossy(body)))
}
