//! The reconciler's decision: from what is desired and what was observed to the next steps.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{
    names::{AppId, Name, ReplicaId},
    records::{App, Proxy, Replica, Scale, Subnet, UnixMs, Version},
};

/// Everything the store says, typed. Built from one consistent snapshot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Desired {
    /// By app.
    pub apps: BTreeMap<AppId, DesiredApp>,
    /// Registered proxies (their leases live).
    pub proxies: BTreeMap<String, Proxy>,
    /// Address ranges in use or retired, by number in the pool.
    pub subnets: BTreeMap<u32, Subnet>,
    /// What addresses replicas get.
    pub addressing: Addressing,
    /// The leader's epoch, written into every record.
    pub epoch: u64,
    /// The store's revision of this snapshot.
    pub revision: u64,
}

/// Everything the store says of one app.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredApp {
    /// Its record.
    pub app: App,
    /// Its stored versions.
    pub versions: BTreeMap<u64, Version>,
    /// Its live count.
    pub scale: Scale,
    /// Its replicas' records, by incarnation.
    pub replicas: BTreeMap<u64, Replica>,
}

/// How the engine's replicas are addressed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Addressing {
    /// One bridge network per app, a /26 each out of this pool; the replica listens on its own address at the app's port.
    Networks {
        /// First address of the pool.
        base: std::net::Ipv4Addr,
        /// Its prefix length, at most 20.
        bits: u8,
    },
    /// All on one address, each with a port of its own out of this range (inclusive).
    Ports {
        /// The address.
        ip: std::net::Ipv4Addr,
        /// First port.
        first: u16,
        /// Last port.
        last: u16,
    },
}

impl Default for Addressing {
    fn default() -> Self {
        Self::Ports { ip: std::net::Ipv4Addr::LOCALHOST, first: 20_000, last: 29_999 }
    }
}

/// What to do next, in order, each with its reason.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The steps. Each is safe without those after it.
    pub steps: Vec<(Action, Why)>,
}

/// Why a step is taken, in a sentence for people.
pub type Why = String;

/// One step: a change of records, an engine call, or the former and then the latter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Record: give the app a range of addresses. Engine: none yet (the network is made with the first start).
    Assign {
        /// The app.
        app: AppId,
        /// The range's number in the pool.
        subnet: u32,
    },
    /// Record: a new replica with intent `Run`, the app's `next` moved on. Engine: start it.
    Start {
        /// The new replica.
        replica: ReplicaId,
        /// The version it runs.
        version: u64,
        /// Where.
        node: Name,
        /// Where it will listen.
        addr: SocketAddr,
    },
    /// Engine only: start a replica whose record says `Run` and that was never seen (a crash came between).
    StartAgain(ReplicaId),
    /// Record: the engine has it.
    MarkSeen(ReplicaId),
    /// Record: it passed its probe; it will be listed in the routes.
    MarkReady(ReplicaId),
    /// Record: it no longer passes; it leaves the routes but is not given up yet.
    MarkUnready(ReplicaId),
    /// Record: intent `Drain`.
    Drain {
        /// Which.
        replica: ReplicaId,
        /// Until when at the latest.
        deadline_ms: UnixMs,
        /// It failed (crashed, unhealthy): it counts towards the app's back-off.
        failed: bool,
    },
    /// Record: intent `Stop`. Engine: stop it gracefully and remove it.
    Stop(ReplicaId),
    /// Record: intent `Pause`. Engine: freeze it.
    Pause(ReplicaId),
    /// Record: intent `Run`. Engine: unfreeze it.
    Wake(ReplicaId),
    /// Record: delete it; the engine has it no more.
    Forget(ReplicaId),
    /// Engine only: remove a replica that has no record (a surplus one, or a left-over).
    Remove(ReplicaId),
    /// Record: count a crash; no start before `until_ms`.
    BackOff {
        /// The app.
        app: AppId,
        /// The version that crashes.
        version: u64,
        /// Crashes in a row.
        count: u32,
        /// When the next start may be.
        until_ms: UnixMs,
        /// What the last one ended with.
        last: String,
    },
    /// Record: the crash count is forgotten; a replica has stayed up.
    Recovered(AppId),
    /// Record: the rollout came a step further.
    Progress(AppId),
    /// Record: the rollout is done; this version is the stable one.
    Settle {
        /// The app.
        app: AppId,
        /// The version.
        version: u64,
    },
    /// Record: the wanted version failed; go back to the stable one.
    RollBack {
        /// The app.
        app: AppId,
        /// The version that failed.
        failed: u64,
        /// The version to go back to.
        to: u64,
        /// Why.
        cause: String,
    },
    /// Record: the first version failed and there is none to go back to.
    GiveUp {
        /// The app.
        app: AppId,
        /// Why.
        cause: String,
    },
    /// Record: the app, its versions, scale, claims and routes are deleted, its addresses retired. Engine: remove its network.
    Delete(AppId),
    /// Record: a retired range is free again.
    Release {
        /// Its number in the pool.
        subnet: u32,
    },
}
