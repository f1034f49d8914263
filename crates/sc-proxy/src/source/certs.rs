//! Where certificates and challenges come from, beside the routes: the store, the manager's stream, or this process.
//!
//! As a source of routes, a source of certificates never fails: what it cannot reach it waits for, saying so. What it cannot open
//! it names, and the last good certificate of that name serves on. It is apart from the routes': a user without a right to
//! `certs/`, or a wrong store key, costs no routes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use sc_core::certs::{CERTS, Certificates, cert_key};
use sc_store::{Changes, Entry, Store, StoreError, Watch};
use sc_vault::{KeyFile, Secret};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{BackOff, RELIST, scattered};

/// In the place of [`RELIST`] while something cannot be opened: the store key may have been put in place.
const RELIST_BROKEN: Duration = Duration::from_secs(2);
/// How long to wait where the store refuses to show certificates.
const DENIED: Duration = Duration::from_secs(20);

/// A certificate with its key, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The chain, as PEM.
    pub chain: String,
    /// The private key, as PEM.
    pub key: Secret,
}

/// All that is known of certificates.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stored {
    /// Everything up to this revision is included.
    pub revision: u64,
    /// By name.
    pub certs: BTreeMap<String, Arc<Opened>>,
    /// Those that cannot be opened or read, and why.
    pub broken: BTreeMap<String, String>,
    /// What authorities are to find, by token.
    pub challenges: BTreeMap<String, String>,
}

/// A source of certificates.
#[async_trait(?Send)]
pub trait CertSource {
    /// Waits for the next change, and gives all there is then.
    async fn next(&mut self) -> Stored;
}

/// Follows `certs/` in a store.
pub(crate) struct StoreCerts {
    store: Arc<dyn Store>,
    key: KeyFile,
    watch: Option<(Box<dyn Watch>, Instant)>,
    back_off: BackOff,
    down: bool,
    entries: BTreeMap<String, Entry>,
    /// What was opened, with the revision it was opened at.
    opened: BTreeMap<String, (u64, Arc<Opened>)>,
}

impl StoreCerts {
    pub(crate) fn new(store: Arc<dyn Store>, key: KeyFile) -> Self {
        let (entries, opened) = Default::default();
        Self { store, key, watch: None, back_off: BackOff::default(), down: false, entries, opened }
    }

    async fn list(&mut self) -> Result<Stored, StoreError> {
        let snapshot = self.store.load(CERTS).await?;
        let watch = self.store.watch(CERTS, snapshot.revision).await?;
        self.entries = snapshot.entries.into_iter().collect();
        let stored = self.stored(snapshot.revision);
        let patience = if stored.broken.is_empty() { RELIST } else { RELIST_BROKEN };
        self.watch = Some((watch, Instant::now() + scattered(patience)));
        Ok(stored)
    }

    /// The state after the next change; none when it is time to list again.
    async fn watched(&mut self) -> Option<Stored> {
        let (watch, until) = self.watch.as_mut()?;
        let Ok(Ok(Changes { revision, keys })) = timeout_at(*until, watch.next()).await else { return None };
        for (key, entry) in keys {
            match entry {
                Some(entry) => drop(self.entries.insert(key, entry)),
                None => drop(self.entries.remove(&key)),
            }
        }
        let stored = self.stored(revision);
        if let Some((_, until)) = self.watch.as_mut().filter(|_| !stored.broken.is_empty()) {
            *until = (*until).min(Instant::now() + RELIST_BROKEN);
        }
        Some(stored)
    }

    fn stored(&mut self, revision: u64) -> Stored {
        let entries = self.entries.iter().map(|(key, entry)| (key.as_str(), &entry.value[..], entry.revision));
        let seen = Certificates::from_snapshot(revision, entries);
        let mut stored = Stored { revision, ..Stored::default() };
        for (key, (why, _)) in &seen.unreadable {
            let name = key.strip_prefix(CERTS).unwrap_or(key);
            stored.broken.insert(name.to_owned(), format!("its record is not readable: {why}"));
        }
        self.opened.retain(|name, (revision, _)| seen.certs.get(name).is_some_and(|kept| kept.revision == *revision));
        for (name, kept) in &seen.certs {
            if let Some((_, opened)) = self.opened.get(name) {
                stored.certs.insert(name.clone(), opened.clone());
                continue;
            }
            match self.key.unseal(&cert_key(name), &kept.record.key) {
                Ok(key) => {
                    let opened = Arc::new(Opened { chain: kept.record.chain.clone(), key });
                    self.opened.insert(name.clone(), (kept.revision, opened.clone()));
                    stored.certs.insert(name.clone(), opened);
                }
                Err(error) => drop(stored.broken.insert(name.clone(), crate::start::chain(&error))),
            }
        }
        stored.challenges = seen.challenges.into_iter().map(|(token, kept)| (token, kept.record.answer)).collect();
        stored
    }
}

#[async_trait(?Send)]
impl CertSource for StoreCerts {
    async fn next(&mut self) -> Stored {
        loop {
            if let Some(stored) = self.watched().await {
                return stored;
            }
            self.watch = None;
            match self.list().await {
                Ok(stored) => {
                    self.down = false;
                    self.back_off.reset();
                    return stored;
                }
                Err(error) => {
                    let denied = matches!(error, StoreError::Denied { .. });
                    if !std::mem::replace(&mut self.down, true) {
                        let error = crate::start::chain(&error);
                        match denied {
                            true => tracing::warn!(
                                error,
                                "no certificates from the store: let the proxy's user read `certs/` there, beside `routes/`"
                            ),
                            false => tracing::warn!(error, "no news of certificates; the last ones serve on"),
                        }
                    }
                    match denied {
                        true => tokio::time::sleep(DENIED).await,
                        false => self.back_off.wait().await,
                    }
                }
            }
        }
    }
}

/// Follows a value in this process.
pub(crate) struct GivenCerts(pub(crate) watch::Receiver<Stored>, pub(crate) bool);

#[async_trait(?Send)]
impl CertSource for GivenCerts {
    async fn next(&mut self) -> Stored {
        let first = !std::mem::replace(&mut self.1, true);
        if !first && self.0.changed().await.is_err() {
            std::future::pending::<()>().await; // nobody will ever say anything again
        }
        self.0.borrow_and_update().clone()
    }
}
