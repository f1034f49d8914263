//! The last words of a replica that failed: people want them with the cause.

use std::time::Duration;

use futures_util::StreamExt;
use sc_core::{AppId, ReplicaId, plan::Desired};
use sc_engine::LogQuery;
use tokio::time::timeout;

use crate::{waiting::shortened, world::World};

/// How many lines.
const LINES: usize = 20;
/// The longest line kept, in bytes.
const LINE: usize = 500;
/// How long fetching them may take.
const LIMIT: Duration = Duration::from_secs(1);

/// The last lines a replica wrote; none when they cannot be had soon.
pub async fn last_words(world: &World, replica: &ReplicaId) -> Vec<String> {
    let query = LogQuery { follow: false, since_ms: None, tail: Some(LINES) };
    let fetch = async {
        let Ok(lines) = world.engine.logs(replica, &query).await else { return Vec::new() };
        lines.filter_map(|line| async { line.ok().map(|line| shortened(line.text, LINE)) }).take(LINES).collect().await
    };
    timeout(LIMIT, fetch).await.unwrap_or_default()
}

/// The cause of a failed rollout, with the last lines of the replica that failed.
pub async fn with_last_words(
    world: &World,
    desired: &Desired,
    app: &AppId,
    version: u64,
    failed: Option<&ReplicaId>,
    cause: String,
) -> String {
    let of_version = |replica: &&ReplicaId| desired.replica(replica).is_none_or(|record| record.version == version);
    let newest = || {
        let app_record = desired.apps.get(app)?;
        let (n, _) = app_record.replicas.iter().rev().find(|(_, record)| record.version == version)?;
        Some(ReplicaId::new(app, *n))
    };
    let Some(replica) = failed.filter(of_version).cloned().or_else(newest) else { return cause };
    let lines = last_words(world, &replica).await;
    if lines.is_empty() {
        return format!("{cause}\n{replica} wrote nothing");
    }
    format!("{cause}\nlast lines of {replica}:\n  {}", lines.join("\n  "))
}
