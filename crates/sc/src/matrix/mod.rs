//! The reference app: a page that multiplies two random n × n matrices and says how long that took. It is what the demo,
//! the tests and the load tests run, as `sc-matrix` or as `sc matrix`.
//!
//! It has what most web apps have: a bounded number of requests at once, further ones in a queue, and some waiting in
//! each (for a database, say). So replicas add capacity even where they share two cores.

mod answer;
mod multiply;
mod serve;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;

/// Multiplies two random matrices on request, and says how long it took.
///
/// Paths: / is a form, /multiply?n=100 multiplies, /whoami tells who answers, POST /echo sends the body back, /healthz is
/// for probes. Any prefix may stand before them. SIGTERM: requests that run are finished first.
#[derive(Debug, Clone, Parser)]
#[command(name = "sc-matrix", version)]
pub struct Args {
    /// The TCP port to listen on.
    #[arg(long, env = "PORT", default_value_t = 8080)]
    port: u16,

    /// The address to listen on. In a container all of them, elsewhere 127.0.0.1, unless given.
    #[arg(long, value_name = "IP", env = "SC_HOST")]
    listen: Option<IpAddr>,

    /// How many requests are worked on at once; further ones wait, first come first served.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slots: u32,

    /// Milliseconds each request waits, without using CPU, while it has a slot.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    wait: u64,

    /// How many requests may wait for a slot; one more is refused with 503.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    queue: u32,

    /// Also answer /crash?code=N, which ends the process with that status.
    #[arg(long)]
    test_endpoints: bool,
}

impl Args {
    fn addr(&self) -> SocketAddr {
        let all = std::process::id() == 1 || std::path::Path::new("/.dockerenv").exists();
        let default = if all { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        SocketAddr::new(self.listen.unwrap_or(default.into()), self.port)
    }
}

/// Who answers, from the environment that sc gives every replica.
#[derive(Debug, Clone)]
struct Who {
    replica: String,
    app: String,
    version: String,
}

impl Who {
    fn of_env() -> Self {
        let or = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
        Self { replica: or("SC_REPLICA", "matrix-0"), app: or("SC_APP", "matrix"), version: or("SC_VERSION", "0") }
    }
}

/// Runs until SIGTERM or SIGINT.
pub fn main(args: &Args) -> ExitCode {
    // One thread for the connections, so that many replicas fit on a small host; multiplying has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_keep_alive(Duration::from_secs(5))
        .build();
    let served = runtime.and_then(|runtime| runtime.block_on(serve::serve(args, Who::of_env())));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sc-matrix: {}: {error}", args.addr());
            ExitCode::FAILURE
        }
    }
}
