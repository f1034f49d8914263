//! Many apps at once: each request reaches its own, and no app reaches another.

use sc_tests::{Cloud, Load, LoadSpec, Target, docker::docker, program};

/// An image's own program, a binary copied in, and one behind a path, two to four replicas each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_apps_on_docker() {
    let cloud = Cloud::docker().await;
    let matrix = program("sc-matrix").display().to_string();
    cloud
        .sc(&[
            "run",
            "one",
            "--image",
            "sc/matrix:0.1.0",
            "--port",
            "8080",
            "--host",
            "one.localhost",
            "--replicas",
            "2",
        ])
        .await
        .ok();
    cloud
        .sc(&["run", "two", "--bin", &matrix, "--port", "8081", "--host", "two.localhost", "--replicas", "3"])
        .await
        .ok();
    cloud
        .sc(&["run", "three", "--image", "sc/matrix:0.1.0", "--port", "8080", "--path", "/three", "--replicas", "4"])
        .await
        .ok();
    for (app, count) in [("one", 2), ("two", 3), ("three", 4)] {
        cloud.settles(app, count).await;
    }

    let targets = vec![
        Target::host("one", "one.localhost"),
        Target::host("two", "two.localhost"),
        Target::path("three", "/three"),
    ];
    let load = Load::start(LoadSpec::steady(cloud.http, targets));
    load.goes_on(600).await;
    let tally = load.stop().await;
    tally.all_good(600);
    assert_eq!(tally.by_replica.len(), 9, "every replica had its share: {:?}", tally.by_replica);

    isolated(&cloud).await;
}

/// From inside an app: its own other replicas answer, those of another app cannot even be connected to.
async fn isolated(cloud: &Cloud) {
    let own = cloud.replicas("two").await;
    let others = [cloud.replicas("one").await, cloud.replicas("three").await].concat();
    let from = own[0].replica.to_string();
    let fetch = async |addr: std::net::SocketAddr| {
        // busybox's static wget crashes; its nc does not. What it runs speaks over the connection and keeps it open: a server
        // may drop the request of a client that has closed its half (hyper does, when both come at once).
        let ask = r"printf 'GET /healthz HTTP/1.0\r\n\r\n'; cat >&2";
        let fetch = format!("nc -w 3 {} {} -e sh -c \"{ask}\"", addr.ip(), addr.port());
        cloud.sc(&["exec", &from, "--", "sh", "-c", &fetch]).await
    };
    fetch(own[1].addr.expect("an address")).await.ok().says(&["200 OK"]);
    for other in &others {
        let addr = other.addr.expect("an address");
        let out = fetch(addr).await;
        assert!(out.code == 1 && out.stdout.is_empty(), "{from} reached {} at {addr}: {out:?}", other.replica);
    }
}

/// What a container may do is little: no capabilities, no new privileges, bounded processes and logs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_are_confined_on_docker() {
    let cloud = Cloud::docker().await;
    cloud.run("web", &["--host", "web.localhost", "--memory", "64MiB", "--cpus", "0.5"]).await;
    let (_, id) = cloud.really_running("web").await.remove(0);
    let format = "{{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}} {{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} \
                  {{.HostConfig.PidsLimit}} {{.HostConfig.LogConfig}}";
    let out = docker(&["inspect", "-f", format, &id]).await.ok().says(&[
        "ALL",
        "no-new-privileges",
        "67108864",
        "500000000",
        "max-size",
    ]);
    assert!(!out.stdout.contains("<nil>"), "a limit of processes: {}", out.stdout);
}
