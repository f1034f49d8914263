//! What a name on the command line means: an app, or one of its replicas.

use std::str::FromStr;

use anyhow::Context as _;
use sc_api::{Client, types::ReplicaView};
use sc_core::{AppId, ReplicaId};

use crate::exit;

/// A name as typed: `web`, `web/3`, `web-3`, `team/web`, `team/web/3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    /// An app for certain.
    App(AppId),
    /// A replica for certain: `web/3`.
    Replica(ReplicaId),
    /// `web-3`: an app of that name, if there is one, else the replica.
    Either(AppId, ReplicaId),
}

/// What it turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// An app.
    App(AppId),
    /// A replica.
    Replica(ReplicaId),
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Names begin with a letter, so a number behind a slash is a replica's.
        if let Some((app, n)) = text.rsplit_once('/')
            && n.starts_with(|c: char| c.is_ascii_digit())
        {
            let replica: Result<ReplicaId, _> = format!("{app}-{n}").parse();
            return replica.map(Self::Replica).map_err(|error| error.to_string());
        }
        match (text.parse::<AppId>(), text.parse::<ReplicaId>()) {
            (Ok(app), Ok(replica)) => Ok(Self::Either(app, replica)),
            (Ok(app), Err(_)) => Ok(Self::App(app)),
            // An app's name may be as long as it may: then with a number it is none.
            (Err(_), Ok(replica)) => Ok(Self::Replica(replica)),
            (Err(error), Err(_)) => Err(error.to_string()),
        }
    }
}

impl Named {
    /// The app, whether or not a replica of it is meant.
    pub async fn resolve(&self, client: &Client) -> anyhow::Result<Place> {
        match self {
            Self::App(app) => Ok(Place::App(app.clone())),
            Self::Replica(replica) => Ok(Place::Replica(replica.clone())),
            Self::Either(app, replica) => match client.app(app).await {
                Ok(_) => Ok(Place::App(app.clone())),
                Err(error) if error.status() == Some(404) => Ok(Place::Replica(replica.clone())),
                Err(error) => Err(error.into()),
            },
        }
    }
}

/// The replica that is meant; of an app the one longest ready.
pub(crate) async fn one_replica(client: &Client, place: Place) -> anyhow::Result<ReplicaId> {
    match place {
        Place::Replica(replica) => Ok(replica),
        Place::App(app) => {
            let ready = running(client, &app).await?;
            let none = || exit::failure(exit::NOT_FOUND, format!("{app} has no replica that runs\n  → `sc ps {app}`"));
            ready.into_iter().next().map(|view| view.replica).ok_or_else(none)
        }
    }
}

/// The replicas of an app that run, those that are ready first, then the older ones.
pub(crate) async fn running(client: &Client, app: &AppId) -> anyhow::Result<Vec<ReplicaView>> {
    // An app that does not exist is told from one without replicas.
    client.app(app).await.with_context(|| format!("{app}"))?;
    let mut all = client.replicas(Some(app)).await?;
    all.retain(|view| !matches!(view.state.as_str(), "exited" | "paused" | "stopped" | "stopping" | "unknown"));
    all.sort_by_key(|view| (view.state != "ready", view.replica.incarnation));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let app = |text: &str| text.parse::<AppId>().unwrap();
        let replica = |text: &str| text.parse::<ReplicaId>().unwrap();
        let read = |text: &str| text.parse::<Named>();
        assert_eq!(read("web"), Ok(Named::App(app("web"))));
        assert_eq!(read("team/web"), Ok(Named::App(app("team/web"))));
        assert_eq!(read("web/3"), Ok(Named::Replica(replica("web-3"))));
        assert_eq!(read("team/web/3"), Ok(Named::Replica(replica("team/web-3"))));
        assert_eq!(read("web-3"), Ok(Named::Either(app("web-3"), replica("web-3"))));
        for bad in ["", "Web", "web/", "web/0", "web/3x", "/3"] {
            assert!(read(bad).is_err(), "{bad}: {:?}", read(bad));
        }
    }
}
