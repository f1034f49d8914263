//! `sc demo`.

use std::{net::SocketAddr, time::Duration};

use crate::{
    demo::{self, Options},
    times,
};

/// Show everything at work, in this one process: no Docker, etcd, root or internet needed
///
/// Starts a manager, a proxy and a store, runs the reference app as child processes, and sends it a load that rises and
/// falls. Watch sc add and take away replicas, each with its reason. Meanwhile `sc ps`, `sc why web`, `sc logs web -f` work
/// from another terminal. Nothing but an empty lock file is left behind when it ends.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// End by itself after so long [default: with Ctrl-C or q]
    #[arg(long = "for", value_name = "TIME", value_parser = length)]
    length: Option<Duration>,

    /// What is printed at the end; json: one object, everything else goes to standard error
    #[arg(short = 'o', long = "output", value_parser = ["table", "json"], default_value = "table", value_name = "FORMAT")]
    output: String,

    /// The port of the proxy on 127.0.0.1 [default: 8080, or any that is free]
    #[arg(long, short, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,

    /// The most replicas
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=32))]
    max: u32,
}

fn length(text: &str) -> Result<Duration, String> {
    let length = times::duration(text)?;
    let sensible = (Duration::from_secs(2)..=Duration::from_secs(7 * 86_400)).contains(&length);
    if sensible { Ok(length) } else { Err("give a time from 2s to 7d".to_owned()) }
}

/// Runs the demo.
pub(crate) async fn run(args: Args) -> anyhow::Result<u8> {
    let listen = args.port.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    demo::run(Options { length: args.length, json: args.output == "json", listen, max: args.max }).await
}
