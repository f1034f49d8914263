//! `sc rm`.

use sc_core::AppId;

use crate::{
    exit,
    session::Session,
    wait::{self, Until, Waiting},
};

/// Remove apps: their requests are finished, their replicas stopped, their history forgotten
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The apps
    #[arg(required = true, value_name = "APP")]
    apps: Vec<AppId>,

    #[command(flatten)]
    waiting: Waiting,
}

/// Removes.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    let (client, mut progress) = (session.client()?, session.progress());
    let mut accepted = Vec::new();
    for app in &args.apps {
        accepted.push(client.remove(app).await?);
    }
    wait::wait(&client, &args.waiting, Until::Gone, &accepted, &mut progress).await?;
    Ok(exit::OK)
}
