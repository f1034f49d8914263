//! How connections of TCP routes are treated.

use serde::{Deserialize, Serialize};

/// How the proxy treats connections of an app's TCP routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TcpSpec {
    /// Milliseconds without a byte in either direction after which a connection is closed. 1 h unless said.
    pub idle_timeout_ms: u64,
    /// The header that tells a replica who the client is, before the client's first byte; none: it sees the proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// A version of the PROXY protocol (HAProxy's `doc/proxy-protocol.txt`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl ProxyProtocol {
    /// The one that its name in an app file says.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "v1" => Some(Self::V1),
            "v2" => Some(Self::V2),
            _ => None,
        }
    }
}

impl TcpSpec {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for TcpSpec {
    fn default() -> Self {
        Self { idle_timeout_ms: 3_600_000, proxy_protocol: None }
    }
}
