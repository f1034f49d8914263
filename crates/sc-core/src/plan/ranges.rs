//! Ranges of addresses: how the pool is cut, and which addresses a range has.
//!
//! An app owns its ranges whole, so that an address is never another app's while a proxy may still hold it: a /25 of
//! the pool where each app has a network (123 replicas), a block of 64 ports where all share one address. Several
//! blocks of ports may belong to one app, but only one network.

use std::net::{Ipv4Addr, SocketAddr};

use super::Addressing;
use crate::{names::AppId, records::Subnet};

/// Prefix length of an app's network.
pub const NETWORK_BITS: u8 = 25;

/// Ports in a block.
pub const BLOCK: u16 = 64;

/// Addresses at a network's start that are no replica's: its own and the gateway's.
const RESERVED: u32 = 2;

/// Addresses before a network's last that are no replica's: the manager's and the proxy's, where they are containers that
/// join it.
pub const PARTS: u32 = 2;

/// How many ranges the pool has.
pub fn count(addressing: &Addressing) -> u32 {
    match *addressing {
        Addressing::Networks { bits, .. } => {
            1u32.checked_shl(u32::from(NETWORK_BITS.saturating_sub(bits))).unwrap_or(0)
        }
        Addressing::Ports { first, last, .. } => {
            (u32::from(last) + 1).saturating_sub(u32::from(first)) / u32::from(BLOCK)
        }
    }
}

/// How many ranges one app may have.
pub(super) fn most_per_app(addressing: &Addressing) -> usize {
    match addressing {
        Addressing::Networks { .. } => 1,
        Addressing::Ports { .. } => usize::MAX,
    }
}

/// The range of this number, as the record of its owner. None beyond the pool's end.
pub fn range(addressing: &Addressing, n: u32, app: &AppId) -> Option<Subnet> {
    if n >= count(addressing) {
        return None;
    }
    let (base, bits, ports) = match *addressing {
        Addressing::Networks { base, bits } => {
            let pool = u32::from(base) & mask(bits);
            (Ipv4Addr::from(pool + (n << (32 - NETWORK_BITS))), NETWORK_BITS, None)
        }
        Addressing::Ports { ip, first, .. } => {
            let first = first + n as u16 * BLOCK;
            (ip, 32, Some((first, first + (BLOCK - 1))))
        }
    };
    Some(Subnet { v: 1, base, bits, ports, app: app.clone(), retired: None, extra: Default::default() })
}

/// How many replicas a range can hold.
pub fn capacity(range: &Subnet) -> u32 {
    match range.ports {
        Some((first, last)) => u32::from(last.saturating_sub(first)) + 1,
        None => (1u32 << (32 - range.bits.clamp(8, 30))) - RESERVED - PARTS - 1,
    }
}

/// The `n`-th address of a range, counting round and round. `port` is the app's, for networks.
pub fn nth(range: &Subnet, n: u64, port: u16) -> SocketAddr {
    let n = (n % u64::from(capacity(range))) as u32;
    match range.ports {
        Some((first, _)) => SocketAddr::from((range.base, first + n as u16)),
        None => SocketAddr::from((Ipv4Addr::from(u32::from(range.base) + RESERVED + n), port)),
    }
}

/// Whether an address is one of the range.
pub fn holds(range: &Subnet, addr: &SocketAddr) -> bool {
    let std::net::IpAddr::V4(ip) = addr.ip() else { return false };
    let inside = u32::from(ip) & mask(range.bits) == u32::from(range.base) & mask(range.bits);
    inside && range.ports.is_none_or(|(first, last)| (first..=last).contains(&addr.port()))
}

/// Whether two ranges of addresses have one in common.
pub fn overlap((a, a_bits): (Ipv4Addr, u8), (b, b_bits): (Ipv4Addr, u8)) -> bool {
    let mask = mask(a_bits.min(b_bits));
    u32::from(a) & mask == u32::from(b) & mask
}

/// Whether two ranges have an address (and port) in common.
pub fn clash(a: &Subnet, b: &Subnet) -> bool {
    let ports = match (a.ports, b.ports) {
        (Some(a), Some(b)) => a.0 <= b.1 && b.0 <= a.1,
        _ => true,
    };
    ports && overlap((a.base, a.bits), (b.base, b.bits))
}

fn mask(bits: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0)
}
