//! `sc rollback`.

use sc_api::types::Rollback;
use sc_core::AppId;

use crate::{
    exit,
    session::Session,
    wait::{self, Until, Waiting},
};

/// Go back to an earlier version of an app, with no failed request
///
/// While a new version is on trial this withdraws it, unless a version is named.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The app
    app: AppId,

    /// The version [default: the last one before that did not fail; `sc history` lists them]
    version: Option<u64>,

    #[command(flatten)]
    waiting: Waiting,
}

/// Goes back.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    let (client, mut progress) = (session.client()?, session.progress());
    let accepted = client.rollback(&args.app, &Rollback { version: args.version }).await?;
    wait::wait(&client, &args.waiting, Until::Converged, &[accepted], &mut progress).await?;
    Ok(exit::OK)
}
