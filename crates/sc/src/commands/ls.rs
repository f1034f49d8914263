//! `sc ls`.

use sc_api::types::AppView;
use sc_core::{
    spec::{RouteSpec, Source},
    validate::show_route,
};

use crate::{
    out::{self, Cell, Format, Output, Paint, Table, Watching},
    session::Session,
    times,
};

/// List the apps
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    watching: Watching,
}

/// Prints the apps.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    let client = session.client()?;
    let look = async || {
        let apps = client.apps().await?;
        Ok(match args.output.format {
            Format::Name => apps.iter().map(|app| format!("{}\n", app.app)).collect(),
            format => out::structured(format, &apps)?.unwrap_or_else(|| table(&apps, format, session.paint)),
        })
    };
    out::watch(args.watching, look).await
}

fn table(apps: &[AppView], format: Format, paint: Paint) -> String {
    if apps.is_empty() {
        return "there are no apps yet: `sc run` makes one\n".to_owned();
    }
    let wide = format == Format::Wide;
    let mut headings = vec!["APP", "VERSION", "READY", "RPS", "P99", "STATUS", "ROUTES"];
    if wide {
        headings.extend(["COUNT", "HELD", "PROGRAM", "AGE"]);
    }
    let mut table = Table::new(&headings);
    let now = times::now_ms();
    for app in apps {
        let mut row: Vec<Cell> = vec![
            app.app.to_string().into(),
            app.version.to_string().into(),
            format!("{}/{}", app.ready, app.want).into(),
            out::rate(app.rps).into(),
            app.p99_ms.map(out::latency).unwrap_or_default().into(),
            status(app),
            routes(&app.routes).into(),
        ];
        if wide {
            let age = times::age(app.created_ms, now);
            row.extend([count(app).into(), app.held.to_string().into(), program(app).into(), age.into()]);
        }
        table.row(row);
    }
    table.text(paint)
}

/// An app's status in a few words.
pub(super) fn status(app: &AppView) -> Cell {
    if app.stopped && app.converged {
        return Cell::painted("stopped", Paint::state);
    }
    if let Some(canary) = app.canary.as_ref().filter(|_| app.converged) {
        return format!("version {} has {}", canary.version, canary.share).into();
    }
    if app.converged {
        return Cell::painted("ok", Paint::state);
    }
    Cell::painted(app.status.chars().take(80).collect::<String>(), Paint::busy)
}

/// The routes as people read them.
pub(super) fn routes(routes: &[RouteSpec]) -> String {
    routes.iter().map(show_route).collect::<Vec<_>>().join(" ")
}

/// What decides the count.
pub(super) fn count(app: &AppView) -> String {
    if app.scale.auto { format!("{}-{} auto", app.scale.min, app.scale.max) } else { "fixed".to_owned() }
}

/// What an app runs.
pub(super) fn program(app: &AppView) -> String {
    match &app.spec.source {
        Source::Image(image) => image.clone(),
        Source::Files { base: Some(base) } => format!("{} on {base}", app.spec.command.first().map_or("", |w| w)),
        Source::Files { base: None } => app.spec.command.first().cloned().unwrap_or_default(),
    }
}
