//! `sc canary`.

use sc_api::types::SetCanary;
use sc_core::{AppId, canary::Share};

use crate::{
    exit,
    session::Session,
    wait::{self, Until, Waiting},
};

/// Change the share of the requests that the new version of an app gets
///
/// A new version is put on trial by `sc deploy --canary` or `sc run --canary`; `sc promote` and `sc rollback` end that.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The app
    app: AppId,

    /// The share, like 25%
    share: Share,

    #[command(flatten)]
    waiting: Waiting,
}

/// Changes the share.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    let (client, mut progress) = (session.client()?, session.progress());
    let accepted = client.canary(&args.app, &SetCanary { share: args.share }).await?;
    wait::wait(&client, &args.waiting, Until::Converged, &[accepted], &mut progress).await?;
    Ok(exit::OK)
}
