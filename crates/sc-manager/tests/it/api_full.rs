//! A full store: said clearly, read on, gone on with once there is room.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use sc_api::client::ClientError;
use sc_core::AppId;

use crate::{
    cluster::{deploy, spec},
    odd_store::OddStore,
    server::Server,
};

#[tokio::test]
async fn a_full_store_is_named_is_read_and_goes_on_once_there_is_room() {
    let store = Arc::new(OddStore::new());
    let server = Server::start_on(store.clone(), |_| ()).await;
    let web = server.run_app("web", 1).await;
    store.quota.store(store.bytes() + 300_000, SeqCst);
    let refused = fill(&server).await;
    assert_eq!((refused.status, refused.kind.as_str()), (507, "/problems/store-full"), "{refused:?}");
    assert!(refused.hint.is_some_and(|hint| hint.contains("make room")) && refused.detail.contains("larger quota"));
    let client = server.client();
    assert!(client.app(&web).await.unwrap().converged, "it is read on, and what runs stays");
    let findings = client.doctor().await.unwrap();
    let alarm = findings.iter().find(|finding| finding.found.contains("NOSPACE")).unwrap();
    assert!(alarm.level == "error" && alarm.fix.contains("make room"), "{alarm:?}");
    let name = "late";
    let late = AppId::in_default(name).unwrap();
    let big = deploy(large(name), 1);
    assert!(client.deploy(&late, &big).await.is_err());
    store.quota.store(usize::MAX, SeqCst);
    store.alarm.store(false, SeqCst);
    let findings = client.doctor().await.unwrap();
    assert!(findings.iter().any(|finding| finding.level == "ok" && finding.found.contains("MiB")), "{findings:?}");
    store.quota.store(store.bytes() * 10 / 9, SeqCst);
    let findings = client.doctor().await.unwrap();
    let nearly = findings.iter().find(|finding| finding.found.contains("nearly full")).unwrap();
    assert!(nearly.level == "warning" && nearly.fix.contains("quota") && nearly.found.contains(" %"), "{nearly:?}");
    store.quota.store(usize::MAX, SeqCst);
    client.deploy(&late, &big).await.unwrap();
    server.converged(&late).await;
}

/// Deploys app after app until one is refused.
async fn fill(server: &Server) -> sc_api::Problem {
    for n in 0..10 {
        let name = format!("fill-{n}");
        match server.client().deploy(&AppId::in_default(&name).unwrap(), &deploy(large(&name), 1)).await {
            Ok(_) => {}
            Err(ClientError::Problem(problem)) => return problem,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("ten apps of 100 KB fit into 300 KB");
}

fn large(name: &str) -> sc_core::spec::AppSpec {
    spec(name, &"x".repeat(100_000))
}
