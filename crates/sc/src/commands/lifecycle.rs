//! What `sc stop`, `sc start` and `sc restart` share.

use sc_api::{Client, client::Lifecycle, types::Accepted};

use crate::{
    exit,
    named::{Named, Place},
    session::Session,
    wait::{self, Until, Waiting},
};

/// Does it to all, then waits for all.
pub(super) async fn run(names: &[Named], what: Lifecycle, waiting: &Waiting, session: &Session) -> anyhow::Result<u8> {
    let (client, mut progress) = (session.client()?, session.progress());
    let mut accepted = Vec::new();
    for name in names {
        accepted.push(one(&client, name, what).await?);
    }
    wait::wait(&client, waiting, Until::Converged, &accepted, &mut progress).await?;
    Ok(exit::OK)
}

async fn one(client: &Client, name: &Named, what: Lifecycle) -> anyhow::Result<Accepted> {
    match name.resolve(client).await? {
        Place::App(app) => Ok(client.lifecycle(&app, what).await?),
        Place::Replica(replica) if what == Lifecycle::Start => {
            let hint =
                format!("`sc start {}` starts the app; `sc scale {}=N` sets its count", replica.app, replica.app);
            Err(exit::usage(format!("a replica that was stopped is gone\n  → {hint}")))
        }
        Place::Replica(replica) => Ok(client.replica_lifecycle(&replica, what).await?),
    }
}
