//! What was seen, as data: the engine's replicas, the probes' answers, the proxies' reports.
//!
//! Unknown is never absent: a node whose engine did not answer is [`Node::Unknown`], and nothing is removed, replaced
//! or counted on it.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use crate::{
    names::{Name, ReplicaId},
    records::UnixMs,
};

/// Everything a pass of the reconciler saw.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// When, by the manager's clock: the `now` of everything decided from it.
    pub at: UnixMs,
    /// By node.
    pub nodes: BTreeMap<Name, Node>,
    /// Latest probe results; none for a replica that was not probed yet.
    pub probes: BTreeMap<ReplicaId, Probed>,
    /// Starts that the engine refused for good (no such image, no such program), with its words: they count as crashes.
    #[serde(default)]
    pub refused: BTreeMap<ReplicaId, String>,
    /// Latest report of each proxy, also of one whose lease has just expired.
    pub proxies: BTreeMap<String, ProxySeen>,
}

impl Observed {
    /// A replica as its node's engine has it. None: it is not there, or the node is unknown ([`Observed::knows`]).
    pub fn seen(&self, node: &Name, replica: &ReplicaId) -> Option<&Seen> {
        match self.nodes.get(node)? {
            Node::Known { replicas, .. } => replicas.get(replica),
            Node::Unknown { .. } => None,
        }
    }

    /// Whether the node's engine answered, so that what it does not have is absent.
    pub fn knows(&self, node: &Name) -> bool {
        matches!(self.nodes.get(node), Some(Node::Known { .. }))
    }
}

/// What is known of one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Node {
    /// The engine answered.
    Known {
        /// When.
        at: UnixMs,
        /// Every replica of this store that the engine has, running or not.
        replicas: BTreeMap<ReplicaId, Seen>,
        /// IPv4 ranges that the host routes already, apart from our own networks.
        taken: Vec<(Ipv4Addr, u8)>,
    },
    /// It did not.
    Unknown {
        /// What went wrong, for people.
        why: String,
    },
}

/// One replica, as the engine has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// What it is doing.
    pub run: Run,
    /// The version on its label.
    pub version: u64,
    /// The address on its label: what it was given at its start.
    pub addr: Option<SocketAddr>,
    /// Whether it was restarted behind our back since it was made (`docker restart`): it must be probed anew.
    #[serde(default)]
    pub restarts: u64,
}

/// What a replica's main process is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Run {
    /// Made, not started.
    Created,
    /// Running.
    Running {
        /// Since when.
        since_ms: UnixMs,
    },
    /// Frozen.
    Paused,
    /// Ended.
    Exited(Exit),
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit status; 128 + n for signal n.
    pub code: i32,
    /// Killed for want of memory.
    pub oom: bool,
    /// What the engine says of it, such as why it could not start.
    pub error: String,
    /// When.
    pub at_ms: UnixMs,
}

/// The latest probe of a replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probed {
    /// When it was sent.
    pub at: UnixMs,
    /// It answered as it should.
    pub ok: bool,
    /// Failures in a row, 0 when `ok`.
    pub failures: u32,
    /// What went wrong.
    pub error: String,
}

/// The latest report of a proxy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProxySeen {
    /// When the report came, by the manager's clock.
    pub at: UnixMs,
    /// The revision it has applied on every thread.
    pub applied: u64,
    /// In-flight requests and streams by backend; absent means none.
    pub in_flight: BTreeMap<ReplicaId, u64>,
    /// Its lease is live.
    pub live: bool,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.oom, self.error.as_str()) {
            (true, _) => write!(f, "killed for want of memory (exit status {})", self.code),
            (_, "") if self.code > 128 => write!(f, "ended by signal {}", self.code - 128),
            (_, "") => write!(f, "exit status {}", self.code),
            (_, error) => write!(f, "{error} (exit status {})", self.code),
        }
    }
}
