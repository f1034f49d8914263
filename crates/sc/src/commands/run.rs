//! `sc run`.

use std::collections::BTreeMap;

use sc_api::{
    Client,
    types::{Accepted, Deploy, SetScale},
};
use sc_core::{
    AppId,
    canary::Share,
    file::{LocalFile, binary_target},
    spec::{
        AppSpec, Certificate, DeploySpec, DrainSpec, HealthSpec, Probe, Resources, RouteSpec, ScaleSpec, Security,
        Source, Traffic,
    },
    units::parse_size,
    validate::validate,
    warm::WarmSpec,
};

use super::note;
use crate::{
    exit, local,
    session::Session,
    times,
    wait::{self, Until, Waiting},
};

/// Run an app, or give it a new version
///
/// An app that exists is rolled over to what is given here, with no failed request; its count stays what it is unless
/// --replicas, --min or --max say otherwise. If the new version does not become healthy it goes back by itself (exit 3).
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  sc run web --image nginx:1.27 --port 80 --host web.localhost --replicas 3
  sc run hello --bin ./hello --port 9000 --path /hello -- --greeting hi
  sc run shop --image shop:7 --port 8080 --host shop.example.com --max 10")]
pub(crate) struct Args {
    /// The app's name
    app: AppId,

    /// Program and arguments, passed without a shell; with --bin only its arguments
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,

    /// A container image
    #[arg(long, value_name = "IMAGE", conflicts_with = "bin", help_heading = "Program")]
    image: Option<String>,

    /// A program of this machine, placed at /app/NAME and run; link it statically
    #[arg(long, value_name = "FILE", help_heading = "Program")]
    bin: Option<String>,

    /// Copy a file or a folder into the replica
    #[arg(long, value_name = "SRC:DST", value_parser = copy, help_heading = "Program")]
    copy: Vec<(String, String)>,

    /// The image under --bin and --copy [default: a small one with busybox]
    #[arg(long, value_name = "IMAGE", conflicts_with = "image", help_heading = "Program")]
    base: Option<String>,

    /// An environment variable
    #[arg(long, short = 'e', value_name = "NAME=VALUE", value_parser = pair, help_heading = "Program")]
    env: Vec<(String, String)>,

    /// A Docker volume or a host directory
    #[arg(long, value_name = "SRC:DST[:ro]", help_heading = "Program")]
    volume: Vec<String>,

    /// The TCP port the program listens on
    #[arg(long, short = 'p', value_parser = clap::value_parser!(u16).range(1..), help_heading = "Traffic")]
    port: Option<u16>,

    /// A host name that leads here; *.example.com for any below
    #[arg(long, help_heading = "Traffic")]
    host: Vec<String>,

    /// Have the hosts' certificates from the authority of `sc up --acme-email`
    #[arg(long, requires = "host", help_heading = "Traffic")]
    acme: bool,

    /// A path prefix that leads here
    #[arg(long, help_heading = "Traffic")]
    path: Vec<String>,

    /// Take the path prefix off before the app sees the request
    #[arg(long, requires = "path", help_heading = "Traffic")]
    strip: bool,

    /// A port of the proxy: connections to it lead here as they are, whatever is spoken on them
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Traffic")]
    tcp: Option<u16>,

    /// Requests one replica serves at once; further ones queue in the proxy
    #[arg(long, value_name = "N", help_heading = "Traffic")]
    max_in_flight: Option<u32>,

    /// How long a request may wait for a replica
    #[arg(long, value_name = "TIME", value_parser = times::millis, help_heading = "Traffic")]
    queue_timeout: Option<u64>,

    /// How many replicas
    #[arg(long, short = 'n', value_name = "N", conflicts_with_all = ["min", "max"], help_heading = "Count")]
    replicas: Option<u32>,

    /// Let sc choose: at least so many
    #[arg(long, value_name = "N", requires = "max", help_heading = "Count")]
    min: Option<u32>,

    /// Let sc choose: at most so many; enough to autoscale
    #[arg(long, value_name = "N", help_heading = "Count")]
    max: Option<u32>,

    /// Keep up to so many replicas that are not needed now frozen, to be woken in milliseconds (for 10 minutes)
    #[arg(long, value_name = "N", requires = "max", help_heading = "Count")]
    warm: Option<u32>,

    /// Keep up to so many more stopped, to be started without being made anew (for a day); with --min 0 one, if nothing is said
    #[arg(long, value_name = "N", requires = "max", help_heading = "Count")]
    stopped: Option<u32>,

    /// GET this path must answer 200 to 399
    #[arg(long, value_name = "PATH", group = "probe", help_heading = "Health")]
    health_http: Option<String>,

    /// The port must accept connections
    #[arg(long, group = "probe", help_heading = "Health")]
    health_tcp: bool,

    /// A command in the replica must exit 0; words are separated by blanks
    #[arg(long, value_name = "CMD", group = "probe", help_heading = "Health")]
    health_cmd: Option<String>,

    /// How long a replica may take to become ready
    #[arg(long, value_name = "TIME", value_parser = times::millis, help_heading = "Health")]
    ready_within: Option<u64>,

    /// CPUs of each replica, like 0.5
    #[arg(long, value_name = "N", help_heading = "Limits")]
    cpus: Option<f64>,

    /// Memory of each replica, like 256MiB
    #[arg(long, value_name = "SIZE", value_parser = |text: &str| parse_size(text), help_heading = "Limits")]
    memory: Option<u64>,

    /// Processes and threads of each replica [default: 1024]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pids: Option<u32>,

    /// The user to run as: name, uid or uid:gid
    #[arg(long, help_heading = "Limits")]
    user: Option<String>,

    /// Make the root file system read-only
    #[arg(long, help_heading = "Limits")]
    read_only: bool,

    /// Keep a Linux capability, like NET_BIND_SERVICE; all others are dropped
    #[arg(long, value_name = "CAP", help_heading = "Limits")]
    cap_add: Vec<String>,

    /// Allow set-uid programs and the like
    #[arg(long, help_heading = "Limits")]
    new_privileges: bool,

    /// How long a replica that leaves may finish its requests
    #[arg(long, value_name = "TIME", value_parser = times::millis, help_heading = "Leaving")]
    drain: Option<u64>,

    /// How long it may take to end after SIGTERM
    #[arg(long, value_name = "TIME", value_parser = times::millis, help_heading = "Leaving")]
    grace: Option<u64>,

    /// How long a rollout may go on without getting further
    #[arg(long, value_name = "TIME", value_parser = times::millis, help_heading = "Leaving")]
    deploy_timeout: Option<u64>,

    /// Refuse if the app exists
    #[arg(long)]
    create_only: bool,

    /// Give the new version only this share of the requests, like 10%, beside what runs; 'sc promote' rolls it out
    #[arg(long, value_name = "SHARE")]
    canary: Option<Share>,

    #[command(flatten)]
    waiting: Waiting,
}

fn copy(text: &str) -> Result<(String, String), String> {
    match text.rsplit_once(':') {
        Some((from, to)) if !from.is_empty() && to.starts_with('/') => Ok((from.to_owned(), to.to_owned())),
        _ => Err("write SOURCE:/path/in/the/replica".to_owned()),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    pair.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| "write NAME=VALUE".to_owned())
}

/// Makes the app, or changes it.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    let (mut deploy, files) = meaning(&args)?;
    let found = local::find(&files, std::path::Path::new("."))?;
    deploy.spec.files = found.iter().map(|file| file.spec.clone()).collect();
    check(&deploy)?;
    let (client, mut progress) = (session.client()?, session.progress());
    local::upload(&client, &found, &mut progress).await?;
    let accepted = client.deploy(&args.app, &deploy).await?;
    progress.warn(&accepted);
    let accepted = with_count(&client, accepted, args.replicas).await?;
    wait::wait(&client, &args.waiting, Until::Converged, &[accepted], &mut progress).await?;
    Ok(exit::OK)
}

/// An app that exists keeps its count through a deploy; one that is given here is meant.
async fn with_count(client: &Client, accepted: Accepted, replicas: Option<u32>) -> anyhow::Result<Accepted> {
    let Some(count) = replicas else { return Ok(accepted) };
    if client.app(&accepted.app).await?.want == count {
        return Ok(accepted);
    }
    Ok(client.scale(&accepted.app, &SetScale { count: Some(count), ..SetScale::default() }).await?)
}

/// Says what is wrong before anything is sent. The manager knows its cap and checks again.
fn check(deploy: &Deploy) -> anyhow::Result<()> {
    let wrong = validate(&deploy.spec, &deploy.scale.clone().unwrap_or_default(), u32::MAX);
    if wrong.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    Err(exit::usage(lines.join("\n")))
}

/// What the arguments mean: an app, and the files that belong into it.
fn meaning(args: &Args) -> anyhow::Result<(Deploy, Vec<LocalFile>)> {
    let program = |from: &String| LocalFile { from: from.clone(), to: binary_target(from), mode: Some(0o755) };
    let copied = |(from, to): &(String, String)| LocalFile { from: from.clone(), to: to.clone(), mode: None };
    let files: Vec<_> = args.bin.iter().map(program).chain(args.copy.iter().map(copied)).collect();
    let command = args.bin.iter().map(|bin| binary_target(bin)).chain(args.command.iter().cloned()).collect();
    let spec = AppSpec {
        source: source(args)?,
        command,
        port: args.port,
        env: args.env.iter().cloned().collect::<BTreeMap<_, _>>(),
        files: Vec::new(),
        routes: routes(args),
        health: health(args),
        resources: Resources { cpus: args.cpus, memory: args.memory, pids: args.pids },
        security: Security {
            user: args.user.clone(),
            read_only: args.read_only,
            cap_add: args.cap_add.clone(),
            new_privileges: args.new_privileges,
        },
        drain: drain(args),
        deploy: DeploySpec {
            timeout_ms: args.deploy_timeout.unwrap_or(DeploySpec::default().timeout_ms),
            ..DeploySpec::default()
        },
        traffic: Traffic {
            max_in_flight: args.max_in_flight,
            queue_timeout_ms: args.queue_timeout.unwrap_or(Traffic::default().queue_timeout_ms),
            certificate: args.acme.then_some(Certificate::Acme),
            ..Traffic::default()
        },
        volumes: args.volume.clone(),
    };
    let warm = WarmSpec { size: args.warm.unwrap_or(0), stopped: args.stopped, ..WarmSpec::default() };
    let bounds = |max| ScaleSpec { min: args.min.unwrap_or(1), max, auto: true, warm, ..ScaleSpec::default() };
    let scale = args.max.map(bounds);
    let note = note::of_this_command();
    let (create_only, canary) = (args.create_only, args.canary);
    Ok((Deploy { spec, scale, replicas: args.replicas, note, create_only, canary }, files))
}

fn source(args: &Args) -> anyhow::Result<Source> {
    match &args.image {
        // Files on top of an image are an app of files whose base is that image.
        Some(image) if !args.copy.is_empty() => Ok(Source::Files { base: Some(image.clone()) }),
        Some(image) => Ok(Source::Image(image.clone())),
        None if args.bin.is_none() && args.command.is_empty() => {
            let hint = "give --image IMAGE, --bin FILE, or a command after --";
            Err(exit::usage(format!("{} has no program\n  → {hint}", args.app)))
        }
        None => Ok(Source::Files { base: args.base.clone() }),
    }
}

/// Every host with every path, and the TCP port.
fn routes(args: &Args) -> Vec<RouteSpec> {
    let tcp = args.tcp.map(RouteSpec::of_port);
    if args.host.is_empty() && args.path.is_empty() {
        return tcp.into_iter().collect();
    }
    let any_host = [None];
    let hosts: Vec<Option<String>> = args.host.iter().cloned().map(Some).collect();
    let hosts = if hosts.is_empty() { &any_host[..] } else { &hosts[..] };
    let root = ["/".to_owned()];
    let paths = if args.path.is_empty() { &root[..] } else { &args.path[..] };
    let route = |host: &Option<String>, path: &String| RouteSpec {
        host: host.clone(),
        path: path.clone(),
        strip: args.strip,
        redirect: None,
        tcp: None,
    };
    let http = hosts.iter().flat_map(|host| paths.iter().map(move |path| route(host, path)));
    http.chain(tcp).collect()
}

fn health(args: &Args) -> HealthSpec {
    let default = HealthSpec::default();
    let words = |text: &String| text.split_whitespace().map(str::to_owned).collect();
    let probe = match (&args.health_http, &args.health_cmd) {
        (Some(path), _) => Probe::Http { path: path.clone() },
        (_, Some(command)) => Probe::Command(words(command)),
        _ if args.health_tcp => Probe::Tcp,
        _ => default.probe.clone(),
    };
    HealthSpec { probe, start_ms: args.ready_within.unwrap_or(default.start_ms), ..default }
}

fn drain(args: &Args) -> DrainSpec {
    let default = DrainSpec::default();
    DrainSpec { timeout_ms: args.drain.unwrap_or(default.timeout_ms), grace_ms: args.grace.unwrap_or(default.grace_ms) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn read(line: &str) -> Result<(Deploy, Vec<LocalFile>), String> {
        let words = std::iter::once("run").chain(line.split(' '));
        let args = Line::try_parse_from(words).map_err(|error| error.to_string())?.args;
        meaning(&args).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_typed_is_what_is_meant() {
        let (deploy, files) = read(
            "web --bin ./bin/hello --copy conf:/etc/ --port 9000 --host a.localhost --host b.localhost --path /x \
             --env A=b=c --max 10 --warm 2 --stopped 3 --health-http /healthz --ready-within 5s --memory 64MiB --cpus 0.5 -- --greet hi",
        )
        .unwrap();
        assert_eq!(deploy.spec.source, Source::Files { base: None });
        assert_eq!(deploy.spec.command, ["/app/hello", "--greet", "hi"]);
        assert_eq!(files[0].to, "/app/hello");
        assert_eq!((files[1].from.as_str(), files[1].to.as_str()), ("conf", "/etc/"));
        assert_eq!(deploy.spec.routes.len(), 2);
        assert_eq!(deploy.spec.env["A"], "b=c");
        assert_eq!(deploy.spec.health.start_ms, 5_000);
        assert_eq!(deploy.spec.resources.memory, Some(64 << 20));
        let scale = deploy.scale.unwrap();
        assert_eq!((scale.min, scale.max, scale.auto), (1, 10, true));
        assert_eq!((scale.warm.size, scale.warm.stopped), (2, Some(3)));

        let (deploy, _) = read("web --image nginx --canary 2.5%").unwrap();
        assert_eq!(deploy.canary.map(|share| share.permille()), Some(25));

        let (deploy, _) = read("web --image nginx --port 80 --path /only").unwrap();
        assert_eq!(
            deploy.spec.routes,
            [RouteSpec { host: None, path: "/only".into(), strip: false, redirect: None, tcp: None }]
        );
        let (deploy, _) = read("box --copy note:/etc/note -- sleep 9").unwrap();
        assert_eq!((deploy.spec.command, deploy.scale), (vec!["sleep".to_owned(), "9".to_owned()], None));
        let (deploy, _) = read("web --image nginx --copy a:/b").unwrap();
        assert_eq!(deploy.spec.source, Source::Files { base: Some("nginx".into()) });
    }

    #[test]
    fn mistakes_are_named() {
        for (line, word) in [
            ("web", "--image"),
            ("Web --image x", "lower-case"),
            ("web --image x --port 0", "--port"),
            ("web --image x --port 70000", "70000"),
            ("web --image x --memory lots", "lots"),
            ("web --image x --replicas 2 --max 3", "--max"),
            ("web --image x --bin y", "--bin"),
            ("web --image x --copy a", "SOURCE:/path"),
            ("web --image x --env A", "NAME=VALUE"),
            ("web --image x --min 2", "--max"),
            ("web --image x --canary 100%", "sc promote"),
        ] {
            let error = read(line).expect_err(line);
            assert!(error.contains(word), "{line}: {error}");
        }
        let (deploy, _) = read("web --image x --min 5 --max 2").unwrap();
        let error = check(&deploy).unwrap_err().to_string();
        assert!(error.contains("min 5") && error.contains("max 2"), "{error}");
    }
}
