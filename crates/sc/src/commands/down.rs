//! `sc down`.

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    exit,
    find::Installation,
    session::Session,
    up::{
        host::{Found, Host},
        parts::holder_name,
    },
};

/// Stop sc on this host's Docker: proxy, manager, the apps and etcd
///
/// The state stays in volumes: `sc up` brings everything back as it was. --purge forgets it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The installation's name
    #[arg(long, default_value = "sc", value_name = "NAME", env = "SC_INSTANCE", hide_env = true)]
    instance: sc_core::Name,

    /// Forget the state as well: volumes, networks, and how to reach the manager
    #[arg(long)]
    purge: bool,

    /// Leave the apps' replicas running; the next manager takes them over
    #[arg(long, conflicts_with = "purge")]
    keep_apps: bool,
}

/// Replicas stopped at once.
const AT_ONCE: usize = 16;

/// Does it.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    let instance = args.instance.to_string();
    let mut progress = session.progress();
    let host = Host::connect().await?;
    let (replicas, ours): (Vec<_>, Vec<_>) = host.containers(&instance).await?.into_iter().partition(|c| c.replica);
    // The proxy first, so that nobody is cut off from an app that still runs; the manager before the replicas, so that it
    // does not replace them; etcd last, since the manager's last words go there.
    let order = |suffix: &str| {
        let name = format!("{instance}-{suffix}");
        ours.iter().filter(move |c| c.name == name || c.name.starts_with(&format!("{name}-"))).collect::<Vec<_>>()
    };
    let mut removed = 0;
    // What holds the proxy's network goes after the proxy.
    let mut proxies = order("proxy");
    proxies.sort_by_key(|container| container.name == holder_name(&instance));
    for container in [proxies, order("manager")].concat() {
        progress.now(&format!("stopping {}", container.name));
        host.remove(&container.id).await?;
        removed += 1;
    }
    if !args.keep_apps {
        progress.now(&format!("stopping {} replicas", replicas.len()));
        let stop = |replica: Found| {
            let host = &host;
            async move { host.remove(&replica.id).await }
        };
        removed += replicas.len();
        stream::iter(replicas).map(stop).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    }
    for container in order("etcd") {
        progress.now(&format!("stopping {}", container.name));
        host.remove(&container.id).await?;
        removed += 1;
    }
    if args.purge {
        progress.now("forgetting the state");
        host.forget(&instance).await?;
        Installation::forget(&instance)?;
    }
    let kept = if args.purge { "nothing is kept" } else { "the state is kept; `sc up` brings it back" };
    progress.done(&format!("{instance} is down ({removed} containers); {kept}"));
    Ok(exit::OK)
}
