//! The key's file as it is now: it may come later than the process that needs it, and may be replaced.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use sc_core::certs::Sealed;

use crate::{Secret, StoreKey, VaultError};

/// Where the key is, and what was read there last.
#[derive(Debug, Default)]
pub struct KeyFile {
    path: Option<PathBuf>,
    known: Mutex<Option<Arc<StoreKey>>>,
}

impl KeyFile {
    /// A file that is read when it is needed. None: nothing can be sealed or opened.
    pub fn new(path: Option<PathBuf>) -> Self {
        Self { path, known: Mutex::default() }
    }

    /// Makes the key if there is none, and holds it.
    ///
    /// # Errors
    /// When it can be neither read nor made.
    pub fn make(&self) -> Result<Arc<StoreKey>, VaultError> {
        let path = self.path.as_deref().ok_or(VaultError::NoKey)?;
        Ok(self.hold(StoreKey::open_or_make(path)?))
    }

    /// The key.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn key(&self) -> Result<Arc<StoreKey>, VaultError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known.map_or_else(|| self.read(), Ok)
    }

    /// Opens what was sealed for the record at `key`. A key that is not the right one is read anew first.
    ///
    /// # Errors
    /// When the key cannot be read, another one was used, or it is not what was sealed for this record.
    pub fn unseal(&self, key: &str, sealed: &Sealed) -> Result<Secret, VaultError> {
        match self.key()?.unseal(key, sealed) {
            Err(VaultError::OtherKey { .. }) => self.read()?.unseal(key, sealed),
            other => other,
        }
    }

    fn read(&self) -> Result<Arc<StoreKey>, VaultError> {
        let path = self.path.as_deref().ok_or(VaultError::NoKey)?;
        Ok(self.hold(StoreKey::open(path)?))
    }

    fn hold(&self, key: StoreKey) -> Arc<StoreKey> {
        let key = Arc::new(key);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.clone());
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_come_late_and_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("a"), dir.path().join("b"));
        let file = KeyFile::new(Some(path.clone()));
        let sealed = StoreKey::open_or_make(&other).unwrap().seal("certs/a", "x").unwrap();
        assert!(matches!(file.unseal("certs/a", &sealed), Err(VaultError::File { .. })));
        file.make().unwrap();
        assert!(matches!(file.unseal("certs/a", &sealed), Err(VaultError::OtherKey { .. })));
        std::fs::copy(&other, &path).unwrap();
        assert_eq!(file.unseal("certs/a", &sealed).unwrap().0, "x");
        assert!(matches!(KeyFile::default().key(), Err(VaultError::NoKey)));
    }
}
