//! Proxies that say they are there: for those without access to the store, the manager keeps the leased record.

use std::{sync::Arc, time::Duration};

use hyper::StatusCode;
use sc_core::records::{self, Proxy, key};
use sc_store::{Entry, LeaseId, StoreError, Write};

use super::{Answer, Api, Call, body, files::empty};
use crate::{problem, view};

/// How long a proxy's record stays without being renewed.
const TTL: Duration = Duration::from_secs(10);
/// The most proxies registered this way.
const MOST: usize = 1_000;

/// One that registered here.
pub(super) struct Registered {
    lease: LeaseId,
    record: Proxy,
}

impl Api {
    pub(super) fn proxies(&self) -> Answer {
        let desired = self.desired()?;
        Ok(body::json(StatusCode::OK, &view::proxies(&self.world, &desired)))
    }

    pub(super) async fn put_proxy(self: Arc<Self>, call: Call) -> Answer {
        let id = call.param("id").to_owned();
        let valid =
            !id.is_empty() && id.len() <= 100 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
        if !valid {
            return Err(problem::malformed(format!(
                "{id:?} is no id of a proxy: letters, digits and -_.: only, at most 100"
            )));
        }
        let record: Proxy = body::read(call.request.into_body()).await?;
        self.register(&id, record).await.map_err(|error| problem::of_store(&error))?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    async fn register(&self, id: &str, record: Proxy) -> Result<(), StoreError> {
        let mut leases = self.leases.lock().await;
        let entry = self.world.mirror.snapshot().and_then(|s| s.entries.get(&key::proxy(id)).cloned());
        let there = entry.is_some();
        let of_it = |entry: &Entry| records::read::<Proxy>("", &entry.value).is_ok_and(|now| now.boot == record.boot);
        if record.ended && !entry.is_some_and(|entry| of_it(&entry)) {
            return Ok(()); // another process has its id meanwhile, and lives
        }
        if let Some(known) = leases.get(id).filter(|known| there && known.record == record) {
            match self.world.store.keep_alive(known.lease).await {
                Ok(()) => return Ok(()),
                Err(StoreError::LeaseGone) => {}
                Err(error) => return Err(error),
            }
        }
        let lease = self.world.store.grant(TTL).await?;
        let put = Write::Put { key: key::proxy(id), value: records::write(&record), lease: Some(lease) };
        let revision = self.world.store.commit(None, Vec::new(), vec![put]).await?;
        drop(self.world.mirror.reach(revision).await);
        if leases.len() >= MOST {
            leases.clear();
        }
        if let Some(old) = leases.insert(id.to_owned(), Registered { lease, record }) {
            let _ = self.world.store.revoke(old.lease).await;
        }
        Ok(())
    }
}
