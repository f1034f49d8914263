//! Routes have one owner each.

use std::collections::BTreeMap;

use sc_api::Problem;
use sc_core::{
    AppId,
    plan::Desired,
    records::{Claim, key},
    spec::RouteSpec,
};

use super::Draft;
use crate::problem;

/// The most routes of one app: its claims go into one commit.
pub const ROUTES_MAX: usize = 40;

/// Claims routes for an app, as part of a draft.
pub fn claim(draft: &mut Draft, desired: &Desired, id: &AppId, routes: &[RouteSpec]) -> Result<(), Problem> {
    if routes.len() > ROUTES_MAX {
        let detail = format!("{id} has {} routes, {ROUTES_MAX} are the most", routes.len());
        return Err(problem::invalid(detail, "use `*.example.com` for many hosts, or several apps"));
    }
    let wanted: BTreeMap<String, &RouteSpec> = routes.iter().map(|route| (key::claim(route), route)).collect();
    for (key, route) in wanted {
        match desired.claims.get(&key) {
            Some(claim) if claim.app == *id => draft.expect(desired, &key),
            Some(claim) => return Err(taken(route, &claim.app)),
            None if desired.revisions.contains_key(&key) => return Err(unreadable(&key)),
            None => {
                let record = Claim { v: 1, app: id.clone(), route: route.clone(), extra: Default::default() };
                draft.put(desired, key, &record);
            }
        }
    }
    Ok(())
}

fn taken(route: &RouteSpec, owner: &AppId) -> Problem {
    let host = route.host.as_deref().unwrap_or("any host");
    let (what, other) = match route.tcp {
        Some(port) => (format!("the TCP port {port}"), "port"),
        None => (format!("the route {host}{}", route.path), "host or path"),
    };
    let detail = format!("{what} belongs to {owner}");
    let hint = format!("choose another {other}, or remove the route from {owner} first");
    problem::conflict("route-taken", detail, hint)
}

fn unreadable(key: &str) -> Problem {
    problem::conflict("unreadable", format!("the record at {key} is not readable"), "restore or delete that key")
}
