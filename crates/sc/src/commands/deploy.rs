//! `sc deploy`.

use anyhow::Context as _;
use futures_util::{StreamExt, TryStreamExt, stream};
use sc_api::{Client, client::ClientError, types::Accepted};
use sc_core::canary::Share;

use super::{
    promote,
    sheet::{self, Planned, SheetArgs},
};
use crate::{
    exit, local,
    session::Session,
    wait::{self, Until, Waiting},
};

/// Make all apps of an app file so
///
/// Apps that are as the file says are left alone; the others are rolled over with no failed request, several at once.
/// Counts stay what they are. An app whose new version does not become healthy goes back by itself (exit 3). Apps that the
/// file does not name are not touched.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    sheet: SheetArgs,

    /// Give new versions only this share of the requests, like 10%, beside what runs; 'sc promote' rolls them out
    #[arg(long, value_name = "SHARE", conflicts_with = "promote")]
    canary: Option<Share>,

    /// Roll out what is on trial of these apps; the app file is not read but for their names
    #[arg(long)]
    promote: bool,

    #[command(flatten)]
    waiting: Waiting,
}

/// Apps sent at once.
const AT_ONCE: usize = 8;

/// Sends the apps of a file.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    let mut planned = sheet::read(&args.sheet)?;
    if args.promote {
        let client = session.client()?;
        let mut apps = Vec::new();
        for app in planned.into_iter().map(|planned| planned.app) {
            // Of a whole file those that are on trial; an app that was named has to be.
            if args.sheet.names_apps() || client.app(&app).await?.canary.is_some() {
                apps.push(app);
            }
        }
        return promote::all(&apps, &args.waiting, session).await;
    }
    planned.iter_mut().for_each(|app| app.deploy.canary = args.canary.or(app.deploy.canary));
    let (client, mut progress) = (session.client()?, session.progress());
    // All files first: a deploy that is accepted can be carried out.
    for app in &planned {
        local::upload(&client, &app.files, &mut progress).await?;
    }
    let sent = stream::iter(&planned).map(|app| send(&client, app, &args.sheet)).buffered(AT_ONCE);
    let accepted: Vec<Accepted> = sent.try_collect().await?;
    accepted.iter().for_each(|accepted| progress.warn(accepted));
    let (changed, same): (Vec<_>, Vec<_>) = accepted.into_iter().partition(|accepted| accepted.changed);
    for accepted in &same {
        progress.say(&format!("{}: version {}, unchanged", accepted.app, accepted.version));
    }
    let all = [changed, same].concat();
    wait::wait(&client, &args.waiting, Until::Converged, &all, &mut progress).await?;
    Ok(exit::OK)
}

async fn send(client: &Client, app: &Planned, sheet: &SheetArgs) -> anyhow::Result<Accepted> {
    let accepted = client.deploy(&app.app, &app.deploy).await;
    if let Err(ClientError::Problem(problem)) = &accepted
        && let Some(placed) = sheet::placed(sheet, &app.app, problem)
    {
        return Err(placed);
    }
    accepted.with_context(|| app.app.to_string())
}
