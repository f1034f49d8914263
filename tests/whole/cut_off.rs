//! Three proxies, one of them cut off from the store and the manager, while a replica takes leave.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, SystemTime},
};

use sc_tests::{
    Cloud, Load, LoadSpec, Tally, Target,
    docker::{containers, docker},
    load::get,
    poll, secs,
};

const HOST: &str = "web.localhost";
const DRAIN: Duration = secs(15);
const ADMIN: u16 = 9901;

/// A further proxy: a container among the parts and in the app's network, asked at its address in the latter.
struct Further {
    name: String,
    /// Where manager and store are.
    parts: String,
    among_parts: Ipv4Addr,
    http: SocketAddr,
}

impl Further {
    async fn start(cloud: &Cloud, n: u32) -> Self {
        let (parts, app) = (format!("{}--parts", cloud.name), format!("{}-default-web", cloud.name));
        // Where no part and, with so few of them, no replica will be.
        let (among_parts, among_replicas) = (nth(&parts, 50 + n).await, nth(&app, 100 + n).await);
        let name = format!("{}-further-{n}", cloud.name);
        let etcd = format!("--etcd=http://{}:2379", address(&format!("{}-etcd", cloud.name), &parts).await);
        let (ip, admin) = (among_parts.to_string(), format!("--admin={among_parts}:{ADMIN}"));
        docker(
            &["create", "--name", &name, "--network", &parts, "--ip", &ip, "sc/proxy:0.1.0", "--listen=0.0.0.0:8080"]
                .into_iter()
                .chain([&*etcd, &*admin, "--threads=1"])
                .collect::<Vec<_>>(),
        )
        .await
        .ok();
        docker(&["network", "connect", "--ip", &among_replicas.to_string(), &app, &name]).await.ok();
        docker(&["start", &name]).await.ok();
        Self { name, parts, among_parts, http: (among_replicas, 8080).into() }
    }

    async fn cut_off(&self) {
        docker(&["network", "disconnect", "--force", &self.parts, &self.name]).await.ok();
    }

    async fn join_again(&self) {
        let ip = self.among_parts.to_string();
        docker(&["network", "connect", "--ip", &ip, &self.parts, &self.name]).await.ok();
    }

    /// How many replicas it knows of.
    async fn replicas(&self) -> Option<usize> {
        let (_, text) = get((self.among_parts, ADMIN).into(), "admin", "/routes").await.ok()?;
        let routes: serde_json::Value = serde_json::from_str(&text).ok()?;
        Some(routes["apps"][0]["backends"].as_array()?.len())
    }
}

/// The `n`-th address of a network.
async fn nth(network: &str, n: u32) -> Ipv4Addr {
    let format = "{{(index .IPAM.Config 0).Subnet}}";
    let subnet = docker(&["network", "inspect", "-f", format, network]).await.ok().stdout;
    let base: Ipv4Addr = subnet.split('/').next().and_then(|base| base.parse().ok()).expect("a range");
    Ipv4Addr::from(u32::from(base) + n)
}

/// A container's address in a network.
async fn address(container: &str, network: &str) -> IpAddr {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
    docker(&["inspect", "-f", &format, container]).await.ok().stdout.trim().parse().expect("an address")
}

/// Which replica was told to end, and when, as Docker has it.
async fn told_to_end(cloud: &Cloud, since: SystemTime) -> Option<(String, SystemTime)> {
    let seconds = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs();
    let (since, until) = (seconds(since).to_string(), (seconds(SystemTime::now()) + 1).to_string());
    let label = format!("label=sc.instance={}", cloud.name);
    let format = "{{.TimeNano}} {{index .Actor.Attributes \"sc.replica\"}}";
    let filters = ["--filter", &label, "--filter", "event=kill", "--format", format];
    let events = docker(&[&["events", "--since", &since, "--until", &until][..], &filters].concat()).await.ok();
    let (nanos, replica) = events.stdout.lines().next()?.split_once(' ')?;
    let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos.parse().ok()?);
    Some((format!("web-{replica}"), at))
}

/// Nobody knows what a proxy does that is cut off: it serves on from its last table, so the replica that leaves is kept until
/// its time to drain is over, and no request fails through any of the three. Those that are not cut off let go of it at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_cut_off_finds_the_replica_there_until_the_deadline_on_docker() {
    let cloud = Cloud::docker_with(&["--network", "bridge"]).await;
    cloud.write(
        "sc.toml",
        &format!(
            "[app.web]\nimage = \"sc/matrix:0.1.0\"\nport = 8080\n[[app.web.route]]\nhost = \"{HOST}\"\n\
             [app.web.scale]\nreplicas = 3\n[app.web.drain]\ntimeout = \"{}s\"\n",
            DRAIN.as_secs()
        ),
    );
    cloud.sc(&["deploy"]).await.ok();
    cloud.settles("web", 3).await;
    let (second, third) = (Further::start(&cloud, 2).await, Further::start(&cloud, 3).await);
    let at = [cloud.http, second.http, third.http];
    for proxy in at {
        let serves = async || get(proxy, HOST, "/whoami").await.is_ok_and(|(head, _)| head.status == 200).then_some(());
        poll(secs(30), &format!("{proxy} to serve"), serves).await;
    }
    let loads = at.map(|proxy| Load::start(LoadSpec::steady(proxy, vec![Target::host("web", HOST)])));
    for load in &loads {
        load.goes_on(150).await;
    }

    third.cut_off().await;
    let leaves = SystemTime::now();
    cloud.sc(&["scale", "web=2", "--detach"]).await.ok();
    let stopped = async || told_to_end(&cloud, leaves).await;
    let (replica, end) = poll(DRAIN + secs(30), "a replica to be told to end", stopped).await;
    let tallies = loads.each_ref().map(Load::so_far);
    let latest = |tally: &Tally| tally.latest.get(&replica).copied().expect("each of the proxies asked each replica");
    let [first, other, cut] = tallies.each_ref().map(latest);
    // What Docker and the manager call now differs by a little.
    assert!(end >= leaves + DRAIN - secs(1), "it was stopped {:?} after it began to leave", end.duration_since(leaves));
    assert!(cut > first && cut > other, "the one that is cut off asks it on; {first:?} {other:?} {cut:?} {end:?}");
    assert!(first < end && other < end, "no request came to a replica that was stopped");

    // Together again: it has what it missed, and all go on.
    third.join_again().await;
    poll(secs(40), "the third proxy to see the change", async || (third.replicas().await == Some(2)).then_some(()))
        .await;
    cloud.settles("web", 2).await;
    for load in &loads {
        load.goes_on(100).await;
    }
    for load in loads {
        load.all_good(1_000).await;
    }
    let left = containers(&cloud.name).await;
    assert!(left.iter().all(|container| container.state == "running"), "{left:#?}");
}
