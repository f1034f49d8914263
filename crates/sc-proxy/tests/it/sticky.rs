//! Clients that stay with a backend.

use std::{collections::HashSet, net::SocketAddr};

use sc_core::{routes::AppRoutes, spec::Sticky};

use crate::support::*;

fn sticky(backends: &[(u64, SocketAddr)]) -> AppRoutes {
    let mut routes = app("web", "", backends);
    routes.traffic.sticky = Some(Sticky::default());
    routes
}

async fn ask(proxy: &Proxy, path: &str, cookie: &str) -> Reply {
    let mut request = request("GET", "x", path, "");
    if !cookie.is_empty() {
        request.headers_mut().insert("cookie", format!("theme=dark; {cookie}").parse().unwrap());
    }
    Conn::open(proxy.addr).await.unwrap().send(request).await.unwrap()
}

/// The cookie that an answer sets, as a client sends it back.
fn pair(reply: &Reply) -> String {
    reply.field("set-cookie").split(';').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_client_with_a_cookie_stays_with_its_backend_over_tables_and_restarts_of_the_proxy() {
    let (a, b, c) = (Backend::start("a").await, Backend::start("b").await, Backend::start("c").await);
    let two = || vec![sticky(&[(1, a.addr), (2, b.addr)])];
    let proxy = Proxy::start(two());
    proxy.ready().await;
    let first = ask(&proxy, "/", "").await;
    assert!(first.field("set-cookie").ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{:?}", first.headers);
    for round in 0..3 {
        for _ in 0..10 {
            let reply = ask(&proxy, "/", &pair(&first)).await;
            assert_eq!((reply.text(), reply.field("set-cookie")), (first.text(), ""));
        }
        let third: &[(u64, SocketAddr)] = if round == 0 { &[(3, c.addr)] } else { &[] };
        proxy.apply(vec![sticky(&[&[(2, b.addr), (1, a.addr)], third].concat())]).await;
    }
    let other = Proxy::start(two());
    other.ready().await;
    assert_eq!(ask(&other, "/", &pair(&first)).await.text(), first.text());
}

#[tokio::test]
async fn a_cookie_is_followed_where_the_app_itself_gets_none() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let mut routes = sticky(&[(1, a.addr), (2, b.addr)]);
    routes.traffic.rules.request.remove = vec!["Cookie".to_owned()];
    let proxy = Proxy::start(vec![routes]);
    proxy.ready().await;
    let first = ask(&proxy, "/", "").await;
    for _ in 0..10 {
        let reply = ask(&proxy, "/head", &pair(&first)).await;
        assert_eq!((reply.field("x-backend"), reply.field("set-cookie")), (first.text(), ""));
        assert!(!reply.text().contains("cookie"), "{}", reply.text());
    }
}

#[tokio::test]
async fn clients_without_a_cookie_are_spread_and_a_forged_one_is_none() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let proxy = Proxy::start(vec![sticky(&[(1, a.addr), (2, b.addr)])]);
    proxy.ready().await;
    let mut seen = HashSet::new();
    until("both have served", async || {
        let reply = ask(&proxy, "/", "sc_web=0123456789abcdef").await;
        seen.insert((reply.text().to_owned(), pair(&reply)));
        seen.len() == 2
    })
    .await;
    assert!(seen.iter().all(|(_, cookie)| cookie.starts_with("sc_web=") && cookie.len() == 23), "{seen:?}");
}

#[tokio::test]
async fn a_client_whose_backend_has_left_or_does_not_answer_moves_with_no_failed_request() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let proxy = Proxy::start(vec![sticky(&[(1, a.addr)])]);
    proxy.ready().await;
    let at_a = pair(&ask(&proxy, "/", "").await);
    proxy.apply(vec![sticky(&[(2, b.addr)])]).await;
    let moved = ask(&proxy, "/", &at_a).await;
    assert_eq!((moved.status.as_u16(), moved.text()), (200, "b"));
    let at_b = pair(&moved);
    assert_ne!(at_a, at_b);
    proxy.apply(vec![sticky(&[(1, a.addr), (2, b.addr)])]).await;
    assert_eq!(ask(&proxy, "/", &at_b).await.text(), "b");
    drop(b);
    let moved = ask(&proxy, "/", &at_b).await;
    assert_eq!((moved.status.as_u16(), moved.text(), pair(&moved)), (200, "a", at_a));
}

#[tokio::test]
async fn a_full_backend_is_not_waited_for_and_keeps_its_clients() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let both = |weight| {
        let mut routes = sticky(&[(1, a.addr), (2, b.addr)]);
        (routes.traffic.max_in_flight, routes.backends[0].weight) = (Some(1), weight);
        vec![routes]
    };
    let proxy = Proxy::start(vec![sticky(&[(1, a.addr)])]);
    proxy.ready().await;
    let at_a = pair(&ask(&proxy, "/", "").await);
    proxy.apply(both(1)).await;
    let addr = proxy.addr;
    let mut slow = request("GET", "x", "/slow?30000", "");
    slow.headers_mut().insert("cookie", at_a.parse().unwrap());
    let running = tokio::spawn(async move { Conn::open(addr).await.unwrap().send(slow).await });
    until("its place is taken", async || a.running() == 1).await;
    let elsewhere = ask(&proxy, "/", &at_a).await;
    assert_eq!((elsewhere.text(), elsewhere.field("set-cookie")), ("b", ""));
    running.abort();
    until("it has room", async || a.running() == 0).await;
    until("the client is back", async || ask(&proxy, "/", &at_a).await.text() == "a").await;
    proxy.apply(both(0)).await;
    assert_eq!(ask(&proxy, "/", &at_a).await.text(), "a", "weight 0 takes no new clients");
}
