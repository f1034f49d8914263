use proptest::prelude::*;
use sc_core::spec::RouteSpec;

use super::*;

fn app(name: &str, routes: &[(&str, &str)]) -> AppRoutes {
    let route = |(host, path): &(&str, &str)| RouteSpec {
        host: (!host.is_empty()).then(|| (*host).to_owned()),
        path: (*path).to_owned(),
        strip: false,
        redirect: None,
        tcp: None,
    };
    AppRoutes::new(AppId::in_default(name).unwrap(), routes.iter().map(route).collect(), vec![])
}

fn find(apps: &[AppRoutes], host: &str, path: &str) -> Option<String> {
    let (table, _) = RouteTable::new(apps);
    // Without a host, as HTTP/1.0 may be.
    let host = if host.is_empty() { host.into() } else { normal_host(host)? };
    let found = table.find(&host, &normal_path(path))?;
    Some(apps[found.app].app.to_string())
}

#[test]
fn the_nearest_host_and_then_the_longest_path_wins() {
    let apps = [
        app("any", &[("", "/")]),
        app("api", &[("a.test", "/api"), ("", "/api/v2")]),
        app("exact", &[("a.test", "/")]),
        app("near", &[("*.b.test", "/")]),
        app("wild", &[("*.test", "/"), ("*.test", "/x")]),
    ];
    for (host, path, want) in [
        ("a.test", "/", "exact"),
        ("A.TEST.:8080", "/apis", "exact"),
        ("a.test", "/api", "api"),
        ("a.test", "/api/", "api"),
        ("a.test", "/api/v2/users", "api"),
        ("a.test", "//api", "api"),
        ("a.test", "/x/%2e%2e/%61pi", "api"),
        ("a.test", "/api/..", "exact"),
        ("c.test", "/x/y", "wild"),
        ("q.b.test", "/", "near"),
        ("p.q.b.test", "/", "near"),
        ("b.test", "/", "wild"),
        ("test", "/", "any"),
        ("", "/", "any"),
        ("[::1]:80", "/api/v2", "api"),
        ("[::1]:80", "/api", "any"),
    ] {
        assert_eq!(find(&apps, host, path).as_deref(), Some(want), "{host} {path}");
    }
}

#[test]
fn a_host_without_the_path_falls_through_to_any_host() {
    let apps = [app("any", &[("", "/")]), app("api", &[("a.test", "/api")])];
    assert_eq!(find(&apps, "a.test", "/other").as_deref(), Some("any"));
    assert_eq!(find(&apps[1..], "a.test", "/other"), None);
}

#[test]
fn a_clash_goes_to_the_first_and_is_told() {
    let apps = [app("a", &[("h", "/x/")]), app("b", &[("H", "/x")])];
    let (table, clashes) = RouteTable::new(&apps);
    assert_eq!(table.find("h", "/x").unwrap().app, 0);
    assert_eq!(clashes.len(), 1);
    assert_eq!((clashes[0].winner.to_string(), clashes[0].loser.to_string()), ("a".into(), "b".into()));
}

#[test]
fn normal_paths() {
    for (path, normal) in [
        ("/", "/"),
        ("", "/"),
        ("*", "/*"),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b/"),
        ("/a//b", "/a/b"),
        ("/a/./b/.", "/a/b/"),
        ("/a/../../b", "/b"),
        ("/a/..;x=1/b", "/b"),
        ("/%2E%2e/a", "/a"),
        ("/a%2fb", "/a%2Fb"),
        ("/%7euser/%41", "/~user/A"),
        ("/%%32e", "/%252e"),
        ("/.well-known/x", "/.well-known/x"),
        ("/a/...", "/a/..."),
        ("/;x/a", "/;x/a"),
    ] {
        assert_eq!(normal_path(path), normal, "{path}");
    }
}

#[test]
fn hosts_that_are_none() {
    for host in
        ["a b", "a@b", "a:b", "a:80:80", "[::1", "::1", "a/b", "[zz]", "a:999999", "*.x", "..", ".a", "a..b", "a.."]
    {
        assert_eq!(normal_host(host), None, "{host}");
    }
    for (host, why) in [("a:80", "port"), ("a.*.b", "first labels"), ("", "empty"), ("a b", "letters")] {
        assert!(host_pattern(host).unwrap_err().contains(why), "{host}");
    }
    assert_eq!(host_pattern("*.Example.com.").unwrap(), "*.example.com");
}

#[test]
fn a_prefix_is_taken_off_by_segment() {
    assert_eq!(strip_prefix("/api/users", 4), "/users");
    assert_eq!(strip_prefix("/api", 4), "/");
    assert_eq!(strip_prefix("/api/", 4), "/");
    assert_eq!(strip_prefix("/api", 0), "/api");
}

/// What `find` must give, by trying every route.
fn model(apps: &[AppRoutes], host: &str, path: &str) -> Option<usize> {
    let mut best: Option<((usize, usize), usize)> = None;
    for (n, app) in apps.iter().enumerate() {
        for route in &app.routes {
            let nearness = match route.host.as_deref() {
                None => 0,
                Some(pattern) => match pattern.strip_prefix("*.") {
                    Some(suffix) if host.ends_with(&format!(".{suffix}")) => 1 + suffix.len(),
                    None if pattern == host => 1_000,
                    _ => continue,
                },
            };
            let prefix = route.path.trim_end_matches('/');
            let fits = path == prefix || path.starts_with(&format!("{prefix}/"));
            let rank = (nearness, prefix.len());
            if fits && best.is_none_or(|(other, _)| rank > other) {
                best = Some((rank, n));
            }
        }
    }
    best.map(|(_, n)| n)
}

fn a_path() -> impl Strategy<Value = String> {
    proptest::collection::vec("[ab]{1,2}", 0..4).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn a_host() -> impl Strategy<Value = String> {
    proptest::collection::vec("[ab]", 1..4).prop_map(|labels| labels.join("."))
}

fn a_route() -> impl Strategy<Value = (String, String)> {
    let host = prop_oneof![Just(String::new()), a_host(), a_host().prop_map(|host| format!("*.{host}"))];
    (host, a_path())
}

proptest! {
    #[test]
    fn find_agrees_with_trying_every_route(
        routes in proptest::collection::vec(proptest::collection::vec(a_route(), 1..4), 1..6),
        host in a_host(),
        path in a_path(),
    ) {
        let app = |(n, routes): (usize, &Vec<(String, String)>)| {
            let routes: Vec<_> = routes.iter().map(|(h, p)| (h.as_str(), p.as_str())).collect();
            app(&format!("a{n}"), &routes)
        };
        let apps: Vec<_> = routes.iter().enumerate().map(app).collect();
        let (table, _) = RouteTable::new(&apps);
        prop_assert_eq!(table.find(&host, &path).map(|found| found.app), model(&apps, &host, &path));
    }

    #[test]
    fn a_normal_path_is_its_own_normal_form(path in "[/.%a2eEfF;~ü]{0,24}") {
        let normal = normal_path(&path).into_owned();
        prop_assert_eq!(normal_path(&normal), normal.as_str());
        prop_assert!(normal.starts_with('/') && !normal.contains("//"));
        let names = normal.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
        let dots: Vec<_> = names.filter(|name| [".", ".."].contains(name)).collect();
        prop_assert!(dots.is_empty());
    }

    #[test]
    fn every_way_of_writing_a_path_leads_to_the_same_route(path in a_path(), mask in any::<u32>()) {
        let mut odd = String::new();
        for (n, c) in path.chars().enumerate() {
            match (c, mask >> (n % 30) & 3) {
                ('/', 1) => odd.push_str("//"),
                ('/', 2) => odd.push_str("/./"),
                ('/', 3) => odd.push_str("/zz/%2e%2E/"),
                (c, 1) if c != '/' => odd.push_str(&format!("%{:02x}", c as u32)),
                (c, _) => odd.push(c),
            }
        }
        let (odd, plain) = (normal_path(&odd), normal_path(&path));
        prop_assert_eq!(odd.trim_end_matches('/'), plain.trim_end_matches('/'));
    }

    #[test]
    fn a_normal_host_is_its_own_normal_form(host in "[aA.:0\\[\\]-]{0,12}") {
        if let Some(normal) = normal_host(&host) {
            prop_assert_eq!(normal_host(&normal), Some(normal.clone()));
        }
    }
}
