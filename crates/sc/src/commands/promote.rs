//! `sc promote`.

use sc_core::AppId;

use crate::{
    exit,
    session::Session,
    wait::{self, Until, Waiting},
};

/// Roll out the version of an app that is on trial, with no failed request
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The app
    app: AppId,

    #[command(flatten)]
    waiting: Waiting,
}

/// Promotes it.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    all(&[args.app], &args.waiting, session).await
}

/// Promotes several and waits for all.
pub(super) async fn all(apps: &[AppId], waiting: &Waiting, session: &Session) -> anyhow::Result<u8> {
    let (client, mut progress) = (session.client()?, session.progress());
    let mut accepted = Vec::new();
    for app in apps {
        accepted.push(client.promote(app).await?);
    }
    wait::wait(&client, waiting, Until::Converged, &accepted, &mut progress).await?;
    Ok(exit::OK)
}
