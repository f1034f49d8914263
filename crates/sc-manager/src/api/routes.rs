//! The routes, for proxies without access to the store: all of them, then each change.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::stream;
use sc_api::types::RoutesUpdate;
use sc_core::{AppId, plan::Desired, routes::AppRoutes};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{Answer, Api, Call, body};
use crate::{mirror::Changed, world::World};

/// Without a change, an update without content says that the stream lives.
const LIVES: Duration = Duration::from_secs(3);

struct Following {
    world: Arc<World>,
    changes: Changed,
    sent: BTreeMap<AppId, AppRoutes>,
    begun: bool,
    _room: OwnedSemaphorePermit,
}

impl Api {
    pub(super) fn routes(&self, _call: &Call) -> Answer {
        self.desired()?;
        let world = self.world.clone();
        let changes = world.mirror.changes();
        let following = Following { world, changes, sent: BTreeMap::new(), begun: false, _room: self.stream()? };
        let updates = stream::unfold(following, |mut following| async move {
            let update = following.next().await;
            Some((update, following))
        });
        Ok(body::lines(updates))
    }
}

impl Following {
    async fn next(&mut self) -> RoutesUpdate {
        loop {
            let quiet = self.begun && timeout(LIVES, self.changes.next()).await.is_err();
            let Some(desired) = self.world.desired() else { continue };
            let update = self.update(&desired);
            if quiet || update.whole || !update.put.is_empty() || !update.delete.is_empty() {
                return update;
            }
        }
    }

    fn update(&mut self, desired: &Desired) -> RoutesUpdate {
        let now = published(desired);
        let put =
            now.iter().filter(|(id, routes)| self.sent.get(*id) != Some(*routes)).map(|(_, r)| r.clone()).collect();
        let delete = self.sent.keys().filter(|id| !now.contains_key(*id)).cloned().collect();
        let whole = !std::mem::replace(&mut self.begun, true);
        self.sent = now;
        RoutesUpdate { revision: desired.revision, whole, put, delete }
    }
}

/// What stands in the store, also what somebody else wrote there.
fn published(desired: &Desired) -> BTreeMap<AppId, AppRoutes> {
    let apps = desired.apps.iter().filter_map(|(id, app)| Some((id, &app.published.as_ref()?.routes)));
    apps.chain(&desired.stray_routes).map(|(id, routes)| (id.clone(), routes.clone())).collect()
}
