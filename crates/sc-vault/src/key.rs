//! The key, what it seals and opens.

use std::{
    fmt, fs, io,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    digest::{SHA256, digest},
    rand,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use sc_core::certs::Sealed;

use crate::VaultError;

/// How this release seals.
const ALG: &str = "A256GCM";

/// A text that is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The key that seals what is secret in the store.
pub struct StoreKey {
    id: String,
    key: RandomizedNonceKey,
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreKey({})", self.id)
    }
}

impl StoreKey {
    /// Reads the key's file.
    ///
    /// # Errors
    /// When there is none, it cannot be read, or it holds something else.
    pub fn open(path: &Path) -> Result<Self, VaultError> {
        let text = fs::read_to_string(path).map_err(|source| VaultError::File { path: path.to_owned(), source })?;
        Self::parse(text.trim()).ok_or_else(|| VaultError::Content(path.to_owned()))
    }

    /// Reads the key's file; makes one, for its owner alone to read, where there is none.
    ///
    /// # Errors
    /// As [`StoreKey::open`], and when it cannot be made.
    pub fn open_or_make(path: &Path) -> Result<Self, VaultError> {
        match Self::open(path) {
            Err(VaultError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                make(path).map_err(|source| VaultError::File { path: path.to_owned(), source })?;
                Self::open(path)
            }
            other => other,
        }
    }

    fn parse(hex: &str) -> Option<Self> {
        if hex.len() != 64 || !hex.is_ascii() {
            return None;
        }
        let byte = |n: usize| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).ok();
        let bytes: Vec<u8> = (0..32).map(byte).collect::<Option<_>>()?;
        let id = digest(&SHA256, &bytes).as_ref().iter().take(4).map(|b| format!("{b:02x}")).collect();
        Some(Self { id, key: RandomizedNonceKey::new(&AES_256_GCM, &bytes).ok()? })
    }

    /// Its short name: says which key it is, and nothing of what is in it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Seals a text for the record at `key` of the store.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn seal(&self, key: &str, text: &str) -> Result<Sealed, VaultError> {
        let mut bytes = text.as_bytes().to_vec();
        let nonce = self.key.seal_in_place_append_tag(Aad::from(key), &mut bytes).map_err(|_| VaultError::Seal)?;
        Ok(Sealed {
            alg: ALG.to_owned(),
            key: self.id.clone(),
            nonce: BASE64_STANDARD.encode(nonce.as_ref()),
            text: BASE64_STANDARD.encode(bytes),
        })
    }

    /// Opens what was sealed for the record at `key`.
    ///
    /// # Errors
    /// When another key was used, or it is not what was sealed for this record.
    pub fn unseal(&self, key: &str, sealed: &Sealed) -> Result<Secret, VaultError> {
        if sealed.alg != ALG {
            return Err(VaultError::Algorithm(sealed.alg.clone()));
        }
        if sealed.key != self.id {
            return Err(VaultError::OtherKey { sealed: sealed.key.clone(), here: self.id.clone() });
        }
        let bytes = |text: &str| BASE64_STANDARD.decode(text).map_err(|_| VaultError::Tampered);
        let nonce: [u8; NONCE_LEN] = bytes(&sealed.nonce)?.try_into().map_err(|_| VaultError::Tampered)?;
        let mut text = bytes(&sealed.text)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self.key.open_in_place(nonce, Aad::from(key), &mut text).map_err(|_| VaultError::Tampered)?;
        String::from_utf8(opened.to_vec()).map(Secret).map_err(|_| VaultError::Tampered)
    }
}

/// Written aside and linked to its place: a crash leaves no half of one, and of two that are made at once one stays.
fn make(path: &Path) -> io::Result<()> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("the system gives no randomness"))?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let aside = PathBuf::from(format!("{}.{}", path.display(), std::process::id()));
    let _ = fs::remove_file(&aside);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(hex.as_bytes())?;
    file.sync_all()?;
    let linked = match fs::hard_link(&aside, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Not every volume knows links.
        Err(_) if !path.exists() => fs::rename(&aside, path),
        other => other,
    };
    let _ = fs::remove_file(&aside);
    linked
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use proptest::prelude::*;

    use super::*;

    fn key(digit: char) -> StoreKey {
        StoreKey::parse(&digit.to_string().repeat(64)).unwrap()
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens_again_for_the_same_record_only(text in ".{0,300}", key_name in "[a-z/]{1,20}") {
            let key = key('a');
            let sealed = key.seal(&key_name, &text).unwrap();
            prop_assert_eq!(key.unseal(&key_name, &sealed).unwrap(), Secret(text.clone()));
            let other = format!("{key_name}x");
            prop_assert!(matches!(key.unseal(&other, &sealed), Err(VaultError::Tampered)));
            prop_assert_ne!(key.seal(&key_name, &text).unwrap().text, sealed.text, "a new nonce each time");
        }

        #[test]
        fn a_changed_bit_does_not_open(at in 0usize..40, bit in 0u8..8) {
            let key = key('a');
            let sealed = key.seal("certs/a", "a text of four and twenty").unwrap();
            let mut bytes = BASE64_STANDARD.decode(&sealed.text).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let changed = Sealed { text: BASE64_STANDARD.encode(bytes), ..sealed };
            prop_assert!(matches!(key.unseal("certs/a", &changed), Err(VaultError::Tampered)));
        }
    }

    #[test]
    fn another_key_is_named() {
        let (one, other) = (key('a'), key('b'));
        let sealed = one.seal("certs/a", "x").unwrap();
        let error = other.unseal("certs/a", &sealed).unwrap_err().to_string();
        assert!(error.contains(one.id()) && error.contains(other.id()), "{error}");
        let claimed = Sealed { key: other.id().to_owned(), ..sealed.clone() };
        assert!(matches!(other.unseal("certs/a", &claimed), Err(VaultError::Tampered)));
        let later = Sealed { alg: "later".into(), ..sealed };
        assert!(matches!(one.unseal("certs/a", &later), Err(VaultError::Algorithm(_))));
    }

    #[test]
    fn the_file_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/store.key");
        assert!(matches!(StoreKey::open(&path), Err(VaultError::File { .. })));
        let made = StoreKey::open_or_make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(StoreKey::open_or_make(&path).unwrap().id(), made.id());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
        fs::write(&path, "no key").unwrap();
        assert!(matches!(StoreKey::open_or_make(&path), Err(VaultError::Content(_))), "never written over");
        assert!(!format!("{made:?} {:?}", Secret("hush".into())).contains("hush"));
    }
}
