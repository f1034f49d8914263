//! What is wrong, and how to mend it.

use std::path::Path;

use hyper::StatusCode;
use sc_api::types::Finding;
use sc_core::plan::{Desired, lack_of_addresses};
use sc_store::Health;

use super::{Answer, Api, body};
use crate::{certs, mirror::STORE, reconcile::ENGINE, view, waiting::chain, world::World};

/// A load of the whole store above this is slow.
const SLOW_MS: u128 = 500;
/// Above this share of its quota a store is nearly full.
const NEARLY_FULL: f64 = 0.8;
/// Below so many bytes the disk is nearly full.
const LITTLE: u64 = 1 << 30;
/// Clocks may differ by this.
const SKEW_MS: u64 = 2_000;
/// A proxy reports every second.
const SILENT_MS: u64 = 5_000;

impl Api {
    pub(super) async fn doctor(&self) -> Answer {
        let mut findings = store(&self.world).await;
        findings.extend([engine(&self.world), disk(&self.world.settings.blobs)]);
        if let Some(desired) = self.world.desired() {
            findings.push(leader(&self.world, &desired));
            findings.extend(proxies(&self.world, &desired));
            findings.extend(apps(&self.world, &desired));
            findings.extend(certs::findings(&self.world, &desired));
        }
        Ok(body::json(StatusCode::OK, &findings))
    }
}

fn finding(level: &str, what: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { level: level.to_owned(), what: what.into(), found: found.into(), fix: fix.into() }
}

fn ok(what: impl Into<String>, found: impl Into<String>) -> Finding {
    finding("ok", what, found, "")
}

async fn store(world: &World) -> Vec<Finding> {
    let what = format!("store: {}", world.store.describe());
    if let Err(error) = world.mirror.reload().await {
        let why = world.waiting.why(STORE).unwrap_or_else(|| chain(&error));
        let fix = "start it, or see what it logs; the manager goes on by itself once it is back";
        return vec![finding("error", what, why, fix)];
    }
    let health = match world.store.health().await {
        Ok(health) => health,
        Err(error) => {
            let fix = "the manager's user may not ask, or the store is slow; what it does goes on";
            return vec![finding("warning", what, format!("does not say how it is: {}", chain(&error)), fix)];
        }
    };
    let size = size(&health);
    let troubles = health.troubles.iter().cloned();
    let mut findings: Vec<Finding> = troubles.map(|t| finding("error", what.clone(), t.what, t.fix)).collect();
    if findings.is_empty() && nearly_full(&health) {
        let fix = "compact and defragment it (`etcdctl compact REVISION`, `etcdctl defrag`), or give it a larger \
                   --quota-backend-bytes: full, it refuses every change";
        findings.push(finding("warning", what.clone(), format!("nearly full: holds {size}"), fix));
    }
    let millis = world.mirror.load_time().as_millis();
    if millis > SLOW_MS {
        let fix = "look at its disk and its load: etcd wants a disk that syncs within 10 ms";
        findings.push(finding("warning", what, format!("a load took {millis} ms"), fix));
    } else if findings.is_empty() {
        let size = if size.is_empty() { size } else { format!(", holds {size}") };
        findings.push(ok(what, format!("answers within {millis} ms{size}")));
    }
    findings
}

/// What it holds, and how much of its quota that is: `12.0 MiB (3.1 in use) of 512 MiB, 2 %`.
fn size(health: &Health) -> String {
    let Some(bytes) = health.bytes else { return String::new() };
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let used = health.used.map_or_else(String::new, |used| format!(" ({:.1} in use)", mib(used)));
    let of = |quota: u64| format!(" of {:.0} MiB, {} %", mib(quota), bytes.saturating_mul(100) / quota.max(1));
    format!("{:.1} MiB{used}{}", mib(bytes), health.quota.map_or_else(String::new, of))
}

fn nearly_full(health: &Health) -> bool {
    matches!((health.bytes, health.quota), (Some(bytes), Some(quota)) if bytes as f64 > NEARLY_FULL * quota as f64)
}

fn engine(world: &World) -> Finding {
    let what = format!("engine: {}", world.engine.describe());
    match world.waiting.why(ENGINE) {
        Some(why) => finding("error", what, why, "start it, or see what it logs; replicas that run go on meanwhile"),
        None => ok(what, "answers"),
    }
}

fn disk(folder: &Path) -> Finding {
    let what = format!("disk: {}", folder.display());
    match rustix::fs::statvfs(folder) {
        Err(error) => finding("warning", what, error.to_string(), "make the data folder readable for the manager"),
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let found = format!("{} MiB free", free >> 20);
            if free < LITTLE {
                return finding("warning", what, found, "make room: uploads and logs need it");
            }
            ok(what, found)
        }
    }
}

fn leader(world: &World, desired: &Desired) -> Finding {
    if world.fence().is_some() {
        return ok("leader", format!("this manager, epoch {}", desired.epoch));
    }
    if desired.epoch == 0 {
        let fix = "wait some seconds; if it stays so, look at the store";
        return finding("warning", "leader", "no manager leads now", fix);
    }
    ok("leader", "another manager")
}

fn proxies(world: &World, desired: &Desired) -> Vec<Finding> {
    if desired.proxies.is_empty() {
        let fix = "start one: `sc up`, or sc-proxy with --etcd or --manager";
        return vec![finding("warning", "proxies", "none is registered: no traffic comes in", fix)];
    }
    desired.proxies.iter().map(|(id, proxy)| one_proxy(world, id, &proxy.stats)).collect()
}

fn one_proxy(world: &World, id: &str, stats: &str) -> Finding {
    let (report, what) = (world.reports.report(id), format!("proxy {id}"));
    let age = report.at.map(|at| world.now_ms().saturating_sub(at));
    let Some(age) = age.filter(|age| *age < SILENT_MS) else {
        let fix =
            format!("see whether {stats} can be reached from the manager; without reports nothing is scaled down");
        let why = if report.error.is_empty() { "it does not report".to_owned() } else { report.error };
        return finding("error", what, why, fix);
    };
    let skew = report.at.unwrap_or_default().abs_diff(report.proxy_clock);
    if skew > SKEW_MS {
        let fix = "set the clocks by NTP";
        return finding("warning", what, format!("its clock differs by {} ms", skew), fix);
    }
    if let Some(wrong) = report.certs_wrong {
        let fix =
            "give it the manager's store key (`sc-proxy --store-key`); the last good certificate serves on meanwhile";
        return finding("error", what, wrong, fix);
    }
    ok(what, format!("reported {age} ms ago"))
}

fn apps(world: &World, desired: &Desired) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (id, why) in &desired.left_alone {
        let fix = "another release or a person wrote it: restore or delete that key, or upgrade the manager";
        findings.push(finding("error", format!("app {id}"), format!("left alone: {why}"), fix));
    }
    for (id, app) in &desired.apps {
        let Some(view) = view::app_view(world, desired, id, app) else { continue };
        if !view.converged {
            let lack = lack_of_addresses(desired, &world.observed(), id);
            let fix = match lack {
                Some(_) => {
                    "remove apps that are not needed, or start the manager with a larger --pool (--ports)".to_owned()
                }
                None => format!("`sc describe {id}`, `sc logs {id}` and `sc events --app {id}` show more"),
            };
            findings.push(finding("warning", format!("app {id}"), view.status, fix));
        }
    }
    if findings.is_empty() {
        findings.push(ok("apps", format!("all {} as wanted", desired.apps.len())));
    }
    findings
}
