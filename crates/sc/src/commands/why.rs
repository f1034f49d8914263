//! `sc why`.

use sc_api::types::WhyView;
use sc_core::{AppId, records::UnixMs};
use sc_scale::Decision;

use crate::{
    exit,
    out::{self, Format, Output, Paint, Table},
    session::Session,
    times,
};

/// Say why an app has as many replicas as it has
///
/// Shows the latest scaling decision: what each signal asked for with its numbers, which one won, what limited it, and
/// what would change it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The app
    app: AppId,

    /// As it was then: 5m ago, 14:30, or 2026-01-31T14:30:00Z
    #[arg(long, value_name = "TIME", value_parser = times::moment)]
    at: Option<UnixMs>,

    /// Decide it again from what was recorded, and compare: recordings go back a day
    #[arg(long)]
    replay: bool,

    #[command(flatten)]
    output: Output,
}

/// Prints the reason.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    let client = session.client()?;
    let why = match args.replay {
        true => client.why_again(&args.app, args.at).await?,
        false => client.why(&args.app, args.at).await?,
    };
    let text = match args.output.format {
        Format::Name => format!("{}\n", why.want),
        format => out::structured(format, &why)?.unwrap_or_else(|| page(&why, session.paint)),
    };
    out::print(&text)?;
    // What comes out otherwise than it was is nothing to pass over.
    Ok(if why.replay.is_some_and(|replay| replay.differing > 0) { exit::ERROR } else { exit::OK })
}

fn page(why: &WhyView, paint: Paint) -> String {
    let mut text = format!("{}: {}\n", paint.strong(&why.app.to_string()), out::printable(&why.text));
    if let Some(decision) = &why.decision {
        text += &format!("\n{}", details(decision, paint));
    }
    text
}

fn details(decision: &Decision, paint: Paint) -> String {
    let mut table = Table::new(&["SIGNAL", "ASKS FOR", "BECAUSE"]);
    for need in &decision.needs {
        let winner = if need.signal == decision.winner { " *" } else { "" };
        table.row([
            format!("{}{winner}", need.signal).into(),
            need.replicas.to_string().into(),
            need.formula.clone().into(),
        ]);
    }
    let mut text = table.text(paint);
    for guard in &decision.guards {
        text += &format!("{} {}\n", paint.busy("limited:"), out::printable(guard));
    }
    if !decision.would_change.is_empty() {
        text += &format!("{} {}\n", paint.faint("would change it:"), out::printable(&decision.would_change));
    }
    if let Some(rps) = decision.capacity_rps {
        let sure = if decision.capacity_sure { "learned" } else { "at least; more was not tried yet" };
        text += &format!("{} {rps:.1} requests per second ({sure})\n", paint.faint("one replica takes:"));
    }
    text + &format!("{} {}\n", paint.faint("decided:"), times::stamp(decision.at_ms))
}
