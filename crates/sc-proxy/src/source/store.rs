//! Routes from the store: watched, and listed whole now and then, since a watch is only a hint.

use std::sync::Arc;

use async_trait::async_trait;
use sc_core::{
    AppId,
    records::{self, RecordError, key},
    routes::AppRoutes,
};
use sc_store::{Changes, Entry, Store, StoreError, Watch};
use tokio::time::{Instant, timeout_at};

use super::{BackOff, RELIST, RouteSource, Update, scattered};

/// Follows `routes/{project}/{app}` in a store. Nothing else is read here: for routes a user that may read `routes/` suffices.
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
        let snapshot = self.store.load(key::ROUTES).await?;
        let watch = self.store.watch(key::ROUTES, snapshot.revision).await?;
        self.watch = Some((watch, Instant::now() + scattered(RELIST)));
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
    fn relist(&mut self) {
        self.watch = None;
    }

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
        let Some(app) = key::app_of_routes(key) else { return };
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
    use std::time::Duration;

    use super::*;

    fn entry(value: &str) -> Entry {
        Entry { value: value.as_bytes().into(), revision: 1 }
    }

    #[test]
    fn changes_become_an_update() {
        let good = r#"{"v":1,"app":"web","routes":[{"path":"/"}],"backends":[],"new_field":1}"#;
        let keys = vec![
            ("routes/default/web".to_owned(), Some(entry("{"))),
            ("routes/default/web".to_owned(), Some(entry(good))),
            ("routes/default/bad".to_owned(), Some(entry(r#"{"v":2,"app":"bad","routes":[],"backends":[]}"#))),
            ("routes/default/worse".to_owned(), Some(entry("no json"))),
            ("routes/default/other".to_owned(), Some(entry(good))),
            ("routes/team/gone".to_owned(), None),
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

    /// A store whose user may read routes, and nothing else.
    struct LeastRights(sc_store::Memory);

    #[async_trait]
    impl Store for LeastRights {
        async fn load(&self, prefix: &str) -> Result<sc_store::Snapshot, StoreError> {
            assert_eq!(prefix, "routes/");
            self.0.load(prefix).await
        }
        async fn watch(&self, prefix: &str, after: u64) -> Result<Box<dyn Watch>, StoreError> {
            assert_eq!(prefix, "routes/");
            self.0.watch(prefix, after).await
        }
        async fn commit(
            &self,
            _: Option<sc_store::Fence>,
            _: Vec<sc_store::Expect>,
            _: Vec<sc_store::Write>,
        ) -> Result<u64, StoreError> {
            panic!("routes are only read")
        }
        async fn grant(&self, _: Duration) -> Result<sc_store::LeaseId, StoreError> {
            panic!("routes are only read")
        }
        async fn keep_alive(&self, _: sc_store::LeaseId) -> Result<(), StoreError> {
            panic!("routes are only read")
        }
        async fn revoke(&self, _: sc_store::LeaseId) -> Result<(), StoreError> {
            panic!("routes are only read")
        }
        fn describe(&self) -> String {
            self.0.describe()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_but_routes_is_read() {
        let memory = sc_store::Memory::new();
        let put = |key: &str, value: &str| {
            vec![sc_store::Write::Put { key: key.to_owned(), value: value.into(), lease: None }]
        };
        let web = r#"{"v":1,"app":"web","routes":[{"path":"/"}],"backends":[]}"#;
        memory.commit(None, Vec::new(), put("routes/default/web", web)).await.unwrap();
        memory.commit(None, Vec::new(), put("default/apps/web", "{}")).await.unwrap();
        let mut source = StoreSource::new(Arc::new(LeastRights(memory.clone())));
        let all = source.next().await;
        assert_eq!((all.revision, all.whole, all.put.len()), (2, true, 1));
        let api = web.replace("web", "api");
        memory.commit(None, Vec::new(), put("default/apps/api", "{}")).await.unwrap();
        memory.commit(None, Vec::new(), put("routes/default/api", &api)).await.unwrap();
        let changed = source.next().await;
        assert_eq!((changed.revision, changed.whole, changed.put.len()), (4, false, 1));
    }
}
