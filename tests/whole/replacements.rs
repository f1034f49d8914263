//! Replica after replica is replaced under a high load, and the proxy itself in the middle of it.

use std::collections::BTreeSet;

use sc_tests::{Cloud, Load, LoadSpec, Target, docker::containers, poll, secs};

const HOST: &str = "web.localhost";
/// Requests a second, GETs and POSTs in turn.
const RATE: u32 = 2_000;
/// So many are sent however fast all goes.
const LEAST: u64 = 20_000;
const REPLICAS: usize = 10;
/// Each replaces every replica.
const DEPLOYS: usize = 5;

/// An app file of the app's version `n`: half of the replicas are replaced at a time.
fn file(n: usize) -> String {
    format!(
        "[app.web]\nimage = \"sc/matrix:0.1.0\"\nport = 8080\nenv = {{ N = \"{n}\" }}\n\
         [[app.web.route]]\nhost = \"{HOST}\"\n[app.web.scale]\nreplicas = {REPLICAS}\n[app.web.deploy]\nsurge = 5\n"
    )
}

async fn deploy(cloud: &Cloud, n: usize) -> BTreeSet<String> {
    cloud.write("sc.toml", &file(n));
    cloud.sc(&["deploy"]).await.ok();
    cloud.settles("web", REPLICAS).await;
    cloud.really_running("web").await.into_iter().map(|(_, id)| id).collect()
}

/// Fifty containers give way to fifty others, and in the middle one proxy to another, while requests come at a fixed rate
/// whatever becomes of those before: all are answered, each by the app, POSTs with their own body.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_replacements_with_an_upgrade_in_the_middle_fail_no_request_on_docker() {
    let mut cloud = Cloud::docker().await;
    let mut seen = deploy(&cloud, 0).await;
    let proxy = async |cloud: &Cloud| {
        let name = format!("{}-proxy", cloud.name);
        let all = containers(&cloud.name).await.into_iter();
        all.filter(|container| container.name == name).map(|container| container.id).next()
    };
    let old = proxy(&cloud).await.expect("a proxy");
    let spec = LoadSpec::steady(cloud.http, vec![Target::host("web", HOST)]);
    let load = Load::start(LoadSpec { post_every: 2, fresh_every: 20, in_flight_max: 2_000, ..spec.rate(RATE) });
    load.goes_on(u64::from(RATE)).await;
    for n in 1..=DEPLOYS {
        if n == DEPLOYS.div_ceil(2) {
            cloud.more.push("--tcp-ports=25".to_owned());
            let (up, _) = tokio::join!(cloud.up(), deploy(&cloud, n));
            up.ok();
            assert_ne!(proxy(&cloud).await, Some(old.clone()), "another proxy serves");
            seen.extend(cloud.really_running("web").await.into_iter().map(|(_, id)| id));
        } else {
            seen.extend(deploy(&cloud, n).await);
        }
    }
    assert_eq!(seen.len(), REPLICAS * (1 + DEPLOYS), "every deploy replaces every container");
    let enough = async || (load.so_far().sent >= LEAST).then_some(());
    poll(secs(60), "enough requests to be sent", enough).await;
    let tally = load.stop().await;
    let reached = format!("{:.0} requests a second of {RATE}, {} in all", tally.rate(), tally.sent);
    println!("{reached}");
    tally.all_good(LEAST);
    assert!(tally.by_replica.len() > REPLICAS * DEPLOYS, "{reached}, not to every replica: {:?}", tally.by_replica);
}
