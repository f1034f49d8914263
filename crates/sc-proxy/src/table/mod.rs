//! Which app a request belongs to: pure, immutable, built whole from the routes.
//!
//! A request's host is looked for exactly, then under wildcards (the longest first), then among the routes of any host;
//! in each of these the longest path prefix of whole segments wins. Each step is a look-up in a hash map: ten thousand
//! hosts cost as much as one.

mod host;
mod path;
mod redirect;

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
};

pub use host::{host_pattern, normal_host};
pub use path::normal_path;
pub use redirect::Redirect;
use sc_core::{AppId, routes::AppRoutes, spec::RouteSpec};

/// A map by hosts or paths. Its keys are the operator's; a seed of each process keeps requests from aiming at one slot.
type ByText<T> = HashMap<Box<str>, T, foldhash::fast::RandomState>;

/// Which app a request belongs to.
#[derive(Debug, Default)]
pub struct RouteTable {
    exact: ByText<Paths>,
    /// By what comes after `*.`.
    wildcard: ByText<Paths>,
    any: Paths,
    redirects: Vec<Redirect>,
    /// Apps by the port of their TCP routes.
    tcp: HashMap<u16, usize>,
    /// All these ports.
    ports: BTreeSet<u16>,
}

/// A route that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The app's place in the list that the table was built from.
    pub app: usize,
    /// What is done with the request.
    pub then: Then,
}

/// What a route does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It goes on as it is.
    Forward,
    /// So many bytes of its normal path are taken off before it goes on.
    Strip(usize),
    /// Its client is sent elsewhere: by [`RouteTable::redirect`].
    Redirect(usize),
}

/// Two apps claim one route; the first by name has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// The route, `host/path` or `tcp:port`.
    pub route: String,
    /// Who has it.
    pub winner: AppId,
    /// Who wanted it as well.
    pub loser: AppId,
}

/// The path prefixes of one host.
#[derive(Debug, Default)]
struct Paths {
    /// Keys begin with `/` and do not end with it; the prefix `/` is the empty key.
    prefixes: ByText<Found>,
    /// The most segments that a prefix has.
    depth: usize,
}

impl RouteTable {
    /// Builds the table. `apps` should be sorted by name, so that a clash ends the same way everywhere.
    pub fn new<'a>(apps: impl IntoIterator<Item = &'a AppRoutes>) -> (Self, Vec<Clash>) {
        let (mut table, mut clashes) = (Self::default(), Vec::new());
        let apps: Vec<_> = apps.into_iter().collect();
        for (n, app) in apps.iter().enumerate() {
            for route in &app.routes {
                if let Some(port) = route.tcp {
                    let first = *table.tcp.entry(port).or_insert(n);
                    table.ports.insert(port);
                    if first != n {
                        let (winner, loser) = (apps[first].app.clone(), app.app.clone());
                        clashes.push(Clash { route: format!("tcp:{port}"), winner, loser });
                    }
                    continue;
                }
                let path = normal_path(&route.path);
                let prefix = path.trim_end_matches('/');
                let found = Found { app: n, then: table.then(route, prefix) };
                let paths = table.paths_of(route.host.as_deref());
                let first = *paths.prefixes.entry(prefix.into()).or_insert(found);
                paths.depth = paths.depth.max(prefix.matches('/').count());
                if first.app != n {
                    let route = format!("{}{path}", route.host.as_deref().unwrap_or("*"));
                    clashes.push(Clash { route, winner: apps[first.app].app.clone(), loser: app.app.clone() });
                }
            }
        }
        (table, clashes)
    }

    fn then(&mut self, route: &RouteSpec, prefix: &str) -> Then {
        let strip = if route.strip { prefix.len() } else { 0 };
        match &route.redirect {
            Some(asked) => {
                self.redirects.push(Redirect::new(asked, strip));
                Then::Redirect(self.redirects.len() - 1)
            }
            None if strip == 0 => Then::Forward,
            None => Then::Strip(strip),
        }
    }

    /// Where [`Then::Redirect`] leads.
    pub fn redirect(&self, n: usize) -> Option<&Redirect> {
        self.redirects.get(n)
    }

    /// The app whose connections come in at a port.
    pub fn at_port(&self, port: u16) -> Option<usize> {
        self.tcp.get(&port).copied()
    }

    /// All ports of TCP routes.
    pub fn ports(&self) -> &BTreeSet<u16> {
        &self.ports
    }

    fn paths_of(&mut self, host: Option<&str>) -> &mut Paths {
        let Some(host) = host.filter(|host| *host != "*") else { return &mut self.any };
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        match host.strip_prefix("*.") {
            Some(suffix) => self.wildcard.entry(suffix.into()).or_default(),
            None => self.exact.entry(host.into()).or_default(),
        }
    }

    /// Finds the app of a request, by its host as [`normal_host`] and its path as [`normal_path`] give them.
    pub fn find(&self, host: &str, path: &str) -> Option<Found> {
        let exact = self.exact.get(host).and_then(|paths| paths.find(path));
        exact.or_else(|| self.find_wildcard(host, path)).or_else(|| self.any.find(path))
    }

    fn find_wildcard(&self, host: &str, path: &str) -> Option<Found> {
        if self.wildcard.is_empty() {
            return None;
        }
        let suffixes = host.match_indices('.').map(|(dot, _)| &host[dot + 1..]);
        suffixes.filter_map(|suffix| self.wildcard.get(suffix)).find_map(|paths| paths.find(path))
    }
}

impl Paths {
    fn find(&self, path: &str) -> Option<Found> {
        if self.prefixes.is_empty() {
            return None;
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut end = self.longest(path);
        loop {
            if let Some(found) = self.prefixes.get(&path[..end]) {
                return Some(*found);
            }
            end = path[..end].rfind('/')?;
        }
    }

    /// Where the part of `path` ends that has as many segments as the longest prefix: a path of a thousand segments costs no
    /// more look-ups than that.
    fn longest(&self, path: &str) -> usize {
        path.match_indices('/').nth(self.depth).map_or(path.len(), |(at, _)| at)
    }
}

/// A normal path without the prefix that a route takes off.
pub fn strip_prefix(path: &str, strip: usize) -> Cow<'_, str> {
    match path.get(strip..) {
        None | Some("") => Cow::Borrowed("/"),
        Some(rest) if rest.starts_with('/') => Cow::Borrowed(rest),
        Some(rest) => Cow::Owned(format!("/{rest}")),
    }
}

#[cfg(test)]
mod tests;
