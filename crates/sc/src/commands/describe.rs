//! `sc describe`.

use futures_util::StreamExt;
use sc_api::{
    Client,
    client::EventsQuery,
    types::{AppView, ReplicaView},
};
use sc_core::{
    AppId,
    records::{Event, Rollout},
    spec::{Probe, ScaleSpec},
    units::{format_duration, format_size},
};

use super::{ls, ps};
use crate::{
    exit,
    out::{self, Format, Output, Paint},
    session::Session,
    times,
};

/// Show everything about an app
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The app
    app: AppId,

    #[command(flatten)]
    output: Output,
}

/// How many events are shown.
const EVENTS: usize = 10;

/// Prints an app.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    let client = session.client()?;
    let app = client.app(&args.app).await?;
    let text = match args.output.format {
        Format::Name => format!("{}\n", app.app),
        Format::Json | Format::Yaml => out::structured(args.output.format, &app)?.unwrap_or_default(),
        format => {
            let replicas = client.replicas(Some(&args.app)).await?;
            let events = events(&client, &args.app).await.unwrap_or_default();
            page(&app, &replicas, &events, format, session.paint)
        }
    };
    out::print(&text)?;
    Ok(exit::OK)
}

async fn events(client: &Client, app: &AppId) -> anyhow::Result<Vec<Event>> {
    let query = EventsQuery { app: Some(app.clone()), ..EventsQuery::default() };
    let mut all: Vec<Event> = client.events(&query).await?.filter_map(async |event| event.ok()).collect().await;
    Ok(all.split_off(all.len().saturating_sub(EVENTS)))
}

fn page(app: &AppView, replicas: &[ReplicaView], events: &[Event], format: Format, paint: Paint) -> String {
    let mut text = String::new();
    for (name, value) in lines(app) {
        if !value.is_empty() {
            text += &format!("{} {}\n", paint.strong(&format!("{:<10}", format!("{name}:"))), out::printable(&value));
        }
    }
    text += &format!("\n{}", ps::table(replicas, format, paint));
    if !events.is_empty() {
        text += &format!("\n{}\n", paint.strong("EVENTS"));
    }
    for event in events {
        text += &format!("{}  {}\n", paint.faint(&times::stamp(event.at_ms)), out::printable(&event.text));
    }
    text
}

fn lines(app: &AppView) -> Vec<(&'static str, String)> {
    let spec = &app.spec;
    let stable = app.stable.filter(|stable| *stable != app.version);
    let stable = stable.map(|stable| format!(" (serving: {stable})")).unwrap_or_default();
    let env: Vec<&str> = spec.env.keys().map(String::as_str).collect();
    vec![
        ("App", app.app.to_string()),
        ("Status", if app.converged { "as wanted".to_owned() } else { app.status.clone() }),
        ("Rollout", rollout(&app.rollout)),
        ("Version", format!("{}{stable}", app.version)),
        ("Canary", canary(app)),
        ("Replicas", format!("{} wanted, {} run, {} ready, {}", app.want, app.have, app.ready, ls::count(app))),
        ("Warm", warm(&app.scale)),
        ("Program", ls::program(app)),
        ("Command", spec.command.join(" ")),
        ("Port", spec.port.map(|port| port.to_string()).unwrap_or_default()),
        ("Routes", ls::routes(&app.routes)),
        ("Health", health(&spec.health.probe)),
        ("Limits", limits(app)),
        ("Warnings", app.warnings.join("; ")),
        ("Variables", env.join(" ")),
        ("Files", spec.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>().join(" ")),
        ("Volumes", spec.volumes.join(" ")),
        ("Traffic", traffic(app)),
        ("Made", times::stamp(app.created_ms)),
    ]
}

fn canary(app: &AppView) -> String {
    app.canary.as_ref().map_or_else(String::new, |canary| {
        let (version, share, since) = (canary.version, canary.share, times::stamp(canary.since_ms));
        let state = if canary.up_ms.is_some() { "gets" } else { "is coming up to get" };
        let ends = format!("`sc promote {0}` rolls it out, `sc rollback {0}` withdraws it", app.app);
        format!("version {version} {state} {share} of the requests, since {since}; {ends}")
    })
}

fn warm(scale: &ScaleSpec) -> String {
    let warm = &scale.warm;
    let memory = warm.memory.map(|bytes| format!(", in {}", format_size(bytes))).unwrap_or_default();
    let asleep = (warm.size > 0).then(|| {
        let size = warm.size;
        format!("up to {size} sleep when they are not needed, each for {}{memory}", format_duration(warm.for_ms))
    });
    let most = scale.most_stopped();
    let stopped =
        (most > 0).then(|| format!("up to {most} are kept stopped, each for {}", format_duration(warm.stop_for_ms)));
    [asleep, stopped].into_iter().flatten().collect::<Vec<_>>().join("; then ")
}

fn rollout(rollout: &Rollout) -> String {
    match rollout {
        Rollout::Settled => String::new(),
        Rollout::Rolling { since_ms, .. } => format!("under way since {}", times::stamp(*since_ms)),
        Rollout::RolledBack { failed, cause, at_ms } => {
            format!("version {failed} went back at {}: {cause}", times::stamp(*at_ms))
        }
        Rollout::Failed { cause, at_ms } => format!("failed at {}: {cause}", times::stamp(*at_ms)),
    }
}

fn health(probe: &Probe) -> String {
    match probe {
        Probe::Accept => "the port accepts".to_owned(),
        Probe::Http { path } => format!("GET {path}"),
        Probe::Tcp => "TCP connect".to_owned(),
        Probe::Command(words) => format!("command {}", words.join(" ")),
    }
}

fn limits(app: &AppView) -> String {
    let resources = &app.spec.resources;
    let cpus = resources.cpus.map(|cpus| format!("{cpus} CPUs"));
    let memory = resources.memory.map(|bytes| format!("{} memory", format_size(bytes)));
    let pids = resources.pids.map(|pids| format!("{pids} processes"));
    [cpus, memory, pids].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn traffic(app: &AppView) -> String {
    let p99 = app.p99_ms.map(|ms| format!(", p99 {}", out::latency(ms))).unwrap_or_default();
    let wait = format_duration(app.spec.traffic.queue_timeout_ms);
    format!("{} requests/s{p99}, {} waiting (at most {wait})", out::rate(app.rps), app.held)
}

#[cfg(test)]
mod tests {
    use sc_core::warm::WarmSpec;

    use super::*;

    #[test]
    fn a_warm_pool_in_words() {
        let of = |pool| warm(&ScaleSpec { auto: true, max: 3, warm: pool, ..ScaleSpec::default() });
        assert_eq!(of(WarmSpec::default()), "");
        let pool = WarmSpec { size: 2, memory: Some(512 << 20), ..WarmSpec::default() };
        assert_eq!(of(pool), "up to 2 sleep when they are not needed, each for 10m, in 512MiB");
        let both = WarmSpec { size: 1, stopped: Some(3), stop_for_ms: 3_600_000, ..WarmSpec::default() };
        assert_eq!(
            of(both),
            "up to 1 sleep when they are not needed, each for 10m; then up to 3 are kept stopped, each for 1h"
        );
        let to_zero = ScaleSpec { auto: true, min: 0, ..ScaleSpec::default() };
        assert_eq!(warm(&to_zero), "up to 1 are kept stopped, each for 1d");
    }
}
