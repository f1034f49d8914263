//! `sc scale`.

use sc_api::{
    Client,
    types::{Accepted, SetScale},
};
use sc_core::{AppId, units::format_duration};

use crate::{
    exit,
    session::Session,
    times,
    wait::{self, Until, Waiting},
};

/// Set how many replicas apps have, or let sc choose
///
/// It can be changed at any time, with no failed request.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sc scale web=3 api=5
  sc scale web --auto --min 1 --max 10
  sc scale web --pause 1h")]
pub(crate) struct Args {
    /// Apps, each with its count: web=3; without a count with the options below
    #[arg(required = true, value_name = "APP[=N]", value_parser = wish)]
    apps: Vec<(AppId, Option<u32>)>,

    /// Let sc choose the count between min and max
    #[arg(long)]
    auto: bool,

    /// At least so many
    #[arg(long, value_name = "N")]
    min: Option<u32>,

    /// At most so many
    #[arg(long, value_name = "N")]
    max: Option<u32>,

    /// Keep up to so many replicas that are not needed now frozen, to be woken in milliseconds; 0: none
    #[arg(long, value_name = "N")]
    warm: Option<u32>,

    /// Keep up to so many more stopped, to be started without being made anew; 0: none. With a min of 0 one, if nothing is said
    #[arg(long, value_name = "N")]
    stopped: Option<u32>,

    /// Keep sc from changing the count for so long; 0 ends that
    #[arg(long, value_name = "TIME", value_parser = times::millis)]
    pause: Option<u64>,

    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    waiting: Waiting,
}

fn wish(text: &str) -> Result<(AppId, Option<u32>), String> {
    let (app, count) = match text.split_once('=') {
        Some((app, count)) => {
            let bad = || format!("{count:?} is no count: write {app}=3");
            (app, Some(count.parse().map_err(|_| bad())?))
        }
        None => (text, None),
    };
    Ok((app.parse().map_err(|error: sc_core::NameError| error.to_string())?, count))
}

/// Sets counts.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    let bounds = args.auto || args.min.is_some() || args.max.is_some();
    let options = bounds || args.warm.is_some() || args.stopped.is_some() || args.pause.is_some();
    if let Some((app, _)) = args.apps.iter().find(|(_, count)| count.is_none() && !options) {
        return Err(exit::usage(format!("how many replicas of {app}?\n  → {app}=3, or {app} --auto --max 10")));
    }
    if let (Some(min), Some(max)) = (args.min, args.max)
        && min > max
    {
        return Err(exit::usage(format!("--min {min} is above --max {max}")));
    }
    let (client, mut progress) = (session.client()?, session.progress());
    let mut accepted = Vec::new();
    for (app, count) in &args.apps {
        let one = client.scale(app, &request(&args, *count)).await?;
        if args.dry_run {
            progress.say(&dry(&client, &one, &args, *count).await?);
        }
        accepted.push(one);
    }
    if !args.dry_run {
        wait::wait(&client, &args.waiting, Until::Converged, &accepted, &mut progress).await?;
    }
    Ok(exit::OK)
}

fn request(args: &Args, count: Option<u32>) -> SetScale {
    SetScale {
        count,
        auto: args.auto,
        min: args.min,
        max: args.max,
        warm: args.warm,
        stopped: args.stopped,
        pause_ms: args.pause,
        dry_run: args.dry_run,
    }
}

async fn dry(client: &Client, accepted: &Accepted, args: &Args, count: Option<u32>) -> anyhow::Result<String> {
    let view = client.app(&accepted.app).await?;
    let app = &accepted.app;
    if !accepted.changed {
        return Ok(format!("{app}: nothing would change ({} replicas)", view.want));
    }
    let (min, max) = (args.min.unwrap_or(view.scale.min), args.max.unwrap_or(view.scale.max));
    let to = count.unwrap_or(view.want.clamp(min.min(max), max));
    let bounds = args.min.is_some() || args.max.is_some();
    let auto = args.auto || bounds || view.scale.auto;
    let mode =
        if auto && count.is_none() { format!(", sc chooses from {} to {max}", min.min(max)) } else { String::new() };
    let warm = args.warm.map_or_else(String::new, |warm| format!(", up to {warm} sleep"));
    let stopped = args.stopped.map_or_else(String::new, |stopped| format!(", up to {stopped} are kept stopped"));
    let pause = match args.pause {
        None => String::new(),
        Some(0) => ", held no longer".to_owned(),
        Some(pause) => format!(", held for {}", format_duration(pause)),
    };
    Ok(format!("{app}: {} → {to} replicas{mode}{warm}{stopped}{pause}", view.want))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes() {
        let web: AppId = "web".parse().unwrap();
        assert_eq!(wish("web=3"), Ok((web.clone(), Some(3))));
        assert_eq!(wish("web"), Ok((web, None)));
        for bad in ["web=", "web=-1", "web=many", "=3", "Web=3"] {
            assert!(wish(bad).is_err(), "{bad}");
        }
    }
}
