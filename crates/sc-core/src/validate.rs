//! What an app may not be: checked by the app file's parser for its line numbers, and by the manager for everybody else.

mod scale;

use crate::{
    records::key,
    rules::{self, Rules},
    spec::{AppSpec, Compress, FileSpec, Probe, Rate, RouteSpec, ScaleSpec, Source, Traffic, Verify},
};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {what}")]
pub struct Invalid {
    /// Where, as in the app file: `port`, `scale.min`, `route.path`, `env.PORT`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// A year in milliseconds: no duration may be longer.
const LONGEST_MS: u64 = 366 * 86_400_000;

/// The most files of one app.
const FILES_MAX: usize = 256;

/// The most bytes of certificates by which an app's replicas are known: the proxies' records carry them.
const CA_MAX: usize = 64 * 1024;

/// Everything that is wrong with an app; empty when it is sound. `max_replicas` is the manager's cap.
pub fn validate(spec: &AppSpec, scale: &ScaleSpec, max_replicas: u32) -> Vec<Invalid> {
    let mut found = Found(Vec::new());
    source(spec, &mut found);
    command("command", &spec.command, &mut found);
    if spec.port == Some(0) {
        found.add("port", "0 is no port; ports are 1 to 65535");
    }
    if spec.port.is_none() && spec.routes.iter().any(|route| route.redirect.is_none()) {
        found.add("port", "an app with routes needs the port it listens on");
    }
    env(spec, &mut found);
    for (i, file) in spec.files.iter().enumerate() {
        self::file(file, &mut found);
        if spec.files[..i].iter().any(|other| other.path == file.path) {
            found.add("file", &format!("two files are placed at {}", file.path));
        }
    }
    if spec.files.len() > FILES_MAX {
        found.add("file", &format!("{} files are too many, {FILES_MAX} are the most", spec.files.len()));
    }
    for (i, route) in spec.routes.iter().enumerate() {
        self::route(route, &mut found);
        if spec.routes[..i].iter().any(|other| key::claim(other) == key::claim(route)) {
            found.add("route", &format!("{} stands there twice", show_route(route)));
        }
    }
    health(spec, &mut found);
    resources(spec, &mut found);
    security(spec, &mut found);
    times(spec, &mut found);
    probe_protocol(spec, &mut found);
    found.0.extend(validate_terms(&spec.traffic));
    certificate(spec, &mut found);
    volumes(spec, &mut found);
    scale::scale(scale, max_replicas, &mut found);
    scale::warm(&scale.warm, spec, &mut found);
    found.0
}

/// A route as people read it: `web.localhost/api`, `*/hello`.
pub fn show_route(route: &RouteSpec) -> String {
    match route.tcp {
        Some(port) => format!("tcp:{port}"),
        None => format!("{}{}", route.host.as_deref().unwrap_or("*"), route.path),
    }
}

/// Only what is wrong with a count and its bounds.
pub fn validate_scale(scale: &ScaleSpec, max_replicas: u32) -> Vec<Invalid> {
    let mut found = Found(Vec::new());
    scale::scale(scale, max_replicas, &mut found);
    found.0
}

/// Only what is wrong with how requests are treated, for those who write routes by hand.
pub fn validate_terms(traffic: &Traffic) -> Vec<Invalid> {
    let mut found = Found(Vec::new());
    backend_tls(traffic, &mut found);
    field_rules(&traffic.rules, &mut found);
    terms(traffic, &mut found);
    found.0
}

struct Found(Vec<Invalid>);

impl Found {
    fn add(&mut self, field: &str, what: &str) {
        self.0.push(Invalid { field: field.to_owned(), what: what.to_owned() });
    }
}

fn source(spec: &AppSpec, found: &mut Found) {
    match &spec.source {
        Source::Image(image) => image_reference("image", image, found),
        Source::Files { base } => {
            if let Some(base) = base {
                image_reference("base", base, found);
            }
            if spec.command.is_empty() && !spec.files.iter().any(|f| f.mode & 0o111 != 0) {
                found.add("command", "files alone do nothing: give a binary, or a command to run");
            }
        }
    }
}

/// Enough of the grammar of image references to refuse what Docker would refuse (distribution/reference).
fn image_reference(field: &str, image: &str, found: &mut Found) {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    let (name, tag) = match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (image, None),
    };
    let path = name.split_once('@').map_or(name, |(name, _)| name);
    let last = path.rsplit('/').next().unwrap_or(path);
    if image.is_empty() || image.len() > 512 || !image.chars().all(allowed) || path.split('/').any(str::is_empty) {
        found.add(field, &format!("{image:?} is no image reference, like nginx:1.27 or registry.example/team/app:3"));
    } else if last.chars().any(|c| c.is_ascii_uppercase()) {
        found.add(field, &format!("{image:?}: an image's name has no capital letters"));
    } else if tag.is_some_and(|t| t.is_empty() || t.starts_with(['.', '-']) || t.len() > 128) {
        found.add(field, &format!("{image:?}: the tag after the colon is not valid"));
    }
}

fn command(field: &str, words: &[String], found: &mut Found) {
    if words.first().is_some_and(|w| w.is_empty()) {
        found.add(field, "its first word, the program, is empty");
    }
    if words.iter().any(|w| w.contains('\0')) {
        found.add(field, "a NUL character cannot be passed to a program");
    }
    if words.iter().map(|w| w.len()).sum::<usize>() > 128 << 10 {
        found.add(field, "it is longer than 128 KiB");
    }
}

fn env(spec: &AppSpec, found: &mut Found) {
    for (name, value) in &spec.env {
        let field = format!("env.{name}");
        if name.is_empty() || name.contains(['=', '\0']) {
            found.add(&field, "a variable's name is not empty and holds no = or NUL");
        }
        if value.contains('\0') {
            found.add(&field, "a NUL character cannot be passed to a program");
        }
        if name == "PORT" || name.starts_with("SC_") {
            found.add(&field, "sc sets PORT and all names with SC_ itself; choose another name");
        }
    }
    if spec.env.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() > 128 << 10 {
        found.add("env", "all variables together are longer than 128 KiB");
    }
}

fn file(file: &FileSpec, found: &mut Found) {
    let hex = file.sha256.len() == 64 && file.sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if !hex {
        found.add("file", &format!("{:?} is no SHA-256 in lower-case hex", file.sha256));
    }
    if !absolute(&file.path) || file.path == "/" {
        found.add("file", &format!("{:?}: give an absolute path inside the replica, without . or ..", file.path));
    }
    if file.mode > 0o7777 {
        found.add("file", &format!("{:o} are no permission bits", file.mode));
    }
}

fn absolute(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains('\0')
        && path.len() <= 4096
        && !path.split('/').any(|p| p == ".." || p == ".")
}

fn route(route: &RouteSpec, found: &mut Found) {
    if route.tcp == Some(0) {
        found.add("route.tcp", "0 is no port; ports are 1 to 65535");
    }
    if route.tcp.is_some() && *route != RouteSpec::of_port(route.tcp.unwrap_or_default()) {
        found.add(
            "route.tcp",
            "a TCP route has a port alone: its bytes are not looked at, so leave host, path, strip and redirect out",
        );
    }
    if let Some(host) = &route.host {
        let name = host.strip_prefix("*.").unwrap_or(host);
        let label = |l: &str| {
            let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
            !l.is_empty() && l.len() <= 63 && l.bytes().all(inner) && !l.starts_with('-') && !l.ends_with('-')
        };
        if host.len() > 253 || !name.split('.').all(label) {
            let hint = match host.contains(':') {
                true => "leave the port out",
                false if host.to_ascii_lowercase() != *host => "write it in lower case",
                false => "a host is labels with dots between, like shop.example.com or *.example.com",
            };
            found.add("route.host", &format!("{host:?} is no host name: {hint}"));
        }
    }
    let any_host = route.host.as_deref().is_none_or(|host| host == "*");
    for what in route.redirect.iter().flat_map(|redirect| redirect.faults(any_host)) {
        found.add("route.redirect", &what);
    }
    let odd = |b: u8| b <= b' ' || b >= 0x7f || b"?#\"<>\\^`{|}".contains(&b);
    if !route.path.starts_with('/') {
        found.add("route.path", &format!("{:?}: a path starts with /", route.path));
    } else if route.path.bytes().any(odd) || route.path.len() > 1024 {
        found.add("route.path", &format!("{:?}: no query, fragment, blanks or special characters", route.path));
    } else if route.path.contains("//") || route.path.split('/').any(|p| p == "." || p == "..") {
        found.add("route.path", &format!("{:?}: no empty, . or .. segments", route.path));
    }
}

fn health(spec: &AppSpec, found: &mut Found) {
    let health = &spec.health;
    match &health.probe {
        Probe::Http { path } if !path.starts_with('/') || path.bytes().any(|b| b <= b' ' || b >= 0x7f) => {
            found.add("health.http", &format!("{path:?}: give a path that starts with /, like /healthz"));
        }
        Probe::Command(words) if words.is_empty() => found.add("health.command", "it is empty"),
        Probe::Command(words) => command("health.command", words, found),
        _ => {}
    }
    if spec.port.is_none() && matches!(health.probe, Probe::Http { .. } | Probe::Tcp) {
        found.add("health", "an HTTP or TCP probe needs the app's port");
    }
    if health.unhealthy_after == 0 {
        found.add("health.unhealthy_after", "at least one probe must fail; give 1 or more");
    }
}

fn resources(spec: &AppSpec, found: &mut Found) {
    let resources = &spec.resources;
    if resources.cpus.is_some_and(|cpus| !(0.01..=1024.0).contains(&cpus)) {
        found.add("resources.cpus", "give CPUs between 0.01 and 1024, like 0.5");
    }
    if resources.memory.is_some_and(|bytes| bytes < 6 << 20) {
        found.add("resources.memory", "Docker takes no limit below 6 MiB; give more, like 64MiB");
    }
    if resources.pids.is_some_and(|pids| pids == 0 || pids > 1 << 22) {
        found.add("resources.pids", "give 1 to 4194304 processes");
    }
}

fn security(spec: &AppSpec, found: &mut Found) {
    let user_char = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
    if spec.security.user.as_ref().is_some_and(|u| u.is_empty() || !u.chars().all(user_char)) {
        found.add("security.user", "give a name, a uid, or uid:gid");
    }
    for cap in &spec.security.cap_add {
        if cap.is_empty() || !cap.chars().all(|c| c.is_ascii_uppercase() || c == '_') || cap.starts_with("CAP_") {
            found.add("security.cap_add", &format!("{cap:?}: write capabilities like NET_BIND_SERVICE, without CAP_"));
        }
    }
}

fn times(spec: &AppSpec, found: &mut Found) {
    let (health, traffic) = (&spec.health, &spec.traffic);
    spans(
        found,
        &[
            ("health.interval", health.interval_ms, 100),
            ("health.timeout", health.timeout_ms, 1),
            ("health.start", health.start_ms, 100),
            ("drain.timeout", spec.drain.timeout_ms, 0),
            ("drain.grace", spec.drain.grace_ms, 0),
            ("deploy.timeout", spec.deploy.timeout_ms, 100),
            ("deploy.settle", spec.deploy.settle_ms, 0),
        ],
    );
    if traffic.tcp != Default::default() && spec.routes.iter().all(|route| route.tcp.is_none()) {
        found.add("traffic.tcp", "it is for TCP routes, and the app has none; give `tcp = PORT` in a route");
    }
    if spec.deploy.surge == 0 || spec.deploy.surge > 1000 {
        found.add("deploy.surge", "a rollout needs room for one more replica; give 1 or more");
    }
}

/// Whether an authority can vouch for every host that the app's routes name.
fn certificate(spec: &AppSpec, found: &mut Found) {
    if spec.traffic.certificate.is_none() {
        return;
    }
    let hosts = || spec.routes.iter().filter_map(|route| route.host.as_deref());
    if hosts().next().is_none() {
        found.add(
            "traffic.certificate",
            "no route names a host, and a certificate is for a name; give a route its `host`",
        );
    }
    for (host, why) in hosts().filter_map(|host| Some((host, crate::certs::acme_fault(host)?))) {
        let hint =
            "leave `certificate` out and give this host's certificate with `sc cert add`, or give it an app of its own";
        found.add("traffic.certificate", &format!("{host}: {why}; {hint}"));
    }
}

/// Each time with its least, in milliseconds.
fn spans(found: &mut Found, times: &[(&str, u64, u64)]) {
    for (field, ms, least) in times {
        if ms < least || *ms > LONGEST_MS {
            found.add(field, &format!("give a duration from {least}ms to a year"));
        }
    }
}

fn terms(traffic: &Traffic, found: &mut Found) {
    spans(
        found,
        &[
            ("traffic.queue_timeout", traffic.queue_timeout_ms, 0),
            ("traffic.connect_timeout", traffic.connect_timeout_ms, 1),
            ("traffic.response_timeout", traffic.response_timeout_ms, 1),
            ("traffic.slow_start", traffic.slow_start_ms, 0),
            ("traffic.tcp.idle_timeout", traffic.tcp.idle_timeout_ms, 1_000),
        ],
    );
    if traffic.max_in_flight == Some(0) {
        found.add("traffic.max_in_flight", "0 would let no request through; leave it out for no limit");
    }
    if traffic.queue_max > 1 << 20 {
        found.add("traffic.queue_max", "at most 1048576 requests may wait");
    }
    for (key, what) in traffic.bounds.faults() {
        found.add(&format!("traffic.{key}"), what);
    }
    for (key, what) in traffic.rate.iter().flat_map(Rate::faults) {
        found.add(&format!("traffic.rate.{key}"), &what);
    }
    for (key, what) in traffic.compress.iter().flat_map(Compress::faults) {
        found.add(&format!("traffic.compress.{key}"), &what);
    }
    let Some(sticky) = &traffic.sticky else { return };
    if let Some(what) = sticky.name_fault() {
        found.add("traffic.sticky.cookie", &what);
    }
    if sticky.ttl_ms.is_some_and(|ms| !(1_000..=LONGEST_MS).contains(&ms)) {
        found.add("traffic.sticky.ttl", "give a duration from 1s to a year; leave it out for the browser's session");
    }
}

fn backend_tls(Traffic { protocol, tls, .. }: &Traffic, found: &mut Found) {
    if *tls != Default::default() && !protocol.is_secure() {
        found.add("traffic.tls", "only the protocols \"https\" and \"h2\" are under TLS");
    }
    if let Verify::Ca(pem) = &tls.verify {
        if !pem.contains("-----BEGIN CERTIFICATE-----") {
            found.add("traffic.tls.ca", "give the authorities' certificates themselves, as PEM text");
        } else if pem.len() > CA_MAX {
            found.add("traffic.tls.ca", &format!("{CA_MAX} bytes of PEM are the most"));
        }
    }
    let is_name = |name: &str| {
        let label = |label: &str| {
            (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        name.len() <= 253 && name.split('.').all(label)
    };
    if let Some(name) = tls.server_name.as_deref().filter(|name| !is_name(name)) {
        found.add("traffic.tls.server_name", &format!("{name:?} is no host name"));
    }
}

fn probe_protocol(spec: &AppSpec, found: &mut Found) {
    if spec.traffic.protocol != Default::default() && matches!(spec.health.probe, Probe::Http { .. }) {
        found.add("health.http", "the probe speaks HTTP/1.1 without TLS, the app does not; use `tcp` or `command`");
    }
}

fn field_rules(rules: &Rules, found: &mut Found) {
    for (field, rules) in [("headers.request", &rules.request), ("headers.response", &rules.response)] {
        for what in rules::faults(rules) {
            found.add(field, &what);
        }
    }
}

fn volumes(spec: &AppSpec, found: &mut Found) {
    for volume in &spec.volumes {
        let parts: Vec<_> = volume.split(':').collect();
        let source = |s: &str| absolute(s) || (!s.is_empty() && !s.contains('/') && s != "." && s != "..");
        let sound = match parts[..] {
            [from, to] | [from, to, "ro" | "rw"] => source(from) && absolute(to) && to != "/",
            _ => false,
        };
        if !sound {
            found.add("volumes", &format!("{volume:?}: write NAME:/path or /host/path:/path, with :ro for read-only"));
        }
    }
}

#[cfg(test)]
mod tests;
