//! Commands: accepted when stored, refused with a reason.

use sc_api::{
    Problem,
    client::{ClientError, Lifecycle},
    types::{Deploy, Rollback, SetScale},
};
use sc_core::{AppId, spec::ScaleSpec};

use crate::{
    cluster::{app, deploy, replica, spec},
    server::Server,
};

fn problem<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Problem {
    match result {
        Err(ClientError::Problem(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

async fn scale(server: &Server, id: &AppId, scale: SetScale) -> Result<sc_api::types::Accepted, ClientError> {
    server.client().scale(id, &scale).await
}

#[tokio::test]
async fn an_app_lives_its_life() {
    let server = Server::start().await;
    let client = server.client();
    let web = server.run_app("web", 2).await;
    let view = client.app(&web).await.unwrap();
    assert_eq!((view.version, view.stable, view.want, view.ready), (1, Some(1), 2, 2));
    let replicas = client.replicas(Some(&web)).await.unwrap();
    assert_eq!(replicas.iter().map(|r| r.state.as_str()).collect::<Vec<_>>(), ["ready", "ready"]);
    let done = scale(&server, &web, SetScale { count: Some(3), ..SetScale::default() }).await.unwrap();
    assert!(done.changed);
    server.converged(&web).await;
    assert_eq!(client.app(&web).await.unwrap().ready, 3);
    let request = Deploy { scale: None, note: "sc deploy".to_owned(), ..deploy(spec("web", "2"), 1) };
    assert_eq!(client.deploy(&web, &request).await.unwrap().version, 2);
    server
        .until("version 2 is out", async |c| c.app(&web).await.is_ok_and(|a| a.stable == Some(2) && a.converged))
        .await;
    let versions = client.versions(&web).await.unwrap();
    assert_eq!(versions.iter().map(|v| (v.version, v.mark.as_str())).collect::<Vec<_>>(), [(1, ""), (2, "wanted")]);
    assert_eq!(client.rollback(&web, &Rollback::default()).await.unwrap().version, 1);
    server.converged(&web).await;
    client.lifecycle(&web, Lifecycle::Restart).await.unwrap();
    server.converged(&web).await;
    client.lifecycle(&web, Lifecycle::Stop).await.unwrap();
    server.until("it is stopped", async |c| c.replicas(Some(&web)).await.is_ok_and(|r| r.is_empty())).await;
    let view = client.app(&web).await.unwrap();
    assert!(view.converged && view.stopped && view.status.contains("sc start web"), "{}", view.status);
    client.lifecycle(&web, Lifecycle::Start).await.unwrap();
    server.converged(&web).await;
    assert_eq!(client.app(&web).await.unwrap().ready, 3, "with as many as before");
    let why = client.why(&web, None).await.unwrap();
    assert!(why.text.contains("by hand"), "{}", why.text);
    client.remove(&web).await.unwrap();
    server.until("it is gone", async |c| c.apps().await.is_ok_and(|apps| apps.is_empty())).await;
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let server = Server::start().await;
    let client = server.client();
    let web = server.run_app("web", 1).await;
    let missing = problem(client.app(&app("wep")).await);
    assert_eq!((missing.status, missing.hint.as_deref()), (404, Some("did you mean web?")));
    let missing = problem(client.replica_lifecycle(&replica("web-9"), Lifecycle::Stop).await);
    assert!(missing.status == 404 && missing.hint.unwrap().contains("web-1"));
    let taken = problem(client.deploy(&app("other"), &deploy(spec("web", "1"), 1)).await);
    assert_eq!((taken.status, taken.kind.as_str()), (409, "/problems/route-taken"));
    assert!(taken.detail.contains("belongs to web"), "{}", taken.detail);
    let exists = Deploy { create_only: true, ..deploy(spec("web", "2"), 1) };
    assert_eq!(problem(client.deploy(&web, &exists).await).kind, "/problems/app-exists");
    let many = problem(scale(&server, &web, SetScale { count: Some(11), ..SetScale::default() }).await);
    assert!(many.status == 422 && many.detail.contains("10 are the most"), "{}", many.detail);
    let both = SetScale { count: Some(1), auto: true, ..SetScale::default() };
    assert_eq!(problem(scale(&server, &web, both).await).status, 422);
    let crossed = SetScale { min: Some(5), max: Some(2), ..SetScale::default() };
    assert_eq!(problem(scale(&server, &web, crossed).await).status, 422);
    let mut wrong = deploy(spec("web", "1"), 1);
    wrong.spec.port = Some(0);
    wrong.spec.routes[0].path = "no-slash".to_owned();
    let wrong = problem(client.deploy(&web, &wrong).await);
    assert!(wrong.status == 422 && wrong.detail.lines().count() >= 2, "all that is wrong is listed: {}", wrong.detail);
    let back = problem(client.rollback(&web, &Rollback::default()).await);
    assert!(back.status == 422 && back.detail.contains("no version before"), "{}", back.detail);
}

#[tokio::test]
async fn bounds_are_kept_and_dry_runs_change_nothing() {
    let server = Server::start().await;
    let web = server.run_app("web", 1).await;
    let auto = SetScale { auto: true, min: Some(1), max: Some(4), ..SetScale::default() };
    scale(&server, &web, auto.clone()).await.unwrap();
    let view = server.client().app(&web).await.unwrap();
    assert_eq!(view.scale, ScaleSpec { min: 1, max: 4, auto: true, ..view.scale.clone() });
    assert!(!scale(&server, &web, auto).await.unwrap().changed, "the same again");
    let above = problem(scale(&server, &web, SetScale { count: Some(6), ..SetScale::default() }).await);
    assert!(above.detail.contains("1 to 4"), "{}", above.detail);
    let dry = SetScale { count: Some(3), dry_run: true, ..SetScale::default() };
    assert!(scale(&server, &web, dry).await.unwrap().changed);
    let view = server.client().app(&web).await.unwrap();
    assert!(view.scale.auto && view.want == 1);
    scale(&server, &web, SetScale { count: Some(3), ..SetScale::default() }).await.unwrap();
    let view = server.client().app(&web).await.unwrap();
    assert!(!view.scale.auto && view.want == 3);
}

#[tokio::test]
async fn while_the_store_is_away_reads_go_on_and_commands_say_so() {
    let server = Server::start().await;
    let client = server.client();
    let web = server.run_app("web", 2).await;
    server.outage.set(true);
    server.until("it is not ready", async |c| c.ready().await.is_err()).await;
    assert_eq!(client.app(&web).await.unwrap().ready, 2, "what is known is shown");
    assert!(client.version().await.unwrap().waiting_for.is_some());
    let refused = problem(scale(&server, &web, SetScale { count: Some(3), ..SetScale::default() }).await);
    assert_eq!((refused.status, refused.kind.as_str()), (503, "/problems/store-unavailable"));
    let findings = client.doctor().await.unwrap();
    assert!(findings.iter().any(|f| f.level == "error" && f.what.starts_with("store") && !f.fix.is_empty()));
    server.outage.set(false);
    server.until("it is ready", async |c| c.ready().await.is_ok()).await;
    scale(&server, &web, SetScale { count: Some(3), ..SetScale::default() }).await.unwrap();
    server.until("it has three", async |c| c.app(&web).await.is_ok_and(|a| a.converged && a.ready == 3)).await;
}

#[tokio::test]
async fn the_doctor_finds_and_the_status_names_what_is_waited_for() {
    let server = Server::start().await;
    let web = app("web");
    let sick = sc_engine::fake::Behaviour { healthy: false, ..Default::default() };
    server.engine.behave_app(&web, sick);
    server.client().deploy(&web, &deploy(spec("web", "1"), 1)).await.unwrap();
    let waits = |status: &str| status.contains("web-1") && status.contains("connection refused");
    server.until("it says why", async |c| c.app(&web).await.is_ok_and(|a| !a.converged && waits(&a.status))).await;
    let findings = server.client().doctor().await.unwrap();
    assert!(findings.iter().any(|f| f.what == "app web" && f.level == "warning"), "{findings:?}");
    assert!(findings.iter().any(|f| f.what == "proxies" && !f.fix.is_empty()), "{findings:?}");
    let replicas = server.client().replicas(None).await.unwrap();
    assert!(replicas[0].state == "starting" && replicas[0].detail.contains("refused"), "{:?}", replicas[0]);
}

/// Answers each request with this number, until it is dropped.
async fn number_source(number: &'static str) -> (String, tokio::task::JoinHandle<()>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1_024];
            let _ = stream.read(&mut request).await;
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{number}", number.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (url, task)
}

#[tokio::test]
async fn a_source_must_answer_at_deploy_and_one_that_fails_later_holds_the_count_and_is_told() {
    let server = Server::start().await;
    let web = AppId::in_default("web").unwrap();
    let (url, source) = number_source("3").await;
    let request = |policy: serde_json::Value| {
        let policies = vec![serde_json::from_value(policy).unwrap()];
        let scale = ScaleSpec { min: 1, max: 5, auto: true, policies, hold_down_ms: 1_000, ..ScaleSpec::default() };
        sc_api::types::Deploy { scale: Some(scale), replicas: None, ..deploy(spec("web", "1"), 1) }
    };
    let client = server.client();
    for nobody in [
        serde_json::json!({ "metric": "prometheus", "url": "http://127.0.0.1:1", "query": "up", "target": 1.0, "every_ms": 1_000 }),
        // One that answers, and is no Prometheus.
        serde_json::json!({ "metric": "prometheus", "url": url, "query": "up", "target": 1.0, "every_ms": 1_000 }),
    ] {
        let refused = problem(client.deploy(&web, &request(nobody)).await);
        assert_eq!(refused.status, 422);
        assert!(
            refused.detail.contains("scale.policy.0.url: its prometheus source cannot be read"),
            "{}",
            refused.detail
        );
        assert!(client.app(&web).await.is_err(), "nothing was made");
    }
    client
        .deploy(&web, &request(serde_json::json!({ "metric": "http", "url": url, "every_ms": 1_000 })))
        .await
        .unwrap();
    server.until("the source is followed", async |c| c.app(&web).await.is_ok_and(|app| app.want == 3)).await;
    source.abort();
    let failing = || server.running.world.events.last(|event| event.kind == "source");
    server.until("it is told", async |_| failing().is_some()).await;
    let event = failing().unwrap();
    assert!(event.text.contains("its http source fails, nothing is taken away meanwhile"), "{}", event.text);
    // Longer than data may be old, and than the hold.
    let later = event.at_ms + 8_000;
    let decided = || server.running.world.decision(&web).filter(|decision| decision.at_ms > later);
    server.until("later decisions", async |_| decided().is_some()).await;
    assert_eq!(decided().unwrap().want, 3, "{:?}", decided());
}
