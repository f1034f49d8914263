//! How much one client may send.

use sc_core::{
    routes::AppRoutes,
    spec::{ClientKey, Rate},
};

use crate::support::*;

/// One request in ten minutes, after a burst.
fn rated(backend: &Backend, burst: u32, by: ClientKey) -> Vec<AppRoutes> {
    let mut routes = app("web", "", &[(1, backend.addr)]);
    routes.traffic.rate = Some(Rate { requests: 1, per_ms: 600_000, burst: Some(burst), by });
    vec![routes]
}

async fn ask(proxy: &Proxy, fields: &[(&str, &str)]) -> Reply {
    let mut request = request("GET", "x", "/", "");
    for (name, value) in fields {
        let name: hyper::header::HeaderName = name.parse().unwrap();
        request.headers_mut().append(name, value.parse().unwrap());
    }
    Conn::open(proxy.addr).await.unwrap().send(request).await.unwrap()
}

#[tokio::test]
async fn a_client_that_sends_more_than_it_may_is_told_when_to_come_back() {
    let backend = Backend::start("one").await;
    let proxy = Proxy::start(rated(&backend, 3, ClientKey::Address));
    proxy.ready().await;
    // On connections of their own, so over both threads.
    let mut passed = 0;
    for _ in 0..12 {
        let reply = ask(&proxy, &[("x-forwarded-for", &format!("192.0.2.{passed}"))]).await;
        if reply.status == 200 {
            passed += 1;
            continue;
        }
        assert_eq!((reply.status.as_u16(), reply.field("x-sc-reason")), (429, "rate-limit"));
        assert!((1..=600).contains(&reply.field("retry-after").parse::<u32>().unwrap()));
    }
    assert_eq!((passed, backend.requests()), (3, 3));
    let metrics = get(proxy.stats_addr(), "x", "/metrics").await;
    assert!(metrics.text().contains("sc_proxy_rate_limited_total{app=\"web\"} 9"), "{}", metrics.text());
    let frame = proxy.stats().await.next().await;
    let app = &frame.apps[&sc_core::AppId::in_default("web").unwrap()];
    assert_eq!((app.arrivals, app.rejected), (3, 0), "what a client sends too much is no load to scale by");
}

#[tokio::test]
async fn a_limit_outlives_a_table_that_leaves_it_as_it_is() {
    let backend = Backend::start("one").await;
    let proxy = Proxy::start(rated(&backend, 1, ClientKey::Address));
    proxy.ready().await;
    assert_eq!(ask(&proxy, &[]).await.status, 200);
    let mut same = rated(&backend, 1, ClientKey::Address);
    same[0].traffic.queue_max = 7;
    proxy.apply(same).await;
    assert_eq!(ask(&proxy, &[]).await.status, 429);
    proxy.apply(rated(&backend, 2, ClientKey::Address)).await;
    assert_eq!(ask(&proxy, &[]).await.status, 200, "another limit begins anew");
}

#[tokio::test]
async fn a_trusted_proxy_tells_clients_apart() {
    let backend = Backend::start("one").await;
    let routes = rated(&backend, 1, ClientKey::Address);
    let proxy = Proxy::start_with(routes, |config| config.trust = vec!["127.0.0.0/8".parse().unwrap()]);
    proxy.ready().await;
    let from = async |address: &str| ask(&proxy, &[("x-forwarded-for", address)]).await.status.as_u16();
    assert_eq!((from("192.0.2.1").await, from("192.0.2.2").await), (200, 200));
    assert_eq!(from("192.0.2.3, 192.0.2.1").await, 429, "what a client writes itself counts for nothing");
    assert_eq!((from("2001:db8::1").await, from("2001:db8::2").await), (200, 429));
}

#[tokio::test]
async fn clients_can_be_told_apart_by_a_field() {
    let backend = Backend::start("one").await;
    let proxy = Proxy::start(rated(&backend, 1, ClientKey::Header("X-Api-Key".to_owned())));
    proxy.ready().await;
    let with = async |key: &str| ask(&proxy, &[("x-api-key", key)]).await.status.as_u16();
    assert_eq!((with("a").await, with("b").await, with("a").await), (200, 200, 429));
    assert_eq!((ask(&proxy, &[]).await.status, ask(&proxy, &[]).await.status.as_u16()), (200.try_into().unwrap(), 429));
}

#[tokio::test]
async fn a_connection_goes_on_after_a_request_too_many() {
    let backend = Backend::start("one").await;
    let mut apps = rated(&backend, 1, ClientKey::Address);
    apps.push(app("free", "free.test", &[(1, backend.addr)]));
    let proxy = Proxy::start(apps);
    proxy.ready().await;
    let mut conn = Conn::open(proxy.addr).await.unwrap();
    assert_eq!(conn.send(request("GET", "x", "/", "")).await.unwrap().text(), "one");
    for _ in 0..3 {
        let many = conn.send(request("HEAD", "x", "/", "")).await.unwrap();
        assert_eq!((many.status.as_u16(), many.text()), (429, ""));
        assert_eq!(conn.send(request("GET", "free.test", "/", "")).await.unwrap().text(), "one");
    }
    let mut conn = Conn::open(proxy.addr).await.unwrap();
    let posted = conn.send(request("POST", "x", "/echo", pattern(60_000))).await.unwrap();
    assert_eq!((posted.status.as_u16(), posted.text()), (429, "429 More requests than one client may send.\n"));
    assert_eq!(backend.requests(), 4);
}
