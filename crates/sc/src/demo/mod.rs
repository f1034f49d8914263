//! `sc demo`: everything in one process, under a load of its own.
//!
//! ```text
//!  pace ─▶ load ─▶ proxy ─▶ replicas (child processes)
//!            │       │ stats
//!            ▼       ▼
//!          tally   manager ─▶ store (a file in a folder that goes with the demo)
//!            │       │ views, events
//!            └──▶ watch ─▶ screen | plain lines ─▶ summary
//! ```

mod folder;
mod load;
mod pace;
mod parts;
mod plain;
mod screen;
mod summary;
mod tally;
mod watch;

use std::{
    io::IsTerminal,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{exit, out};
use folder::Folder;
use pace::Pace;
use parts::Parts;
use screen::Screen;
use tally::Tally;
use watch::Watch;

/// How a demo is run.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// How long; none: until it is told to end.
    pub length: Option<Duration>,
    /// The summary as JSON, everything else on standard error.
    pub json: bool,
    /// Where the proxy listens; none: where it is free.
    pub listen: Option<SocketAddr>,
    /// The most replicas.
    pub max: u32,
}

/// How often is looked, and drawn.
const FRAME: Duration = Duration::from_millis(200);

/// Runs a demo to its end; gives the exit status.
pub(crate) async fn run(options: Options) -> anyhow::Result<u8> {
    let ended = ended()?;
    let folder = Folder::take()?;
    if std::env::var_os("SC_LOG").is_some() && !shows_screen(&options) {
        let filter = tracing_subscriber::EnvFilter::from_env("SC_LOG");
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    let pace = Pace::new(options.length);
    let parts = Parts::start(&folder, &options, &pace).await?;
    let result = show(&options, &parts, pace, &ended).await;
    parts.stop().await;
    drop(folder);
    let (summary, failures) = result?;
    let text = if options.json { serde_json::to_string(&summary)? + "\n" } else { summary.text() };
    out::print(&text)?;
    if summary.failed > 0 {
        return Err(exit::failure(exit::ERROR, format!("{} requests failed: {failures}", summary.failed)));
    }
    Ok(exit::OK)
}

/// Cancelled when the demo is told to end.
fn ended() -> anyhow::Result<CancellationToken> {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let ended = CancellationToken::new();
    for kind in kinds {
        let (mut signal, ended) = (signal(kind)?, ended.clone());
        tokio::spawn(async move {
            signal.recv().await;
            ended.cancel();
        });
    }
    Ok(ended)
}

fn shows_screen(options: &Options) -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    !options.json && !dumb && std::io::stdout().is_terminal() && std::io::stdin().is_terminal()
}

/// Lets the load run and shows what it does.
async fn show(
    options: &Options,
    parts: &Parts,
    pace: Pace,
    ended: &CancellationToken,
) -> anyhow::Result<(summary::Summary, String)> {
    let began = Instant::now();
    let tally = Arc::new(Tally::default());
    let load = load::start(parts.http, pace, began, tally.clone())?;
    let mut watch = Watch::new(parts.client.clone(), parts.app.clone(), tally.clone(), began).await?;
    let mut screen = if shows_screen(options) { Some(Screen::begin(parts, options)?) } else { None };
    if screen.is_none() {
        plain::begin(parts, options);
    }
    let mut frames = tokio::time::interval(FRAME);
    loop {
        tokio::select! {
            _ = frames.tick() => {}
            () = ended.cancelled() => break,
        }
        if options.length.is_some_and(|length| began.elapsed() >= length) {
            break;
        }
        let news = watch.look().await;
        match &mut screen {
            Some(screen) => {
                if screen.draw(&watch)? {
                    break;
                }
            }
            None => plain::show(&watch, &news, options),
        }
    }
    drop(screen);
    load.stop().await;
    watch.catch_up().await;
    Ok((summary::Summary::of(&watch, &tally), tally.failures()))
}
