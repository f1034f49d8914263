//! `sc doctor`.

use std::time::Duration;

use sc_api::types::Finding;

use crate::{
    exit,
    find::Installation,
    out::{self, Cell, Output, Paint, Table},
    session::Session,
};

/// Find what is wrong, and how to mend it
///
/// Asks the manager about itself, its store, its engine, the proxies and the apps; where it does not answer, looks at this
/// host for the reason. Exit status 1 when something is wrong.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    output: Output,
}

/// Does it.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    let mut findings = Vec::new();
    match session.client() {
        Err(error) => findings.push(wrong("manager", &exit::text(&error))),
        Ok(client) => match client.with_deadline(Duration::from_secs(10)).doctor().await {
            Ok(found) => {
                findings.push(finding("ok", "manager", "it answers", ""));
                findings.extend(found);
            }
            Err(error) => findings.push(wrong("manager", &exit::text(&error.into()))),
        },
    }
    if findings[0].level != "ok" {
        findings.extend(host().await);
    }
    let bad = findings.iter().any(|found| found.level == "error");
    match out::structured(args.output.format, &findings)? {
        Some(text) => out::print(&text)?,
        None => out::print(&table(&findings, session))?,
    }
    Ok(if bad { exit::ERROR } else { exit::OK })
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).fold(String::new(), |said, line| match said.as_str() {
        "" => line.to_owned(),
        before if before.ends_with(':') => format!("{before} {line}"),
        before => format!("{before}; {line}"),
    })
}

fn finding(level: &str, what: &str, found: &str, fix: &str) -> Finding {
    Finding { level: level.into(), what: what.into(), found: found.into(), fix: fix.into() }
}

/// An error's text holds what to do after an arrow.
fn wrong(what: &str, text: &str) -> Finding {
    let (found, fix) = text.split_once("→").unwrap_or((text, "start it: `sc up`, or `sc demo`"));
    finding("error", what, found.trim(), fix.trim())
}

fn table(findings: &[Finding], session: &Session) -> String {
    let mut table = Table::new(&["", "WHAT", "FOUND"]);
    for found in findings {
        let (mark, paint): (_, fn(Paint, &str) -> String) = match found.level.as_str() {
            "ok" => ("✓", Paint::good),
            "warning" => ("!", Paint::busy),
            _ => ("✗", Paint::bad),
        };
        table.row([Cell::painted(mark, paint), found.what.as_str().into(), one_line(&found.found).into()]);
        if !found.fix.is_empty() {
            table.row(["".into(), "".into(), format!("→ {}", found.fix).into()]);
        }
    }
    table.text(session.paint)
}

/// Why the manager may not answer, by the looks of this host.
#[cfg(feature = "docker")]
async fn host() -> Vec<Finding> {
    use crate::up::{host::Host, parts::RELEASE};

    let instance = Installation::read().ok().flatten().map_or("sc".to_owned(), |context| context.instance);
    let host = match Host::connect().await {
        Ok(host) => host,
        Err(error) => return vec![wrong("docker", &exit::text(&error))],
    };
    let version = host.version().await.unwrap_or_default();
    let mut findings = vec![finding("ok", "docker", &format!("version {version}"), "")];
    let mut missing = Vec::new();
    for name in ["etcd", "manager", "proxy", "base"] {
        let image = format!("sc/{name}:{RELEASE}");
        if !matches!(host.image_id(&image).await, Ok(Some(_))) {
            missing.push(image);
        }
    }
    findings.push(match missing.is_empty() {
        true => finding("ok", "images", &format!("all of release {RELEASE}"), ""),
        false => {
            finding("warning", "images", &format!("missing: {}", missing.join(", ")), "run deploy/images in a checkout")
        }
    });
    let containers = host.containers(&instance).await.unwrap_or_default();
    let mut parts = vec![format!("{instance}-manager"), format!("{instance}-proxy")];
    // With an etcd elsewhere (`sc up --etcd URL`) there is none of ours.
    let etcd = format!("{instance}-etcd");
    if !matches!(host.volume_labels(&etcd).await, Ok(None)) {
        parts.insert(0, etcd);
    }
    for name in parts {
        findings.push(match containers.iter().find(|container| container.name == name) {
            None => finding("warning", &name, "there is no such container", "start it: sc up"),
            Some(found) if found.running => finding("ok", &name, &found.status, ""),
            Some(found) => {
                let words = host.last_words(&name).await;
                let last = words.lines().last().unwrap_or_default().trim().to_owned();
                finding("error", &name, &format!("{}; its last words: {last}", found.status), "start it: sc up")
            }
        });
    }
    findings
}

#[cfg(not(feature = "docker"))]
async fn host() -> Vec<Finding> {
    let _ = Installation::read();
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn what_was_found_is_told_in_one_line() {
        assert_eq!(one_line("rolled back\nweb-3 wrote nothing\n"), "rolled back; web-3 wrote nothing");
        assert_eq!(one_line("crashed\nlast lines of web-3:\n  a\n  b"), "crashed; last lines of web-3: a; b");
    }
}
