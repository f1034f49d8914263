//! The parts' own network, where they are not on the host's: its name and its addresses.

use std::net::Ipv4Addr;

/// A network of the parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bridge {
    pub name: String,
    base: Ipv4Addr,
}

/// The parts' network of an installation. Docker takes a container's default route from the network whose name sorts
/// first: this one's does before those of all apps, since no project's name begins with a hyphen.
pub(crate) fn name(instance: &str) -> String {
    format!("{instance}--parts")
}

impl Bridge {
    /// With the range that Docker chose; its first address is the gateway's.
    pub fn new(instance: &str, base: Ipv4Addr, bits: u8) -> Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
        Self { name: name(instance), base: Ipv4Addr::from(u32::from(base) & mask) }
    }

    /// `172.20.0.0/16`, as Docker says it.
    pub fn parse(instance: &str, subnet: &str) -> Option<Self> {
        let (base, bits) = subnet.split_once('/')?;
        let bits = bits.parse().ok().filter(|bits| *bits <= 28)?;
        Some(Self::new(instance, base.parse().ok()?, bits))
    }

    fn nth(&self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base) + n)
    }

    pub fn manager(&self) -> Ipv4Addr {
        self.nth(2)
    }

    pub fn proxy(&self) -> Ipv4Addr {
        self.nth(3)
    }

    pub fn etcd(&self, member: usize) -> Ipv4Addr {
        self.nth(4 + member as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_an_address_of_its_own() {
        let bridge = Bridge::parse("sc", "172.20.0.0/16").unwrap();
        assert_eq!(bridge.manager(), Ipv4Addr::new(172, 20, 0, 2));
        assert_eq!(bridge.etcd(2), Ipv4Addr::new(172, 20, 0, 6));
        assert_eq!(Bridge::parse("sc", "172.20.0.0/30"), None, "too small");
        assert_eq!(Bridge::parse("sc", "fd00::/64"), None);
        assert!(*bridge.name < *"sc-a-a");
    }
}
