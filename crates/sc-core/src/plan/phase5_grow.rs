//! Phase 5: which replicas are added: first those that drain but are sound, then paused ones, then parked ones, then new ones.
//!
//! Never more that shall run than wanted and surge, and never more in all (those on their way out included, while they
//! may still run) than the app's maximum and surge. Sick replicas do not count towards the wanted ones, so their
//! replacements start before they are given up. A canary's come after the wanted version's.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
};

use super::{
    Action, Addressing, Stage, Steps, ranges,
    view::{Life, Side, View},
    warm,
};
use crate::{
    names::{Name, ReplicaId},
    observed::Node,
    records::{Intent, Subnet, key},
    spec::AppSpec,
};

pub(super) fn grow(view: &View) -> Steps {
    let mut steps = Steps::new();
    let mut new = Vec::new();
    for (side, mut missing) in missing(view) {
        let is_canary = side.version != view.app.app.version;
        let why = format!("{} {}wanted", side.want, if is_canary { "of the canary " } else { "" });
        let asleep = if is_canary { Vec::new() } else { warm::wakeable(view) };
        let back = resumable(view, &side).into_iter().map(Action::Resume).chain(asleep.into_iter().map(Action::Wake));
        for action in back.take(missing) {
            steps.push((action, why.clone()));
            missing -= 1;
        }
        if side.crash.is_none_or(|crash| view.now() >= crash.until_ms) {
            let parked = if is_canary { Vec::new() } else { warm::revivable(view) };
            for action in parked.into_iter().take(missing) {
                steps.push((action, why.clone()));
                missing -= 1;
            }
            new.extend(std::iter::repeat_n((side.version, side.spec, why), missing));
        }
    }
    steps.extend(starts(view, new));
    steps
}

/// How many of each version may and shall be added.
fn missing<'a>(view: &View<'a>) -> Vec<(Side<'a>, usize)> {
    let (want, surge) = (view.app.want(), view.app.surge());
    let most_run = if want == 0 { 0 } else { (want + surge) as usize };
    let most = (view.app.app.scale.max + surge) as usize;
    let room = most_run.saturating_sub(view.running().count());
    let mut room = room.min(most.saturating_sub(occupying(view)));
    let count = |side: Side<'a>| {
        let healthy = view.of(&side).filter(|(id, replica)| view.stage(id, replica) != Stage::Sick).count();
        let missing = (side.want as usize).saturating_sub(healthy).min(room);
        room -= missing;
        (side, missing)
    };
    view.sides().map(count).filter(|(_, missing)| *missing > 0).collect()
}

/// How many may be running, by intent or still.
fn occupying(view: &View) -> usize {
    let may_run = |life: Life| !matches!(life, Life::Absent | Life::Exited(_));
    let parked = view.replicas().filter(|(_, replica)| matches!(replica.intent, Intent::Park { .. }));
    view.running().count()
        + view.leaving().chain(parked).filter(|(id, replica)| may_run(view.life(id, replica))).count()
}

/// Draining ones of a version that can serve on, the oldest first.
fn resumable(view: &View, side: &Side) -> Vec<ReplicaId> {
    let sound = view.replicas().filter(|(id, r)| r.version == side.version && view.is_sound(id, r));
    sound.map(|(id, _)| id).collect()
}

fn starts(view: &View, new: Vec<(u64, Option<&AppSpec>, String)>) -> Steps {
    let mut steps = Steps::new();
    let mut nodes = nodes(view);
    let mut addresses = Addresses::new(view);
    for (incarnation, (version, spec, why)) in (next_incarnation(view)..).zip(new) {
        let Some(spec) = spec else { break };
        let Some(node) = nodes.iter().min_by_key(|(_, load)| **load).map(|(node, _)| node.clone()) else { break };
        let Some((addr, assigned)) = addresses.next(incarnation, spec.port) else { break };
        if let Some(subnet) = assigned {
            let why = "it needs addresses for its replicas".to_owned();
            steps.push((Action::Assign { app: view.id.clone(), subnet }, why));
        }
        nodes.entry(node.clone()).and_modify(|(of_app, of_all)| (*of_app, *of_all) = (*of_app + 1, *of_all + 1));
        steps.push((Action::Start { replica: view.replica_id(incarnation), version, node, addr }, why));
    }
    steps
}

/// What keeps an app from getting the addresses that its missing replicas need; none when nothing does.
pub(super) fn lack(view: &View) -> Option<String> {
    let lacking = missing(view).into_iter().next()?.0.spec?;
    if Addresses::new(view).next(next_incarnation(view), lacking.port).is_some() {
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
    ranges: Vec<Subnet>,
    used: BTreeSet<SocketAddr>,
    taken_ranges: BTreeSet<u32>,
}

impl<'a> Addresses<'a> {
    fn new(view: &'a View<'a>) -> Self {
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
            ranges: ranges.filter(|range| range.ports.is_some() == by_port).collect(),
            used: records.chain(seen).map(|addr| unique(addr, by_port)).collect(),
            taken_ranges: view.desired.subnets.keys().copied().collect(),
        }
    }

    /// An address for a replica whose version has this port (none: no port), and the range that had to be assigned for
    /// it. Addresses go round with the incarnations,
    /// so that one just freed is the last to be used again. None: there are no more.
    fn next(&mut self, incarnation: u64, port: Option<u16>) -> Option<(SocketAddr, Option<u32>)> {
        let port = port.unwrap_or(0);
        let by_port = match self.view.desired.addressing {
            Addressing::Ports { ip, .. } if port == 0 => return Some((SocketAddr::from((ip, 0)), None)),
            Addressing::Ports { .. } => true,
            Addressing::Networks { .. } => false,
        };
        if let Some(addr) = self.free(incarnation, port, by_port) {
            return Some((addr, None));
        }
        let (n, range) = self.assign()?;
        self.ranges.push(range);
        self.free(incarnation, port, by_port).map(|addr| (addr, Some(n)))
    }

    fn free(&mut self, incarnation: u64, port: u16, by_port: bool) -> Option<SocketAddr> {
        let sizes: Vec<u64> = self.ranges.iter().map(|range| u64::from(ranges::capacity(range))).collect();
        let total: u64 = sizes.iter().sum();
        let nth = |mut n: u64| {
            let i = sizes.iter().position(|size| {
                n < *size || {
                    n -= size;
                    false
                }
            })?;
            Some(ranges::nth(&self.ranges[i], n, port))
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
