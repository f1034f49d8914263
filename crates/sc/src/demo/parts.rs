//! The parts of a demo: store, engine, manager, proxy, and the app.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use sc_api::{
    Client, Target,
    types::{Accepted, Deploy},
};
use sc_core::{
    AppId, Name, ReplicaId,
    observed::Node,
    spec::{
        AppSpec, DeploySpec, DrainSpec, HealthSpec, Probe, Resources, RouteSpec, ScaleSpec, Security, Source, Traffic,
    },
};
use sc_engine::{Engine, Process, process::ProcessConfig};
use sc_store::{Disk, Store};
use tokio::time::{Instant, sleep, timeout};

use super::{
    Options,
    folder::Folder,
    pace::{Pace, SLOTS, WAIT_MS},
};
use crate::{
    exit,
    out::Progress,
    wait::{self, Until, Waiting},
};

/// The proxy's port unless another is given, if it is free.
const PORT: u16 = 8080;
/// How long the manager may take until it takes commands, and how often it is asked.
const TAKES: Duration = Duration::from_secs(20);
const PERIOD: Duration = Duration::from_millis(20);
/// How long each part may take to end.
const ENDS: Duration = Duration::from_secs(5);

/// Everything that runs.
pub(super) struct Parts {
    /// Where the proxy takes traffic.
    pub http: SocketAddr,
    /// Speaks with the manager.
    pub client: Client,
    /// The app under load.
    pub app: AppId,
    manager: sc_manager::Running,
    proxy: sc_proxy::Running,
    engine: Arc<Process>,
}

impl Parts {
    /// Starts all, and waits until the app serves.
    pub async fn start(folder: &Folder, options: &Options, pace: &Pace) -> anyhow::Result<Self> {
        let data = folder.data.join("manager");
        let store: Arc<dyn Store> = Arc::new(Disk::open(folder.data.join("store.redb"))?);
        let id = sc_manager::identity::store_id(store.as_ref(), &data).await?;
        let engine = Arc::new(Process::open(ProcessConfig {
            node: Name::new("local")?,
            data: folder.data.join("engine"),
            store: id,
            ports: free_ports(),
            shim: sc_engine::process::Shim::default(),
        })?);
        let proxy = proxy(&folder.data, store.clone(), options.listen)?;
        let config = sc_manager::Config { socket: Some(folder.socket()), ..sc_manager::Config::new(data) };
        let manager = sc_manager::start(config, store, engine.clone()).await?;
        let client = Client::new(Target::Unix(folder.socket()), token(&manager));
        let http = proxy.listen.first().copied().context("the proxy listens nowhere")?;
        let parts = Self { http, client, app: AppId::in_default("web")?, manager, proxy, engine };
        match parts.deploy(options, pace).await {
            Ok(()) => Ok(parts),
            Err(error) => {
                parts.stop().await;
                Err(error)
            }
        }
    }

    async fn deploy(&self, options: &Options, pace: &Pace) -> anyhow::Result<()> {
        let scale = ScaleSpec {
            min: 1,
            max: options.max,
            auto: true,
            hold_down_ms: pace.hold_down_ms(),
            ..ScaleSpec::default()
        };
        let note = "sc demo".to_owned();
        let deploy =
            Deploy { spec: spec()?, scale: Some(scale), replicas: Some(1), note, create_only: false, canary: None };
        let accepted = self.accepted(&deploy).await?;
        let waiting = Waiting { detach: false, timeout: Duration::from_secs(30) };
        wait::wait(&self.client, &waiting, Until::Converged, &[accepted], &mut Progress::new()).await
    }

    /// Deploys as soon as the manager takes commands: it may not have read its store yet.
    async fn accepted(&self, deploy: &Deploy) -> anyhow::Result<Accepted> {
        let until = Instant::now() + TAKES;
        loop {
            match self.client.deploy(&self.app, deploy).await {
                Err(error) if error.status() == Some(503) && Instant::now() < until => sleep(PERIOD).await,
                result => return Ok(result?),
            }
        }
    }

    /// Ends all: the proxy, the manager, every replica. What does not end in time is killed with the folder.
    pub async fn stop(self) {
        let _ = timeout(ENDS, self.proxy.stop_within(Duration::from_secs(1))).await;
        let _ = timeout(ENDS, self.manager.stop()).await;
        let Ok(Ok(Node::Known { replicas, .. })) = timeout(ENDS, self.engine.observe()).await else { return };
        let stop = async |replica: &ReplicaId| drop(timeout(ENDS, self.engine.stop(replica, 500)).await);
        futures_util::future::join_all(replicas.keys().map(stop)).await;
    }
}

/// The manager asks its own user for no token; this one is for those who become another.
fn token(manager: &sc_manager::Running) -> Option<String> {
    std::fs::read_to_string(&manager.token).ok().map(|token| token.trim().to_owned())
}

fn proxy(data: &Path, store: Arc<dyn Store>, listen: Option<SocketAddr>) -> anyhow::Result<sc_proxy::Running> {
    let config = |addr: SocketAddr| sc_proxy::Config {
        listen: vec![addr],
        threads: 2,
        store_key: Some(data.join("manager/store.key")),
        data: Some(data.join("proxy")),
        ..sc_proxy::Config::new(sc_proxy::Source::Store(store.clone()))
    };
    if let Some(addr) = listen {
        return sc_proxy::start(config(addr)).map_err(|error| exit::failure(exit::ERROR, format!("{error:#}")));
    }
    let usual = SocketAddr::from(([127, 0, 0, 1], PORT));
    match sc_proxy::start(config(usual)) {
        Err(sc_proxy::StartError::Listen { .. }) => Ok(sc_proxy::start(config(SocketAddr::new(usual.ip(), 0)))?),
        other => Ok(other?),
    }
}

/// A range of ports below those that the system hands out, in which nothing listens.
fn free_ports() -> (u16, u16) {
    let start = |n: u16| 20_000 + n * 640;
    let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    let first: u16 = rand::random_range(0..18);
    let tries = (0..18).map(|n| start((first + n) % 18));
    let found = tries.into_iter().find(|start| (*start..start + 128).all(free)).unwrap_or(start(first));
    (found, found + 639)
}

/// The reference app, by this very program.
fn spec() -> anyhow::Result<AppSpec> {
    let program = std::env::current_exe()?.display().to_string();
    let args = format!("matrix --listen 127.0.0.1 --slots {SLOTS} --wait {WAIT_MS}");
    Ok(AppSpec {
        source: Source::Files { base: None },
        command: std::iter::once(program).chain(args.split(' ').map(str::to_owned)).collect(),
        port: Some(8080),
        env: Default::default(),
        files: Vec::new(),
        routes: vec![RouteSpec { host: None, path: "/".to_owned(), strip: false, redirect: None, tcp: None }],
        health: HealthSpec { probe: Probe::Http { path: "/healthz".to_owned() }, ..HealthSpec::default() },
        resources: Resources::default(),
        security: Security::default(),
        drain: DrainSpec::default(),
        deploy: DeploySpec::default(),
        traffic: Traffic::default(),
        volumes: Vec::new(),
    })
}
