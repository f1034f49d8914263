//! The proxy as a program: what was typed becomes a [`Config`], then it serves until it is told to stop.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{Args, CommandFactory, Parser, error::ErrorKind};
use sc_proxy::{
    AccessLog, Admin, Cidr, Config, Http1, Limits, LogFilter, Running, Source, TlsConfig,
    access::{Format, Target},
    upgrade::{self, Successor, Upgrades, service},
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{
    EnvFilter, Registry, filter::ParseError, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Balances HTTP requests over the replicas of many apps; its routes change with no reload.
///
/// Routes come from one of three sources: a file, etcd, or the manager. The admin API has /stats, /metrics, /routes, /config, /log,
/// /healthz and /readyz. SIGTERM or SIGINT: stop accepting, finish what runs, exit 0; a second one: exit at once. SIGUSR2: start the program
/// anew; the new process takes over the listening sockets, this one finishes what runs.
#[derive(Parser)]
#[command(name = "sc-proxy", version)]
struct Cli {
    /// Take HTTP traffic here, as IP:PORT; may be given several times
    #[arg(long, env = "SC_LISTEN", value_delimiter = ',', default_value = "127.0.0.1:8080", value_parser = address, value_name = "ADDR")]
    listen: Vec<SocketAddr>,
    /// Take HTTPS traffic here, as IP:PORT; may be given several times
    #[arg(long, env = "SC_LISTEN_TLS", value_delimiter = ',', value_parser = address, value_name = "ADDR")]
    listen_tls: Vec<SocketAddr>,
    /// Certificates for HTTPS: NAME.crt (or .pem) with NAME.key in this folder, which is watched; `default` is for names that no
    /// other has
    #[arg(long, env = "SC_CERTS", value_name = "DIR", requires = "listen_tls")]
    certs: Option<PathBuf>,
    /// File of the key that private keys in the store are sealed with, made by the manager; for certificates from etcd
    #[arg(long, env = "SC_STORE_KEY", value_name = "FILE")]
    store_key: Option<PathBuf>,
    /// Let only clients in, over HTTPS, that have a certificate of the authorities in this PEM file
    #[arg(long, env = "SC_CLIENT_CA", value_name = "FILE", requires = "listen_tls")]
    client_ca: Option<PathBuf>,
    /// Worker threads [default: as many as there are CPUs to use]
    #[arg(long, env = "SC_THREADS", default_value_t = 0, hide_default_value = true, value_name = "N")]
    threads: usize,
    #[command(flatten)]
    source: SourceArgs,
    /// This proxy's name [default: one kept in the data folder, or a random one]
    #[arg(long, env = "SC_PROXY_ID", value_name = "ID")]
    id: Option<String>,
    /// Keep the last routes and the id in this folder, to start with manager and store dead
    #[arg(long, env = "SC_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Take over from the proxy that listens on this socket, if one does, and hand over here to the next [default: upgrade.sock
    /// in the data folder]
    #[arg(long, env = "SC_UPGRADE_SOCKET", value_name = "PATH")]
    upgrade_socket: Option<PathBuf>,
    /// Serve stats, metrics and the admin API here: IP:PORT or unix:PATH
    #[arg(long, env = "SC_ADMIN", default_value = "127.0.0.1:9901", value_name = "ADDR")]
    admin: Admin,
    /// Believe the X-Forwarded-* fields of these peers, as 10.0.0.0/8; may be given several times
    #[arg(long, env = "SC_TRUST", value_delimiter = ',', value_name = "CIDR")]
    trust: Vec<Cidr>,
    /// Take the connections of TCP routes at this IP [default: that of the first --listen]
    #[arg(long, env = "SC_TCP_LISTEN", value_name = "IP")]
    tcp_listen: Option<IpAddr>,
    /// Connections of these peers begin with a PROXY header (version 1 or 2) that says who the client is, as 10.0.0.0/8; may be
    /// given several times
    #[arg(long, env = "SC_PROXY_PROTOCOL", value_delimiter = ',', value_name = "CIDR")]
    proxy_protocol: Vec<Cidr>,
    /// Let running requests finish for so many seconds after SIGTERM
    #[arg(long, env = "SC_GRACE", default_value = "30s", value_parser = seconds, value_name = "TIME")]
    grace: Duration,
    /// Who speaks HTTP/1.1 with clients: `fast` (the proxy's own code; hyper for what is not plain) or `hyper`
    #[arg(long, env = "SC_HTTP1", default_value = "fast", value_name = "WHO")]
    http1: Http1,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    access: AccessArgs,
    /// What to log: error, warn, info, debug, trace, or by module as in `sc_proxy=debug`
    #[arg(long, env = "SC_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
}

/// Bounds that hold before a request's app is known. Those of one app are in its `traffic`.
#[derive(Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Client connections in all; further ones wait [default: 65536, or what the open-files limit leaves room for]
    #[arg(long, env = "SC_MAX_CONNECTIONS", value_parser = at_least_one, value_name = "N")]
    max_connections: Option<usize>,
    /// Client connections of one address (IPv6: a /64); further ones are closed. --trust'ed peers are exempt; behind a PROXY header
    /// its client counts [default: half of all, at least 256]
    #[arg(long, env = "SC_MAX_CONNECTIONS_PER_ADDRESS", value_parser = at_least_one, value_name = "N")]
    max_connections_per_address: Option<usize>,
    /// Requests at once on one HTTP/2 connection
    #[arg(long, env = "SC_MAX_STREAMS", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "N")]
    max_streams: u32,
    /// Bytes of a request's head; a longer one gets 431
    #[arg(long, env = "SC_MAX_HEAD", default_value = "64KiB", value_parser = head_size, value_name = "SIZE")]
    max_head: usize,
    /// Fields of a request's head; more get 431
    #[arg(long, env = "SC_MAX_HEAD_FIELDS", default_value_t = 100, value_parser = fields, value_name = "N")]
    max_head_fields: usize,
    /// Bytes of a request's target (path and query); a longer one gets 414
    #[arg(long, env = "SC_MAX_URI", default_value = "16KiB", value_parser = uri_size, value_name = "SIZE")]
    max_uri: usize,
    /// Time for a request's head, from its first byte
    #[arg(long, env = "SC_HEAD_TIMEOUT", default_value = "30s", value_parser = duration, value_name = "TIME")]
    head_timeout: Duration,
    /// Time that a client's connection may be idle, or take nothing of an answer
    #[arg(long, env = "SC_IDLE_TIMEOUT", default_value = "65s", value_parser = duration, value_name = "TIME")]
    idle_timeout: Duration,
    /// Time that nothing may come of a request's body: 408; once the answer has begun, that nothing may pass either way. An app's
    /// body_idle_timeout goes before it
    #[arg(long, env = "SC_BODY_TIMEOUT", default_value = "60s", value_parser = duration, value_name = "TIME")]
    body_timeout: Duration,
    /// Time that a connection to a replica may be idle and still be used
    #[arg(long, env = "SC_UPSTREAM_IDLE_TIMEOUT", default_value = "30s", value_parser = duration, value_name = "TIME")]
    upstream_idle_timeout: Duration,
    /// Idle connections kept per replica and thread
    #[arg(long, env = "SC_UPSTREAM_IDLE_CONNECTIONS", default_value_t = 1024, value_name = "N")]
    upstream_idle_connections: usize,
}

#[derive(Args)]
struct AccessArgs {
    /// Write a line for each request to `stdout` or to this file, which may be rotated (it is opened anew when it was moved,
    /// and on SIGHUP)
    #[arg(long, env = "SC_ACCESS_LOG", value_name = "FILE")]
    access_log: Option<Target>,
    /// What a line looks like: `json` or `combined`
    #[arg(long, env = "SC_ACCESS_LOG_FORMAT", default_value = "json", value_name = "FORMAT")]
    access_log_format: Format,
    /// Log this share of the requests, from 0 to 1; answers of class 5xx and slow requests are always logged
    #[arg(long, env = "SC_ACCESS_LOG_SAMPLE", default_value = "1", value_parser = share, value_name = "SHARE")]
    access_log_sample: f64,
    /// Requests that take at least so long are slow, as in 500ms or 2s
    #[arg(long, env = "SC_ACCESS_LOG_SLOW", value_parser = span, value_name = "TIME")]
    access_log_slow: Option<Duration>,
}

#[derive(Args)]
struct SourceArgs {
    /// Routes from this TOML file, which is watched
    #[arg(long, env = "SC_ROUTES_FILE", value_name = "FILE", conflicts_with_all = ["manager", "etcd"])]
    routes_file: Option<PathBuf>,
    /// Routes from the manager at http://HOST:PORT or unix:PATH
    #[arg(long, env = "SC_MANAGER", value_name = "URL", conflicts_with = "etcd")]
    manager: Option<String>,
    /// File that holds the manager's token
    #[arg(long, env = "SC_TOKEN_FILE", value_name = "FILE", requires = "manager")]
    token_file: Option<PathBuf>,
    /// Routes from etcd at http[s]://HOST:PORT; may be given several times
    #[arg(long, env = "SC_ETCD", value_delimiter = ',', value_name = "URL")]
    etcd: Vec<String>,
    /// etcd's user
    #[arg(long, env = "SC_ETCD_USER", value_name = "NAME", requires_all = ["etcd", "etcd_password_file"])]
    etcd_user: Option<String>,
    /// File that holds the user's password
    #[arg(long, env = "SC_ETCD_PASSWORD_FILE", value_name = "FILE", requires = "etcd_user")]
    etcd_password_file: Option<PathBuf>,
    /// PEM file of the authority that signed etcd's certificates
    #[arg(long, env = "SC_ETCD_CA", value_name = "FILE", requires = "etcd")]
    etcd_ca: Option<PathBuf>,
    /// PEM file of this client's certificate
    #[arg(long, env = "SC_ETCD_CERT", value_name = "FILE", requires_all = ["etcd", "etcd_key"])]
    etcd_cert: Option<PathBuf>,
    /// PEM file of its key
    #[arg(long, env = "SC_ETCD_KEY", value_name = "FILE", requires = "etcd_cert")]
    etcd_key: Option<PathBuf>,
    /// All keys in etcd begin with this
    #[arg(long, env = "SC_STORE_PREFIX", default_value = "/sc/v1/", value_name = "PREFIX")]
    store_prefix: String,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("{text:?} is no number from 1 on"))
}

fn fields(text: &str) -> Result<usize, String> {
    let fields = text.parse().ok().filter(|n| (1..=1_000).contains(n));
    fields.ok_or_else(|| format!("{text:?} is no number from 1 to 1000"))
}

fn size_within(text: &str, least: u64, most: u64) -> Result<usize, String> {
    let bytes = sc_core::units::parse_size(text).map_err(|error| error.to_string())?;
    let fine = (least..=most).contains(&bytes);
    fine.then_some(bytes as usize).ok_or_else(|| format!("give {least} to {most} bytes, like 16KiB"))
}

fn head_size(text: &str) -> Result<usize, String> {
    size_within(text, 1024, 1 << 20)
}

/// hyper takes no longer one than 64 KiB − 2.
fn uri_size(text: &str) -> Result<usize, String> {
    size_within(text, 128, 65_534)
}

/// From a millisecond to a day.
fn duration(text: &str) -> Result<Duration, String> {
    let ms = sc_core::units::parse_duration(text).map_err(|error| error.to_string())?;
    let fine = (1..=86_400_000).contains(&ms);
    fine.then_some(Duration::from_millis(ms)).ok_or_else(|| "give 1ms to 24h".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let digits = text.strip_suffix('s').unwrap_or(text);
    digits.parse().map(Duration::from_secs).map_err(|_| format!("{text:?} is no number of seconds, like 30s"))
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("{text:?} is no share from 0 to 1"))
}

fn span(text: &str) -> Result<Duration, String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let of: fn(u64) -> Duration = match unit {
        "ms" => Duration::from_millis,
        "s" => Duration::from_secs,
        _ => return Err(format!("{text:?} is no time, like 500ms or 2s")),
    };
    digits.parse().map(of).map_err(|_| format!("{text:?} is no time, like 500ms or 2s"))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "give IP:PORT, like 127.0.0.1:8080".to_owned())
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if !cli.source.is_given() {
        let text = "say where the routes come from: --routes-file FILE, --etcd URL or --manager URL";
        Cli::command().error(ErrorKind::MissingRequiredArgument, text).exit();
    }
    let filter = filter(&cli.log).unwrap_or_else(|error| {
        eprintln!("sc-proxy: --log {:?}: {error}; logging at `info`", cli.log);
        filter("info").expect("a level is a filter")
    });
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(filter).with(lines).init();
    raise_descriptor_limit();
    match run(cli, log_filter(handle)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sc-proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What is not logged unless it is asked for by name: rustls warns of whatever is odd in what a client sends, with a line for each
/// handshake where a client names an address instead of a host. Anyone could fill a disk with that.
const QUIET: &str = "rustls=error";

/// A filter from what was asked for.
fn filter(text: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::try_new(format!("{QUIET},{text}"))
}

/// What was asked for of a filter.
fn asked(filter: &EnvFilter) -> String {
    filter.to_string().split(',').filter(|part| *part != QUIET).collect::<Vec<_>>().join(",")
}

/// The log's filter, for the admin API.
fn log_filter(handle: reload::Handle<EnvFilter, Registry>) -> LogFilter {
    let setter = handle.clone();
    let get = move || handle.with_current(asked).unwrap_or_default();
    let set = move |text: &str| {
        let levels = ["error", "warn", "info", "debug", "trace", "off"];
        // A bare word would be taken for a module whose every line is wanted.
        let bare = |part: &&str| !part.contains('=') && !levels.contains(&&*part.to_ascii_lowercase());
        if let Some(odd) = text.split(',').map(str::trim).find(bare) {
            return Err(format!("{odd:?} is no level: write {}, or by module as in sc_proxy=debug", levels.join(", ")));
        }
        let filter = filter(text).map_err(|error| error.to_string())?;
        setter.reload(filter).map_err(|error| error.to_string())
    };
    LogFilter::new(get, set)
}

/// Descriptors for all but connections.
const OTHER_DESCRIPTORS: u64 = 64;

/// How many clients may be connected: each of them may need a connection to a backend as well, and must get it.
fn room_for_connections(most: usize) -> usize {
    use rustix::process::{Resource, getrlimit};
    let Some(limit) = getrlimit(Resource::Nofile).current else { return most };
    let room = limit.saturating_sub(OTHER_DESCRIPTORS) / 2;
    most.min(usize::try_from(room).unwrap_or(usize::MAX)).max(1)
}

/// A connection takes two descriptors, and shells allow 1024: takes as many as the system lets it.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

fn run(cli: Cli, log: LogFilter) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let socket = cli.upgrade_socket();
        let mut config = cli.config()?;
        config.log = Some(log);
        let (mut running, upgrades) = match socket {
            Some(socket) => {
                let (running, upgrades) = upgrade::start_or_take_over(config, &socket).await?;
                (running, Some(upgrades))
            }
            None => (sc_proxy::start(config)?, None),
        };
        tracing::info!(listen = ?running.listen, tls = ?running.listen_tls, admin = running.stats, id = running.id, "serving");
        let mut hangup = signal(SignalKind::hangup())?;
        let mut upgrade = signal(SignalKind::user_defined2())?;
        if let Err(error) = service::notify_serving() {
            tracing::warn!(%error, "the service manager does not take the news that this process serves");
        }
        let mut told = async || tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => () };
        loop {
            let successor = {
                // Not begun anew after each signal: a process may be about to take over.
                let mut next = std::pin::pin!(next(&upgrades, &running));
                loop {
                    tokio::select! {
                        () = told() => break None,
                        _ = hangup.recv() => running.reopen_logs(),
                        _ = upgrade.recv() => start_successor(upgrades.is_some()),
                        successor = &mut next => break Some(successor),
                    }
                }
            };
            let Some(successor) = successor else { break };
            match successor.let_serve(&mut running).await {
                Ok(()) => {
                    tracing::info!("a new process serves");
                    break;
                }
                Err(error) => tracing::warn!(%error, "the new process failed; this one serves on"),
            }
        }
        drop(upgrades);
        tracing::info!("stopping: running requests may finish");
        tokio::select! {
            () = Running::stop(running) => tracing::info!("stopped"),
            () = told() => tracing::warn!("told twice: stopped at once"),
        }
        Ok(())
    })
}

fn start_successor(can_take_over: bool) {
    if !can_take_over {
        return tracing::warn!("no upgrade: this process has neither --upgrade-socket nor --data");
    }
    match service::start_successor() {
        Ok(child) => tracing::info!(pid = child.id(), "started the process that is to take over"),
        Err(error) => tracing::error!(%error, "no upgrade: the new process cannot be started"),
    }
}

/// The next process that takes over; waits for ever where there is no socket for it.
async fn next(upgrades: &Option<Upgrades>, running: &Running) -> Successor {
    match upgrades {
        Some(upgrades) => upgrades.next(running).await,
        None => std::future::pending().await,
    }
}

/// The longest path of a unix socket, bytes.
const SOCKET_PATH: usize = 107;

impl Cli {
    fn upgrade_socket(&self) -> Option<PathBuf> {
        let fits = |path: &PathBuf| path.as_os_str().len() <= SOCKET_PATH;
        let default = || self.data.as_ref().map(|data| data.join("upgrade.sock")).filter(fits);
        self.upgrade_socket.clone().or_else(default)
    }

    fn config(self) -> anyhow::Result<Config> {
        let mut config = Config::new(self.source.source()?);
        config.listen = self.listen;
        config.tls = TlsConfig { listen: self.listen_tls, certs: self.certs, client_ca: self.client_ca };
        config.store_key = self.store_key;
        config.threads = self.threads;
        config.data = self.data;
        config.id = self.id;
        config.admin = self.admin;
        config.trust = self.trust;
        config.relays = self.proxy_protocol;
        config.tcp_listen = self.tcp_listen;
        config.grace = self.grace;
        self.limits.set(&mut config.limits);
        config.http1 = self.http1;
        config.access_log = self.access.config();
        Ok(config)
    }
}

impl LimitArgs {
    fn set(self, limits: &mut Limits) {
        limits.connections = room_for_connections(self.max_connections.unwrap_or(limits.connections));
        limits.connections_per_address = self.max_connections_per_address;
        limits.h2_streams = self.max_streams;
        (limits.head_bytes, limits.head_fields) = (self.max_head, self.max_head_fields);
        limits.uri_bytes = self.max_uri;
        (limits.head_timeout, limits.idle_timeout) = (self.head_timeout, self.idle_timeout);
        limits.body_timeout = self.body_timeout;
        limits.upstream_idle = self.upstream_idle_timeout;
        limits.upstream_idle_max = self.upstream_idle_connections;
    }
}

impl AccessArgs {
    fn config(self) -> Option<AccessLog> {
        let (format, sample, slow) = (self.access_log_format, self.access_log_sample, self.access_log_slow);
        self.access_log.map(|target| AccessLog { target, format, sample, slow })
    }
}

impl SourceArgs {
    fn is_given(&self) -> bool {
        self.routes_file.is_some() || self.manager.is_some() || !self.etcd.is_empty()
    }

    fn source(self) -> anyhow::Result<Source> {
        if let Some(file) = self.routes_file {
            return Ok(Source::File(file));
        }
        let Some(url) = self.manager else { return etcd(self) };
        let read = |path: PathBuf| {
            let token = std::fs::read_to_string(&path);
            let token = token.with_context(|| format!("cannot read the manager's token in {}", path.display()))?;
            match token.trim() {
                "" => bail!("the token file {} is empty", path.display()),
                token => Ok(token.to_owned()),
            }
        };
        Ok(Source::Manager { url, token: self.token_file.map(read).transpose()? })
    }
}

#[cfg(feature = "etcd")]
fn etcd(args: SourceArgs) -> anyhow::Result<Source> {
    let password = args.etcd_password_file.map(|path| {
        let password = std::fs::read_to_string(&path);
        password.with_context(|| format!("cannot read etcd's password in {}", path.display()))
    });
    let password = password.transpose()?.map(|password| password.trim_end_matches('\n').to_owned());
    let config = sc_store::EtcdConfig {
        endpoints: args.etcd,
        prefix: args.store_prefix,
        user: args.etcd_user.zip(password),
        ca: args.etcd_ca,
        identity: args.etcd_cert.zip(args.etcd_key),
        ..Default::default()
    };
    Ok(Source::Store(std::sync::Arc::new(sc_store::Etcd::new(config)?)))
}

#[cfg(not(feature = "etcd"))]
fn etcd(_args: SourceArgs) -> anyhow::Result<Source> {
    bail!("this build has no etcd in it: build with `--features etcd`, or use --manager or --routes-file")
}
