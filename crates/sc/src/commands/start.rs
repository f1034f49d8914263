//! `sc start`.

use sc_api::client::Lifecycle;

use super::lifecycle;
use crate::{named::Named, session::Session, wait::Waiting};

/// Run stopped apps again, with the count they had
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Apps
    #[arg(required = true, value_name = "NAME")]
    names: Vec<Named>,

    #[command(flatten)]
    waiting: Waiting,
}

/// Does it.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    lifecycle::run(&args.names, Lifecycle::Start, &args.waiting, session).await
}
