//! How many connections each client address has, over all threads, in a fixed room and without a lock.
//!
//! An address has a cell in each of two rows, by a keyed hash. Others may share one of them, hardly both: the lesser of the two is
//! what the address has, or little more. So a limit is never lifted, and whoever shares cells is met a little earlier.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

/// Cells of a row: 128 KiB in all.
const ROW: usize = 1 << 14;

/// The open connections by client address.
#[derive(Debug)]
pub struct Addresses {
    cells: Box<[AtomicU32]>,
    /// Nobody outside can find addresses that share cells.
    seed: RandomState,
}

/// One connection of an address, to be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat([usize; 2]);

impl Default for Addresses {
    fn default() -> Self {
        Self { cells: (0..2 * ROW).map(|_| AtomicU32::new(0)).collect(), seed: RandomState::new() }
    }
}

impl Addresses {
    /// Takes one of `most` connections of an address; none when all are taken.
    pub fn take(&self, address: IpAddr, most: usize) -> Option<Seat> {
        let hash = self.seed.hash_one(network(address));
        let seat = Seat([hash as usize % ROW, ROW + (hash >> 32) as usize % ROW]);
        let had = seat.0.map(|at| self.cells[at].fetch_add(1, Relaxed));
        if had.iter().all(|had| *had as usize >= most) {
            self.give_back(seat);
            return None;
        }
        Some(seat)
    }

    /// A connection has ended.
    pub fn give_back(&self, seat: Seat) {
        for at in seat.0 {
            self.cells[at].fetch_sub(1, Relaxed);
        }
    }
}

/// What counts as one client: an IPv4 address, or the /64 of an IPv6 address, which is what one subscriber has.
pub fn network(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_and_others_take_nothing_from_it() {
        let (addresses, me) = (Addresses::default(), IpAddr::from([192, 0, 2, 1]));
        let seats: Vec<_> = (0..10).map_while(|_| addresses.take(me, 10)).collect();
        assert_eq!((seats.len(), addresses.take(me, 10)), (10, None));
        let others = (0..2_000u32).map(|n| IpAddr::from((n + (10 << 24)).to_be_bytes()));
        let served = others.filter(|other| addresses.take(*other, 10).is_some()).count();
        assert_eq!((served, addresses.take(me, 10)), (2_000, None), "they have not lifted its limit");
        addresses.give_back(seats[0]);
        assert!(addresses.take(me, 10).is_some() && addresses.take(me, 10).is_none());
        seats[1..].iter().for_each(|seat| addresses.give_back(*seat));
        assert!(addresses.take(me, 10).is_some());
    }

    #[test]
    fn the_limit_holds_across_threads() {
        let (addresses, me) = (Addresses::default(), IpAddr::from([192, 0, 2, 1]));
        let come_and_go = || {
            for _ in 0..10_000 {
                if let Some(seat) = addresses.take(me, 2) {
                    addresses.give_back(seat);
                }
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| _ = scope.spawn(come_and_go)));
        assert!(addresses.cells.iter().all(|cell| cell.load(Relaxed) == 0), "all were given back");
    }

    #[test]
    fn an_ipv6_subscriber_is_one_client() {
        let net = |text: &str| network(text.parse().unwrap());
        assert_eq!(net("2001:db8:1:2:3::4"), net("2001:db8:1:2::1"));
        assert_ne!(net("2001:db8:1:2::1"), net("2001:db8:1:3::1"));
        assert_ne!(net("192.0.2.1"), net("192.0.2.2"));
    }
}
