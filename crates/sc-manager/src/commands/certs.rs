//! `sc cert`: adds and removes certificates. As every command a compare-and-set commit, by whichever manager was asked.

use sc_api::{
    Problem,
    types::{CertAccepted, PutCert},
};
use sc_core::{
    certs::{Cert, Certificates, Origin, cert_key, issued_host, name_fault},
    records::{self, Extra, Level},
};
use sc_store::{Expect, StoreError, Write};
use sc_vault::pair::Pair;

use super::{TRIES, made};
use crate::{certs::days_left, problem, world::World};

/// A change of one key, and what it comes to.
struct Change {
    expect: Expect,
    /// None: everything is so already.
    write: Option<Write>,
    accepted: CertAccepted,
    told: (&'static str, String),
}

/// Adds a certificate, or replaces the one of this name.
///
/// # Errors
/// When it cannot be served: the key is another's, it has ended, it names no host; or the store or its key cannot be used.
pub async fn put_cert(world: &World, name: &str, put: &PutCert) -> Result<CertAccepted, Problem> {
    if let Some(why) = name_fault(name) {
        let hint = "give a name like shop or shop.example.com; the host names are those in the certificate";
        return Err(problem::invalid(format!("{name:?} is no name for a certificate: {why}"), hint));
    }
    let now_ms = world.now_ms();
    let pair = Pair::read(&put.chain, &put.key, now_ms);
    let pair =
        pair.map_err(|refused| problem::invalid(refused.what, format!("{}; nothing was changed", refused.fix)))?;
    let key = cert_key(name);
    let sealed = world.vault.key().and_then(|vault| vault.seal(&key, &pair.key.0));
    let sealed = sealed.map_err(|error| problem::of_vault(&error))?;
    let decide = |certificates: &Certificates| {
        let before = certificates.certs.get(name).map(|kept| &kept.record);
        let extra = before.map_or_else(Extra::new, |before| before.extra.clone());
        let same = before.is_some_and(|before| {
            before.chain == pair.chain && world.vault.unseal(&key, &before.key).is_ok_and(|open| open == pair.key)
        });
        let record = Cert {
            v: 1,
            chain: pair.chain.clone(),
            key: sealed.clone(),
            names: pair.names.clone(),
            not_before_ms: pair.not_before_ms,
            not_after_ms: pair.not_after_ms,
            source: Origin::Added,
            added_ms: now_ms,
            extra,
        };
        let does = if before.is_some() { "is replaced" } else { "is added" };
        let text = format!("certificate {name} ({}) {does}: {}", record.names.join(", "), days_left(&record, now_ms));
        Ok(Change {
            expect: Expect { key: key.clone(), revision: certificates.revision_of(&key) },
            write: (!same).then(|| Write::Put { key: key.clone(), value: records::write(&record), lease: None }),
            accepted: accepted(name, pair.names.clone(), pair.not_after_ms),
            told: ("cert_added", text),
        })
    };
    commit(world, decide).await
}

/// Removes a certificate. One from an authority is ordered anew while a route asks for it.
///
/// # Errors
/// When there is none of this name, or the store cannot do it.
pub async fn remove_cert(world: &World, name: &str) -> Result<CertAccepted, Problem> {
    let key = cert_key(name);
    let decide = |certificates: &Certificates| {
        let revision = certificates.revision_of(&key);
        if revision == 0 {
            return Err(problem::no_cert(certificates, name));
        }
        let record = certificates.certs.get(name).map(|kept| &kept.record);
        let (names, until) = record.map_or((Vec::new(), 0), |record| (record.names.clone(), record.not_after_ms));
        let again = issued_host(name).map_or("", |_| "; it is ordered anew while a route asks for it");
        Ok(Change {
            expect: Expect { key: key.clone(), revision },
            write: Some(Write::Delete { key: key.clone() }),
            told: ("cert_removed", format!("certificate {name} ({}) is removed{again}", names.join(", "))),
            accepted: accepted(name, names, until),
        })
    };
    commit(world, decide).await
}

fn accepted(name: &str, names: Vec<String>, not_after_ms: u64) -> CertAccepted {
    CertAccepted { name: name.to_owned(), names, not_after_ms, revision: 0, changed: true }
}

/// Decides and commits, anew when something else came first.
async fn commit(
    world: &World,
    decide: impl Fn(&Certificates) -> Result<Change, Problem>,
) -> Result<CertAccepted, Problem> {
    let mut certificates = world.certificates().ok_or_else(|| problem::no_store(world.waiting.text()))?;
    let mut last = StoreError::Conflict;
    for _ in 0..TRIES {
        let change = match decide(&certificates) {
            Ok(change) => change,
            // What stands in the way now may be what the try without an answer has done.
            Err(_) if matches!(last, StoreError::Unknown { .. }) => return Err(problem::of_store(&last)),
            Err(refused) => return Err(refused),
        };
        let done = |revision, changed| CertAccepted { revision, changed, ..change.accepted.clone() };
        let Some(write) = change.write else { return Ok(done(certificates.revision, false)) };
        let writes = vec![write];
        match world.mirror.commit(None, vec![change.expect], writes.clone()).await {
            Ok(revision) => {
                tell(world, revision, change.told).await;
                return Ok(done(revision, true));
            }
            Err(error @ (StoreError::Conflict | StoreError::Unknown { .. })) => {
                world.mirror.note(&error);
                let now = world.mirror.reload().await.map_err(|_| problem::of_store(&error))?;
                if matches!(error, StoreError::Unknown { .. })
                    && let Some(revision) = made(&now, &writes)
                {
                    tell(world, revision, change.told).await;
                    return Ok(done(revision, true));
                }
                certificates = world.certificates_of(&now);
                last = if matches!(last, StoreError::Unknown { .. }) { last } else { error };
            }
            Err(error) => {
                world.mirror.note(&error);
                return Err(problem::of_store(&error));
            }
        }
    }
    Err(problem::of_store(&last))
}

/// Makes the change seen here before it is answered, and tells of it.
async fn tell(world: &World, revision: u64, (kind, text): (&'static str, String)) {
    drop(world.mirror.reach(revision).await);
    world.events.add(world.events.event(Level::Info, kind, None, text));
}
