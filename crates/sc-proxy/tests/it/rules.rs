//! What an app asks the proxy to do to its requests and answers.

use sc_core::{
    rules::{FieldRules, Rules},
    spec::{Redirect, RouteSpec},
};

use crate::support::*;

async fn with(rules: Rules, trusted: bool) -> (Backend, Proxy) {
    let backend = Backend::start("one").await;
    let mut routes = app("web", "web.test", &[(1, backend.addr)]);
    routes.traffic.rules = rules;
    let proxy = Proxy::start_with(vec![routes], |config| {
        config.trust = if trusted { vec!["127.0.0.0/8".parse().unwrap()] } else { vec![] };
    });
    proxy.ready().await;
    (backend, proxy)
}

async fn ask(proxy: &Proxy, path: &str, fields: &[(&str, &str)]) -> Reply {
    let mut request = request("GET", "web.test", path, "");
    for (name, value) in fields {
        let name: hyper::header::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    Conn::open(proxy.addr).await.unwrap().send(request).await.unwrap()
}

fn line<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[tokio::test]
async fn a_request_gets_an_id_that_its_answer_carries() {
    let asked = || Rules { request_id: true, ..Rules::default() };
    let (_backend, proxy) = with(asked(), false).await;
    let one = ask(&proxy, "/head", &[("x-request-id", "mine")]).await;
    let id = line(&one, "x-request-id").unwrap().to_owned();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!(one.field("x-request-id"), id);
    let two = ask(&proxy, "/head", &[]).await;
    assert_ne!(two.field("x-request-id"), id);
    let (_backend, proxy) = with(asked(), true).await;
    let trusted = ask(&proxy, "/head", &[("x-request-id", "mine")]).await;
    assert_eq!((line(&trusted, "x-request-id"), trusted.field("x-request-id")), (Some("mine"), "mine"));
}

#[tokio::test]
async fn a_trace_goes_on_or_begins() {
    let (_backend, proxy) = with(Rules { trace: true, ..Rules::default() }, false).await;
    let sound = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let passed = ask(&proxy, "/head", &[("traceparent", sound), ("tracestate", "a=b")]).await;
    assert_eq!((line(&passed, "traceparent"), line(&passed, "tracestate")), (Some(sound), Some("a=b")));
    let made = ask(&proxy, "/head", &[("traceparent", "nonsense"), ("tracestate", "a=b")]).await;
    let parent = line(&made, "traceparent").unwrap();
    assert!(parent.len() == sound.len() && parent.starts_with("00-") && parent.ends_with("-01"), "{parent}");
    assert_eq!(line(&made, "tracestate"), None);
}

#[tokio::test]
async fn forwarded_says_whom_it_came_from() {
    let asked = || Rules { forwarded: true, ..Rules::default() };
    let (_backend, proxy) = with(asked(), false).await;
    let reply = ask(&proxy, "/head", &[("forwarded", "for=6.6.6.6")]).await;
    let ours = "for=127.0.0.1;host=\"web.test\";proto=http";
    assert_eq!(line(&reply, "forwarded"), Some(ours));
    assert!(!reply.text().contains("6.6.6.6"));
    let (_backend, proxy) = with(asked(), true).await;
    let reply = ask(&proxy, "/head", &[("forwarded", "for=6.6.6.6")]).await;
    assert!(reply.text().contains(&format!("forwarded: for=6.6.6.6\nforwarded: {ours}")), "{}", reply.text());
}

#[tokio::test]
async fn fields_are_set_added_and_removed_both_ways() {
    let one = |name: &str, value: &str| [(name.to_owned(), value.to_owned())].into();
    let rules = Rules {
        request: FieldRules { set: one("x-other", "set"), add: one("x-more", "2"), remove: vec!["Cookie".to_owned()] },
        response: FieldRules {
            set: one("Strict-Transport-Security", "max-age=31536000"),
            remove: vec!["x-backend".to_owned()],
            ..FieldRules::default()
        },
        server_timing: true,
        ..Rules::default()
    };
    let (_backend, proxy) = with(rules, false).await;
    let reply = ask(&proxy, "/head", &[("x-other", "1"), ("x-more", "1"), ("cookie", "a=b")]).await;
    assert_eq!((line(&reply, "x-other"), line(&reply, "cookie")), (Some("set"), None));
    assert!(reply.text().contains("x-more: 1\nx-more: 2"), "{}", reply.text());
    assert_eq!((reply.field("strict-transport-security"), reply.field("x-backend")), ("max-age=31536000", ""));
    let timing = reply.field("server-timing");
    assert!(timing.starts_with("queue;dur=") && timing.contains(", upstream;dur="), "{timing}");
}

#[tokio::test]
async fn what_came_without_tls_is_sent_to_it() {
    let (backend, proxy) = with(Rules { https: true, ..Rules::default() }, false).await;
    let reply = ask(&proxy, "/a?b=c", &[]).await;
    assert_eq!((reply.status.as_u16(), reply.field("location")), (301, "https://web.test/a?b=c"));
    let mut conn = Conn::open(proxy.addr).await.unwrap();
    let posted = conn.send(request("POST", "web.test", "/a", "body")).await.unwrap();
    assert_eq!(posted.status.as_u16(), 308);
    assert_eq!(backend.requests(), 0);
}

#[tokio::test]
async fn a_prefix_that_was_taken_off_is_told_and_only_a_trusted_peer_adds_its_own() {
    for trusted in [false, true] {
        let backend = Backend::start("one").await;
        let mut routes = app("web", "web.test", &[(1, backend.addr)]);
        (routes.routes[0].path, routes.routes[0].strip) = ("/api".to_owned(), true);
        let proxy = Proxy::start_with(vec![routes], |config| {
            config.trust = if trusted { vec!["127.0.0.0/8".parse().unwrap()] } else { vec![] };
        });
        proxy.ready().await;
        let reply = ask(&proxy, "/api/head", &[("x-forwarded-prefix", "/outer")]).await;
        let told: Vec<_> = reply.text().lines().filter(|line| line.starts_with("x-forwarded-prefix")).collect();
        let outer: &[&str] = if trusted { &["x-forwarded-prefix: /outer"] } else { &[] };
        assert_eq!(told, [outer, &["x-forwarded-prefix: /api"]].concat());
    }
}

#[tokio::test]
async fn a_route_that_leads_elsewhere_needs_no_backend() {
    let route = |host: &str, path: &str, to: &str, status| RouteSpec {
        host: Some(host.to_owned()),
        path: path.to_owned(),
        strip: path != "/",
        tcp: None,
        redirect: Some(Redirect { to: to.to_owned(), status }),
    };
    let backend = Backend::start("one").await;
    let mut routes = app("web", "web.test", &[(1, backend.addr)]);
    routes.routes.push(route("web.test", "/old", "/new{path}", 308));
    routes.routes.push(route("*.web.test", "/", "https://{host}:8443{path}", 301));
    let mut gone = app("gone", "", &[]);
    gone.routes = vec![route("gone.test", "/", "https://new.test{path}?from=gone", 302)];
    let proxy = Proxy::start(vec![routes, gone]);
    proxy.ready().await;
    let mut conn = Conn::open(proxy.addr).await.unwrap();
    for (host, path, status, to) in [
        ("gone.test", "/a%2Fb?c=d", 302, "https://new.test/a%2Fb?from=gone&c=d"),
        ("web.test", "/old", 308, "/new/"),
        ("web.test", "/old//evil.test/?q", 308, "/new/evil.test/?q"),
        ("A.web.test:8080", "/x", 301, "https://a.web.test:8443/x"),
    ] {
        let reply = conn.send(request("GET", host, path, "")).await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.field("location")), (status, to), "{host}{path}");
    }
    assert_eq!(conn.send(request("POST", "web.test", "/echo", "z")).await.unwrap().text(), "z");
    assert_eq!(backend.requests(), 1);
}
