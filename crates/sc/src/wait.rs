//! Waiting until what was asked for is so, and saying why when it does not come to be.

use std::{collections::BTreeMap, time::Duration};

use futures_util::StreamExt;
use sc_api::{
    Client,
    client::LogsQuery,
    types::{Accepted, AppView, LogRecord},
};
use sc_core::{AppId, ReplicaId, records::Rollout};
use tokio::time::{Instant, sleep};

use crate::{
    exit,
    out::{Progress, printable},
    times,
};

/// How often is looked.
const PERIOD: Duration = Duration::from_millis(150);
/// Last log lines that are shown of a replica that failed.
const LAST_LINES: usize = 10;
/// Last log lines of the whole app among which they are looked for: replicas that are well may write much.
const SEARCHED: usize = 1_000;

/// `--detach` and `--timeout`.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Waiting")]
pub(crate) struct Waiting {
    /// Do not wait until it is done
    #[arg(long, short = 'd')]
    pub detach: bool,

    /// How long to wait at most
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = times::duration)]
    pub timeout: Duration,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// The app is as wanted.
    Converged,
    /// It is forgotten.
    Gone,
}

/// How one app stands on its way.
#[derive(Debug, PartialEq)]
enum Standing {
    Done(String),
    OnItsWay(String),
    /// It will not come to be: why.
    Failed(String),
}

/// Waits for all these commands together. With `--detach` not at all.
///
/// # Errors
/// Exit status 3 when one is not done in time, went back or does not come up: with the cause and its last log lines.
pub(crate) async fn wait(
    client: &Client,
    waiting: &Waiting,
    until: Until,
    accepted: &[Accepted],
    progress: &mut Progress,
) -> anyhow::Result<()> {
    if waiting.detach {
        return Ok(());
    }
    let deadline = Instant::now() + waiting.timeout;
    let mut open: Vec<&Accepted> = accepted.iter().collect();
    let mut failures = Vec::new();
    while !open.is_empty() {
        let mut lines = Vec::new();
        let mut still = Vec::new();
        for one in open {
            match look(client, until, one).await? {
                Standing::Done(text) => progress.done(&text),
                Standing::Failed(why) => failures.push(failure(client, one, &why).await),
                Standing::OnItsWay(text) => {
                    lines.push(text);
                    still.push(one);
                }
            }
        }
        open = still;
        if open.is_empty() {
            break;
        }
        if Instant::now() >= deadline {
            let late = format!("not done within {} s", waiting.timeout.as_secs());
            for (one, line) in open.iter().zip(&lines) {
                failures.push(failure(client, one, &format!("{late}: {line}\n  → it is still being tried")).await);
            }
            break;
        }
        progress.now(&lines.join(" · "));
        sleep(PERIOD).await;
    }
    progress.clear();
    if failures.is_empty() { Ok(()) } else { Err(exit::failure(exit::NOT_CONVERGED, failures.join("\n"))) }
}

async fn look(client: &Client, until: Until, accepted: &Accepted) -> anyhow::Result<Standing> {
    match client.app(&accepted.app).await {
        Ok(view) if until == Until::Gone && !view.deleting => {
            Ok(Standing::Failed(format!("{} was made anew meanwhile", view.app)))
        }
        Ok(view) => Ok(standing(&view, until, accepted.version)),
        Err(error) if error.status() == Some(404) && until == Until::Gone => {
            Ok(Standing::Done(format!("{} is gone", accepted.app)))
        }
        // The command is stored: a manager or a store that is away for a while makes it so when it is back.
        Err(error) if error.is_unreachable() || error.status() == Some(503) => {
            Ok(Standing::OnItsWay(format!("{}: the manager is away for the moment", accepted.app)))
        }
        Err(error) => Err(error.into()),
    }
}

fn standing(view: &AppView, until: Until, version: u64) -> Standing {
    let app = &view.app;
    let on_trial = view.canary.as_ref().filter(|canary| canary.version == version);
    match &view.rollout {
        Rollout::RolledBack { failed, cause, .. } if *failed == version => {
            return Standing::Failed(format!(
                "version {version} did not become healthy, version {} serves on: {cause}",
                view.version
            ));
        }
        Rollout::Failed { cause, .. } if !view.deleting && !view.stopped => {
            return Standing::Failed(format!("it does not come up: {cause}"));
        }
        _ if view.version != version && on_trial.is_none() && until == Until::Converged => {
            return Standing::Failed(format!("version {} was deployed meanwhile", view.version));
        }
        _ => {}
    }
    if view.converged && until == Until::Converged {
        let count = match on_trial {
            _ if view.stopped => "stopped".to_owned(),
            Some(canary) => format!("{} of the requests; {} in all", canary.share, replicas(view.ready)),
            None => replicas(view.ready),
        };
        return Standing::Done(format!("{app}: version {version}, {count}"));
    }
    Standing::OnItsWay(format!("{app}: {} of {} ready, {}", view.ready, view.want, view.status))
}

fn replicas(n: u32) -> String {
    if n == 1 { "1 replica ready".to_owned() } else { format!("{n} replicas ready") }
}

/// What failed, with the last lines of the replica that did.
async fn failure(client: &Client, accepted: &Accepted, why: &str) -> String {
    let text = format!("{}: {why}", accepted.app);
    // The manager has told what the replica wrote, or that it wrote nothing; another's words would only mislead.
    if why.lines().count() > 1 {
        return text;
    }
    let Some((replica, lines)) = last_lines(client, &accepted.app).await else { return text };
    if lines.iter().all(|line| why.contains(line.trim())) {
        return text;
    }
    let lines: Vec<String> = lines.iter().map(|line| format!("  {replica} | {}", printable(line))).collect();
    format!("{text}\nThe last lines of {replica}:\n{}", lines.join("\n"))
}

/// The last lines of the youngest replica that is not ready, also of one that is gone.
async fn last_lines(client: &Client, app: &AppId) -> Option<(ReplicaId, Vec<String>)> {
    let client = client.clone().with_deadline(Duration::from_secs(5));
    let views = client.replicas(Some(app)).await.ok()?;
    let ready = |id: &ReplicaId| views.iter().any(|view| view.replica == *id && view.state == "ready");
    let query = LogsQuery { tail: Some(SEARCHED), ..LogsQuery::default() };
    let lines = client.logs(app, &query).await.ok()?.take(SEARCHED);
    let lines = tokio::time::timeout(Duration::from_secs(5), lines.collect::<Vec<_>>()).await.ok()?;
    let mut by_replica: BTreeMap<ReplicaId, Vec<LogRecord>> = BTreeMap::new();
    for line in lines.into_iter().flatten() {
        by_replica.entry(line.replica.clone()).or_default().push(line);
    }
    let (replica, mut lines) = by_replica.into_iter().rev().find(|(replica, _)| !ready(replica))?;
    let lines = lines.split_off(lines.len().saturating_sub(LAST_LINES));
    Some((replica, lines.into_iter().map(|line| line.text).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sc_core::spec::{AppSpec, ScaleSpec};

    fn view(version: u64, rollout: Rollout, converged: bool) -> AppView {
        let spec: AppSpec = serde_json::from_str(r#"{"source":{"image":"x"}}"#).unwrap();
        AppView {
            app: "web".parse().unwrap(),
            version,
            stable: None,
            spec,
            scale: ScaleSpec::default(),
            want: 3,
            have: 2,
            ready: 2,
            rollout,
            canary: None,
            stopped: false,
            deleting: false,
            converged,
            status: "waiting for web-3".to_owned(),
            routes: Vec::new(),
            rps: 0.0,
            p99_ms: None,
            held: 0,
            created_ms: 0,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn how_an_app_stands() {
        let on = |view: &AppView| standing(view, Until::Converged, 2);
        assert_eq!(on(&view(2, Rollout::Settled, true)), Standing::Done("web: version 2, 2 replicas ready".into()));
        assert_eq!(
            on(&view(2, Rollout::Settled, false)),
            Standing::OnItsWay("web: 2 of 3 ready, waiting for web-3".into())
        );
        let back = Rollout::RolledBack { failed: 2, cause: "exit status 9".into(), at_ms: 0 };
        assert!(matches!(on(&view(1, back, true)), Standing::Failed(why) if why.contains("exit status 9")));
        // A failure of an earlier deploy is none of this one.
        let earlier = Rollout::RolledBack { failed: 1, cause: "x".into(), at_ms: 0 };
        assert!(matches!(on(&view(2, earlier, true)), Standing::Done(_)));
        let failed = Rollout::Failed { cause: "no such image".into(), at_ms: 0 };
        assert!(matches!(on(&view(2, failed.clone(), false)), Standing::Failed(why) if why.contains("no such image")));
        let canary = Some(sc_core::canary::Canary::new(2, "10%".parse().unwrap(), 0));
        let done = Standing::Done("web: version 2, 10% of the requests; 2 replicas ready in all".into());
        assert_eq!(on(&AppView { canary: canary.clone(), ..view(1, Rollout::Settled, true) }), done);
        let comes = AppView { canary, ..view(1, Rollout::Settled, false) };
        assert!(matches!(on(&comes), Standing::OnItsWay(_)));
        let removed = AppView { deleting: true, ..view(2, failed, false) };
        assert!(matches!(standing(&removed, Until::Gone, 2), Standing::OnItsWay(_)));
        assert!(matches!(on(&view(3, Rollout::Settled, true)), Standing::Failed(why) if why.contains("meanwhile")));
    }
}
