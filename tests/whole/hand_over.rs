//! `sc up` with another proxy: the new container takes over the sockets of the old one under load.

use std::process::Stdio;

use sc_tests::{
    Cloud, Load, LoadSpec, Target,
    docker::{containers, docker},
    poll, secs,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A request whose body is half sent.
async fn half_sent(cloud: &Cloud) -> TcpStream {
    let mut stream = TcpStream::connect(cloud.http).await.expect("a connection");
    let head = b"POST /echo HTTP/1.1\r\nhost: web.localhost\r\ncontent-length: 10\r\nconnection: close\r\n\r\nhello";
    stream.write_all(head).await.expect("half a request");
    let replica = async || cloud.replicas("web").await.iter().any(|replica| replica.in_flight > 0).then_some(());
    poll(secs(20), "the request to be with a replica", replica).await;
    stream
}

async fn finish(mut stream: TcpStream) {
    stream.write_all(b"world").await.expect("the other half");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("helloworld"), "{answer}");
}

/// Ids of the proxy's containers, by name.
async fn proxies(cloud: &Cloud) -> Vec<(String, String)> {
    let all = containers(&cloud.name).await;
    all.into_iter()
        .filter(|c| c.name.ends_with("-proxy") || c.name.ends_with("-proxy-next"))
        .map(|c| (c.name, c.id))
        .collect()
}

/// Changed twice under load, the second time with an `sc up` that is killed half-way: no request fails, not even one that is
/// under way all the time; afterwards one container has the name, and Docker starts it again if it ends.
async fn takes_over(mut cloud: Cloud, flags: &[(&str, bool)]) {
    let always = cloud.more.clone();
    let (name, next) = (format!("{}-proxy", cloud.name), format!("{}-proxy-next", cloud.name));
    cloud.run("web", &["--host", "web.localhost", "--replicas", "2"]).await;
    cloud.serves("web.localhost", "/whoami").await;
    let load = Load::start(LoadSpec::steady(cloud.http, vec![Target::host("web", "web.localhost")]));
    load.goes_on(50).await;
    for (flag, killed) in flags {
        let (before, request) = (proxies(&cloud).await, half_sent(&cloud).await);
        cloud.more = [&always[..], &[(*flag).to_owned()]].concat();
        let mut up = cloud.up_command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sc up");
        let beside = async || proxies(&cloud).await.iter().any(|(name, _)| *name == next).then_some(());
        poll(secs(40), "a second container", beside).await;
        if *killed {
            up.kill().await.expect("it is killed");
        }
        load.goes_on(150).await;
        finish(request).await;
        if *killed {
            cloud.up().await.ok();
        } else {
            assert!(up.wait().await.expect("its end").success());
        }
        let after = proxies(&cloud).await;
        assert!(after.len() == 1 && after[0].0 == name && after != before, "{before:?} became {after:?}");
        let policy = docker(&["inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", &name]).await.ok();
        assert_eq!(policy.stdout.trim(), "always");
        cloud.up().await.ok().says(&[&format!("{name} runs already")]);
        load.goes_on(50).await;
    }
    load.all_good(400).await;
}

/// What changes the proxy's container and nothing of where it listens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_proxy_takes_over_on_docker() {
    takes_over(Cloud::docker().await, &[("--tcp-ports=25", false), ("--tcp-ports=5432", true)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_proxy_takes_over_behind_a_bridge_on_docker() {
    let mut cloud = Cloud::docker_not_yet(&["--network", "bridge"]);
    let (https, certs) = (format!("--https={}", cloud.slot.addr()), cloud.path("certs"));
    cloud.more.push(https);
    std::fs::create_dir(&certs).expect("a folder");
    cloud.up().await.ok();
    takes_over(cloud, &[(&format!("--certs={}", certs.display()), false)]).await;
}
