//! What this proxy goes by: what it was told at its start with all defaults filled in, and what it learned since. No secrets: of
//! certificates the names, of tokens and keys nothing.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use crate::{
    config::{Admin, Config, Http1, Source},
    control::Control,
};

/// What is fixed from the start.
pub(crate) fn of(config: &Config, threads: usize) -> Value {
    let limits = &config.limits;
    let text = |list: &[crate::config::Cidr]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "release": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "threads": threads,
        "source": source(&config.source),
        "data": config.data,
        "admin": match &config.admin {
            Admin::Tcp(addr) => addr.to_string(),
            Admin::Unix(path) => format!("unix:{}", path.display()),
        },
        "tls": { "certs": config.tls.certs, "client_ca": config.tls.client_ca },
        "tcp_listen": config.tcp_listen,
        "trust": text(&config.trust),
        "proxy_protocol": text(&config.relays),
        "http1": match config.http1 { Http1::Fast => "fast", Http1::Hyper => "hyper" },
        "access_log": config.access_log.as_ref().map(|log| json!({
            "target": format!("{:?}", log.target), "format": format!("{:?}", log.format).to_lowercase(),
            "sample": log.sample, "slow_seconds": log.slow.map(seconds),
        })),
        "grace_seconds": seconds(config.grace),
        "limits": {
            "connections": limits.connections,
            "connections_per_address": limits.per_address(),
            "head_bytes": limits.head_bytes,
            "head_fields": limits.head_fields,
            "uri_bytes": limits.uri_bytes,
            "h2_streams": limits.h2_streams,
            "head_timeout_seconds": seconds(limits.head_timeout),
            "idle_timeout_seconds": seconds(limits.idle_timeout),
            "body_timeout_seconds": seconds(limits.body_timeout),
            "upstream_idle_timeout_seconds": seconds(limits.upstream_idle),
            "upstream_idle_connections": limits.upstream_idle_max,
            "upstream_ping_seconds": seconds(limits.upstream_ping),
            "replay_bytes": limits.replay_bytes,
        },
    })
}

fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}

/// Where the routes come from, without whatever lets one in there.
fn source(source: &Source) -> Value {
    match source {
        Source::Store(_) => json!("store"),
        // A URL may hold a password.
        Source::Manager { url, .. } => {
            let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
            json!({ "manager": format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, rest)| rest)).trim_start_matches("://") })
        }
        Source::File(path) => json!({ "file": path }),
        Source::Given(_) => json!("in process"),
    }
}

/// All of it, now.
pub(super) fn now(control: &Control) -> Value {
    let mut all = control.settings.fixed.clone();
    let table = control.shared.table.load_full();
    let state = control.state.borrow();
    let (_, revision, _) = state.routes();
    let hosts: BTreeSet<&str> =
        table.apps.iter().flat_map(|app| &app.routes).filter_map(|route| route.host.as_deref()).collect();
    all["log"] = json!(control.settings.log.as_ref().map(super::LogFilter::current));
    all["routes"] = json!({
        "revision": revision, "generation": table.generation, "apps": table.apps.len(), "hosts": hosts.len(),
    });
    all["tls"]["names"] = json!(control.settings.certs.as_ref().map(|certs| certs.names()));
    all["ready"] = json!(control.is_ready());
    all
}
