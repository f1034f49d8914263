//! The whole manager: data folder, loops, interface.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sc_engine::Engine;
use sc_store::Store;
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    api::{self, Api, Bound, ListenError, Token},
    blobs::{Blobs, KEPT},
    certs,
    clock::SystemClock,
    identity,
    probe::RealProber,
    proxies::HttpStats,
    reconcile::{Parts, Reconciler},
    record,
    settings::{Config, Settings},
    waiting::chain,
    world::World,
};

/// Time between two looks for garbage.
const GARBAGE_EVERY: Duration = Duration::from_secs(600);

/// Why a manager does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data folder is in use.
    #[error("{} is in use by another manager: end that one, or give this one a folder of its own with --data", .0.display())]
    InUse(PathBuf),
    /// The data folder cannot be used.
    #[error("the data folder {} cannot be used", folder.display())]
    Data {
        /// Which.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no listening.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// A manager that runs.
pub struct Running {
    /// Where the API listens on TCP.
    pub addrs: Vec<SocketAddr>,
    /// Where it listens on a unix socket.
    pub socket: Option<PathBuf>,
    /// The file with the token.
    pub token: PathBuf,
    /// What it knows.
    pub world: Arc<World>,
    stop: CancellationToken,
    tasks: Vec<AbortOnDropHandle<()>>,
    /// Held while it runs.
    _lock: fs::File,
}

impl Running {
    /// Ends it: requests under way are finished, leadership is given up, what it runs goes on.
    pub async fn stop(mut self) {
        self.stop.cancel();
        for task in self.tasks.drain(..) {
            let _ = task.await;
        }
        if let Some(socket) = &self.socket {
            let _ = fs::remove_file(socket);
        }
    }
}

/// Runs a manager until `stop`.
///
/// # Errors
/// When it does not start: see [`start`].
pub async fn run(
    config: Config,
    store: Arc<dyn Store>,
    engine: Arc<dyn Engine>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let running = start(config, store, engine).await?;
    stop.cancelled().await;
    running.stop().await;
    Ok(())
}

/// Starts a manager. It needs neither store nor engine to be there already.
///
/// # Errors
/// When the data folder cannot be used or is in use, or a listening address is taken.
pub async fn start(config: Config, store: Arc<dyn Store>, engine: Arc<dyn Engine>) -> Result<Running, Error> {
    let prober = Arc::new(RealProber::new(engine.clone()));
    start_with(config, Parts { store, engine, prober, stats: Arc::new(HttpStats), clock: Arc::new(SystemClock) }).await
}

/// The same with other edges: tests put fakes there.
///
/// # Errors
/// As [`start`].
pub async fn start_with(config: Config, parts: Parts) -> Result<Running, Error> {
    let data = |source| Error::Data { folder: config.data.clone(), source };
    let lock = lock(&config.data)?;
    let place = place(&config.data).map_err(data)?;
    let blobs = Blobs::open(&config.data.join("blobs"), config.blob_max).map_err(data)?;
    let token_file = config.data.join("token");
    let token = Token::open(&token_file).map_err(data)?;
    let bound = Bound::bind(&config.listen, config.socket.as_deref()).await?;
    let settings = Settings {
        id: format!("{place}:{}:{}", std::process::id(), parts.clock.now_ms()),
        place,
        api: bound.addrs.first().map(|addr| format!("http://{addr}")).unwrap_or_default(),
        store_id: identity::known(&config.data),
        max_replicas: config.max_replicas,
        blob_max: config.blob_max,
        recordings: Some(config.data.join("recorded")),
        store_key: Some(config.store_key.clone()),
        acme: config.acme.clone(),
        ..Settings::new("", &config.data)
    };
    let reconciler = Reconciler::new(parts, settings);
    let (world, stop) = (reconciler.world(), CancellationToken::new());
    remember(&world).await;
    // Apps run on without it: what needs it says so.
    if let Err(error) = world.vault.make() {
        tracing::error!(error = chain(&error), "no certificate can be added or opened");
    }
    let api = Arc::new(Api::new(world.clone(), blobs.clone(), token));
    for addr in &bound.addrs {
        tracing::info!("the API listens on http://{addr}");
    }
    let mut tasks = vec![
        AbortOnDropHandle::new(tokio::spawn(reconciler.run(stop.clone()))),
        AbortOnDropHandle::new(tokio::spawn(collect(world.clone(), blobs, stop.clone()))),
        AbortOnDropHandle::new(tokio::spawn(certs::run(world.clone(), stop.clone()))),
    ];
    for listener in bound.listeners {
        let task = api::serve(listener, api.clone(), stop.clone());
        tasks.push(AbortOnDropHandle::new(tokio::spawn(task)));
    }
    Ok(Running { addrs: bound.addrs, socket: bound.socket, token: token_file, world, stop, tasks, _lock: lock })
}

/// Takes up what was measured before a restart.
async fn remember(world: &Arc<World>) {
    let (Some(folder), now_ms) = (world.recorder.folder().map(Path::to_owned), world.now_ms()) else { return };
    let windows = tokio::task::spawn_blocking(move || record::windows(&folder, now_ms)).await;
    for (app, window) in windows.unwrap_or_default() {
        world.reports.remember(app, window);
    }
}

/// Removes what nothing refers to, now and then.
async fn collect(world: Arc<World>, blobs: Blobs, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(GARBAGE_EVERY) => {}
        }
        let Some(desired) = world.desired() else { continue };
        // What an unreadable record refers to is not known.
        if world.waiting.text().is_some() || !desired.left_alone.is_empty() || !desired.unreadable.is_empty() {
            continue;
        }
        let versions = desired.apps.values().flat_map(|app| app.versions.values());
        let keep: std::collections::BTreeSet<String> =
            versions.flat_map(|version| version.spec.files.iter().map(|file| file.sha256.clone())).collect();
        if let Err(error) = world.engine.collect_garbage(&keep.iter().cloned().collect::<Vec<_>>()).await {
            tracing::debug!(error = chain(&error), "the engine's garbage stays for now");
        }
        let blobs = blobs.clone();
        match tokio::task::spawn_blocking(move || blobs.collect_garbage(&keep, KEPT)).await {
            Ok(Ok(0)) | Err(_) => {}
            Ok(Ok(count)) => tracing::info!(count, "blobs that nothing refers to were removed"),
            Ok(Err(error)) => tracing::warn!(%error, "blobs could not be looked through"),
        }
    }
}

/// Makes the data folder and holds it: at most one manager lives in it.
fn lock(data: &Path) -> Result<fs::File, Error> {
    let wrong = |source| Error::Data { folder: data.to_owned(), source };
    fs::create_dir_all(data).map_err(wrong)?;
    let file = fs::File::create(data.join("lock")).map_err(wrong)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse(data.to_owned())),
        Err(error) => Err(wrong(error.into())),
    }
}

/// The folder's own name, random, made once: who holds the folder's lock knows that an earlier manager of this name is
/// dead.
fn place(data: &Path) -> io::Result<String> {
    let file = data.join("id");
    if let Ok(text) = fs::read_to_string(&file)
        && !text.trim().is_empty()
    {
        return Ok(text.trim().to_owned());
    }
    let id = format!("{:016x}", rand::random::<u64>());
    fs::write(&file, &id)?;
    Ok(id)
}
