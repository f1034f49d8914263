//! One `[app.NAME]`.

use super::{
    FileApp, LocalFile, binary_target,
    reader::Reader,
    scale::{scale, warm},
};
use crate::{
    canary::Share,
    names::Name,
    rules::{FieldRules, Rules},
    spec::{
        AppSpec, BackendTls, Balance, Bounds, Certificate, ClientKey, Coding, Compress, DeploySpec, DrainSpec,
        HealthSpec, Probe, Protocol, ProxyProtocol, Rate, Redirect, Resources, RouteSpec, ScaleSpec, Security, Source,
        Sticky, TcpSpec, Traffic, Verify,
    },
    units::{parse_duration, parse_size},
    validate::{Invalid, validate},
};

/// The file cannot know a manager's cap; the manager checks it again.
const ANY_COUNT: u32 = u32::MAX;

/// Reads an app; its name is filled in by the caller. None when errors were found without which nothing can be said.
pub(super) fn read(app: &Reader<'_>) -> Option<FileApp> {
    let (source, uploads) = source(app);
    let mut command = app.texts("command").unwrap_or_default();
    if let Some(binary) = app.text("binary") {
        command.insert(0, binary_target(&binary));
    }
    let (deploy, canary) = app.table("deploy").map(|t| finish(t, deploy)).unwrap_or_default();
    let spec = AppSpec {
        source,
        command,
        port: app.number("port", 1..=65_535).map(|port| port as u16),
        env: app.text_map("env"),
        files: Vec::new(),
        routes: routes(app),
        health: app.table("health").map(|t| finish(t, health)).unwrap_or_default(),
        resources: app.table("resources").map(|t| finish(t, resources)).unwrap_or_default(),
        security: app.table("security").map(|t| finish(t, security)).unwrap_or_default(),
        drain: app.table("drain").map(|t| finish(t, drain)).unwrap_or_default(),
        deploy,
        traffic: with_headers(app, app.table("traffic").map(|t| finish(t, traffic)).unwrap_or_default()),
        volumes: app.texts("volumes").unwrap_or_default(),
    };
    let table = app.table("scale");
    let (mut scale, replicas) = table.map(|t| finish(t, scale)).unwrap_or((None, None));
    if let Some(warm) = app.table("warm").map(|t| finish(t, warm)) {
        match &mut scale {
            Some(scale) => scale.warm = warm,
            None => app.error("warm", "`warm` needs a `max` in `scale`: with that sc chooses the count"),
        }
    }
    report(app, &spec, scale.as_ref());
    let name = Name::new("unnamed").ok()?;
    Some(FileApp { name, spec, uploads, scale, replicas, canary })
}

fn finish<T>(table: Reader<'_>, read: impl FnOnce(&Reader<'_>) -> T) -> T {
    let value = read(&table);
    table.finish();
    value
}

/// What is wrong with the whole, each at its key's place.
fn report(app: &Reader<'_>, spec: &AppSpec, scale: Option<&ScaleSpec>) {
    let default = ScaleSpec::default();
    for Invalid { field, what } in validate(spec, scale.unwrap_or(&default), ANY_COUNT) {
        app.error(&field, format!("{field}: {what}"));
    }
}

fn source(app: &Reader<'_>) -> (Source, Vec<LocalFile>) {
    let (uploads, base) = (uploads(app), app.text("base"));
    if base.is_some() && app.has("image") {
        app.error("base", "`base` is the image under a `binary`; with `image` leave it out");
    }
    match (app.text("image"), app.has("binary") || !uploads.is_empty()) {
        (Some(_), _) if app.has("binary") => {
            app.error("image", "`image` and `binary` together: give one; `base` names the image under a binary");
            (Source::Files { base: None }, uploads)
        }
        // Files on top of an image are an app of files whose base is that image.
        (Some(image), true) => (Source::Files { base: Some(image) }, uploads),
        (Some(image), false) => (Source::Image(image), uploads),
        (None, has_files) => {
            if !has_files && !app.has("command") {
                app.error("image", "the app has no program: give `image` or `binary`");
            }
            (Source::Files { base }, uploads)
        }
    }
}

fn uploads(app: &Reader<'_>) -> Vec<LocalFile> {
    let binary = app.text("binary").map(|from| LocalFile { to: binary_target(&from), from, mode: Some(0o755) });
    let files = app.list("file").unwrap_or_default();
    let read = |file: Reader<'_>| {
        let mode = file.parsed("mode", |text| match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o7777 => Ok(mode),
            _ => Err("write permission bits in octal, like \"0755\""),
        });
        let upload = LocalFile { from: required(&file, "from")?, to: required(&file, "to")?, mode };
        if !upload.to.starts_with('/') || upload.to.split('/').any(|part| part == "..") {
            file.error("to", "`to` is an absolute path inside the replica, without ..");
        }
        file.finish();
        Some(upload)
    };
    binary.into_iter().chain(files.into_iter().filter_map(read)).collect()
}

fn required(table: &Reader<'_>, key: &'static str) -> Option<String> {
    if !table.has(key) {
        table.error(key, format!("`{key}` is missing here"));
    }
    table.text(key)
}

fn routes(app: &Reader<'_>) -> Vec<RouteSpec> {
    let read = |route: Reader<'_>| {
        let is_tcp = route.has("tcp");
        if !is_tcp && !route.has("host") && !route.has("path") {
            route.error("host", "a route needs a host, a path, or both; or a port, as `tcp`");
        }
        if is_tcp && ["host", "path", "strip", "redirect"].iter().any(|key| route.has(key)) {
            route.error("tcp", "a TCP route has a port alone: leave `host`, `path`, `strip` and `redirect` out");
        }
        let spec = RouteSpec {
            host: route.text("host"),
            path: route.text("path").unwrap_or_else(|| "/".to_owned()),
            strip: route.flag("strip").unwrap_or(false),
            redirect: route.table("redirect").map(|t| finish(t, redirect)),
            tcp: route.number("tcp", 1..=65_535).map(|port| port as u16),
        };
        route.finish();
        spec
    };
    app.list("route").unwrap_or_default().into_iter().map(read).collect()
}

fn redirect(table: &Reader<'_>) -> Redirect {
    let to = Redirect::to(required(table, "to").unwrap_or_else(|| "/".to_owned()));
    match table.number("status", 0..=999) {
        Some(status) => Redirect { status: status as u16, ..to },
        None => to,
    }
}

fn duration(table: &Reader<'_>, key: &'static str, default: u64) -> u64 {
    table.parsed(key, parse_duration).unwrap_or(default)
}

fn health(table: &Reader<'_>) -> HealthSpec {
    let default = HealthSpec::default();
    let mut probes = Vec::new();
    if let Some(path) = table.text("http") {
        probes.push(Probe::Http { path });
    }
    if table.flag("tcp") == Some(true) {
        probes.push(Probe::Tcp);
    }
    if let Some(words) = table.texts("command") {
        probes.push(Probe::Command(words));
    }
    if probes.len() > 1 {
        table.error("http", "one probe only: `http`, `tcp` or `command`");
    }
    HealthSpec {
        probe: probes.pop().unwrap_or(default.probe),
        interval_ms: duration(table, "interval", default.interval_ms),
        timeout_ms: duration(table, "timeout", default.timeout_ms),
        unhealthy_after: table.number("unhealthy_after", 1..=1000).unwrap_or(default.unhealthy_after),
        start_ms: duration(table, "start", default.start_ms),
    }
}

fn resources(table: &Reader<'_>) -> Resources {
    Resources {
        cpus: table.fraction("cpus"),
        memory: table.parsed("memory", parse_size),
        pids: table.number("pids", 1..=u32::MAX),
    }
}

fn security(table: &Reader<'_>) -> Security {
    Security {
        user: table.text("user"),
        read_only: table.flag("read_only").unwrap_or(false),
        cap_add: table.texts("cap_add").unwrap_or_default(),
        new_privileges: table.flag("new_privileges").unwrap_or(false),
    }
}

fn drain(table: &Reader<'_>) -> DrainSpec {
    let default = DrainSpec::default();
    DrainSpec {
        timeout_ms: duration(table, "timeout", default.timeout_ms),
        grace_ms: duration(table, "grace", default.grace_ms),
    }
}

/// How a version replaces another; and the share that it gets at first, which is no part of it.
fn deploy(table: &Reader<'_>) -> (DeploySpec, Option<Share>) {
    let default = DeploySpec::default();
    let spec = DeploySpec {
        surge: table.number("surge", 1..=1000).unwrap_or(default.surge),
        timeout_ms: duration(table, "timeout", default.timeout_ms),
        settle_ms: duration(table, "settle", default.settle_ms),
    };
    (spec, table.parsed("canary", str::parse))
}

fn traffic(table: &Reader<'_>) -> Traffic {
    let default = Traffic::default();
    let balance = |name: &str| Balance::named(name).ok_or("write \"latency\", \"in_flight\" or \"round_robin\"");
    let protocol = |name: &str| Protocol::named(name).ok_or("write \"http1\", \"h2c\", \"https\" or \"h2\"");
    Traffic {
        max_in_flight: table.number("max_in_flight", 1..=u32::MAX),
        queue_max: table.number("queue_max", 0..=1 << 20).unwrap_or(default.queue_max),
        queue_timeout_ms: duration(table, "queue_timeout", default.queue_timeout_ms),
        connect_timeout_ms: duration(table, "connect_timeout", default.connect_timeout_ms),
        response_timeout_ms: duration(table, "response_timeout", default.response_timeout_ms),
        balance: table.parsed("balance", balance).unwrap_or(default.balance),
        slow_start_ms: duration(table, "slow_start", default.slow_start_ms),
        protocol: table.parsed("protocol", protocol).unwrap_or(default.protocol),
        tls: table.table("tls").map(|t| finish(t, backend_tls)).unwrap_or_default(),
        rules: https(table),
        sticky: sticky(table),
        bounds: bounds(table),
        rate: table.table("rate").and_then(|t| finish(t, rate)),
        tcp: table.table("tcp").map(|t| finish(t, tcp)).unwrap_or_default(),
        compress: compress(table),
        certificate: table.parsed("certificate", certificate),
    }
}

fn certificate(name: &str) -> Result<Certificate, &'static str> {
    match name {
        "acme" => Ok(Certificate::Acme),
        _ => Err("write \"acme\"; leave it out to serve certificates that were added"),
    }
}

/// `compress = true`, or a table.
fn compress(table: &Reader<'_>) -> Option<Compress> {
    if !table.is_table("compress") {
        return table.flag("compress").filter(|compress| *compress).map(|_| Compress::default());
    }
    let default = Compress::default();
    let codings = |table: &Reader<'_>| {
        let named = table.texts("codings")?.iter().map(|name| Coding::named(name)).collect::<Option<Vec<_>>>();
        if named.is_none() {
            table.error("codings", "write \"zstd\", \"br\" and \"gzip\", the preferred one first");
        }
        named
    };
    let read = |table: &Reader<'_>| Compress {
        types: table.texts("types").unwrap_or_default(),
        min_size: table.parsed("min_size", parse_size).unwrap_or(default.min_size),
        codings: codings(table).unwrap_or(default.codings),
    };
    table.table("compress").map(|table| finish(table, read))
}

fn tcp(table: &Reader<'_>) -> TcpSpec {
    let version = |name: &str| ProxyProtocol::named(name).ok_or("write \"v1\" or \"v2\"");
    TcpSpec {
        idle_timeout_ms: duration(table, "idle_timeout", TcpSpec::default().idle_timeout_ms),
        proxy_protocol: table.parsed("proxy_protocol", version),
    }
}

fn bounds(table: &Reader<'_>) -> Bounds {
    let span = |key: &'static str| table.parsed(key, parse_duration);
    Bounds {
        max_body: table.parsed("max_body", parse_size),
        body_idle_ms: span("body_idle_timeout"),
        total_ms: span("total_timeout"),
        stream_idle_ms: span("idle_timeout"),
    }
}

fn rate(table: &Reader<'_>) -> Option<Rate> {
    for key in ["requests", "per"] {
        if !table.has(key) {
            table.error(key, format!("`{key}` is missing here"));
        }
    }
    let by = |text: &str| ClientKey::try_from(text.to_owned());
    Some(Rate {
        requests: table.number("requests", 0..=u32::MAX)?,
        per_ms: table.parsed("per", parse_duration)?,
        burst: table.number("burst", 0..=u32::MAX),
        by: table.parsed("by", by).unwrap_or_default(),
    })
}

/// `sticky = true`, or a table.
fn sticky(table: &Reader<'_>) -> Option<Sticky> {
    if !table.is_table("sticky") {
        return table.flag("sticky").filter(|sticky| *sticky).map(|_| Sticky::default());
    }
    let read =
        |table: &Reader<'_>| Sticky { cookie: table.text("cookie"), ttl_ms: table.parsed("ttl", parse_duration) };
    table.table("sticky").map(|table| finish(table, read))
}

/// `https = "redirect"`, to a port other than 443 as `"redirect:8443"` or `{ port = 8443 }`.
fn https(table: &Reader<'_>) -> Rules {
    if table.is_table("https") {
        let port = |table: &Reader<'_>| table.number("port", 1..=65_535).map(|port| port as u16);
        return Rules::https_at(table.table("https").and_then(|table| finish(table, port)));
    }
    table.parsed("https", Rules::https_named).unwrap_or_default()
}

/// With the rules of `[app.x.headers]`.
fn with_headers(app: &Reader<'_>, traffic: Traffic) -> Traffic {
    let (https, https_port) = (traffic.rules.https, traffic.rules.https_port);
    let rules = |table: &Reader<'_>| Rules {
        https,
        https_port,
        request_id: table.flag("request_id").unwrap_or(false),
        trace: table.flag("trace").unwrap_or(false),
        forwarded: table.flag("forwarded").unwrap_or(false),
        server_timing: table.flag("server_timing").unwrap_or(false),
        request: table.table("request").map(|t| finish(t, fields)).unwrap_or_default(),
        response: table.table("response").map(|t| finish(t, fields)).unwrap_or_default(),
    };
    match app.table("headers") {
        Some(table) => Traffic { rules: finish(table, rules), ..traffic },
        None => traffic,
    }
}

fn fields(table: &Reader<'_>) -> FieldRules {
    let (set, add) = (table.text_map("set"), table.text_map("add"));
    FieldRules { set, add, remove: table.texts("remove").unwrap_or_default() }
}

fn backend_tls(table: &Reader<'_>) -> BackendTls {
    let verify = |name: &str| match name {
        "system" => Ok(Verify::System),
        "none" => Ok(Verify::None),
        _ => Err("write \"system\" or \"none\"; or give the authorities as `ca`"),
    };
    let (named, ca) = (table.parsed("verify", verify), table.text("ca"));
    if named.is_some() && ca.is_some() {
        table.error("verify", "`verify` and `ca` together: replicas are known by the authorities in `ca` alone");
    }
    let verify = ca.map(Verify::Ca).or(named).unwrap_or_default();
    BackendTls { verify, server_name: table.text("server_name") }
}
