//! `sc restart`.

use sc_api::client::Lifecycle;

use super::lifecycle;
use crate::{named::Named, session::Session, wait::Waiting};

/// Replace all replicas of an app one by one, or a single one, with no failed request
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Apps or replicas: web, web/3
    #[arg(required = true, value_name = "NAME")]
    names: Vec<Named>,

    #[command(flatten)]
    waiting: Waiting,
}

/// Does it.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    lifecycle::run(&args.names, Lifecycle::Restart, &args.waiting, session).await
}
