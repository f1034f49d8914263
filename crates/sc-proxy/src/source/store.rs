//! Routes from the store: watched, and listed whole now and then, since a watch is only a hint.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sc_core::{
    AppId, Name,
    records::{self, RecordError},
    routes::AppRoutes,
};
use sc_store::{Changes, Entry, Store, StoreError, Watch};
use tokio::time::{Instant, timeout_at};

use super::{BackOff, RouteSource, Update, random};

/// How long a watch is believed before everything is listed again; cut by up to a third at random.
const RELIST: Duration = Duration::from_secs(30);

/// Follows `{project}/routes/{app}` in a store. The whole store is watched, since routes of projects yet unknown have no
/// common prefix; other keys only move the revision on.
pub(crate) struct StoreSource {
    store: Arc<dyn Store>,
    watch: Option<(Box<dyn Watch>, Instant)>,
    back_off: BackOff,
    down: bool,
}

impl StoreSource {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, watch: None, back_off: BackOff::default(), down: false }
    }

    async fn list(&mut self) -> Result<Update, StoreError> {
        let snapshot = self.store.load("").await?;
        let watch = self.store.watch("", snapshot.revision).await?;
        self.watch = Some((watch, Instant::now() + RELIST.mul_f64(1.0 - random() / 3.0)));
        let mut update = Update { revision: snapshot.revision, whole: true, ..Update::default() };
        for (key, entry) in &snapshot.entries {
            update.note(key, Some(entry));
        }
        Ok(update)
    }

    /// The next change seen by the watch; none when it is time to list again.
    async fn watched(&mut self) -> Option<Update> {
        let (watch, until) = self.watch.as_mut()?;
        match timeout_at(*until, watch.next()).await {
            Ok(Ok(changes)) => Some(Update::of(changes)),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the watch on routes ended");
                None
            }
            Err(_) => None,
        }
    }
}

#[async_trait(?Send)]
impl RouteSource for StoreSource {
    async fn next(&mut self) -> Update {
        loop {
            if let Some(update) = self.watched().await {
                return update;
            }
            self.watch = None;
            match self.list().await {
                Ok(update) => {
                    if std::mem::take(&mut self.down) {
                        tracing::info!(store = self.store.describe(), "the store is back");
                    }
                    self.back_off.reset();
                    return update;
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.down, true) {
                        let error = crate::start::chain(&error);
                        tracing::warn!(error, "waiting for the store; the last routes serve on");
                    }
                    self.back_off.wait().await;
                }
            }
        }
    }
}

impl Update {
    fn of(changes: Changes) -> Self {
        let mut update = Self { revision: changes.revision, ..Self::default() };
        // A batch may hold several commits: the last word on a key counts.
        let mut last = std::collections::BTreeMap::new();
        last.extend(changes.keys);
        for (key, entry) in &last {
            update.note(key, entry.as_ref());
        }
        update
    }

    fn note(&mut self, key: &str, entry: Option<&Entry>) {
        let Some(app) = app_of(key) else { return };
        match entry.map(|entry| read(key, &app, &entry.value)) {
            Some(Ok(routes)) => self.put.push(routes),
            Some(Err(error)) => {
                tracing::warn!(%error, %app, "the app's last good routes serve on");
                self.keep.push(app);
            }
            None => self.delete.push(app),
        }
    }
}

/// The app whose routes a key holds.
fn app_of(key: &str) -> Option<AppId> {
    let (project, rest) = key.split_once('/')?;
    let name = rest.strip_prefix("routes/")?;
    Some(AppId { project: Name::new(project).ok()?, name: Name::new(name).ok()? })
}

fn read(key: &str, app: &AppId, value: &[u8]) -> Result<AppRoutes, RecordError> {
    let error = |text: String| RecordError { key: key.to_owned(), source: serde::de::Error::custom(text) };
    let routes: AppRoutes = records::read(key, value)?;
    match &routes {
        routes if routes.v != 1 => Err(error(format!("its layout version is {}, not 1", routes.v))),
        routes if routes.app != *app => Err(error(format!("it says it is of app {}", routes.app))),
        _ => Ok(routes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(value: &str) -> Entry {
        Entry { value: value.as_bytes().into(), revision: 1 }
    }

    #[test]
    fn changes_become_an_update() {
        let good = r#"{"v":1,"app":"web","routes":[{"path":"/"}],"backends":[],"new_field":1}"#;
        let keys = vec![
            ("default/routes/web".to_owned(), Some(entry("{"))),
            ("default/routes/web".to_owned(), Some(entry(good))),
            ("default/routes/bad".to_owned(), Some(entry(r#"{"v":2,"app":"bad","routes":[],"backends":[]}"#))),
            ("default/routes/worse".to_owned(), Some(entry("no json"))),
            ("default/routes/other".to_owned(), Some(entry(good))),
            ("team/routes/gone".to_owned(), None),
            ("default/apps/web".to_owned(), Some(entry("{}"))),
            ("leader".to_owned(), None),
        ];
        let update = Update::of(Changes { revision: 9, keys });
        let names = |apps: &[AppId]| apps.iter().map(AppId::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!((update.revision, update.whole), (9, false));
        assert_eq!(update.put.iter().map(|routes| routes.app.to_string()).collect::<Vec<_>>(), ["web"]);
        assert_eq!(names(&update.keep), "bad other worse");
        assert_eq!(names(&update.delete), "team/gone");
    }
}
