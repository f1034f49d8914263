//! What is spoken with an app's replicas.

use serde::{Deserialize, Serialize};

/// What the proxy speaks with an app's replicas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS, by prior knowledge (RFC 9113 section 3.3): what gRPC servers take unless told otherwise.
    H2c,
    /// HTTP/1.1 under TLS.
    Https,
    /// HTTP/2 under TLS.
    H2,
}

impl Protocol {
    /// The one that its name in an app file says.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "http1" => Some(Self::Http1),
            "h2c" => Some(Self::H2c),
            "https" => Some(Self::Https),
            "h2" => Some(Self::H2),
            _ => None,
        }
    }

    /// Whether it is under TLS.
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Https | Self::H2)
    }

    /// Whether many requests share a connection.
    pub fn is_multiplexed(self) -> bool {
        matches!(self, Self::H2c | Self::H2)
    }

    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How the proxy knows an app's replicas under TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackendTls {
    /// Whose certificates are taken.
    pub verify: Verify,
    /// The name that is asked for (SNI) and that the certificate must have. None: the host of the app's first route with an
    /// exact host, else the replica's address.
    pub server_name: Option<String>,
}

impl BackendTls {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Whose certificates the proxy takes from a replica.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// Those of the authorities that the proxy's system trusts.
    #[default]
    System,
    /// Those of the authorities in this PEM text, and no others.
    Ca(String),
    /// Any: the connection is private, but nobody knows with whom.
    None,
}
