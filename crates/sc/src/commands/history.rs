//! `sc history`.

use sc_api::types::VersionView;
use sc_core::{AppId, spec::Source};

use crate::{
    exit,
    out::{self, Cell, Format, Output, Paint, Table},
    session::Session,
    times,
};

/// List the versions of an app
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The app
    app: AppId,

    #[command(flatten)]
    output: Output,
}

/// Prints the versions, the newest first.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    let mut versions = session.client()?.versions(&args.app).await?;
    versions.sort_by_key(|version| std::cmp::Reverse(version.version));
    let text = match args.output.format {
        Format::Name => versions.iter().map(|version| format!("{}\n", version.version)).collect(),
        format => out::structured(format, &versions)?.unwrap_or_else(|| table(&versions, session.paint)),
    };
    out::print(&text)?;
    Ok(exit::OK)
}

fn table(versions: &[VersionView], paint: Paint) -> String {
    let mut table = Table::new(&["VERSION", "MARK", "DEPLOYED", "PROGRAM", "BY"]);
    for version in versions {
        let mark = Cell::painted(version.mark.clone(), |paint, mark| match mark {
            "wanted" => paint.strong(mark),
            other => paint.state(other),
        });
        let deployed = times::stamp(version.created_ms);
        let note = version.note.chars().take(80).collect::<String>();
        table.row([version.version.to_string().into(), mark, deployed.into(), program(version).into(), note.into()]);
    }
    table.text(paint)
}

fn program(version: &VersionView) -> String {
    match &version.spec.source {
        Source::Image(image) => image.clone(),
        Source::Files { .. } => version.spec.command.first().cloned().unwrap_or_default(),
    }
}
