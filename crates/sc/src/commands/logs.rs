//! `sc logs`.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use sc_api::{Client, ClientError, client::LogsQuery, types::LogRecord};
use sc_core::{AppId, ReplicaId, records::UnixMs};
use tokio::time::{Instant, sleep};

use crate::{
    exit,
    named::{Named, Place},
    out::{self, Format, Paint},
    session::Session,
    times,
};

/// Show what replicas wrote, all of an app together
///
/// Also that of replicas that are gone. Each line has its replica's name before it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Apps or replicas: web, web/3 [default: all apps]
    #[arg(value_name = "NAME")]
    names: Vec<Named>,

    /// Go on as lines come, until Ctrl-C
    #[arg(long, short)]
    follow: bool,

    /// Only lines since then: 5m ago, 14:30, or 2026-01-31T14:30:00Z
    #[arg(long, value_name = "TIME", value_parser = times::moment)]
    since: Option<UnixMs>,

    /// Only the last so many lines
    #[arg(long, short = 'n', value_name = "N")]
    tail: Option<usize>,

    /// Only lines that hold this text
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,

    /// Show when each line was written
    #[arg(long, short = 't')]
    timestamps: bool,

    /// Lines as text, or as one JSON object each
    #[arg(short = 'o', long = "output", value_parser = ["table", "json"], default_value = "table", value_name = "FORMAT")]
    output: String,
}

/// How long a manager that went away is waited for while following.
const AWAY: Duration = Duration::from_secs(300);

/// Prints lines.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    let client = session.client()?;
    let places = places(&client, &args.names).await?;
    let query = LogsQuery { follow: args.follow, since_ms: args.since, tail: args.tail, grep: args.grep.clone() };
    let mut streams = Vec::new();
    for place in places {
        streams.push(lines(client.clone(), place, query.clone()).await?);
    }
    let mut lines =
        if args.follow { stream::select_all(streams).boxed() } else { stream::iter(streams).flatten().boxed() };
    let format = if args.output == "json" { Format::Json } else { Format::Table };
    let mut width = 0;
    loop {
        let line = tokio::select! {
            line = lines.next() => line,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(line) = line else { return Ok(exit::OK) };
        let line = line?;
        width = width.max(line.replica.to_string().len());
        out::print(&show(&line, format, width, args.timestamps, session.paint)?)?;
    }
}

async fn places(client: &Client, names: &[Named]) -> anyhow::Result<BTreeSet<(AppId, Option<ReplicaId>)>> {
    let mut places = BTreeSet::new();
    for name in names {
        places.insert(match name.resolve(client).await? {
            Place::App(app) => (app, None),
            Place::Replica(replica) => (replica.app.clone(), Some(replica)),
        });
    }
    if names.is_empty() {
        places.extend(client.apps().await?.into_iter().map(|app| (app.app, None)));
    }
    Ok(places)
}

type Lines = BoxStream<'static, anyhow::Result<LogRecord>>;

/// The lines of one app, or of one of its replicas. While following, a manager that went away is waited for, and what was
/// missed meanwhile is caught up with.
async fn lines(client: Client, (app, only): (AppId, Option<ReplicaId>), query: LogsQuery) -> anyhow::Result<Lines> {
    let first = client.logs(&app, &query).await?;
    let state = (client, app, query, first);
    let all = stream::try_unfold(state, |(client, app, mut query, mut lines)| async move {
        loop {
            match lines.next().await {
                Some(Ok(line)) => {
                    query.since_ms = Some(line.at_ms + 1);
                    return anyhow::Ok(Some((line, (client, app, query, lines))));
                }
                None if !query.follow => return Ok(None),
                Some(Err(error)) if !query.follow || !error.is_unreachable() => return Err(error.into()),
                Some(Err(_)) | None => {
                    query.tail = None;
                    query.since_ms = query.since_ms.or(Some(times::now_ms()));
                    let Some(again) = again(&client, &app, &query).await? else { return Ok(None) };
                    lines = again;
                }
            }
        }
    });
    Ok(all.filter(move |line| std::future::ready(wanted(line, only.as_ref()))).boxed())
}

fn wanted(line: &anyhow::Result<LogRecord>, only: Option<&ReplicaId>) -> bool {
    line.as_ref().map_or(true, |line| only.is_none_or(|only| line.replica == *only))
}

/// Asks anew until it is answered; none when the app is gone.
async fn again(
    client: &Client,
    app: &AppId,
    query: &LogsQuery,
) -> anyhow::Result<Option<sc_api::client::Lines<LogRecord>>> {
    let until = Instant::now() + AWAY;
    loop {
        sleep(Duration::from_millis(500)).await;
        match client.logs(app, query).await {
            Ok(lines) => return Ok(Some(lines)),
            Err(error) if error.status() == Some(404) => return Ok(None),
            Err(error) if Instant::now() < until && comes_back(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn comes_back(error: &ClientError) -> bool {
    error.is_unreachable() || error.status() == Some(503)
}

fn show(line: &LogRecord, format: Format, width: usize, timestamps: bool, paint: Paint) -> anyhow::Result<String> {
    if format == Format::Json {
        return Ok(serde_json::to_string(line)? + "\n");
    }
    let name = paint.name(line.replica.incarnation, &format!("{:<width$}", line.replica.to_string()));
    let time = if timestamps { format!("{} ", paint.faint(&times::stamp(line.at_ms))) } else { String::new() };
    Ok(format!("{time}{name} | {}\n", out::printable(&line.text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_replicas_name() {
        let line =
            LogRecord { replica: "web-3".parse().unwrap(), at_ms: 0, stderr: true, text: "a\u{1b}[2Jb".to_owned() };
        assert_eq!(show(&line, Format::Table, 7, false, Paint::PLAIN).unwrap(), "web-3   | a\u{fffd}[2Jb\n");
        let json = show(&line, Format::Json, 7, false, Paint::PLAIN).unwrap();
        assert_eq!(serde_json::from_str::<LogRecord>(&json).unwrap(), line);
    }
}
