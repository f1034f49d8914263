//! `sc up`.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use sc_api::{Client, ClientError, Target};

use crate::{
    exit,
    find::Installation,
    out::{self, Progress},
    session::Session,
    up::{
        host::{self, Host},
        images,
        parts::{self, Etcd, INSTANCE, RELEASE, Wanted},
    },
};

/// Start sc on this host's Docker: etcd, manager and proxy as containers
///
/// Can be repeated: what is as it should be is left alone, what changed is replaced. The state is in volumes; the commands
/// that follow find the manager by themselves.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The installation's name; several can share one Docker
    #[arg(long, default_value = "sc", value_name = "NAME", env = "SC_INSTANCE", hide_env = true)]
    instance: sc_core::Name,

    /// Where the proxy takes HTTP: IP:PORT, or a port on all addresses
    #[arg(long, default_value = "0.0.0.0:80", value_name = "ADDR", value_parser = address)]
    http: SocketAddr,

    /// Where the proxy takes HTTPS. This release serves none yet: `off`, or a warning
    #[arg(long, default_value = "off", value_name = "ADDR")]
    https: String,

    /// Where the manager's API listens
    #[arg(long, default_value = "127.0.0.1:7700", value_name = "ADDR", alias = "api")]
    listen: SocketAddr,

    /// Where the proxy's stats, metrics and admin API listen
    #[arg(long, default_value = "127.0.0.1:9901", value_name = "ADDR")]
    admin: SocketAddr,

    /// The addresses that the apps' networks are made of
    #[arg(long, default_value = "10.213.0.0/16", value_name = "CIDR")]
    pool: String,

    /// How many etcd members to run here (1 or 3), or the URLs of an etcd that runs elsewhere
    #[arg(long, default_value = "1", value_name = "N|URL", value_delimiter = ',')]
    etcd: Vec<String>,

    /// Do not wait until everything is ready
    #[arg(long)]
    detach: bool,

    /// Give up waiting after this time
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = crate::times::duration)]
    timeout: Duration,
}

/// A socket address; a bare port is on all addresses.
fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port @ 1..) = text.parse::<u16>() {
        return Ok((Ipv4Addr::UNSPECIFIED, port).into());
    }
    text.parse().map_err(|_| "give IP:PORT, like 127.0.0.1:8080, or a port".to_owned())
}

/// Does it.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    let instance = args.instance.to_string();
    let mut progress = session.progress();
    if args.https != "off" {
        progress.say("note: --https: this release serves HTTP only; put TLS in front of it for now");
    }
    let host = Host::connect().await?;
    let etcd = etcd(&host, &instance, &args.etcd).await?;
    let docker_socket = host::address().strip_prefix("unix://").unwrap_or("/var/run/docker.sock").to_owned();
    let (http, api, admin, pool) = (args.http, args.listen, args.admin, args.pool);
    let wanted = Wanted { instance: instance.clone(), http, api, admin, pool, docker_socket, etcd };
    let parts = parts::parts(&wanted);
    let base = format!("sc/base:{RELEASE}");
    let needed: Vec<_> = parts.iter().map(|part| part.image.clone()).chain([base]).collect();
    images::ensure(&host, &needed, &mut progress).await?;
    for part in &parts {
        progress.now(&format!("{}: …", part.name));
        host.volume(&part.volume, labels(&instance)).await?;
        match host.ensure(part, &instance).await? {
            Some(done) => progress.done(&format!("{} {done}", part.name)),
            None => progress.done(&format!("{} runs already", part.name)),
        }
    }
    if args.detach {
        return Ok(exit::OK);
    }
    wait(&host, &wanted, args.timeout, &mut progress).await?;
    out::print(&format!(
        "sc is up: apps are served at http://{http}, the manager is at http://{api}\n\
         next: sc run web --image sc/matrix:{RELEASE} --port 8080 --host web.localhost --replicas 3\n"
    ))?;
    Ok(exit::OK)
}

fn labels(instance: &str) -> HashMap<String, String> {
    HashMap::from([(INSTANCE.to_owned(), instance.to_owned())])
}

/// Where the state will be. The ports of our own members are chosen once and kept on their volumes, since a cluster knows
/// its members by them.
async fn etcd(host: &Host, instance: &str, wanted: &[String]) -> anyhow::Result<Etcd> {
    let members = match wanted {
        [one] if one == "1" => 1,
        [three] if three == "3" => 3,
        urls if urls.iter().all(|url| url.starts_with("http://") || url.starts_with("https://")) => {
            return Ok(Etcd::At(urls.to_vec()));
        }
        _ => return Err(exit::usage("--etcd takes 1, 3, or URLs like http://10.0.0.1:2379")),
    };
    let mut ports = Vec::new();
    for member in 0..members {
        let name = parts::etcd_name(instance, member);
        let kept = match host.volume_labels(&name).await? {
            Some(labels) => labels,
            None => {
                let (client, peer) = free_ports(member)?;
                let mut labels = labels(instance);
                labels.insert(CLIENT.to_owned(), client.to_string());
                labels.insert(PEER.to_owned(), peer.to_string());
                host.volume(&name, labels).await?
            }
        };
        let port = |label| kept.get(label).and_then(|port| port.parse::<u16>().ok());
        ports.push(port(CLIENT).zip(port(PEER)).unwrap_or((2379, 2380)));
    }
    Ok(Etcd::Own(ports))
}

/// Labels of a member's volume.
const CLIENT: &str = "sc.etcd.client";
const PEER: &str = "sc.etcd.peer";

/// etcd's usual ports for the first member where they are free, else any that are.
fn free_ports(member: usize) -> anyhow::Result<(u16, u16)> {
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    if member == 0
        && let (Ok(_), Ok(_)) = (free(2379), free(2380))
    {
        return Ok((2379, 2380));
    }
    let (client, peer) = (free(0)?, free(0)?);
    Ok((client.local_addr()?.port(), peer.local_addr()?.port()))
}

/// Waits until manager and proxy are ready, and keeps where the manager is for the commands that follow.
async fn wait(host: &Host, wanted: &Wanted, limit: Duration, progress: &mut Progress) -> anyhow::Result<()> {
    let (instance, end) = (&wanted.instance, Instant::now() + limit);
    let manager = format!("{instance}-manager");
    let token = loop {
        match host.file(&manager, "/data/token").await? {
            Some(token) => break String::from_utf8_lossy(&token).trim().to_owned(),
            None => pause(host, &manager, "its token is not there yet", end, progress).await?,
        }
    };
    for (name, address) in [(manager, wanted.api), (format!("{instance}-proxy"), wanted.admin)] {
        let client = Client::new(Target::Tcp(address.to_string()), Some(token.clone()));
        while let Err(error) = client.ready().await {
            pause(host, &name, &reason(&error), end, progress).await?;
        }
        progress.done(&format!("{name} is ready"));
    }
    let manager = format!("http://{}", wanted.api);
    Installation { manager, token: Some(token), instance: instance.clone() }.write()?;
    Ok(())
}

fn reason(error: &ClientError) -> String {
    exit::text(&anyhow::anyhow!("{error}")).lines().next().unwrap_or_default().to_owned()
}

/// A moment; an error when the time is over, with what the container last said.
async fn pause(host: &Host, container: &str, why: &str, end: Instant, progress: &mut Progress) -> anyhow::Result<()> {
    if Instant::now() >= end {
        progress.clear();
        let words = host.last_words(container).await;
        let hint = format!("docker logs {container} has more, `sc doctor` may know");
        let text = format!("{container} did not become ready in time: {why}\n{words}  → {hint}");
        return Err(exit::failure(exit::NOT_CONVERGED, text));
    }
    progress.now(&format!("waiting for {container}: {why}"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(())
}
