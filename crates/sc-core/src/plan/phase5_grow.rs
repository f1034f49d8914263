//! Phase 5: which replicas are added: first those that drain but are sound, then paused ones, then new ones.
//!
//! Never more that shall run than wanted and surge, and never more in all (those on their way out included, while they
//! may still run) than the app's maximum and surge. Sick replicas do not count towards the wanted ones, so their
//! replacements start before they are given up.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
};

use super::{
    Action, Addressing, Stage, Steps, ranges,
    view::{Life, View},
    warm,
};
use crate::{
    names::{Name, ReplicaId},
    observed::Node,
    records::{Subnet, key},
};

pub(super) fn grow(view: &View) -> Steps {
    let mut missing = missing(view);
    let mut steps = Steps::new();
    if missing == 0 {
        return steps;
    }
    let why = format!("{} wanted", view.app.want());
    let back =
        resumable(view).into_iter().map(Action::Resume).chain(warm::wakeable(view).into_iter().map(Action::Wake));
    for action in back.take(missing) {
        steps.push((action, why.clone()));
        missing -= 1;
    }
    let crash = view.app.app.crash.as_ref().filter(|crash| crash.version == view.app.app.version);
    if crash.is_none_or(|crash| view.now() >= crash.until_ms) {
        steps.extend(starts(view, missing, &why));
    }
    steps
}

/// How many may and shall be added.
fn missing(view: &View) -> usize {
    let want = view.app.want();
    let surge = view.surge();
    let healthy = view.running().filter(|(id, r)| view.app.is_current(r) && view.stage(id, r) != Stage::Sick).count();
    let run = view.running().count();
    let missing = (want as usize).saturating_sub(healthy);
    let most_run = if want == 0 { 0 } else { (want + surge) as usize };
    let most = (view.app.app.scale.max + surge) as usize;
    missing.min(most_run.saturating_sub(run)).min(most.saturating_sub(occupying(view)))
}

/// How many may be running, by intent or still.
fn occupying(view: &View) -> usize {
    let may_run = |life: Life| !matches!(life, Life::Absent | Life::Exited(_));
    view.running().count() + view.leaving().filter(|(id, replica)| may_run(view.life(id, replica))).count()
}

/// Draining ones that can serve on, the oldest first.
fn resumable(view: &View) -> Vec<ReplicaId> {
    view.replicas().filter(|(id, replica)| view.is_sound(id, replica)).map(|(id, _)| id).collect()
}

fn starts(view: &View, count: usize, why: &str) -> Steps {
    let mut steps = Steps::new();
    let (Some(spec), true) = (view.app.spec(), count > 0) else { return steps };
    let mut nodes = nodes(view);
    let mut addresses = Addresses::new(view, spec.port);
    for incarnation in (next_incarnation(view)..).take(count) {
        let Some(node) = nodes.iter().min_by_key(|(_, load)| **load).map(|(node, _)| node.clone()) else { break };
        let Some((addr, assigned)) = addresses.next(incarnation) else { break };
        if let Some(subnet) = assigned {
            let why = "it needs addresses for its replicas".to_owned();
            steps.push((Action::Assign { app: view.id.clone(), subnet }, why));
        }
        nodes.entry(node.clone()).and_modify(|(of_app, of_all)| (*of_app, *of_all) = (*of_app + 1, *of_all + 1));
        let (replica, version) = (view.replica_id(incarnation), view.app.app.version);
        steps.push((Action::Start { replica, version, node, addr }, why.to_owned()));
    }
    steps
}

/// What keeps an app from getting the addresses that its missing replicas need; none when nothing does.
pub(super) fn lack(view: &View) -> Option<String> {
    let spec = view.app.spec()?;
    if missing(view) == 0 || Addresses::new(view, spec.port).next(next_incarnation(view)).is_some() {
        return None;
    }
    let (desired, id) = (view.desired, view.id);
    let ranges = desired.ranges(id).count();
    if desired.unreadable_below(key::SUBNETS) {
        return Some("no addresses can be given out while a record below subnets/ is not readable".to_owned());
    }
    if ranges > 0 && ranges >= ranges::most_per_app(&desired.addressing) {
        return Some(format!("all addresses of {id}'s network are in use"));
    }
    let resting = desired.subnets.values().filter(|range| range.retired.is_some()).count();
    let (all, given) = (ranges::count(&desired.addressing), desired.subnets.len() - resting);
    Some(format!(
        "the pool of addresses is used up: of {all} ranges {given} belong to apps, {resting} rest after removed ones, \
         and the host routes the others elsewhere. Remove apps that are not needed, or give the manager a larger pool"
    ))
}

/// The next incarnation; past those of containers that have no record (a store restored from a backup may not know of
/// them), so that none is mistaken for a new one.
fn next_incarnation(view: &View) -> u64 {
    let known = view.observed.nodes.values().filter_map(|node| match node {
        Node::Known { replicas, .. } => Some(replicas),
        Node::Unknown { .. } => None,
    });
    let (first, last) = (view.replica_id(0), view.replica_id(u64::MAX - 1));
    let seen = known.filter_map(|replicas| replicas.range(&first..=&last).next_back().map(|(id, _)| id.incarnation));
    seen.max().map_or(0, |n| n + 1).max(view.app.next())
}

/// The nodes that can start replicas, with how many they have of the app and in all.
fn nodes(view: &View) -> BTreeMap<Name, (usize, usize)> {
    let known = view.observed.nodes.iter().filter_map(|(name, node)| match node {
        Node::Known { replicas, .. } => Some((name.clone(), (0, replicas.len()))),
        Node::Unknown { .. } => None,
    });
    let mut nodes: BTreeMap<_, (usize, usize)> = known.collect();
    for (_, replica) in view.running() {
        nodes.entry(replica.node.clone()).and_modify(|(of_app, _)| *of_app += 1);
    }
    nodes.retain(|name, _| view.observed.knows(name));
    nodes
}

/// Hands out addresses of the app's ranges, and ranges when those are full.
struct Addresses<'a> {
    view: &'a View<'a>,
    /// The app's port: 0 when it has none.
    port: u16,
    ranges: Vec<Subnet>,
    used: BTreeSet<SocketAddr>,
    taken_ranges: BTreeSet<u32>,
}

impl<'a> Addresses<'a> {
    fn new(view: &'a View<'a>, port: Option<u16>) -> Self {
        let by_port = matches!(view.desired.addressing, Addressing::Ports { .. });
        let ranges = view.desired.ranges(view.id).map(|(_, range)| range.clone());
        let records = view.app.replicas.values().map(|replica| replica.addr);
        let seen = view.observed.nodes.values().filter_map(|node| match node {
            Node::Known { replicas, .. } => Some(replicas),
            Node::Unknown { .. } => None,
        });
        let (first, last) = (view.replica_id(0), view.replica_id(u64::MAX));
        let seen = seen.flat_map(|replicas| replicas.range(&first..=&last).filter_map(|(_, seen)| seen.addr));
        Self {
            view,
            port: port.unwrap_or(0),
            ranges: ranges.filter(|range| range.ports.is_some() == by_port).collect(),
            used: records.chain(seen).map(|addr| unique(addr, by_port)).collect(),
            taken_ranges: view.desired.subnets.keys().copied().collect(),
        }
    }

    /// An address for a replica, and the range that had to be assigned for it. Addresses go round with the incarnations,
    /// so that one just freed is the last to be used again. None: there are no more.
    fn next(&mut self, incarnation: u64) -> Option<(SocketAddr, Option<u32>)> {
        let by_port = match self.view.desired.addressing {
            Addressing::Ports { ip, .. } if self.port == 0 => return Some((SocketAddr::from((ip, 0)), None)),
            Addressing::Ports { .. } => true,
            Addressing::Networks { .. } => false,
        };
        if let Some(addr) = self.free(incarnation, by_port) {
            return Some((addr, None));
        }
        let (n, range) = self.assign()?;
        self.ranges.push(range);
        self.free(incarnation, by_port).map(|addr| (addr, Some(n)))
    }

    fn free(&mut self, incarnation: u64, by_port: bool) -> Option<SocketAddr> {
        let sizes: Vec<u64> = self.ranges.iter().map(|range| u64::from(ranges::capacity(range))).collect();
        let total: u64 = sizes.iter().sum();
        let nth = |mut n: u64| {
            let i = sizes.iter().position(|size| {
                n < *size || {
                    n -= size;
                    false
                }
            })?;
            Some(ranges::nth(&self.ranges[i], n, self.port))
        };
        let all = (0..total).filter_map(|k| nth((incarnation + k) % total));
        let addr = { all }.find(|addr| !self.used.contains(&unique(*addr, by_port)))?;
        self.used.insert(unique(addr, by_port));
        Some(addr)
    }

    /// A range that nobody has or had, and that the hosts do not route elsewhere.
    fn assign(&mut self) -> Option<(u32, Subnet)> {
        let desired = self.view.desired;
        if self.ranges.len() >= ranges::most_per_app(&desired.addressing) || desired.unreadable_below(key::SUBNETS) {
            return None;
        }
        let candidates = (0..ranges::count(&desired.addressing)).filter(|n| !self.taken_ranges.contains(n));
        let candidates = candidates.filter_map(|n| Some((n, ranges::range(&desired.addressing, n, self.view.id)?)));
        let (n, range) = { candidates }.find(|(_, range)| self.is_free(range))?;
        self.taken_ranges.insert(n);
        Some((n, range))
    }

    fn is_free(&self, range: &Subnet) -> bool {
        let routed = self.view.observed.nodes.values().flat_map(|node| match node {
            Node::Known { taken, .. } => taken.as_slice(),
            Node::Unknown { .. } => &[],
        });
        // On an address that all share, what the host routes does not matter.
        let routed = { routed }.any(|taken| range.ports.is_none() && ranges::overlap((range.base, range.bits), *taken));
        !routed && !self.view.desired.subnets.values().any(|other| ranges::clash(range, other))
    }
}

/// What must differ between two replicas: the port where they share an address, else the address.
fn unique(addr: SocketAddr, by_port: bool) -> SocketAddr {
    match by_port {
        true => SocketAddr::from((Ipv4Addr::UNSPECIFIED, addr.port())),
        false => SocketAddr::new(addr.ip(), 0),
    }
}
