//! `sc events`.

use futures_util::StreamExt;
use sc_api::client::EventsQuery;
use sc_core::{
    AppId,
    records::{Event, Level, UnixMs},
};

use crate::{
    exit,
    out::{self, Paint},
    session::Session,
    times,
};

/// Show what happened
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only of this app
    app: Option<AppId>,

    /// Go on as events come, until Ctrl-C
    #[arg(long, short)]
    follow: bool,

    /// Only those since then: 5m ago, 14:30, or 2026-01-31T14:30:00Z
    #[arg(long, value_name = "TIME", value_parser = times::moment)]
    since: Option<UnixMs>,

    /// Lines as text, or as one JSON object each
    #[arg(short = 'o', long = "output", value_parser = ["table", "json"], default_value = "table", value_name = "FORMAT")]
    output: String,
}

/// Prints events, the oldest first.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    let query = EventsQuery { follow: args.follow, since_ms: args.since, app: args.app.clone() };
    let mut events = session.client()?.events(&query).await?;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(event) = event else { return Ok(exit::OK) };
        let event = event?;
        let line = if args.output == "json" { serde_json::to_string(&event)? } else { show(&event, session.paint) };
        out::print(&(line + "\n"))?;
    }
}

fn show(event: &Event, paint: Paint) -> String {
    let about = match (&event.replica, &event.app) {
        (Some(replica), _) => replica.to_string(),
        (None, Some(app)) => app.to_string(),
        (None, None) => "-".to_owned(),
    };
    let kind = format!("{:<12}", event.kind);
    let kind = match event.level {
        Level::Info => kind,
        Level::Warning => paint.busy(&kind),
        Level::Error => paint.bad(&kind),
    };
    let lines: Vec<String> = event.text.lines().map(out::printable).collect();
    let text = lines.join("\n    ");
    format!("{}  {kind} {about:<12} {text}", paint.faint(&times::stamp(event.at_ms)))
}
