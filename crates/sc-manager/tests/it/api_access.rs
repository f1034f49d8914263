//! Who may come in, and where the interface listens.

use std::{os::unix::fs::PermissionsExt, sync::Arc};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use sc_api::client::{Client, ClientError, Target};
use sc_manager::{Config, Error};

use crate::server::{Server, problem};

#[tokio::test]
async fn a_token_is_needed_on_tcp_but_not_by_oneself_on_the_socket() {
    let server = Server::start().await;
    let target = || Target::Tcp(server.running.addrs[0].to_string());
    for (token, kind) in [(None, "token-missing"), (Some("0".repeat(64)), "token-wrong")] {
        match Client::new(target(), token).apps().await {
            Err(ClientError::Problem(p)) => assert_eq!((p.status, p.kind), (401, format!("/problems/{kind}"))),
            other => panic!("{other:?}"),
        }
    }
    assert!(server.client().apps().await.unwrap().is_empty());
    assert!(server.on_socket(None).apps().await.unwrap().is_empty());
    let mode = std::fs::metadata(&server.running.token).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn probes_and_metrics_need_no_token_nothing_else_is_told() {
    let server = Server::start().await;
    let bare = |path: &str| Request::get(path).header("host", "x").body(Full::<Bytes>::default()).unwrap();
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(server.raw(bare(path)).await.0, 200, "{path}");
    }
    let (_, metrics) = server.raw(bare("/metrics")).await;
    assert!(String::from_utf8_lossy(&metrics).contains("sc_manager_leads 1"));
    for path in ["/v1/apps", "/v1/openapi.json", "/nothing", "/v1/doctor"] {
        let (status, body) = server.raw(bare(path)).await;
        assert_eq!((status, problem(&body).status), (401, 401), "{path}");
    }
}

#[tokio::test]
async fn the_document_is_served() {
    let server = Server::start().await;
    let request = server.request("GET", "/v1/openapi.json").body(Full::default()).unwrap();
    let (status, body) = server.raw(request).await;
    let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, document["openapi"].as_str()), (200, Some("3.1.0")));
}

#[tokio::test]
async fn a_taken_port_or_folder_or_socket_is_told_and_a_stale_socket_replaced() {
    let server = Server::start().await;
    let parts = || (Arc::new(sc_store::Memory::new()), Arc::new(server.engine.clone()));
    let start = async |config: Config| {
        let (store, engine) = parts();
        sc_manager::start(config, store, engine).await.map(drop)
    };
    let other = tempfile::tempdir().unwrap();
    let taken = Config { listen: server.running.addrs.clone(), ..Config::new(other.path()) };
    let error = start(taken).await.unwrap_err();
    assert!(error.to_string().contains("is taken") && error.to_string().contains("--listen"), "{error}");
    let error = start(Config::new(server.folder.path())).await.unwrap_err();
    assert!(matches!(error, Error::InUse(_)), "{error}");
    let busy = Config { socket: server.running.socket.clone(), ..Config::new(other.path()) };
    let error = start(busy).await.unwrap_err();
    assert!(error.to_string().contains("--socket"), "{error}");
    let stale = other.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    start(Config { socket: Some(stale), ..Config::new(other.path()) }).await.unwrap();
}

#[tokio::test]
async fn a_graceful_end_takes_the_socket_along_and_stops_nothing() {
    let server = Server::start().await;
    let web = server.run_app("web", 2).await;
    let (socket, engine) = (server.running.socket.clone().unwrap(), server.engine.clone());
    let before = engine.containers();
    server.running.stop().await;
    assert!(!socket.exists());
    assert_eq!(engine.containers(), before);
    assert_eq!(before.keys().filter(|id| id.app == web).count(), 2);
}

/// A field that is in a record and not in the document would be refused or missed by those who write clients from it.
#[test]
fn the_openapi_document_has_every_field_of_an_app() {
    use sc_core::{
        rules::Rules,
        scaling::ObjectiveSpec,
        spec::{
            Balance, Bounds, ClientKey, Compress, Protocol, ProxyProtocol, Rate, Redirect, RouteSpec, ScaleSpec,
            Sticky, TcpSpec, Traffic, Verify,
        },
        warm::WarmSpec,
    };
    let document: serde_json::Value = serde_json::from_str(sc_manager::api::OPENAPI).unwrap();
    let rules = Rules { trace: true, https_port: Some(8443), ..Rules::default() };
    let mut traffic = Traffic { balance: Balance::InFlight, slow_start_ms: 1, rules, ..Traffic::default() };
    (traffic.protocol, traffic.tls.verify) = (Protocol::H2, Verify::None);
    let sticky = Sticky { cookie: Some("me".to_owned()), ttl_ms: Some(1_000) };
    let rate = Rate { requests: 1, per_ms: 1, burst: Some(1), by: ClientKey::Header("x".to_owned()) };
    let redirect = Redirect::to("/".to_owned());
    let bounds = Bounds { max_body: Some(1), body_idle_ms: Some(1), total_ms: Some(1), stream_idle_ms: Some(1) };
    traffic.bounds = bounds;
    traffic.tcp = TcpSpec { idle_timeout_ms: 1, proxy_protocol: Some(ProxyProtocol::V1) };
    traffic.certificate = Some(sc_core::certs::Certificate::Acme);
    let compress = Compress { types: vec!["text/*".to_owned()], ..Compress::default() };
    traffic.compress = Some(compress.clone());
    (traffic.sticky, traffic.rate) = (Some(sticky.clone()), Some(rate.clone()));
    let policy = serde_json::from_value(serde_json::json!({ "metric": "fixed", "replicas": 1 })).unwrap();
    let scale = ScaleSpec {
        objective: Some(ObjectiveSpec { ms: 1, budget: 0.5 }),
        policies: vec![policy],
        step_up: Some(1),
        step_down: Some(1),
        turns_an_hour: Some(1),
        warm: WarmSpec { size: 1, memory: Some(1), stopped: Some(1), stop_for_ms: 1, ..WarmSpec::default() },
        ..ScaleSpec::default()
    };
    fn json(value: &impl serde::Serialize) -> serde_json::Value {
        serde_json::to_value(value).unwrap()
    }
    for (schema, value) in [
        ("AppSpec", json(&crate::cluster::spec("web", "1"))),
        ("Traffic", json(&traffic)),
        ("Rules", json(&traffic.rules)),
        ("FieldRules", json(&traffic.rules.request)),
        ("BackendTls", json(&traffic.tls)),
        ("Sticky", json(&sticky)),
        ("Redirect", json(&redirect)),
        ("RouteSpec", json(&RouteSpec { redirect: Some(redirect), ..RouteSpec::of_port(1) })),
        ("Rate", json(&rate)),
        ("Compress", json(&compress)),
        ("TcpSpec", json(&traffic.tcp)),
        ("Bounds", json(&bounds)),
        ("ScaleSpec", json(&scale)),
        ("WarmSpec", json(&scale.warm)),
    ] {
        let known = &document["components"]["schemas"][schema]["properties"];
        for field in value.as_object().unwrap().keys() {
            assert!(known.get(field).is_some(), "{schema}.{field} is not in the document");
        }
    }
}
