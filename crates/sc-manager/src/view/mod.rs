//! What users see: apps and replicas as they are now, each with what it waits for in words.

mod replica;
mod status;
mod why;

pub use replica::{replica_view, state_of_record};
use sc_api::types::{AppView, ProxyView, VersionView};
use sc_core::{
    AppId,
    plan::{Desired, DesiredApp},
    records::{Intent, Rollout},
    stats::Histogram,
};
pub use why::{why, why_again, with_minute};

use crate::world::World;

/// How far back rates and latencies go, in seconds.
const RECENT: usize = 10;

/// An app as it is now.
pub fn app_view(world: &World, desired: &Desired, id: &AppId, app: &DesiredApp) -> Option<AppView> {
    let spec = app.spec()?.clone();
    let running = || app.replicas.values().filter(|replica| replica.intent == Intent::Run);
    let recent = world.reports.recent(id, RECENT);
    let mut latency = Histogram::default();
    recent.iter().for_each(|second| latency.merge(&second.latency));
    let arrivals = recent.iter().fold(0.0, |sum, second| sum + second.arrivals);
    let (converged, status) = status::status(world, desired, id, app);
    Some(AppView {
        app: id.clone(),
        version: app.app.version,
        stable: app.app.stable,
        scale: app.app.scale.clone(),
        want: app.want(),
        have: running().filter(|replica| replica.seen_ms.is_some()).count() as u32,
        ready: running().filter(|replica| replica.ready_ms.is_some()).count() as u32,
        rollout: app.app.rollout.clone(),
        canary: app.app.canary.clone(),
        stopped: app.app.stopped,
        deleting: app.app.deleting,
        converged,
        status,
        routes: spec.routes.clone(),
        rps: arrivals / recent.len().max(1) as f64,
        p99_ms: latency.quantile(0.99).map(|seconds| seconds * 1_000.0),
        held: world.reports.gauges(id).held,
        created_ms: app.app.created_ms,
        warnings: world.engine.warnings(&spec),
        spec,
    })
}

/// An app's stored versions, oldest first.
pub fn versions(app: &DesiredApp) -> Vec<VersionView> {
    let canary = app.app.canary.as_ref();
    let mark = |n: u64| match (&app.app.rollout, canary.filter(|canary| canary.version == n)) {
        _ if n == app.app.version => "wanted".to_owned(),
        _ if Some(n) == app.app.stable => "stable".to_owned(),
        (_, Some(canary)) => format!("canary {}", canary.share),
        (Rollout::RolledBack { failed, .. }, None) if *failed == n => "failed".to_owned(),
        _ if app.app.failed.contains(&n) => "failed".to_owned(),
        _ => String::new(),
    };
    let versions = app.versions.iter();
    let view = |(n, version): (&u64, &sc_core::records::Version)| VersionView {
        version: *n,
        spec: version.spec.clone(),
        created_ms: version.created_ms,
        note: version.note.clone(),
        mark: mark(*n),
    };
    versions.map(view).collect()
}

/// The registered proxies.
pub fn proxies(world: &World, desired: &Desired) -> Vec<ProxyView> {
    let now = world.now_ms();
    let view = |(id, proxy): (&String, &sc_core::records::Proxy)| {
        let report = world.reports.report(id);
        ProxyView {
            id: id.clone(),
            stats: proxy.stats.clone(),
            listen: proxy.listen.clone(),
            release: proxy.release.clone(),
            report_age_ms: report.at.map(|at| now.saturating_sub(at)),
            applied: report.applied,
        }
    };
    desired.proxies.iter().map(view).collect()
}
