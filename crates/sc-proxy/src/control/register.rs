//! Saying that this proxy is there: as a leased record in the store, or to the manager.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::Method;
use sc_core::records::{self, Proxy, key};
use sc_store::{LeaseId, Store, StoreError, Write};
use tokio::sync::watch;

use crate::source::{BackOff, link::Link};

/// How long the record outlives the proxy.
const LEASE: Duration = Duration::from_secs(10);
/// How often it is renewed.
const EVERY: Duration = Duration::from_secs(3);

/// Where this proxy says that it is there.
pub(crate) enum Registrar {
    /// In the store.
    Store(Arc<dyn Store>),
    /// To the manager.
    Manager(Link),
}

impl Registrar {
    /// Says so until `leave` becomes true, then takes it back.
    pub(crate) async fn run(self, id: String, record: Proxy, leave: watch::Receiver<bool>) {
        match self {
            Self::Store(store) => in_store(&*store, &id, &record, leave).await,
            Self::Manager(link) => with_manager(&link, &id, &record, leave).await,
        }
    }
}

/// Whether it is time to leave; waits for `wait` to pass or for that.
async fn left(leave: &mut watch::Receiver<bool>, wait: Duration) -> bool {
    tokio::time::timeout(wait, leave.wait_for(|leave| *leave)).await.is_ok()
}

async fn in_store(store: &dyn Store, id: &str, record: &Proxy, mut leave: watch::Receiver<bool>) {
    let mut lease = None;
    loop {
        let renewed = match lease {
            Some(lease) => renew(store, id, lease).await,
            None => write(store, id, record).await,
        };
        lease = match renewed {
            Ok(lease) => Some(lease),
            Err(StoreError::LeaseGone) => None,
            Err(error) => {
                tracing::debug!(error = crate::start::chain(&error), "cannot say that this proxy is there");
                lease
            }
        };
        let wait = if lease.is_some() { EVERY } else { Duration::from_millis(500) };
        if left(&mut leave, wait).await {
            break;
        }
    }
    if let Some(lease) = lease {
        let _ = store.revoke(lease).await;
    }
}

/// Renews the lease and looks that the record is still there: somebody may have deleted it, or put back an older store.
async fn renew(store: &dyn Store, id: &str, lease: LeaseId) -> Result<LeaseId, StoreError> {
    store.keep_alive(lease).await?;
    let key = key::proxy(id);
    let there = store.load(&key).await?.entries.contains_key(&key);
    if there { Ok(lease) } else { Err(StoreError::LeaseGone) }
}

async fn write(store: &dyn Store, id: &str, record: &Proxy) -> Result<LeaseId, StoreError> {
    let lease = store.grant(LEASE).await?;
    let put = Write::Put { key: key::proxy(id), value: records::write(record), lease: Some(lease) };
    store.commit(None, Vec::new(), vec![put]).await?;
    Ok(lease)
}

async fn with_manager(link: &Link, id: &str, record: &Proxy, mut leave: watch::Receiver<bool>) {
    let (path, body) = (format!("/v1/proxies/{id}"), Bytes::from(records::write(record)));
    let mut back_off = BackOff::default();
    loop {
        match link.send(Method::PUT, &path, body.clone()).await {
            Ok(_) => {
                back_off.reset();
                if left(&mut leave, EVERY).await {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "cannot tell the manager that this proxy is there");
                if left(&mut leave, Duration::from_millis(100)).await {
                    return;
                }
                back_off.wait().await;
            }
        }
    }
}
