//! The certificates that are served: those of the folder, then those of the store, then one of the proxy's own.
//!
//! For a name that several are for, the folder's goes first; of several from the store the one that lasts longest. For names that
//! none is for: `default` of the folder, `default` of the store, the folder's first, the store's first. Any change makes a new
//! set, which is swapped in whole; connections that are open keep what they began with.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use rustls::sign::CertifiedKey;
use sc_vault::pair;

use super::{
    TlsError,
    certs::{self, Certs},
    own,
};
use crate::source::{Opened, Stored};

/// The name of the certificate for names that no other has.
const DEFAULT: &str = "default";

/// A certificate of the folder.
pub(crate) struct Placed {
    pub(crate) cert: Arc<CertifiedKey>,
    pub(crate) is_default: bool,
}

/// One of the store, ready to serve.
struct Loaded {
    from: Arc<Opened>,
    cert: Arc<CertifiedKey>,
    not_after_ms: u64,
}

#[derive(Default)]
struct Inner {
    folder: Vec<Placed>,
    stored: BTreeMap<String, Loaded>,
    /// What was wrong with stored ones when it was last said.
    told: BTreeMap<String, String>,
}

/// All certificates, and what is served of them.
pub(crate) struct Shelf {
    current: Arc<ArcSwap<Certs>>,
    /// Where one of our own is kept.
    data: Option<PathBuf>,
    inner: Mutex<Inner>,
}

impl Shelf {
    pub(super) fn new(data: Option<&Path>) -> Self {
        let (current, inner) = Default::default();
        Self { current, data: data.map(Path::to_owned), inner }
    }

    /// The names that have a certificate, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        self.current.load().list()
    }

    /// What is served, as it changes.
    pub(super) fn current(&self) -> Arc<ArcSwap<Certs>> {
        self.current.clone()
    }

    /// Makes sure that something is served.
    pub(super) fn begin(&self) -> Result<(), TlsError> {
        if !self.current.load().is_empty() {
            return Ok(());
        }
        self.current.store(Arc::new(own::certs(self.data.as_deref())?));
        tracing::warn!(
            "there is no certificate: serving HTTPS with one of the proxy's own, which browsers warn of; give one with --certs or `sc cert add`"
        );
        Ok(())
    }

    /// Takes the folder's certificates, for those before.
    pub(crate) fn put_folder(&self, folder: Vec<Placed>) {
        let mut inner = self.lock();
        inner.folder = folder;
        self.serve(&inner);
    }

    /// Takes the store's certificates, for those before. Of one that cannot be read or opened the last good one stays. Gives what is
    /// wrong, if anything is.
    pub(crate) fn put_stored(&self, stored: &Stored) -> Option<String> {
        let mut inner = self.lock();
        let mut wrong = stored.broken.clone();
        let mut before = std::mem::take(&mut inner.stored);
        let (mut now, mut changed) = (BTreeMap::new(), false);
        for (name, opened) in &stored.certs {
            let old = before.remove(name);
            if let Some(same) = old.as_ref().filter(|old| old.from == *opened) {
                now.insert(name.clone(), Loaded { from: opened.clone(), cert: same.cert.clone(), ..*same });
                continue;
            }
            match load(name, opened) {
                Ok(loaded) => {
                    now.insert(name.clone(), loaded);
                    changed = true;
                }
                Err(why) => {
                    wrong.insert(name.clone(), why);
                    now.extend(old.map(|old| (name.clone(), old)));
                }
            }
        }
        for name in stored.broken.keys() {
            now.extend(before.remove(name).map(|old| (name.clone(), old)));
        }
        changed |= !before.is_empty();
        inner.stored = now;
        for (name, why) in &wrong {
            if inner.told.get(name) != Some(why) {
                tracing::error!(certificate = name, error = why, "the last good one serves on, if there was one");
            }
        }
        let text = wrong.iter().next().map(|(name, why)| format!("certificate {name}: {why}"));
        inner.told = wrong;
        if changed {
            tracing::info!(certificates = inner.stored.len(), "new certificates from the store");
            self.serve(&inner);
        }
        text
    }

    /// The store's certificates that are served, to be kept.
    pub(crate) fn kept(&self) -> BTreeMap<String, Arc<Opened>> {
        self.lock().stored.iter().map(|(name, loaded)| (name.clone(), loaded.from.clone())).collect()
    }

    fn serve(&self, inner: &Inner) {
        let mut certs = Certs::default();
        for placed in &inner.folder {
            // That it names something readable was seen when it was read.
            let _ = certs.add(placed.cert.clone(), placed.is_default);
        }
        let mut stored: Vec<_> = inner.stored.iter().collect();
        stored.sort_by_key(|(name, loaded)| (Reverse(loaded.not_after_ms), *name));
        let has_default = inner.folder.iter().any(|placed| placed.is_default);
        for (name, loaded) in stored {
            let _ = certs.add(loaded.cert.clone(), false);
            if name == DEFAULT && !has_default {
                certs.set_default(loaded.cert.clone());
            }
        }
        if certs.is_empty() && self.current.load().is_empty() {
            return; // `begin` does what follows, and tells.
        }
        if certs.is_empty() {
            match own::certs(self.data.as_deref()) {
                Ok(own) => certs = own,
                Err(error) => return tracing::error!(%error, "the certificates that were good before serve on"),
            }
        }
        self.current.store(Arc::new(certs));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(name: &str, opened: &Arc<Opened>) -> Result<Loaded, String> {
    // Also one that has ended is served: the client says so more clearly than a certificate for another name would.
    let pair = pair::Pair::read(&opened.chain, &opened.key.0, 0).map_err(|refused| refused.what)?;
    let cert = certs::read(Path::new(name), opened.chain.as_bytes(), opened.key.0.as_bytes());
    let cert = Arc::new(cert.map_err(|error| error.to_string())?);
    Certs::default().add(cert.clone(), true)?;
    Ok(Loaded { from: opened.clone(), cert, not_after_ms: pair.not_after_ms })
}

#[cfg(test)]
mod tests {
    use sc_vault::Secret;

    use super::*;

    fn made(names: &[&str], until: i32) -> Arc<Opened> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let chain = params.self_signed(&key).unwrap().pem();
        Arc::new(Opened { chain, key: Secret(key.serialize_pem()) })
    }

    fn stored(certs: &[(&str, &Arc<Opened>)]) -> Stored {
        let certs = certs.iter().map(|(name, opened)| ((*name).to_owned(), (*opened).clone())).collect();
        Stored { certs, ..Stored::default() }
    }

    fn served(shelf: &Shelf, name: &str) -> String {
        let cert = shelf.current.load().find(Some(name)).unwrap();
        format!("{:?}", cert.end_entity_cert().unwrap())
    }

    fn of(opened: &Opened) -> String {
        let cert = certs::read(Path::new("x"), opened.chain.as_bytes(), opened.key.0.as_bytes()).unwrap();
        format!("{:?}", cert.end_entity_cert().unwrap())
    }

    #[test]
    fn the_folder_goes_first_and_of_the_stores_the_one_that_lasts_longest() {
        let shelf = Shelf::new(None);
        shelf.begin().unwrap();
        let (short, long, other) = (made(&["a.test"], 2040), made(&["a.test"], 2050), made(&["b.test"], 2045));
        assert_eq!(shelf.put_stored(&stored(&[("one", &short), ("two", &long), ("other", &other)])), None);
        assert_eq!((served(&shelf, "a.test"), served(&shelf, "b.test")), (of(&long), of(&other)));
        shelf.put_stored(&stored(&[("one", &short), ("default", &other)]));
        assert_eq!((served(&shelf, "a.test"), served(&shelf, "x.test")), (of(&short), of(&other)), "by its name");
        let mine = load("mine", &made(&["a.test"], 2030)).unwrap();
        let in_folder = format!("{:?}", mine.cert.end_entity_cert().unwrap());
        shelf.put_folder(vec![Placed { cert: mine.cert, is_default: false }]);
        assert_eq!((served(&shelf, "a.test"), served(&shelf, "x.test")), (in_folder, of(&other)));
        shelf.put_folder(Vec::new());
        assert_eq!(served(&shelf, "a.test"), of(&short));
    }

    #[test]
    fn what_cannot_be_read_leaves_the_last_good_one_and_what_is_removed_goes() {
        let shelf = Shelf::new(None);
        shelf.begin().unwrap();
        let own = served(&shelf, "a.test");
        let good = made(&["a.test"], 2040);
        shelf.put_stored(&stored(&[("a", &good)]));
        let mixed = Arc::new(Opened { chain: good.chain.clone(), key: made(&["a.test"], 2040).key.clone() });
        let said = shelf.put_stored(&stored(&[("a", &mixed)])).unwrap();
        assert!(said.contains("certificate a: the key is not the certificate's"), "{said}");
        assert_eq!(served(&shelf, "a.test"), of(&good));
        let broken = [("a".to_owned(), "sealed with another key".to_owned())].into();
        let said = shelf.put_stored(&Stored { broken, ..Stored::default() }).unwrap();
        assert!(said.contains("another key"), "{said}");
        assert_eq!((served(&shelf, "a.test"), shelf.kept().len()), (of(&good), 1));
        assert_eq!(shelf.put_stored(&Stored::default()), None);
        assert_ne!(served(&shelf, "a.test"), of(&good));
        assert_ne!(own, of(&good));
        assert!(shelf.kept().is_empty());
    }
}
