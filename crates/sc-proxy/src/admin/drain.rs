//! Draining a backend by hand: it finishes what it has and gets nothing new from this proxy.

use std::{rc::Rc, sync::Arc, time::Instant};

use hyper::{Request, Response, StatusCode, body::Incoming};
use sc_core::ReplicaId;

use super::{Body, text};
use crate::{control::Control, live::Backend};

/// The longest drain that ends by itself.
const LONGEST_S: u64 = 7 * 24 * 3_600;

/// Answers a POST about a backend.
pub(super) fn answer(control: &Rc<Control>, request: &Request<Incoming>) -> Response<Body> {
    let uri = request.uri();
    let order = uri.path().strip_prefix("/backends/").and_then(|rest| rest.rsplit_once('/'));
    let Some((replica, order @ ("drain" | "undrain"))) = order else {
        return text(StatusCode::NOT_FOUND, "try /backends/REPLICA/drain?seconds=N or /backends/REPLICA/undrain\n");
    };
    let Some(until) = until(control, order, uri.query()) else {
        return text(StatusCode::BAD_REQUEST, "seconds must be a number from 1 to 604800\n");
    };
    let Some(backends) = replica.parse().ok().map(|replica| listed(control, &replica)).filter(|all| !all.is_empty())
    else {
        return text(StatusCode::NOT_FOUND, "no backend has this name; GET /routes lists them\n");
    };
    backends.iter().for_each(|backend| backend.drain_until(until));
    tracing::info!(replica, order, "by hand");
    wake(control, &backends);
    text(StatusCode::OK, "ok\n")
}

/// When the drain ends, in milliseconds since the epoch.
fn until(control: &Control, order: &str, query: Option<&str>) -> Option<u64> {
    match query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("seconds="))) {
        _ if order == "undrain" => Some(0),
        None => Some(u64::MAX),
        Some(seconds) => {
            let seconds: u64 = seconds.parse().ok().filter(|seconds| (1..=LONGEST_S).contains(seconds))?;
            Some(control.shared.micros(Instant::now()) / 1_000 + seconds * 1_000)
        }
    }
}

fn listed(control: &Control, replica: &ReplicaId) -> Vec<Arc<Backend>> {
    let table = control.shared.table.load_full();
    let members = table.apps.iter().flat_map(|app| &app.members).map(|member| &member.backend);
    members.filter(|backend| backend.replica == *replica).cloned().collect()
}

/// Who waits for a place looks again.
fn wake(control: &Control, backends: &[Arc<Backend>]) {
    let table = control.shared.table.load_full();
    let of = |backend: &Arc<Backend>| table.app(&backend.replica.app).map(|at| table.apps[at].live.clone());
    backends.iter().filter_map(of).for_each(|live| live.wake());
}
