//! `sc ps`.

use sc_api::{Client, types::ReplicaView};
use sc_core::AppId;

use crate::{
    out::{self, Cell, Format, Output, Paint, Table, Watching},
    session::Session,
    times,
};

/// List the replicas of all apps, or of some
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only of these apps
    #[arg(value_name = "APP")]
    apps: Vec<AppId>,

    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    watching: Watching,
}

/// Prints the replicas.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    let client = session.client()?;
    let look = async || {
        let replicas = replicas(&client, &args.apps).await?;
        Ok(match args.output.format {
            Format::Name => replicas.iter().map(|view| format!("{}\n", view.replica)).collect(),
            format => out::structured(format, &replicas)?.unwrap_or_else(|| table(&replicas, format, session.paint)),
        })
    };
    out::watch(args.watching, look).await
}

async fn replicas(client: &Client, apps: &[AppId]) -> anyhow::Result<Vec<ReplicaView>> {
    let mut all = Vec::new();
    for app in apps {
        // An app that does not exist is no app without replicas.
        client.app(app).await?;
        all.extend(client.replicas(Some(app)).await?);
    }
    if apps.is_empty() {
        all = client.replicas(None).await?;
    }
    all.sort_by(|a, b| a.replica.cmp(&b.replica));
    all.dedup_by(|a, b| a.replica == b.replica);
    Ok(all)
}

/// The replicas as a table.
pub(super) fn table(replicas: &[ReplicaView], format: Format, paint: Paint) -> String {
    if replicas.is_empty() {
        return "there are no replicas\n".to_owned();
    }
    let mut headings = vec!["REPLICA", "STATE", "VERSION", "AGE", "RPS", "OPEN", "CPU", "MEMORY", "ADDRESS"];
    if format == Format::Wide {
        headings.extend(["NODE", "PIDS"]);
    }
    headings.push("DETAIL");
    let mut table = Table::new(&headings);
    let now = times::now_ms();
    for view in replicas {
        let mut row: Vec<Cell> = vec![
            view.replica.to_string().into(),
            Cell::painted(view.state.clone(), Paint::state),
            view.version.to_string().into(),
            times::age(view.created_ms, now).into(),
            out::rate(view.rps).into(),
            view.in_flight.to_string().into(),
            view.cpu.map(|cpu| format!("{:.0}%", cpu * 100.0)).unwrap_or_default().into(),
            view.usage.as_ref().map(|usage| out::bytes(usage.memory)).unwrap_or_default().into(),
            view.addr.map(|addr| addr.to_string()).unwrap_or_default().into(),
        ];
        if format == Format::Wide {
            let pids = view.usage.as_ref().map(|usage| usage.pids.to_string()).unwrap_or_default();
            row.extend([view.node.clone().into(), pids.into()]);
        }
        let ejected = if view.ejected { "passed over by the proxy for its failures" } else { "" };
        let detail = [view.detail.as_str(), ejected].iter().filter(|t| !t.is_empty()).copied().collect::<Vec<_>>();
        row.push(detail.join("; ").into());
        table.row(row);
    }
    table.text(paint)
}
