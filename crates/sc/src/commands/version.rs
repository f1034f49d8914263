//! `sc version`.

use std::time::Duration;

use sc_api::types::Release;
use serde::Serialize;

use crate::{
    exit,
    out::{self, Format, Output},
    session::Session,
};

/// Show the releases of sc and of the manager it speaks with
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    output: Output,
}

/// Both releases.
#[derive(Serialize)]
struct Versions {
    client: &'static str,
    manager: Option<Release>,
    /// Why the manager's is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<String>,
}

/// Prints both. A manager that is not there is no error: the question is which releases there are.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    let asked = async { anyhow::Ok(session.client()?.with_deadline(Duration::from_secs(5)).version().await?) };
    let (manager, unknown) = match asked.await {
        Ok(release) => (Some(release), None),
        Err(error) => (None, Some(exit::text(&error))),
    };
    let versions = Versions { client: env!("CARGO_PKG_VERSION"), manager, unknown };
    let text = match args.output.format {
        Format::Name => format!("{}\n", versions.client),
        format => out::structured(format, &versions)?.unwrap_or_else(|| page(&versions)),
    };
    out::print(&text)?;
    Ok(exit::OK)
}

fn page(versions: &Versions) -> String {
    let mut text = format!("sc       {}\n", versions.client);
    match (&versions.manager, &versions.unknown) {
        (Some(manager), _) => {
            let leads = if manager.leads { "leads" } else { "stands by" };
            text += &format!(
                "manager  {} ({leads})\nstore    {}\nengine   {}\n",
                manager.release, manager.store, manager.engine
            );
            text += &manager.waiting_for.as_ref().map(|what| format!("waiting  {what}\n")).unwrap_or_default();
        }
        (None, Some(why)) => text += &format!("manager  not known: {}\n", why.lines().next().unwrap_or_default()),
        (None, None) => {}
    }
    text
}
