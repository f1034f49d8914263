//! `sc up --network bridge`: the parts on a network of their own, joined to those of the apps.

use sc_tests::{
    Cloud, Load, LoadSpec, Target,
    docker::{docker, forget},
    poll, program, secs,
};

/// The networks of a container, by name.
async fn networks(container: &str) -> Vec<String> {
    let format = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
    let out = docker(&["inspect", "-f", format, container]).await.ok();
    let mut names: Vec<_> = out.stdout.split_whitespace().map(str::to_owned).collect();
    names.sort();
    names
}

/// Apps come and go under load and nothing of the first fails; the proxy is in the networks of those that there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apps_come_and_go_behind_a_bridge_on_docker() {
    let cloud = Cloud::docker_with(&["--network", "bridge"]).await;
    let named = |part: &str| format!("{}-{part}", cloud.name);
    let (name, proxy, holder, manager) = (&cloud.name, named("proxy"), named("proxy-net"), named("manager"));
    cloud.run("web", &["--host", "web.localhost", "--replicas", "2"]).await;
    cloud.serves("web.localhost", "/whoami").await;
    let web = [format!("{name}--parts"), format!("{name}-default-web")];
    assert_eq!(networks(&holder).await, web);
    assert_eq!(networks(&manager).await, web);

    // Joining another network must not move the default route: connections that are open would be reset.
    let load = Load::start(LoadSpec::steady(cloud.http, vec![Target::host("web", "web.localhost")]));
    load.goes_on(100).await;
    // On the base image, which has a shell to look around with.
    let matrix = program("sc-matrix").display().to_string();
    let abc = ["run", "abc", "--bin", &matrix, "--port", "8081", "--host", "abc.localhost", "--replicas", "1"];
    cloud.sc(&abc).await.ok();
    cloud.serves("abc.localhost", "/whoami").await;
    isolated(&cloud).await;
    cloud.sc(&["rm", "abc"]).await.ok();
    let gone = async || (networks(&holder).await == web).then_some(());
    poll(secs(60), "the proxy to leave the network of an app that is gone", gone).await;
    load.goes_on(100).await;
    load.all_good(300).await;

    // Both are made anew, by hand or by Docker: they find their networks again.
    docker(&["restart", "-t", "0", &proxy, &manager]).await.ok();
    cloud.works().await;
    cloud.serves("web.localhost", "/whoami").await;
    docker(&["rm", "-f", &proxy]).await.ok();
    cloud.up().await.ok();
    cloud.serves("web.localhost", "/whoami").await;

    // As after a start of the machine, the wrong way round: the proxy is in a network that is no more, or was not started at
    // all. The manager looks after it.
    docker(&["restart", "-t", "0", &holder]).await.ok();
    cloud.serves("web.localhost", "/whoami").await;
    docker(&["kill", &proxy, &holder, &manager]).await.ok();
    docker(&["start", &manager, &holder]).await.ok();
    cloud.works().await;
    cloud.serves("web.localhost", "/whoami").await;

    cloud.sc(&["down", "--instance", name, "--purge"]).await.ok();
    for kind in ["network", "volume", "container"] {
        let left = docker(&[kind, "ls", "-q", "--filter", &format!("name={name}-")]).await.ok();
        assert_eq!(left.stdout, "", "{kind}s are left");
    }
    forget(name);
}

/// From inside one app neither another app, nor etcd, nor the API, nor the proxy's admin port can be reached.
async fn isolated(cloud: &Cloud) {
    let (from, other) = (cloud.replicas("abc").await.remove(0), cloud.replicas("web").await.remove(0));
    let own = from.addr.expect("an address");
    let inside = async |part: &str, network: &str| {
        let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
        let out = docker(&["inspect", "-f", &format, &format!("{}-{part}", cloud.name)]).await.ok();
        out.stdout.trim().to_owned()
    };
    let connects = async |to: String| {
        let (ip, port) = to.rsplit_once(':').expect("an address with a port");
        let connect = format!("printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {ip} {port}");
        !cloud.sc(&["exec", &from.replica.to_string(), "--", "sh", "-c", &connect]).await.stdout.is_empty()
    };
    assert!(connects(own.to_string()).await, "the test itself does not work");
    assert!(!connects(other.addr.expect("an address").to_string()).await, "another app");
    let (parts, app) = (format!("{}--parts", cloud.name), format!("{}-default-abc", cloud.name));
    assert!(!connects(format!("{}:2379", inside("etcd", &parts).await)).await, "etcd");
    for part in ["manager", "proxy-net"] {
        for network in [&parts, &app] {
            for port in [cloud.api.port(), cloud.admin.port()] {
                let address = format!("{}:{port}", inside(part, network).await);
                assert!(!connects(address.clone()).await, "{part} at {address}");
            }
        }
    }
}

/// A taken port is named before anything is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_is_named_on_docker() {
    let cloud = Cloud::docker_not_yet(&[]);
    let _holder = std::net::TcpListener::bind(cloud.http).expect("a port of the test's own");
    let (taken, holder) = (cloud.http.to_string(), format!("process {}", std::process::id()));
    cloud.up().await.exits(7).says(&["is taken", &taken, &holder, "--http"]);
    for kind in ["network", "volume", "container"] {
        let left = docker(&[kind, "ls", "-q", "--filter", &format!("name={}-", cloud.name)]).await.ok();
        assert_eq!(left.stdout, "", "a {kind} was made");
    }
}
