//! Routes from a TOML file, for a proxy that stands alone:
//!
//! ```toml
//! [[route]]
//! app = "web"
//! host = "web.example.com"            # left out: any host
//! path = "/"                          # left out: all paths
//! strip = false                       # take the prefix off before the request goes on
//! redirect = { to = "https://new.example{path}", status = 301 }   # left out: to the backends
//! tcp = 5432                          # instead of host, path and strip: connections to this port of the proxy
//! backends = ["127.0.0.1:9000"]       # the same for all routes of an app; or { addr = "127.0.0.1:9000", weight = 3 }
//! protocol = "h2c"                    # or "h2", "https"; left out: HTTP/1.1; the same for all routes of an app
//!
//! [route.traffic]                     # as in an app file; the same for all routes of an app
//! sticky = true                       # or { cookie = "sc_web", ttl = "1h" }
//! tcp = { idle_timeout = "1h" }           # also proxy_protocol = "v1" or "v2": the header that replicas get
//! rate = { requests = 100, per = "1s" }   # also burst = 200, by = "address" or "header:X-Api-Key"
//! response_timeout = "60s"            # also connect_timeout, queue_timeout, queue_max, max_in_flight, balance, slow_start
//! compress = true                     # or { types = ["text/*"], min_size = "1KiB", codings = ["zstd", "br", "gzip"] }
//! max_body = "10MiB"                  # also body_idle_timeout, total_timeout, idle_timeout = "30s"
//! https = "redirect"                  # also "redirect:8443"
//! tls = { verify = "none" }           # or { ca = "PEM text" }, also server_name; for protocol = "https" or "h2"
//!
//! [route.headers]                     # as in an app file; the same for all routes of an app
//! request_id = true                   # also trace, forwarded, server_timing
//! response = { set = { X-Frame-Options = "DENY" } }   # also add and remove = ["Server"]; request = { … } alike
//!
//! [route.health]                      # left out: backends are not probed; the same for all routes of an app
//! path = "/healthz"                   # left out: a connection is enough
//! interval = "2s"
//! timeout = "1s"
//! unhealthy_after = 3                 # failed probes in a row
//! healthy_after = 2                   # good ones in a row
//! ```
//!
//! The file is looked at five times a second. A new version is taken whole or not at all, when it has not changed for one look.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    num::NonZeroU16,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use sc_core::{
    AppId, ReplicaId,
    routes::{AppRoutes, BackendRoute},
    spec::{Protocol, Redirect, RouteSpec, Traffic, Verify},
    validate::{Invalid, validate_terms},
};
use serde::Deserialize;
use toml::Spanned;

use super::{
    RouteSource, Update,
    target::Target,
    terms::{Headers, Terms},
};
use crate::{
    probe::{Probe, Probes},
    table::host_pattern,
    tls::check_ca,
};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Why a routes file was refused.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read.
    #[error("cannot read the routes file {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What it says is not right.
    #[error("the routes file {} is refused:\n{text}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// Line, column and what is wrong there.
        text: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RoutesFile {
    #[serde(default)]
    route: Vec<Spanned<Entry>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    app: AppId,
    host: Option<Host>,
    #[serde(default = "root")]
    path: RoutePath,
    #[serde(default)]
    strip: bool,
    redirect: Option<Redirect>,
    tcp: Option<NonZeroU16>,
    backends: Option<Vec<Target>>,
    protocol: Option<Protocol>,
    traffic: Option<Terms>,
    headers: Option<Headers>,
    health: Option<Probe>,
}

/// What a file says of an app, over all its routes.
#[derive(Default)]
struct Said {
    /// Where it is first, and where its terms, its rules of headers and its health check are.
    at: [String; 4],
    routes: Vec<RouteSpec>,
    backends: Option<Vec<Target>>,
    protocol: Option<Protocol>,
    traffic: Option<Terms>,
    headers: Option<Headers>,
    health: Option<Probe>,
}

/// What a routes file says.
#[derive(Debug, Default, PartialEq)]
pub struct Parsed {
    /// The routes.
    pub apps: Vec<AppRoutes>,
    /// How backends are probed.
    pub probes: Probes,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Host(String);

impl TryFrom<String> for Host {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        host_pattern(&text).map(Self)
    }
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct RoutePath(String);

impl TryFrom<String> for RoutePath {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with('/') { Ok(Self(text)) } else { Err(format!("{text:?} is no path: it must start with /")) }
    }
}

fn root() -> RoutePath {
    RoutePath("/".to_owned())
}

/// Reads the text of a routes file. `number` gives each backend of an app the number of its made-up replica.
///
/// # Errors
/// Line, column and what is wrong there.
pub fn parse(text: &str, mut number: impl FnMut(&AppId, SocketAddr) -> u64) -> Result<Parsed, String> {
    let file: RoutesFile = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut apps: BTreeMap<AppId, Said> = BTreeMap::new();
    let mut owners: HashMap<RouteSpec, AppId> = HashMap::new();
    for entry in file.route {
        let at = place(text, entry.span().start);
        let Entry { app, host, path, strip, redirect, tcp, backends, protocol, traffic, headers, health } =
            entry.into_inner();
        let route =
            RouteSpec { host: host.map(|host| host.0), path: path.0, strip, redirect, tcp: tcp.map(NonZeroU16::get) };
        if route.tcp.is_some() && route != RouteSpec::of_port(route.tcp.unwrap_or_default()) {
            return Err(format!("{at}: a TCP route has a port alone: leave host, path, strip and redirect out"));
        }
        let key = RouteSpec {
            strip: false,
            redirect: None,
            path: route.path.trim_end_matches('/').to_owned(),
            ..route.clone()
        };
        if let Some(other) = owners.insert(key, app.clone()) {
            let host = route.host.as_deref().unwrap_or("any host");
            let what = route.tcp.map_or_else(|| format!("{host} {}", route.path), |port| format!("TCP port {port}"));
            return Err(format!("{at}: {what} is already routed to {other}"));
        }
        let any_host = route.host.is_none();
        if let Some(what) = route.redirect.iter().flat_map(|redirect| redirect.faults(any_host)).next() {
            return Err(format!("{at}: redirect: {what}"));
        }
        let said = apps.entry(app.clone()).or_default();
        said.routes.push(route);
        let here = [said.at[0].is_empty(), traffic.is_some(), headers.is_some(), health.is_some()];
        said.at.iter_mut().zip(here).filter(|(_, here)| *here).for_each(|(place, _)| place.clone_from(&at));
        let differs = |what| format!("{at}: app {app} has {what} above; give all its routes the same, or only one");
        agree(&mut said.backends, backends).map_err(|()| differs("other backends"))?;
        agree(&mut said.protocol, protocol).map_err(|()| differs("another protocol"))?;
        agree(&mut said.traffic, traffic).map_err(|()| differs("other terms of traffic"))?;
        agree(&mut said.headers, headers).map_err(|()| differs("other rules of headers"))?;
        agree(&mut said.health, health).map_err(|()| differs("another health check"))?;
    }
    let mut parsed = Parsed::default();
    for (app, said) in apps {
        let backend = |target: Target| BackendRoute {
            replica: ReplicaId::new(&app, number(&app, target.addr)),
            addr: target.addr,
            weight: target.weight,
            version: 0,
        };
        let mut seen = std::collections::HashSet::new();
        let targets = said.backends.unwrap_or_default().into_iter().filter(|target| seen.insert(target.addr));
        let backends = targets.map(backend).collect();
        let protocol = said.protocol.unwrap_or_default();
        let traffic = Traffic::from(said.traffic.unwrap_or_default());
        let rules = said.headers.unwrap_or_default().on(traffic.rules);
        let traffic = Traffic { protocol, rules, ..traffic };
        if let Some((place, Invalid { field, what })) = fault(&traffic, said.health.as_ref()) {
            let place = Some(&said.at[place]).filter(|place| !place.is_empty()).unwrap_or(&said.at[0]);
            return Err(format!("{place}: {field}: {what}"));
        }
        parsed.probes.extend(said.health.map(|probe| (app.clone(), probe)));
        parsed.apps.push(AppRoutes { traffic, ..AppRoutes::new(app, said.routes, backends) });
    }
    Ok(parsed)
}

/// What is wrong with an app's terms beyond their syntax, and in which of [`Said::at`].
fn fault(traffic: &Traffic, health: Option<&Probe>) -> Option<(usize, Invalid)> {
    let invalid = |field: &str, what: String| Invalid { field: field.to_owned(), what };
    if let Some(found) = validate_terms(traffic).into_iter().next() {
        return Some((if found.field.starts_with("headers") { 2 } else { 1 }, found));
    }
    if let Verify::Ca(pem) = &traffic.tls.verify
        && let Err(error) = check_ca(pem)
    {
        return Some((1, invalid("traffic.tls.ca", crate::start::chain(&error))));
    }
    let asks = health.is_some_and(|health| health.path.is_some());
    let what = "it is asked for with HTTP/1.1 and without TLS, which the app does not speak; leave it out: a connection is enough";
    (asks && traffic.protocol != Protocol::default()).then(|| (3, invalid("health.path", what.to_owned())))
}

/// Takes a value in that may be said once, or again the same.
fn agree<T: PartialEq>(known: &mut Option<T>, new: Option<T>) -> Result<(), ()> {
    match (&*known, new) {
        (Some(known), Some(new)) if *known != new => return Err(()),
        (None, new) => *known = new,
        _ => {}
    }
    Ok(())
}

fn place(text: &str, at: usize) -> String {
    let before = &text[..at.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.len() - before.rfind('\n').map_or(0, |n| n + 1) + 1;
    format!("line {line}, column {column}")
}

/// Follows a routes file.
pub(crate) struct FileSource {
    path: PathBuf,
    /// An address keeps its number while this process runs, so that its counters go on.
    numbers: HashMap<(AppId, SocketAddr), u64>,
    next: HashMap<AppId, u64>,
    seen: Option<Stamp>,
    /// What it was at the last look.
    last: Option<Stamp>,
    revision: u64,
    first: Option<Parsed>,
    /// What was told to be wrong.
    broken: Option<String>,
}

type Stamp = (SystemTime, u64, u64);

impl FileSource {
    /// Reads the file for the first time.
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        let (path, numbers, next) = (path.to_owned(), HashMap::new(), HashMap::new());
        let mut source = Self { path, numbers, next, seen: None, last: None, revision: 0, first: None, broken: None };
        source.seen = source.stamp();
        source.first = Some(source.read()?);
        Ok(source)
    }

    /// What changes when the file is written or replaced.
    fn stamp(&self) -> Option<Stamp> {
        use std::os::unix::fs::MetadataExt;
        let meta = std::fs::metadata(&self.path).ok()?;
        Some((meta.modified().ok()?, meta.len(), meta.ino()))
    }

    fn read(&mut self) -> Result<Parsed, FileError> {
        let path = || self.path.clone();
        let text = std::fs::read_to_string(&self.path).map_err(|source| FileError::Read { path: path(), source })?;
        let (numbers, next) = (&mut self.numbers, &mut self.next);
        let number = |app: &AppId, addr: SocketAddr| {
            *numbers.entry((app.clone(), addr)).or_insert_with(|| {
                let next = next.entry(app.clone()).or_default();
                *next += 1;
                *next
            })
        };
        parse(&text, number).map_err(|text| FileError::Content { path: self.path.clone(), text })
    }

    fn update(&mut self, Parsed { apps, probes }: Parsed) -> Update {
        self.revision += 1;
        Update { revision: self.revision, whole: true, put: apps, probes: Some(probes), ..Update::default() }
    }
}

#[async_trait(?Send)]
impl RouteSource for FileSource {
    async fn next(&mut self) -> Update {
        if let Some(first) = self.first.take() {
            return self.update(first);
        }
        loop {
            tokio::time::sleep(LOOK).await;
            let stamp = self.stamp();
            // One that is still being written would be read half, or empty: it must have been the same for two looks.
            let settled = std::mem::replace(&mut self.last, stamp) == stamp;
            if stamp == self.seen || !settled {
                continue;
            }
            match self.read() {
                Ok(parsed) => {
                    self.seen = stamp;
                    self.broken = None;
                    tracing::info!(path = %self.path.display(), apps = parsed.apps.len(), "new routes");
                    return self.update(parsed);
                }
                // A file that is not there may be about to be replaced: looked at again each time, told once.
                Err(error) => {
                    if !matches!(error, FileError::Read { .. }) {
                        self.seen = stamp;
                        self.broken = None;
                    }
                    let error = crate::start::chain(&error);
                    if self.broken.as_ref() != Some(&error) {
                        self.broken = Some(error.clone());
                        tracing::error!(error, "the last good routes serve on");
                        return Update { revision: self.revision, refused: Some(error), ..Update::default() };
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sc_core::spec::Sticky;

    use super::*;

    fn read(text: &str) -> Result<Vec<AppRoutes>, String> {
        let mut n = 0;
        parse(text, |_, _| {
            n += 1;
            n
        })
        .map(|parsed| parsed.apps)
    }

    #[test]
    fn backends_may_have_weights_and_be_probed() {
        let parsed = parse(
            r#"
            [[route]]
            app = "web"
            backends = ["127.0.0.1:1", { addr = "127.0.0.1:2", weight = 9 }, { addr = "127.0.0.1:3", weight = 0 }]
            [route.health]
            path = "/up"
            interval = "500ms"
            [[route]]
            app = "tcp"
            path = "/tcp"
            health = {}
            "#,
            |_, addr| addr.port().into(),
        )
        .unwrap();
        assert_eq!(parsed.apps[1].backends.iter().map(|b| b.weight).collect::<Vec<_>>(), [1, 9, 0]);
        let probe = &parsed.probes[&"web".parse().unwrap()];
        assert_eq!((probe.path.as_deref(), probe.interval), (Some("/up"), Duration::from_millis(500)));
        assert_eq!((probe.unhealthy_after, probe.healthy_after), (3, 2));
        assert_eq!(parsed.probes[&"tcp".parse().unwrap()], Probe::default());
    }

    #[test]
    fn terms_of_traffic_are_those_of_an_app_file() {
        let with = |terms: &str| format!("[[route]]\napp = \"web\"\n[route.traffic]\n{terms}");
        let traffic = |terms: &str| read(&with(terms)).unwrap()[0].traffic.clone();
        assert_eq!(traffic("sticky = true").sticky, Some(Sticky::default()));
        assert_eq!(traffic("sticky = false").sticky, None);
        let bounds = traffic("max_body = \"1MiB\"\ntotal_timeout = \"2s\"").bounds;
        assert_eq!((bounds.max_body, bounds.total_ms, bounds.body_idle_ms), (Some(1 << 20), Some(2_000), None));
        let rate = traffic("rate = { requests = 5, per = \"1m\", by = \"header:X-Key\" }").rate.unwrap();
        assert_eq!((rate.per_ms, rate.burst()), (60_000, 5));
        let full = traffic(
            "max_in_flight = 5\nqueue_max = 7\nqueue_timeout = \"1s\"\nconnect_timeout = \"2s\"\nresponse_timeout = \"3s\"\n\
             balance = \"round_robin\"\nslow_start = \"4s\"\ncompress = { codings = [\"gzip\"], min_size = \"2KiB\" }",
        );
        assert_eq!(
            (full.max_in_flight, full.queue_max, full.balance),
            (Some(5), 7, sc_core::spec::Balance::RoundRobin)
        );
        assert_eq!((full.queue_timeout_ms, full.connect_timeout_ms), (1_000, 2_000));
        assert_eq!((full.response_timeout_ms, full.slow_start_ms), (3_000, 4_000));
        let compress = full.compress.unwrap();
        assert_eq!((compress.min_size, compress.codings), (2048, vec![sc_core::spec::Coding::Gzip]));
        assert_eq!(
            (traffic("compress = true").compress, traffic("compress = false").compress),
            (Some(Default::default()), None)
        );
        for wrong in
            ["connect_timeout = \"0s\"", "max_in_flight = 0", "compress = { codings = [] }", "queue_max = 9999999"]
        {
            assert!(read(&with(wrong)).is_err(), "{wrong}");
        }
        let named = Sticky { cookie: Some("me".to_owned()), ttl_ms: Some(60_000) };
        assert_eq!(traffic("sticky = { cookie = \"me\", ttl = \"1m\" }").sticky, Some(named));
    }

    #[test]
    fn heads_and_tls_are_those_of_an_app_file() {
        let traffic = |text: &str| read(&format!("[[route]]\napp = \"web\"\n{text}")).unwrap()[0].traffic.clone();
        let rules = traffic(
            "[route.traffic]\nhttps = \"redirect:8443\"\n[route.headers]\nrequest_id = true\nserver_timing = true\n\
             request.remove = [\"X-Debug\"]\nresponse = { set = { X-Frame-Options = \"DENY\" } }",
        )
        .rules;
        assert_eq!((rules.https, rules.https_port), (true, Some(8443)));
        assert_eq!((rules.request_id, rules.server_timing, rules.trace, rules.forwarded), (true, true, false, false));
        assert_eq!((&*rules.request.remove[0], &*rules.response.set["X-Frame-Options"]), ("X-Debug", "DENY"));
        assert_eq!(traffic("traffic.https = { port = 444 }").rules.https_port, Some(444));
        assert_eq!(traffic("traffic.https = \"optional\"").rules, Default::default());
        let tls =
            traffic("protocol = \"h2\"\n[route.traffic.tls]\nverify = \"none\"\nserver_name = \"in.example\"").tls;
        assert_eq!((tls.verify, tls.server_name.as_deref()), (Verify::None, Some("in.example")));
    }

    #[test]
    fn a_file() {
        let apps = read(
            r#"
            [[route]]
            app = "web"
            host = "Web.localhost"
            backends = ["127.0.0.1:9000", "127.0.0.1:9001", "127.0.0.1:9000"]
            [[route]]
            app = "web"
            path = "/more/"
            [[route]]
            app = "api"
            path = "/api"
            strip = true
            backends = ["[::1]:80"]
            [[route]]
            app = "api"
            host = "old.localhost"
            redirect = { to = "https://new.localhost{path}", status = 301 }
            "#,
        )
        .unwrap();
        assert_eq!(apps.iter().map(|app| app.app.to_string()).collect::<Vec<_>>(), ["api", "web"]);
        assert!(apps[0].routes[0].strip);
        assert_eq!(apps[0].routes[1].redirect.as_ref().unwrap().status, 301);
        assert_eq!(apps[1].routes.len(), 2);
        assert_eq!(apps[1].routes[0].host.as_deref(), Some("web.localhost"));
        assert_eq!(apps[1].backends.len(), 2);
        assert_eq!(read("").unwrap(), vec![]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, place, why) in [
            ("[[route]]\napp = \"Web\"\n", "line 2", "lower-case letter"),
            ("[[route]]\napp = \"web\"\nbackends = [\"localhost:80\"]", "line 3", "socket address"),
            ("[[route]]\napp = \"web\"\nhots = \"x\"", "line 3", "unknown field"),
            ("[[route]]\napp = \"web\"\nhost = \"a:80\"", "line 3", "no port"),
            ("[[route]]\napp = \"web\"\npath = \"x\"", "line 3", "start with /"),
            ("[[route]]\nhost = \"x\"", "line 1", "missing field `app`"),
            ("[[route]\n", "line 1", "unclosed"),
            ("x = 1", "line 1", "unknown field"),
            ("[[route]]\napp = \"a\"\n\n[[route]]\napp = \"b\"", "line 4, column 1", "already routed to a"),
            ("[[route]]\napp = \"a\"\nbackends = [{ addr = \"1.1.1.1:1\", weight = 5000 }]", "line 3", "0 to 1000"),
            ("[[route]]\napp = \"a\"\nbackends = [{ addr = \"1.1.1.1:1\", wait = 5 }]", "line 3", "unknown field"),
            ("[[route]]\napp = \"a\"\n[route.health]\ninterval = \"soon\"", "line 4", "like 500ms or 2s"),
            ("[[route]]\napp = \"a\"\n[route.health]\npath = \"/a b\"", "line 4", "no path"),
            ("[[route]]\napp = \"a\"\n[route.health]\nhealthy_after = 0", "line 4", "nonzero"),
            ("[[route]]\napp = \"a\"\nredirect = { to = \"//evil\" }", "line 1", "write it like"),
            ("[[route]]\napp = \"web\"\nprotocol = \"spdy\"", "line 3", "unknown variant"),
            ("[[route]]\napp = \"a\"\n[route.traffic]\nsticky = 1", "line 4", "true, or { cookie"),
            ("[[route]]\napp = \"a\"\n[route.traffic]\nsticky = { ttl = \"soon\" }", "line 4", "is no duration"),
            ("[[route]]\napp = \"a\"\n[route.traffic]\nsticky = { ttl = \"1ms\" }", "line 1", "from 1s"),
            ("[[route]]\napp = \"a\"\n[route.traffic]\nrate = { requests = 1 }", "line 4", "missing field `per`"),
            ("[[route]]\napp = \"a\"\n[route.traffic]\nhttps = \"always\"", "line 4", "redirect:8443"),
            ("[[route]]\napp = \"a\"\n[route.traffic]\nhttps = { port = 0 }", "line 4", "nonzero"),
            ("[[route]]\napp = \"a\"\n[route.traffic]\ntls = { verify = \"none\" }", "line 1", "\"https\" and \"h2\""),
            ("[[route]]\napp = \"a\"\n[route.traffic]\ntls = { verify = \"none\", ca = \"x\" }", "line 4", "together"),
            ("[[route]]\napp = \"a\"\n[route.headers]\nrequest = { remove = [\"Host\"] }", "line 1", "headers.request"),
            ("[[route]]\napp = \"a\"\n[route.headers]\ntraces = true", "line 4", "unknown field"),
            (
                "[[route]]\napp = \"a\"\nprotocol = \"https\"\n[route.traffic.tls]\nca = \"\"\"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\"\"\"",
                "line 1",
                "traffic.tls.ca",
            ),
            (
                "[[route]]\napp = \"a\"\nprotocol = \"h2c\"\n[route.health]\npath = \"/\"",
                "line 1",
                "a connection is enough",
            ),
            (
                "[[route]]\napp = \"a\"\n[[route]]\napp = \"a\"\npath = \"/x\"\nheaders = { request = { remove = [\"Host\"] } }\n[[route]]\napp = \"a\"\npath = \"/y\"\ntraffic = { sticky = true }",
                "line 3, column 1",
                "headers.request",
            ),
            (
                "[[route]]\napp = \"a\"\nheaders = {}\n[[route]]\napp = \"a\"\npath = \"/x\"\nheaders = { trace = true }",
                "line 4, column 1",
                "other rules of headers",
            ),
            (
                "[[route]]\napp = \"a\"\nprotocol = \"h2c\"\n[[route]]\napp = \"a\"\npath = \"/x\"\nprotocol = \"h2\"",
                "line 4, column 1",
                "another protocol",
            ),
            (
                "[[route]]\napp = \"a\"\nbackends = []\n[[route]]\napp = \"a\"\npath = \"/x\"\nbackends = [\"1.1.1.1:1\"]",
                "line 4, column 1",
                "other backends",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(place) && error.contains(why), "{text:?} gave\n{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\[\\[route\\]\\]|app|host|path|=|\"|/|a|\n|\\[|\\]|:|1|ü| ){0,40}") {
            let _ = read(&text);
        }
    }
}
