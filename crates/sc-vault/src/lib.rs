//! Secrets in the store, for manager and proxy.
//!
//! The store holds private keys sealed ([`StoreKey`]: AES-256-GCM with a random nonce, and the record's key in the store as
//! associated data, so that a sealed value moved to another record does not open). The key is in a file outside the store, made
//! by the first manager and handed to proxies: whoever reads the store, or a backup of it, reads no secret.
//!
//! [`pair`] says what is in a certificate and whether a private key is its own.

mod der;
mod file;
mod key;
pub mod pair;

pub use file::KeyFile;
pub use key::{Secret, StoreKey};

use std::path::PathBuf;

/// Why something cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// No key file was named.
    #[error("no key file is known here: give the manager's store key with --store-key FILE")]
    NoKey,
    /// The key file cannot be read or made.
    #[error("the store key {} cannot be used: restore it from where it is kept, or hand over the manager's", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no key.
    #[error("{} is no store key: it must hold 64 hexadecimal digits", .0.display())]
    Content(PathBuf),
    /// Another key was used.
    #[error(
        "it was sealed with another store key ({sealed}; here is {here}): restore that key's file, or add it again"
    )]
    OtherKey {
        /// The short name of the key that was used.
        sealed: String,
        /// And of the one here.
        here: String,
    },
    /// Not what was sealed.
    #[error("it does not open: somebody changed it, or copied it from another record; add it again")]
    Tampered,
    /// A sealing of a later release.
    #[error("it was sealed as {0:?}, which this release does not know: upgrade")]
    Algorithm(String),
    /// The system has no randomness, or the text is too large.
    #[error("it cannot be sealed")]
    Seal,
}
