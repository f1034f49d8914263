//! Docker's events, as a hint that something changed.

use std::{collections::HashMap, sync::Weak, time::Duration};

use bollard::query_parameters::EventsOptions;
use futures_util::StreamExt;

use super::{Inner, names};

/// From the first failure to the longest wait between two tries.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// What changes a replica. Execs (a probe may be one) do not.
const ACTIONS: [&str; 9] = ["create", "start", "die", "oom", "kill", "pause", "unpause", "destroy", "restart"];

/// Passes events on until the engine is gone.
pub(super) async fn watch(inner: Weak<Inner>) {
    let mut wait = RETRY.0;
    loop {
        let Some(engine) = inner.upgrade() else { return };
        let docker = tokio::time::timeout(engine.config.deadline, engine.docker()).await;
        let filters = filters(&engine);
        drop(engine);
        if let Ok(Ok(docker)) = docker {
            let mut events = docker.events(Some(EventsOptions { filters: Some(filters), ..EventsOptions::default() }));
            while let Some(Ok(_)) = events.next().await {
                let Some(engine) = inner.upgrade() else { return };
                engine.changed.notify_one();
                wait = RETRY.0;
            }
        }
        // What happened in between was missed.
        if let Some(engine) = inner.upgrade() {
            engine.changed.notify_one();
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
    }
}

fn filters(engine: &Inner) -> HashMap<String, Vec<String>> {
    let labels = [
        format!("{}={}", names::INSTANCE, engine.config.instance),
        format!("{}={}", names::STORE, engine.config.store_id),
    ];
    let mut filters = names::filter(&labels);
    filters.insert("type".to_owned(), vec!["container".to_owned()]);
    filters.insert("event".to_owned(), ACTIONS.map(str::to_owned).to_vec());
    filters
}
