//! The demo where there is no terminal: a line a second.

use std::io::Write;

use sc_scale::Decision;

use super::{
    Options,
    parts::Parts,
    watch::{News, Watch},
};
use crate::out;

/// Where the app is reached, and what to try.
pub(super) fn begin(parts: &Parts, options: &Options) {
    say(options, &format!("the app: curl {}", url(parts)));
    say(options, &format!("try meanwhile: {}", commands().join(" · ")));
}

/// A second that ended, decisions that were taken.
pub(super) fn show(watch: &Watch, news: &News, options: &Options) {
    for decision in &news.decisions {
        say(options, &format!("{:>5}  {}", "", line(decision)));
    }
    if let Some(second) = &news.second {
        say(
            options,
            &format!(
                "{:>4}s  load {:>4}/s  p50 {:>7}  p99 {:>7}  replicas {} of {}  failed {}",
                second.at,
                second.sent,
                out::latency(second.p50_ms),
                out::latency(second.p99_ms),
                watch.ready,
                watch.want,
                second.failed
            ),
        );
    }
}

/// A decision in a line.
pub(super) fn line(decision: &Decision) -> String {
    let arrow = if decision.want > decision.from { "↑" } else { "↓" };
    format!("{arrow} {}", out::printable(&decision.reason))
}

/// Where the app is reached.
pub(super) fn url(parts: &Parts) -> String {
    format!("http://{}/multiply?n=100", parts.http)
}

/// What to try from another terminal, as it must be typed there.
pub(super) fn commands() -> Vec<String> {
    // Another manager would be meant there, if one is named or was brought up.
    let other = std::env::var_os("SC_MANAGER").is_some() || crate::find::Installation::read().ok().flatten().is_some();
    let socket = crate::find::demo_folder().map(|folder| folder.join("manager.sock").display().to_string());
    let sc = match (other, socket) {
        (true, Ok(socket)) => format!("{} --manager unix:{socket}", program()),
        _ => program(),
    };
    ["ps", "why web", "logs web -f", "scale web --max 3"].map(|rest| format!("{sc} {rest}")).into()
}

/// How this program is called: by its name, if that is found, else by its path.
fn program() -> String {
    let Ok(own) = std::env::current_exe() else { return "sc".to_owned() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("sc")).find(|sc| sc.is_file());
    if found.and_then(|sc| sc.canonicalize().ok()).is_some_and(|sc| sc == own) {
        return "sc".to_owned();
    }
    let relative = std::env::current_dir().ok().and_then(|here| Some(own.strip_prefix(here).ok()?.to_owned()));
    relative.unwrap_or(own).display().to_string()
}

fn say(options: &Options, text: &str) {
    // Whoever reads may have gone: the demo goes on.
    if options.json {
        let _ = writeln!(std::io::stderr(), "{text}");
    } else {
        let _ = writeln!(std::io::stdout(), "{text}");
    }
}
