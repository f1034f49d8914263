//! From the store's keys and values to [`Desired`].
//!
//! A record that cannot be read must never look like one that is absent: its app is left alone whole (nothing is
//! planned for it, its published routes stay), an unreadable range stops all handing out of addresses, an unreadable
//! proxy acknowledges nothing.

use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, Error as _};

use super::{Addressing, Desired, DesiredApp, Published};
use crate::{
    names::{AppId, Name},
    records::{App, Leader, Proxy, RecordError, Replica, Scale, Version, key, read},
    routes::AppRoutes,
};

/// The records of one app, as far as they came.
#[derive(Default)]
struct Parts {
    app: Option<App>,
    scale: Option<Scale>,
    versions: BTreeMap<u64, Version>,
    replicas: BTreeMap<u64, Replica>,
    published: Option<Published>,
    /// The first record that could not be read.
    broken: Option<String>,
}

/// The work in progress.
struct Reading {
    desired: Desired,
    parts: BTreeMap<AppId, Parts>,
    errors: Vec<RecordError>,
}

impl Desired {
    /// Reads a consistent snapshot: keys (without the store's prefix), values, and the revision that last wrote each.
    /// Keys of other kinds (events, secrets, …) are passed over. `epoch` and `leads_since_ms` are those of the record at
    /// `leader`; a manager that does not lead, or leads under another epoch, must not act on the result.
    ///
    /// Gives what could be read, and an error for each record that could not.
    pub fn from_snapshot<'a>(
        addressing: Addressing,
        revision: u64,
        entries: impl IntoIterator<Item = (&'a str, &'a [u8], u64)>,
    ) -> (Self, Vec<RecordError>) {
        let desired = Self { addressing, revision, ..Self::default() };
        let mut reading = Reading { desired, parts: BTreeMap::new(), errors: Vec::new() };
        for (key, value, revision) in entries {
            reading.entry(key, value, revision);
        }
        let parts = std::mem::take(&mut reading.parts);
        for (id, parts) in parts {
            reading.assemble(id, parts);
        }
        (reading.desired, reading.errors)
    }
}

impl Reading {
    fn entry(&mut self, key: &str, value: &[u8], revision: u64) {
        let segments: Vec<&str> = key.split('/').collect();
        match segments[..] {
            [key::LEADER] => self.leader(key, value, revision),
            ["proxies", id] => match self.record::<Proxy>(key, value) {
                Some(proxy) if proxy.ended => drop(self.desired.ended.insert(id.to_owned())),
                Some(proxy) => drop(self.desired.proxies.insert(id.to_owned(), proxy)),
                None => {}
            },
            ["met", id] => {
                if let Some(met) = self.record(key, value) {
                    self.desired.met.insert(id.to_owned(), met);
                }
            }
            ["subnets", n] => {
                let subnet = self.record(key, value).zip(self.number(key, n));
                if let Some((subnet, n)) = subnet {
                    self.desired.subnets.insert(n as u32, subnet);
                }
            }
            ["routes", project, app] => self.of_app(key, (project, app), "routes", None, (value, revision)),
            [_, "claims", _] => {
                if let Some(claim) = self.record(key, value) {
                    self.desired.claims.insert(key.to_owned(), claim);
                }
            }
            [project, kind @ ("apps" | "scale" | "gone"), app] => {
                self.of_app(key, (project, app), kind, None, (value, revision))
            }
            [project, kind @ ("versions" | "replicas"), app, n] => {
                self.of_app(key, (project, app), kind, Some(n), (value, revision))
            }
            _ => return,
        }
        self.desired.revisions.insert(key.to_owned(), revision);
    }

    fn leader(&mut self, key: &str, value: &[u8], revision: u64) {
        self.desired.epoch = revision;
        if let Some(leader) = self.record::<Leader>(key, value) {
            self.desired.leads_since_ms = leader.since_ms;
        }
    }

    fn of_app(&mut self, key: &str, id: (&str, &str), kind: &str, n: Option<&str>, (value, revision): (&[u8], u64)) {
        let id = match (Name::new(id.0), Name::new(id.1)) {
            (Ok(project), Ok(name)) => AppId { project, name },
            (Err(error), _) | (_, Err(error)) => return self.refuse(key, &error.to_string()),
        };
        let n = match n.map(|n| self.number(key, n)) {
            Some(None) => return self.break_app(id, key),
            Some(Some(n)) => n,
            None => 0,
        };
        if kind == "gone" {
            if let Some(gone) = self.record(key, value) {
                self.desired.gone.insert(id, gone);
            }
            return;
        }
        let mut parts = self.parts.remove(&id).unwrap_or_default();
        let read = match kind {
            "apps" => self.record(key, value).map(|app| parts.app = Some(app)),
            "scale" => self.record(key, value).map(|scale| parts.scale = Some(scale)),
            "versions" => self.record(key, value).map(|version| drop(parts.versions.insert(n, version))),
            "replicas" => self.record(key, value).map(|replica| drop(parts.replicas.insert(n, replica))),
            _ => self
                .record::<AppRoutes>(key, value)
                .map(|routes| parts.published = Some(Published { routes, revision })),
        };
        self.parts.insert(id.clone(), parts);
        if read.is_none() {
            self.break_app(id, key);
        }
    }

    /// Puts an app together, or says why it is left alone.
    fn assemble(&mut self, id: AppId, parts: Parts) {
        let desired = &mut self.desired;
        let wanted = parts.app.as_ref().map(|app| app.version);
        let why = match (&parts.broken, wanted, &parts.scale) {
            (Some(why), _, _) => why.clone(),
            (None, None, None) if parts.versions.is_empty() && parts.replicas.is_empty() => {
                desired.stray_routes.extend(parts.published.map(|published| (id, published.routes)));
                return;
            }
            (None, None, _) => format!("{} is missing", key::app(&id)),
            (None, Some(_), None) => format!("{} is missing", key::scale(&id)),
            (None, Some(version), Some(_)) if !parts.versions.contains_key(&version) => {
                format!("{} is missing", key::version(&id, version))
            }
            (None, Some(_), Some(_)) => {
                let (Some(app), Some(scale)) = (parts.app, parts.scale) else { return };
                let (versions, replicas, published) = (parts.versions, parts.replicas, parts.published);
                desired.apps.insert(id, DesiredApp { app, versions, scale, replicas, published });
                return;
            }
        };
        desired.left_alone.insert(id, why);
    }

    fn break_app(&mut self, id: AppId, key: &str) {
        let why = format!("{key} is not readable");
        self.parts.entry(id).or_default().broken.get_or_insert(why);
    }

    fn record<T: DeserializeOwned>(&mut self, key: &str, value: &[u8]) -> Option<T> {
        match read(key, value) {
            Ok(record) => Some(record),
            Err(error) => {
                self.desired.unreadable.insert(key.to_owned(), error.source.to_string());
                self.errors.push(error);
                None
            }
        }
    }

    fn number(&mut self, key: &str, text: &str) -> Option<u64> {
        let number = text.parse().ok();
        if number.is_none() {
            self.refuse(key, "it must end in a number");
        }
        number
    }

    fn refuse(&mut self, key: &str, why: &str) {
        self.desired.unreadable.insert(key.to_owned(), why.to_owned());
        self.errors.push(RecordError { key: key.to_owned(), source: serde_json::Error::custom(why) });
    }
}
