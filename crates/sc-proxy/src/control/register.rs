//! Saying that this proxy is there: as a leased record in the store, or to the manager.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::Method;
use sc_core::records::{self, Proxy, key};
use sc_store::{Expect, LeaseId, Revision, Store, StoreError, Write};
use tokio::sync::watch;

use crate::source::{BackOff, link::Link};

/// How long the record outlives the proxy.
const LEASE: Duration = Duration::from_secs(10);
/// How often it is renewed.
const EVERY: Duration = Duration::from_secs(3);

/// How this process leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// It may be started again, and then serves at once by the table on its disk.
    Stopped,
    /// Another process has all that was its own, and nothing of it is in flight. It says so: as it reports no more, every drain
    /// would wait for it in vain.
    HandedOver,
}

/// Where this proxy says that it is there.
pub(crate) enum Registrar {
    /// In the store.
    Store(Arc<dyn Store>),
    /// To the manager.
    Manager(Link),
}

impl Registrar {
    /// Says so until it is told to leave, then takes it back.
    pub(crate) async fn run(self, id: String, record: Proxy, leave: watch::Receiver<Option<Leaves>>) {
        match self {
            Self::Store(store) => in_store(&*store, &id, &record, leave).await,
            Self::Manager(link) => with_manager(&link, &id, &record, leave).await,
        }
    }
}

/// How it is to leave, if it is time to; waits for `wait` to pass or for that. Nobody there who could say so: it stops.
async fn left(leave: &mut watch::Receiver<Option<Leaves>>, wait: Duration) -> Option<Leaves> {
    let told = tokio::time::timeout(wait, leave.wait_for(Option::is_some)).await.ok()?;
    Some(told.ok().and_then(|told| *told).unwrap_or(Leaves::Stopped))
}

/// The last word of a process that has handed over.
fn ended(record: &Proxy) -> Proxy {
    Proxy { ended: true, ..record.clone() }
}

async fn in_store(store: &dyn Store, id: &str, record: &Proxy, mut leave: watch::Receiver<Option<Leaves>>) {
    let mut written: Option<(LeaseId, Revision)> = None;
    let leaves = loop {
        let renewed = match written {
            Some(known) => renew(store, id, known).await,
            None => write(store, id, record).await,
        };
        written = match renewed {
            Ok(known) => Some(known),
            Err(StoreError::LeaseGone) => None,
            Err(error) => {
                tracing::debug!(error = crate::start::chain(&error), "cannot say that this proxy is there");
                written
            }
        };
        let wait = if written.is_some() { EVERY } else { Duration::from_millis(500) };
        if let Some(leaves) = left(&mut leave, wait).await {
            break leaves;
        }
    };
    let Some((lease, revision)) = written else { return };
    if leaves == Leaves::HandedOver && say_ended(store, id, record, (lease, revision)).await.is_ok() {
        return; // the entry goes when the lease runs out
    }
    let _ = store.revoke(lease).await;
}

/// Says that this process has ended, in its own entry and in no other's: one that has its id meanwhile lives.
async fn say_ended(
    store: &dyn Store,
    id: &str,
    record: &Proxy,
    (lease, revision): (LeaseId, Revision),
) -> Result<Revision, StoreError> {
    let key = key::proxy(id);
    store.keep_alive(lease).await?; // there are then seconds to read it
    let put = Write::Put { key: key.clone(), value: records::write(&ended(record)), lease: Some(lease) };
    store.commit(None, vec![Expect { key, revision }], vec![put]).await
}

/// Renews the lease and looks that the record is still there: somebody may have deleted it, or put back an older store.
async fn renew(store: &dyn Store, id: &str, known: (LeaseId, Revision)) -> Result<(LeaseId, Revision), StoreError> {
    store.keep_alive(known.0).await?;
    let key = key::proxy(id);
    let there = store.load(&key).await?.entries.contains_key(&key);
    if there { Ok(known) } else { Err(StoreError::LeaseGone) }
}

async fn write(store: &dyn Store, id: &str, record: &Proxy) -> Result<(LeaseId, Revision), StoreError> {
    let lease = store.grant(LEASE).await?;
    let put = Write::Put { key: key::proxy(id), value: records::write(record), lease: Some(lease) };
    Ok((lease, store.commit(None, Vec::new(), vec![put]).await?))
}

async fn with_manager(link: &Link, id: &str, record: &Proxy, mut leave: watch::Receiver<Option<Leaves>>) {
    let (path, body) = (format!("/v1/proxies/{id}"), Bytes::from(records::write(record)));
    let mut back_off = BackOff::default();
    let leaves = loop {
        match link.send(Method::PUT, &path, body.clone()).await {
            Ok(_) => {
                back_off.reset();
                if let Some(leaves) = left(&mut leave, EVERY).await {
                    break leaves;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "cannot tell the manager that this proxy is there");
                if let Some(leaves) = left(&mut leave, Duration::from_millis(100)).await {
                    break leaves;
                }
                back_off.wait().await;
            }
        }
    };
    if leaves == Leaves::HandedOver
        && let Err(error) = link.send(Method::PUT, &path, records::write(&ended(record)).into()).await
    {
        tracing::debug!(%error, "cannot tell the manager that this proxy has ended");
    }
}
