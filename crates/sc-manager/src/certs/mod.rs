//! Certificates in the store: what people are told of them, what ends soon, and those that are had from an authority (ACME).

mod acme;
mod authority;
mod http;
mod view;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

pub use view::{findings, views};

use sc_core::{
    certs::{Cert, Certificate, Certificates, Hosts},
    plan::Desired,
    records::{Event, Level, UnixMs},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::world::World;

/// How often certificates are looked at.
const EVERY: Duration = Duration::from_millis(500);
const DAY_MS: u64 = 24 * 3_600_000;

/// Looks after certificates until `stop`.
pub async fn run(world: Arc<World>, stop: CancellationToken) {
    let (mut told, mut orders) = (Told::default(), acme::Orders::default());
    loop {
        let fence = world.fence();
        if fence.is_some()
            && let Some(certificates) = world.certificates()
        {
            told.tell(&world, &certificates);
        }
        orders.turn(&world, fence).await;
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(EVERY) => {}
        }
    }
}

/// Hosts that routes ask certificates from the authority for.
pub fn wanted(desired: &Desired) -> Hosts {
    let mut hosts = Hosts::new();
    for (id, app) in desired.apps.iter().filter(|(_, app)| !app.app.deleting) {
        let Some(spec) = app.spec().filter(|spec| spec.traffic.certificate == Some(Certificate::Acme)) else {
            continue;
        };
        for host in spec.routes.iter().filter_map(|route| route.host.clone()) {
            hosts.entry(host).or_insert_with(|| id.clone());
        }
    }
    hosts
}

/// For how long a certificate is still good, for people.
pub fn days_left(cert: &Cert, now_ms: UnixMs) -> String {
    let left = cert.not_after_ms.saturating_sub(now_ms);
    match (left / DAY_MS, left / 3_600_000) {
        (0, 0) => format!("good for {} s", left / 1_000),
        (0, hours) => format!("good for {hours} h"),
        (days, _) => format!("good for {days} days"),
    }
}

/// What was told of certificates that end: once when it is soon, once when it is over. A manager that has just begun to lead finds
/// what others told among the stored events.
#[derive(Default)]
struct Told(BTreeMap<(String, UnixMs), bool>);

impl Told {
    fn tell(&mut self, world: &World, certificates: &Certificates) {
        let now_ms = world.now_ms();
        let mut now = BTreeMap::new();
        for (name, kept) in &certificates.certs {
            let cert = &kept.record;
            let over = cert.not_after_ms <= now_ms;
            if !over && !cert.ends_soon(now_ms) {
                continue;
            }
            let key = (name.clone(), cert.not_after_ms);
            if self.0.get(&key) != Some(&over) {
                let names = cert.names.join(", ");
                let (level, kind, text) = match over {
                    true => (Level::Error, "cert_expired", format!("certificate {name} ({names}) has expired")),
                    false => {
                        let left = days_left(cert, now_ms);
                        (Level::Warning, "cert_ends_soon", format!("certificate {name} ({names}) is only {left}"))
                    }
                };
                // By its end it is told from its successor of the same name.
                let data = serde_json::json!({ "certificate": name, "not_after_ms": cert.not_after_ms });
                if world.events.last(|event| event.kind == kind && event.data == data).is_none() {
                    world.events.add(Event { data, ..world.events.event(level, kind, None, text) });
                }
            }
            now.insert(key, over);
        }
        self.0 = now;
    }
}
