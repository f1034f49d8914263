//! `sc up`.

use anyhow::Context;
use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use sc_api::{Client, ClientError, Target};

use crate::{
    exit,
    find::Installation,
    out::{self, Progress},
    session::Session,
    up::{
        etcd::{AccessArgs, Etcd},
        host::{self, Host},
        images, members,
        parts::{self, Acme, INSTANCE, Port, RELEASE, Wanted},
        ports,
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

    /// Where the proxy takes HTTPS, as IP:PORT or a port
    #[arg(long, value_name = "ADDR", value_parser = address)]
    https: Option<SocketAddr>,

    /// Folder of certificates for HTTPS, NAME.crt with NAME.key [default: one of the proxy's own making]
    #[arg(long, value_name = "DIR", requires = "https")]
    certs: Option<std::path::PathBuf>,

    /// Have certificates from an authority by ACME, for apps with `certificate = "acme"`; it writes to this address
    #[arg(long, value_name = "ADDRESS", requires = "https")]
    acme_email: Option<String>,

    /// The authority: the URL of its ACME directory [default: Let's Encrypt]
    #[arg(long, value_name = "URL", requires = "acme_email")]
    acme_directory: Option<String>,

    /// PEM file of the authorities that its own HTTPS is known by [default: this host's]
    #[arg(long, value_name = "FILE", requires = "acme_email")]
    acme_ca: Option<std::path::PathBuf>,

    /// Ports of TCP routes: published with --network bridge; those below 1024 are allowed to the proxy
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    tcp_ports: Vec<u16>,

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

    #[command(flatten)]
    access: AccessArgs,

    /// The containers' network: the host's, or one of their own with published ports
    ///
    /// On the host's the proxy sees the clients' own addresses, and no NAT costs anything. With `bridge` the host's network
    /// is left alone: only the ports of --http, --https, --listen, --admin and --tcp-ports are published.
    #[arg(long, value_enum, default_value_t = Network::Host)]
    network: Network,

    /// Do not wait until everything is ready
    #[arg(long)]
    detach: bool,

    /// Give up waiting after this time
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = crate::times::duration)]
    timeout: Duration,
}

/// Where the parts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Network {
    Host,
    Bridge,
}

impl Network {
    fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Bridge => "bridge",
        }
    }
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
    let host = Host::connect().await?;
    // Before anything is made: the ports that the user chose; then those that members of etcd have from earlier.
    let port = |flag, host: SocketAddr| Port { flag, host, inside: host.port() };
    let chosen = [port("--http", args.http), port("--listen", args.listen), port("--admin", args.admin)];
    let chosen: Vec<_> = chosen.into_iter().chain(args.https.map(|https| port("--https", https))).collect();
    ports::check(&host, &instance, &chosen).await?;
    let wanted = wanted(&host, &args).await?;
    let parts = parts::parts(&wanted);
    ports::check(&host, &instance, parts.iter().flat_map(|part| &part.ports)).await?;
    let base = format!("sc/base:{RELEASE}");
    let needed: Vec<_> = parts.iter().map(|part| part.image.clone()).chain([base]).collect();
    images::ensure(&host, &needed, &mut progress).await?;
    host.volume(&parts::keys_name(&instance), labels(&instance)).await?;
    if args.network == Network::Host {
        // It has the ports.
        host.remove(&parts::holder_name(&instance)).await?;
    }
    for part in &parts {
        progress.now(&format!("{}: …", part.name));
        host.volume(&part.volume, labels(&instance)).await?;
        match host.ensure(part, &instance).await? {
            Some(done) => progress.done(&format!("{} {done}", part.name)),
            None => progress.done(&format!("{} runs already", part.name)),
        }
    }
    if args.network == Network::Host {
        host.forget_bridge(&instance).await?;
    }
    if args.detach {
        return Ok(exit::OK);
    }
    wait(&host, &wanted, args.timeout, &mut progress).await?;
    out::print(&format!(
        "sc is up: apps are served at http://{}, the manager is at http://{}\n\
         next: sc run web --image sc/matrix:{RELEASE} --port 8080 --host web.localhost --replicas 3\n",
        wanted.http, wanted.api
    ))?;
    Ok(exit::OK)
}

/// What was typed, in full.
async fn wanted(host: &Host, args: &Args) -> anyhow::Result<Wanted> {
    let instance = args.instance.to_string();
    let etcd = etcd(host, args).await?;
    let bridge = match args.network {
        Network::Host => None,
        Network::Bridge => Some(host.bridge(&instance).await?),
    };
    let docker_socket = host::address().strip_prefix("unix://").unwrap_or("/var/run/docker.sock").to_owned();
    let (http, api, admin, pool) = (args.http, args.listen, args.admin, args.pool.clone());
    let certs = args.certs.as_deref().map(|folder| {
        let full = folder.canonicalize().with_context(|| format!("no folder of certificates {}", folder.display()))?;
        full.into_os_string().into_string().map_err(|_| anyhow::anyhow!("the name of {} is no text", folder.display()))
    });
    let (https, certs) = (args.https, certs.transpose()?);
    let (tcp_ports, acme) = (args.tcp_ports.clone(), acme(args)?);
    Ok(Wanted { instance, tcp_ports, https, certs, acme, http, api, admin, pool, docker_socket, etcd, bridge })
}

/// Where systems keep the authorities they trust: Debian and Alpine, Fedora, and the BSDs' place.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The authority for certificates, with those that it is known by.
fn acme(args: &Args) -> anyhow::Result<Option<Acme>> {
    let Some(email) = args.acme_email.clone() else { return Ok(None) };
    let path = match &args.acme_ca {
        Some(path) => path.clone(),
        None => BUNDLES.iter().map(std::path::PathBuf::from).find(|path| path.exists()).ok_or_else(|| {
            exit::usage("this host has no bundle of authorities (ca-certificates): install it, or give --acme-ca FILE")
        })?,
    };
    let ca = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    if !ca.windows(11).any(|words| words == b"-----BEGIN ") {
        return Err(exit::usage(format!("{} is no PEM file", path.display())));
    }
    Ok(Some(Acme { email, directory: args.acme_directory.clone(), ca }))
}

fn labels(instance: &str) -> HashMap<String, String> {
    HashMap::from([(INSTANCE.to_owned(), instance.to_owned())])
}

/// Where the state will be.
async fn etcd(host: &Host, args: &Args) -> anyhow::Result<Etcd> {
    let members = match &args.etcd[..] {
        [one] if one == "1" => 1,
        [three] if three == "3" => 3,
        urls if urls.iter().all(|url| url.starts_with("http://") || url.starts_with("https://")) => {
            check_urls(urls, args)?;
            return Ok(Etcd::At { urls: urls.to_vec(), access: Box::new(args.access.read()?) });
        }
        _ => return Err(exit::usage("--etcd takes 1, 3, or URLs like http://10.0.0.1:2379")),
    };
    if !args.access.is_empty() {
        let text = "--etcd-ca, --etcd-cert, --etcd-key, --etcd-user and --etcd-password-file are for an etcd elsewhere: give its \
                    URLs with --etcd";
        return Err(exit::usage(text));
    }
    Ok(Etcd::Own(members::members(host, args.instance.as_str(), members, args.network.as_str()).await?))
}

/// What cannot work with these URLs.
fn check_urls(urls: &[String], args: &Args) -> anyhow::Result<()> {
    if let Some(plain) = urls.iter().find(|url| url.starts_with("http://")).filter(|_| args.access.has_tls()) {
        return Err(exit::usage(format!("{plain} is without TLS: write https://, or leave out the certificates")));
    }
    let here = |url: &&String| {
        let host = url.split("://").nth(1).unwrap_or_default();
        ["127.", "localhost", "[::1]"].iter().any(|name| host.starts_with(name))
    };
    if let (Network::Bridge, Some(url)) = (args.network, urls.iter().find(here)) {
        let text = "with --network bridge that is each container itself: give an address of the host that others reach, or \
                    --network host";
        return Err(exit::usage(format!("--etcd {url}: {text}")));
    }
    Ok(())
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
