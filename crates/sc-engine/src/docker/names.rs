//! What things are called on a Docker host, and the labels by which they are known again.

use std::collections::HashMap;

use sc_core::{AppId, Name, ReplicaId};

use crate::StartSpec;

/// The installation: part of every name, and a label on everything.
pub(super) const INSTANCE: &str = "sc.instance";
pub(super) const STORE: &str = "sc.store";
const PROJECT: &str = "sc.project";
const APP: &str = "sc.app";
const REPLICA: &str = "sc.replica";
const VERSION: &str = "sc.version";
const RESTART: &str = "sc.restart";
const ADDR: &str = "sc.addr";
/// Unix milliseconds when its start was asked for.
const START: &str = "sc.start";
/// On an image: the digests of the files in it.
pub(super) const BLOBS: &str = "sc.blobs";

pub(super) type Labels = HashMap<String, String>;

pub(super) fn container(instance: &str, replica: &ReplicaId) -> String {
    format!("{}-{}", network(instance, &replica.app), replica.incarnation)
}

pub(super) fn network(instance: &str, app: &AppId) -> String {
    format!("{instance}-{}-{}", app.project, app.name)
}

fn pairs<const N: usize>(pairs: [(&str, String); N]) -> Labels {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

pub(super) fn of_app(instance: &str, store: &str, app: &AppId) -> Labels {
    pairs([
        (INSTANCE, instance.to_owned()),
        (STORE, store.to_owned()),
        (PROJECT, app.project.to_string()),
        (APP, app.name.to_string()),
    ])
}

pub(super) fn of_replica(instance: &str, store: &str, spec: &StartSpec, now_ms: u64) -> Labels {
    let mut labels = of_app(instance, store, &spec.replica.app);
    labels.extend(pairs([
        (REPLICA, spec.replica.incarnation.to_string()),
        (VERSION, spec.version.to_string()),
        (RESTART, spec.restart.to_string()),
        (ADDR, spec.addr.to_string()),
        (START, now_ms.to_string()),
    ]));
    labels
}

/// What a container's labels say.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Labelled {
    pub replica: ReplicaId,
    pub version: u64,
    pub addr: Option<std::net::SocketAddr>,
}

pub(super) fn read(labels: &Labels) -> Option<Labelled> {
    let name = |key| Name::new(labels.get(key)?).ok();
    let app = AppId { project: name(PROJECT)?, name: name(APP)? };
    Some(Labelled {
        replica: ReplicaId::new(&app, labels.get(REPLICA)?.parse().ok()?),
        version: labels.get(VERSION)?.parse().ok()?,
        addr: labels.get(ADDR).and_then(|addr| addr.parse().ok()),
    })
}

/// Whether something labelled so is ours.
pub(super) fn ours(labels: Option<&Labels>, instance: &str, store: &str) -> bool {
    let is = |key, value: &str| labels.and_then(|labels| labels.get(key)).is_some_and(|found| found == value);
    is(INSTANCE, instance) && is(STORE, store)
}

/// A filter for Docker's lists: all these labels.
pub(super) fn filter(labels: &[String]) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), labels.to_vec())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_suffice_to_adopt() {
        let app = AppId { project: Name::new("team-a").unwrap(), name: Name::new("web").unwrap() };
        let spec = StartSpec {
            replica: ReplicaId::new(&app, 7),
            version: 3,
            restart: 1,
            spec: serde_json::from_value(serde_json::json!({ "source": { "image": "i" } })).unwrap(),
            addr: "10.213.0.5:8080".parse().unwrap(),
            network: None,
            blobs: Default::default(),
        };
        let labels = of_replica("sc", "s1", &spec, 5);
        let read = read(&labels).unwrap();
        assert_eq!((read.replica, read.version, read.addr), (spec.replica.clone(), 3, Some(spec.addr)));
        assert!(ours(Some(&labels), "sc", "s1") && !ours(Some(&labels), "sc", "s2") && !ours(None, "sc", "s1"));
        assert_eq!(container("sc", &spec.replica), "sc-team-a-web-7");
    }
}
