//! `sc stop`.

use sc_api::client::Lifecycle;

use super::lifecycle;
use crate::{named::Named, session::Session, wait::Waiting};

/// Stop apps, or single replicas
///
/// An app that is stopped keeps everything and runs nothing; `sc start` runs it again. Stopping one replica (web/3) lowers
/// its app's count by one; `sc restart web/3` replaces it instead.
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
    lifecycle::run(&args.names, Lifecycle::Stop, &args.waiting, session).await
}
