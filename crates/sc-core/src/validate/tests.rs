use insta::assert_snapshot;

use super::*;

fn sound() -> AppSpec {
    serde_json::from_value(serde_json::json!({
        "source": {"image": "registry.example:5000/team/web:1.2@sha256:ab"},
        "port": 8080,
        "env": {"LEVEL": "info"},
        "files": [{"sha256": "a".repeat(64), "path": "/app/web", "mode": 0o755}],
        "routes": [{"host": "web.example"}, {"host": "*.web.example", "path": "/api"}, {"path": "/only"}],
        "volumes": ["data:/data", "/host/dir:/dir:ro"],
    }))
    .expect("a spec")
}

/// What is said of a sound app after this change.
fn said(change: impl FnOnce(&mut AppSpec, &mut ScaleSpec)) -> String {
    let (mut spec, mut scale) = (sound(), ScaleSpec::default());
    change(&mut spec, &mut scale);
    validate(&spec, &scale, 100).iter().map(|invalid| format!("{invalid}\n")).collect()
}

#[test]
fn a_sound_app_is_not_blamed() {
    assert_eq!(said(|_, _| ()), "");
}

#[test]
fn sources_commands_and_ports() {
    for image in ["", "UPPER", "a b", "a//b", "web:", "web:-x", "http://web", &"a".repeat(600)] {
        let said = said(|spec, _| spec.source = Source::Image(image.to_owned()));
        assert_eq!(said.lines().count(), 1, "{image}: {said}");
    }
    assert_snapshot!(said(|spec, _| {
        spec.source = Source::Files { base: None };
        spec.files.clear();
    }), @"command: files alone do nothing: give a binary, or a command to run");
    assert_snapshot!(said(|spec, _| spec.command = vec![String::new(), "a\0b".to_owned()]), @r"
    command: its first word, the program, is empty
    command: a NUL character cannot be passed to a program
    ");
    assert_snapshot!(said(|spec, _| spec.port = Some(0)), @"port: 0 is no port; ports are 1 to 65535");
    assert_snapshot!(said(|spec, _| spec.port = None), @"port: an app with routes needs the port it listens on");
}

#[test]
fn environment_and_files() {
    assert_snapshot!(said(|spec, _| {
        for (name, value) in [("A=B", ""), ("PORT", "1"), ("SC_APP", "x"), ("NUL", "\0"), ("", "")] {
            spec.env.insert(name.to_owned(), value.to_owned());
        }
        spec.files.push(FileSpec { sha256: "A".repeat(64), path: "relative".to_owned(), mode: 0o10_000 });
        spec.files.push(FileSpec { path: "/a/../b".to_owned(), ..spec.files[0].clone() });
        spec.files.push(spec.files[0].clone());
    }), @r#"
    env.: a variable's name is not empty and holds no = or NUL
    env.A=B: a variable's name is not empty and holds no = or NUL
    env.NUL: a NUL character cannot be passed to a program
    env.PORT: sc sets PORT and all names with SC_ itself; choose another name
    env.SC_APP: sc sets PORT and all names with SC_ itself; choose another name
    file: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" is no SHA-256 in lower-case hex
    file: "relative": give an absolute path inside the replica, without . or ..
    file: 10000 are no permission bits
    file: "/a/../b": give an absolute path inside the replica, without . or ..
    file: two files are placed at /app/web
    "#);
    assert_eq!(said(|spec, _| spec.files = vec![spec.files[0].clone(); FILES_MAX + 1]).lines().count(), FILES_MAX + 1);
}

#[test]
fn routes() {
    let route = |host: &str, path: &str| RouteSpec {
        host: Some(host.to_owned()).filter(|h| !h.is_empty()),
        path: path.to_owned(),
        strip: false,
        redirect: None,
        tcp: None,
    };
    assert_snapshot!(said(|spec, _| {
        spec.routes = vec![
            route("web.example:80", "/"),
            route("Web.example", "/"),
            route("-a.example", "/"),
            route("a..example", "/"),
            route("a.*.example", "/"),
            route("", "api"),
            route("", "/a?b"),
            route("", "/a/../b"),
            route("twice.example", "/x"),
            route("twice.example", "/x/"),
        ];
    }), @r#"
    route.host: "web.example:80" is no host name: leave the port out
    route.host: "Web.example" is no host name: write it in lower case
    route.host: "-a.example" is no host name: a host is labels with dots between, like shop.example.com or *.example.com
    route.host: "a..example" is no host name: a host is labels with dots between, like shop.example.com or *.example.com
    route.host: "a.*.example" is no host name: a host is labels with dots between, like shop.example.com or *.example.com
    route.path: "api": a path starts with /
    route.path: "/a?b": no query, fragment, blanks or special characters
    route.path: "/a/../b": no empty, . or .. segments
    route: twice.example/x/ stands there twice
    "#);
}

#[test]
fn health_limits_and_times() {
    assert_snapshot!(said(|spec, _| {
        spec.health.probe = Probe::Http { path: "healthz".to_owned() };
        spec.health.unhealthy_after = 0;
        spec.health.interval_ms = 1;
        spec.resources.cpus = Some(f64::NAN);
        spec.resources.memory = Some(4096);
        spec.resources.pids = Some(0);
        spec.security.user = Some("a b".to_owned());
        spec.security.cap_add = vec!["CAP_NET_RAW".to_owned(), "net_raw".to_owned()];
        spec.drain.timeout_ms = u64::MAX;
        spec.deploy.surge = 0;
        spec.traffic.max_in_flight = Some(0);
        spec.volumes = vec!["data".to_owned(), "a/b:/c".to_owned(), "data:/".to_owned(), "data:/x:rx".to_owned()];
    }), @r#"
    health.http: "healthz": give a path that starts with /, like /healthz
    health.unhealthy_after: at least one probe must fail; give 1 or more
    resources.cpus: give CPUs between 0.01 and 1024, like 0.5
    resources.memory: Docker takes no limit below 6 MiB; give more, like 64MiB
    resources.pids: give 1 to 4194304 processes
    security.user: give a name, a uid, or uid:gid
    security.cap_add: "CAP_NET_RAW": write capabilities like NET_BIND_SERVICE, without CAP_
    security.cap_add: "net_raw": write capabilities like NET_BIND_SERVICE, without CAP_
    health.interval: give a duration from 100ms to a year
    drain.timeout: give a duration from 0ms to a year
    deploy.surge: a rollout needs room for one more replica; give 1 or more
    traffic.max_in_flight: 0 would let no request through; leave it out for no limit
    volumes: "data": write NAME:/path or /host/path:/path, with :ro for read-only
    volumes: "a/b:/c": write NAME:/path or /host/path:/path, with :ro for read-only
    volumes: "data:/": write NAME:/path or /host/path:/path, with :ro for read-only
    volumes: "data:/x:rx": write NAME:/path or /host/path:/path, with :ro for read-only
    "#);
    assert_snapshot!(said(|spec, _| spec.health.probe = Probe::Command(Vec::new())), @"health.command: it is empty");
}

#[test]
fn counts() {
    assert_snapshot!(said(|_, scale| (scale.min, scale.max) = (3, 2)), @"scale.min: min 3 is above max 2");
    assert_snapshot!(said(|_, scale| scale.max = 101), @"scale.max: 101 is over this manager's limit of 100 replicas an app");
    assert_snapshot!(said(|_, scale| (scale.min, scale.max) = (0, 0)), @"scale.max: at most 0 replicas would never serve; to stop an app, use `sc stop`");
    assert_snapshot!(said(|_, scale| {
        (scale.rps, scale.cpu, scale.idle_after_ms) = (Some(0.0), Some(1.5), Some(5_000));
    }), @r"
    scale.rps: give the requests per second one replica shall serve, above 0
    scale.cpu: give a share of the CPU limit between 1% and 100%
    scale.idle_after: an app sleeps only with min = 0
    ");
}
