//! Everything the store says, typed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use serde::{Deserialize, Serialize};

use crate::{
    names::{AppId, ReplicaId},
    records::{App, Claim, Gone, Met, Proxy, Replica, Scale, Subnet, UnixMs, Version},
    routes::AppRoutes,
    spec::AppSpec,
};

/// Everything the store says, typed. Built from one consistent snapshot by [`Desired::from_snapshot`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Desired {
    /// By app; only those whose every record could be read.
    pub apps: BTreeMap<AppId, DesiredApp>,
    /// Apps with a record that could not be read, and why: nothing is planned for them, their published routes stay.
    pub left_alone: BTreeMap<AppId, String>,
    /// What is left of deleted apps.
    pub gone: BTreeMap<AppId, Gone>,
    /// Routes of apps that do not exist (written by hand, say): they are taken away.
    pub stray_routes: BTreeMap<AppId, AppRoutes>,
    /// Registered proxies (their leases live).
    pub proxies: BTreeMap<String, Proxy>,
    /// Those whose record says that they have handed over and ended. They are not among the registered ones.
    pub ended: BTreeSet<String>,
    /// Proxies that may serve: those registered that were noticed, and those whose leases ended lately.
    pub met: BTreeMap<String, Met>,
    /// Address ranges in use or retired, by number in the pool.
    pub subnets: BTreeMap<u32, Subnet>,
    /// Who owns which route, by key.
    pub claims: BTreeMap<String, Claim>,
    /// What addresses replicas get.
    pub addressing: Addressing,
    /// The leader's epoch, written into every record.
    pub epoch: u64,
    /// Since when that leader leads, and its clock has gone evenly: nothing was judged before, so no timeout counts from
    /// earlier.
    pub leads_since_ms: UnixMs,
    /// The store's revision of this snapshot.
    pub revision: u64,
    /// The revision that last wrote each key, for compare-and-set. Absent: there is no such key.
    pub revisions: BTreeMap<String, u64>,
    /// Keys that could not be read, and why.
    pub unreadable: BTreeMap<String, String>,
}

/// Everything the store says of one app.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredApp {
    /// Its record.
    pub app: App,
    /// Its stored versions; the wanted one is always among them.
    pub versions: BTreeMap<u64, Version>,
    /// Its live count.
    pub scale: Scale,
    /// Its replicas' records, by incarnation.
    pub replicas: BTreeMap<u64, Replica>,
    /// What the proxies are told, if they were told anything yet.
    pub published: Option<Published>,
}

/// What stands at `routes/{app}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// The document.
    pub routes: AppRoutes,
    /// The revision that wrote it: a proxy that has applied this much has forgotten what the document does not list.
    pub revision: u64,
}

/// How the engine's replicas are addressed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Addressing {
    /// One bridge network per app, a /25 each out of this pool; the replica listens on its own address at the app's port.
    Networks {
        /// First address of the pool.
        base: Ipv4Addr,
        /// Its prefix length, at most 20.
        bits: u8,
    },
    /// All on one address, each with a port of its own out of the app's block of this range (inclusive).
    Ports {
        /// The address.
        ip: Ipv4Addr,
        /// First port.
        first: u16,
        /// Last port.
        last: u16,
    },
}

impl Default for Addressing {
    fn default() -> Self {
        Self::Ports { ip: Ipv4Addr::LOCALHOST, first: 20_000, last: 29_999 }
    }
}

impl Desired {
    /// A replica's record.
    pub fn replica(&self, id: &ReplicaId) -> Option<&Replica> {
        self.apps.get(&id.app)?.replicas.get(&id.incarnation)
    }

    /// The ranges of addresses that an app has now, by number.
    pub fn ranges(&self, app: &AppId) -> impl Iterator<Item = (u32, &Subnet)> {
        self.subnets.iter().filter(move |(_, s)| s.app == *app && s.retired.is_none()).map(|(n, s)| (*n, s))
    }

    /// Whether any key below this prefix could not be read.
    pub fn unreadable_below(&self, prefix: &str) -> bool {
        self.unreadable.range(prefix.to_owned()..).next().is_some_and(|(key, _)| key.starts_with(prefix))
    }
}

impl DesiredApp {
    /// What the wanted version is. None when its record is missing.
    pub fn spec(&self) -> Option<&AppSpec> {
        self.versions.get(&self.app.version).map(|version| &version.spec)
    }

    /// How many replicas there shall be: the live count within the bounds; none for a stopped app.
    pub fn want(&self) -> u32 {
        if self.app.stopped || self.app.deleting {
            return 0;
        }
        self.scale.want.clamp(self.app.scale.min.min(self.app.scale.max), self.app.scale.max)
    }

    /// Whether a replica is of the wanted version and of the latest restart.
    pub fn is_current(&self, replica: &Replica) -> bool {
        replica.version == self.app.version && replica.restart >= self.app.restart && !replica.replace
    }

    /// The first incarnation that no record has and none had.
    pub fn next(&self) -> u64 {
        self.app.next.max(1)
    }
}
