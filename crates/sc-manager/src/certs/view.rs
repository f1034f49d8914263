//! Certificates for people: those there are, and those that are being had.

use sc_api::types::{CertView, Finding};
use sc_core::{
    acme::{is_due, renewal_ms},
    certs::{
        Cert, Certificates, Hosts, Kept, Order, OrderState, Origin, acme_fault, cert_key, issued_host, issued_name,
    },
    plan::Desired,
    records::UnixMs,
};

use super::{days_left, wanted};
use crate::{waiting::chain, world::World};

/// All certificates, and the hosts that wait for one.
pub fn views(world: &World, desired: &Desired) -> Vec<CertView> {
    let Some(certificates) = world.certificates() else { return Vec::new() };
    let (hosts, now_ms) = (wanted(desired), world.now_ms());
    let mut views: Vec<CertView> =
        certificates.certs.iter().map(|(name, kept)| one(world, &certificates, &hosts, name, kept, now_ms)).collect();
    for (key, (why, _)) in &certificates.unreadable {
        let Some(name) = key.strip_prefix(sc_core::certs::CERTS) else { continue };
        let detail = format!("its record is not readable: {why}; `sc cert rm {name}` removes it");
        views.push(CertView { state: "broken".to_owned(), detail, ..bare(name, Vec::new(), Origin::Added) });
    }
    let without = hosts.iter().filter(|(host, _)| !certificates.certs.contains_key(&issued_name(host)));
    for (host, app) in without {
        if !is_due(&certificates, host, now_ms) {
            continue; // somebody added one
        }
        let (state, detail) = coming(world, host, certificates.orders.get(host).map(|kept| &kept.record), now_ms);
        let view = bare(&issued_name(host), vec![host.clone()], Origin::Acme);
        views.push(CertView { state: state.to_owned(), detail, app: Some(app.clone()), ..view });
    }
    views.sort_by(|a, b| a.name.cmp(&b.name));
    views
}

/// What `sc doctor` says of them.
pub fn findings(world: &World, desired: &Desired) -> Vec<Finding> {
    let views = views(world, desired);
    let mut findings: Vec<Finding> = views.iter().filter_map(finding).collect();
    if findings.is_empty() && !views.is_empty() {
        let found = format!("all {} good", views.len());
        findings.push(Finding { level: "ok".into(), what: "certificates".into(), found, fix: String::new() });
    }
    findings
}

fn finding(view: &CertView) -> Option<Finding> {
    let (level, fix) = match (view.state.as_str(), view.source.as_str()) {
        ("ok" | "ordering", _) => return None,
        ("broken", _) => ("error", "restore the store key's file, or add the certificate again: `sc cert add`"),
        ("expired" | "ends soon", "added") => (
            if view.state == "expired" { "error" } else { "warning" },
            "add its successor under the same name: `sc cert add`",
        ),
        ("not yet good", _) => ("warning", "look at this host's clock, or wait"),
        ("refused", _) => ("error", "take `certificate` out of the app, and give the host one with `sc cert add`"),
        _ => ("warning", "the reason is above; HTTP port 80 of the host must reach a proxy of sc from outside"),
    };
    let what = format!("certificate {}", view.name);
    let found = if view.detail.is_empty() { view.state.clone() } else { format!("{}: {}", view.state, view.detail) };
    Some(Finding { level: level.to_owned(), what, found, fix: fix.to_owned() })
}

fn one(
    world: &World,
    certificates: &Certificates,
    hosts: &Hosts,
    name: &str,
    kept: &Kept<Cert>,
    now_ms: UnixMs,
) -> CertView {
    let cert = &kept.record;
    let host = issued_host(name);
    let (mut state, mut detail) = match world.vault.unseal(&cert_key(name), &cert.key) {
        Err(error) => ("broken", chain(&error)),
        Ok(_) if cert.not_after_ms <= now_ms => ("expired", String::new()),
        Ok(_) if cert.not_before_ms > now_ms => ("not yet good", String::new()),
        Ok(_) if cert.ends_soon(now_ms) => ("ends soon", days_left(cert, now_ms)),
        Ok(_) => ("ok", String::new()),
    };
    if let Some(host) = host.filter(|_| state != "broken") {
        match hosts.get(host) {
            None => detail = "no route asks for it any more; it goes when it ends".to_owned(),
            Some(_) if now_ms >= renewal_ms(host, cert) => {
                let order = certificates.orders.get(host).map(|kept| &kept.record);
                let (coming, why) = coming(world, host, order, now_ms);
                detail = format!("renewal {coming}{}{why}", if why.is_empty() { "" } else { ": " });
                if coming == "failed" && state == "ok" {
                    state = "ends soon";
                }
            }
            Some(_) if detail.is_empty() => {
                let days = renewal_ms(host, cert).saturating_sub(now_ms) / 86_400_000;
                detail = format!("renewed in {days} days");
            }
            Some(_) => {}
        }
    }
    CertView {
        not_before_ms: Some(cert.not_before_ms),
        not_after_ms: Some(cert.not_after_ms),
        state: state.to_owned(),
        detail,
        app: host.and_then(|host| hosts.get(host).cloned()),
        ..bare(name, cert.names.clone(), cert.source)
    }
}

/// How a host's certificate is coming on, and more on that.
fn coming(world: &World, host: &str, order: Option<&Order>, now_ms: UnixMs) -> (&'static str, String) {
    if let Some(why) = acme_fault(host) {
        return ("refused", why.to_owned());
    }
    let stuck = world.settings.acme.is_none().then(|| {
        "this manager has no account with an authority: start it with --acme-email (`sc up --acme-email ADDRESS`)"
            .to_owned()
    });
    let Some(order) = order else {
        return ("waiting", stuck.or_else(|| world.acme_trouble()).unwrap_or_default());
    };
    match &order.state {
        OrderState::Waiting { until_ms } if order.failures > 0 => {
            let seconds = until_ms.saturating_sub(now_ms) / 1_000;
            ("failed", format!("{} (attempt {}, the next in {seconds} s)", order.why, order.failures))
        }
        OrderState::Waiting { .. } => ("waiting", stuck.unwrap_or_default()),
        OrderState::Open { .. } => ("ordering", "the proxies are being told the challenge".to_owned()),
        OrderState::Begun { .. } | OrderState::Answered { .. } => ("ordering", "the authority is at work".to_owned()),
    }
}

fn bare(name: &str, names: Vec<String>, source: Origin) -> CertView {
    let source = match source {
        Origin::Added => "added",
        Origin::Acme => "acme",
    };
    CertView {
        name: name.to_owned(),
        names,
        not_before_ms: None,
        not_after_ms: None,
        source: source.to_owned(),
        state: String::new(),
        detail: String::new(),
        app: None,
    }
}
