//! `sc-manager`: reads its flags, opens store and engine, and runs until it is told to end.

mod flags;

use std::{io::IsTerminal, process::ExitCode, sync::Arc};

use anyhow::Context;
use clap::Parser;
use flags::{EngineKind, Flags, LogFormat, StoreKind};
use sc_engine::Engine;
use sc_store::Store;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == "__shim") {
        return sc_engine::process::shim_main(&args.collect::<Vec<_>>());
    }
    let flags = Flags::parse();
    log_to_stderr(flags.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime.context("no runtime").and_then(|runtime| {
        let result = runtime.block_on(run(flags));
        // Reads of files may still hang on a dead disk.
        runtime.shutdown_timeout(std::time::Duration::from_secs(2));
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sc-manager: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn log_to_stderr(format: LogFormat) {
    let filter = EnvFilter::try_from_env("SC_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => subscriber.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => subscriber.json().init(),
    }
}

async fn run(flags: Flags) -> anyhow::Result<()> {
    let stop = stop_signal()?;
    std::fs::create_dir_all(&flags.data).with_context(|| format!("cannot make {}", flags.data.display()))?;
    let store = open_store(&flags)?;
    let store_id = tokio::select! {
        id = sc_manager::identity::store_id(store.as_ref(), &flags.data) => id?,
        () = stop.cancelled() => return Ok(()),
    };
    let engine = open_engine(&flags, &store_id)?;
    tracing::info!(store = store.describe(), engine = engine.describe(), "sc-manager {}", env!("CARGO_PKG_VERSION"));
    sc_manager::run(flags.config(), store, engine, stop).await.context("the manager does not start")
}

/// Cancelled by SIGTERM or SIGINT.
fn stop_signal() -> anyhow::Result<CancellationToken> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!("ending; what runs goes on");
        told.cancel();
    });
    Ok(stop)
}

fn open_store(flags: &Flags) -> anyhow::Result<Arc<dyn Store>> {
    match flags.store {
        StoreKind::Embedded => Ok(Arc::new(sc_store::Disk::open(flags.data.join("store.redb"))?)),
        StoreKind::Etcd => open_etcd(flags),
    }
}

#[cfg(feature = "etcd")]
fn open_etcd(flags: &Flags) -> anyhow::Result<Arc<dyn Store>> {
    let user = match (&flags.etcd_user, &flags.etcd_password_file) {
        (Some(user), Some(file)) => {
            let password = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            Some((user.clone(), password.trim_end_matches(['\r', '\n']).to_owned()))
        }
        _ => None,
    };
    let config = sc_store::EtcdConfig {
        endpoints: flags.etcd.clone(),
        prefix: flags.store_prefix.clone(),
        user,
        ca: flags.etcd_ca.clone(),
        identity: flags.etcd_cert.clone().zip(flags.etcd_key.clone()),
        ..sc_store::EtcdConfig::default()
    };
    Ok(Arc::new(sc_store::Etcd::new(config)?))
}

#[cfg(not(feature = "etcd"))]
fn open_etcd(flags: &Flags) -> anyhow::Result<Arc<dyn Store>> {
    let at = flags.etcd.join(",");
    anyhow::bail!("this sc-manager was built without etcd ({at}): build with --features etcd, or use --store embedded")
}

fn open_engine(flags: &Flags, store_id: &str) -> anyhow::Result<Arc<dyn Engine>> {
    match flags.engine {
        EngineKind::Process => {
            let config = sc_engine::process::ProcessConfig {
                node: flags.node.clone(),
                data: flags.data.join("replicas"),
                store: store_id.to_owned(),
                ports: (flags.ports.0, flags.ports.1),
                shim: sc_engine::process::Shim::default(),
            };
            Ok(Arc::new(sc_engine::process::Process::open(config)?))
        }
        EngineKind::Docker => open_docker(flags, store_id),
    }
}

#[cfg(feature = "docker")]
fn open_docker(flags: &Flags, store_id: &str) -> anyhow::Result<Arc<dyn Engine>> {
    let most = sc_core::plan::ranges::PARTS as usize;
    anyhow::ensure!(flags.attach.len() <= most, "--attach: an app's network has room for {most} containers");
    let config = sc_engine::docker::DockerConfig {
        host: flags.docker_host.clone(),
        pool: (flags.pool.0, flags.pool.1),
        attach: flags.attach.clone(),
        base_image: flags.base_image.clone(),
        log_dir: Some(flags.data.join("logs")),
        ..sc_engine::docker::DockerConfig::new(flags.node.clone(), &flags.instance, store_id)
    };
    Ok(Arc::new(sc_engine::docker::Docker::connect(config)))
}

#[cfg(not(feature = "docker"))]
fn open_docker(_flags: &Flags, _store_id: &str) -> anyhow::Result<Arc<dyn Engine>> {
    anyhow::bail!("this sc-manager was built without Docker: build it with --features docker, or use --engine process")
}
