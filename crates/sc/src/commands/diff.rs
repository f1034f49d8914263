//! `sc diff`.

use std::collections::BTreeMap;

use sc_api::Client;
use serde_json::Value;

use super::sheet::{self, Planned, SheetArgs};
use crate::{exit, out, session::Session};

/// Show what a deploy would change; exit status 1 if anything
///
/// While a canary is on trial, the file is compared with the wanted version and with the canary, each under its name.
///
/// Exit status: 0 nothing · 1 something · others as always.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    sheet: SheetArgs,
}

/// Compares a file with what is deployed.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    // "Something differs" and "an error" must not look the same.
    compare(args, session).await.map_err(|error| match exit::code(&error) {
        exit::ERROR => exit::failure(exit::USAGE, exit::text(&error)),
        _ => error,
    })
}

async fn compare(args: Args, session: &Session) -> anyhow::Result<u8> {
    let planned = sheet::read(&args.sheet)?;
    let client = session.client()?;
    let mut text = String::new();
    for app in &planned {
        for (than, lines) in differences(&client, app).await? {
            if !lines.is_empty() {
                text += &format!("{}{than}\n", session.paint.strong(&app.app.to_string()));
            }
            for line in lines {
                let painted = if line.starts_with('+') { session.paint.good(&line) } else { session.paint.bad(&line) };
                text += &format!("  {painted}\n");
            }
        }
    }
    out::print(&text)?;
    Ok(if text.is_empty() { exit::OK } else { exit::ERROR })
}

/// What differs from the version that is wanted, and from the one on trial; each with what its heading says of it.
async fn differences(client: &Client, app: &Planned) -> anyhow::Result<Vec<(String, Vec<String>)>> {
    let new = serde_json::to_value(&app.deploy.spec)?;
    let view = match client.app(&app.app).await {
        Ok(view) => Some(view),
        Err(error) if error.status() == Some(404) => None,
        Err(error) => return Err(error.into()),
    };
    let (before, bounds) = match &view {
        Some(view) => (serde_json::to_value(&view.spec)?, serde_json::to_value(&view.scale)?),
        None => (Value::Null, Value::Null),
    };
    let mut wanted = lines(&before, &new, "");
    if let Some(scale) = &app.deploy.scale {
        wanted.extend(lines(&bounds, &serde_json::to_value(scale)?, "scale"));
    }
    let Some((number, canary)) = view.and_then(|view| Some((view.version, view.canary?))) else {
        return Ok(vec![(String::new(), wanted)]);
    };
    let versions = client.versions(&app.app).await?;
    let trial = versions.iter().find(|version| version.version == canary.version);
    let trial = lines(&trial.map_or(Ok(Value::Null), |version| serde_json::to_value(&version.spec))?, &new, "");
    let (share, of_trial) = (canary.share, canary.version);
    Ok(vec![
        (format!(", against version {number}, the wanted one"), wanted),
        (format!(", against version {of_trial}, the canary with {share} of the requests"), trial),
    ])
}

/// Each leaf that differs: what goes, what comes.
fn lines(before: &Value, after: &Value, root: &str) -> Vec<String> {
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    leaves(before, root, &mut old);
    leaves(after, root, &mut new);
    let mut lines = Vec::new();
    let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for key in keys {
        let (was, is) = (old.get(key), new.get(key));
        if was != is {
            lines.extend(was.map(|value| format!("- {key} = {value}")));
            lines.extend(is.map(|value| format!("+ {key} = {value}")));
        }
    }
    lines
}

fn leaves(value: &Value, path: &str, found: &mut BTreeMap<String, String>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Null => {}
        Value::Object(fields) => fields.iter().for_each(|(name, value)| leaves(value, &below(name), found)),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().enumerate().for_each(|(i, item)| leaves(item, &below(&i.to_string()), found));
        }
        Value::Array(items) if items.is_empty() => {}
        other => drop(found.insert(path.to_owned(), out::printable(&other.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_differs_is_shown() {
        let before = json!({ "port": 80, "command": ["a", "b"], "env": { "A": "1" }, "user": null });
        let after = json!({ "port": 81, "command": ["a", "b"], "env": { "B": "1" }, "routes": [{ "host": "x" }] });
        assert_eq!(
            lines(&before, &after, ""),
            ["- env.A = \"1\"", "+ env.B = \"1\"", "- port = 80", "+ port = 81", "+ routes.0.host = \"x\""]
        );
        assert!(lines(&after, &after, "").is_empty());
    }
}
