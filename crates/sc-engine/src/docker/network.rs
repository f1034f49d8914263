//! One bridge network per app, with the range of addresses that the manager chose.

use std::{collections::HashMap, net::Ipv4Addr, time::Duration};

use bollard::models::{Ipam, IpamConfig, Network, NetworkCreateRequest};
use sc_core::AppId;

use super::{Failure, Inner, is, names, refusal};
use crate::{EngineError, NetworkSpec};

/// How many times, 100 ms apart, a network is looked for that another call may be making.
const APPEARS: usize = 20;

/// Docker's words for a range or a name that is taken.
fn taken_words(words: &str) -> bool {
    words.contains("overlaps") || words.contains("already exists")
}

impl NetworkSpec {
    fn subnet(&self) -> String {
        format!("{}/{}", self.base, self.bits)
    }

    fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base) + 1)
    }
}

pub(super) fn subnets(ipam: Option<&Ipam>) -> impl Iterator<Item = &str> {
    ipam.and_then(|ipam| ipam.config.as_ref()).into_iter().flatten().filter_map(|config| config.subnet.as_deref())
}

/// `10.1.0.0/16` as numbers.
pub(super) fn range(text: &str) -> Option<(Ipv4Addr, u8)> {
    let (base, bits) = text.split_once('/')?;
    Some((base.parse().ok()?, bits.parse().ok().filter(|bits| *bits <= 32)?))
}

impl Inner {
    /// Makes an app's network unless it exists as it should be.
    pub(super) async fn ensure_network(&self, spec: &NetworkSpec) -> Result<(), EngineError> {
        let name = names::network(&self.config.instance, &spec.app);
        let lock = self.making(&name);
        let _one = lock.lock().await;
        if let Some((subnet, labels)) = self.network(&name).await? {
            if !names::ours(Some(&labels), &self.config.instance, &self.config.store_id) {
                let what = format!("there is a network {name} that belongs to another installation");
                return Err(EngineError::refused(what, format!("Remove it (docker network rm {name})")));
            }
            if subnet == spec.subnet() {
                return Ok(());
            }
            // Left from an earlier range of the app: Docker removes it only when nothing is in it.
            self.remove_named(&name).await?;
        }
        let what = format!("make the network {name} with {}", spec.subnet());
        let request = self.request(&name, spec);
        let made = self.ask(&what, self.config.deadline, |docker| async move { docker.create_network(request).await });
        match made.await {
            Ok(_) => self.join_one(&name, (spec.base, spec.bits)).await,
            Err(Failure::Docker(error)) if refusal(&error).is_some_and(|(_, words)| taken_words(words)) => {
                if self.appears(&name, spec).await? {
                    return Ok(());
                }
                let what = format!("{what}: another network of this host has these addresses");
                Err(self.failed(format!("{what}; choose another pool with --pool")))
            }
            Err(failure) => Err(self.plain(&what, failure)),
        }
    }

    /// Whether the network comes to be all the same: another call (one that a manager left behind when it was killed)
    /// may be making it just now.
    async fn appears(&self, name: &str, spec: &NetworkSpec) -> Result<bool, EngineError> {
        for _ in 0..APPEARS {
            if let Some((subnet, labels)) = self.network(name).await? {
                let ours = names::ours(Some(&labels), &self.config.instance, &self.config.store_id);
                return Ok(ours && subnet == spec.subnet());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(false)
    }

    fn request(&self, name: &str, spec: &NetworkSpec) -> NetworkCreateRequest {
        let config = IpamConfig {
            subnet: Some(spec.subnet()),
            gateway: Some(spec.gateway().to_string()),
            ..IpamConfig::default()
        };
        // An app's replicas reach each other; that others do not is Docker's doing between bridges.
        let options = HashMap::from([("com.docker.network.bridge.enable_icc".to_owned(), "true".to_owned())]);
        NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            ipam: Some(Ipam { config: Some(vec![config]), ..Ipam::default() }),
            options: Some(options),
            labels: Some(names::of_app(&self.config.instance, &self.config.store_id, &spec.app)),
            ..NetworkCreateRequest::default()
        }
    }

    /// A network's range and labels.
    async fn network(&self, name: &str) -> Result<Option<(String, names::Labels)>, EngineError> {
        let what = format!("look at the network {name}");
        let asked = name.to_owned();
        let found =
            self.ask(&what, self.config.deadline, |docker| async move { docker.inspect_network(&asked, None).await });
        match found.await {
            Ok(network) => {
                let subnet = subnets(network.ipam.as_ref()).next().unwrap_or_default().to_owned();
                Ok(Some((subnet, network.labels.unwrap_or_default())))
            }
            Err(Failure::Docker(error)) if is(&error, 404) => Ok(None),
            Err(failure) => Err(self.plain(&what, failure)),
        }
    }

    /// Removes an app's network if there is one and it is ours.
    pub(super) async fn drop_network(&self, app: &AppId) -> Result<(), EngineError> {
        let name = names::network(&self.config.instance, app);
        let lock = self.making(&name);
        let _one = lock.lock().await;
        match self.network(&name).await? {
            Some((_, labels)) if names::ours(Some(&labels), &self.config.instance, &self.config.store_id) => {
                self.remove_named(&name).await
            }
            _ => Ok(()),
        }
    }

    async fn remove_named(&self, name: &str) -> Result<(), EngineError> {
        self.leave(name).await;
        let what = format!("remove the network {name}");
        let name = name.to_owned();
        let done = self.ask(&what, self.config.deadline, |docker| async move { docker.remove_network(&name).await });
        match done.await {
            Ok(()) => Ok(()),
            Err(Failure::Docker(error)) if is(&error, 404) => Ok(()),
            Err(failure) => Err(self.plain(&what, failure)),
        }
    }

    /// The ranges that this host routes or Docker has given out, our own networks' left out.
    pub(super) async fn taken(&self) -> Result<Vec<(Ipv4Addr, u8)>, EngineError> {
        let networks = self.call("list networks", |docker| async move { docker.list_networks(None).await }).await?;
        // The routing table is that of the host only where Docker is on this host.
        let table = match self.host.starts_with("unix://") {
            true => tokio::fs::read_to_string("/proc/net/route").await.unwrap_or_default(),
            false => String::new(),
        };
        Ok(taken(&networks, &table, |network| {
            names::ours(network.labels.as_ref(), &self.config.instance, &self.config.store_id)
        }))
    }
}

/// All ranges of networks and routes but those of our own networks.
fn taken(networks: &[Network], routes: &str, ours: impl Fn(&Network) -> bool) -> Vec<(Ipv4Addr, u8)> {
    let ranges = |network: &Network| subnets(network.ipam.as_ref()).filter_map(range).collect::<Vec<_>>();
    let own: Vec<_> = networks.iter().filter(|network| ours(network)).flat_map(ranges).collect();
    let others = networks.iter().filter(|network| !ours(network)).flat_map(ranges);
    let mut all: Vec<_> = others.chain(routes.lines().filter_map(route)).filter(|range| !own.contains(range)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// A line of `/proc/net/route`: hexadecimal, in the host's byte order. The default route is none.
fn route(line: &str) -> Option<(Ipv4Addr, u8)> {
    let mut fields = line.split_whitespace();
    let hex = |text: &str| u32::from_str_radix(text, 16).ok().map(|n| n.to_ne_bytes());
    let base = hex(fields.nth(1)?)?;
    let mask = u32::from_be_bytes(hex(fields.nth(5)?)?);
    (mask != 0).then(|| (Ipv4Addr::from(base), mask.count_ones() as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn tells_our_networks_from_what_is_taken() {
        let network = |name: &str, subnet: &str| Network {
            name: Some(name.to_owned()),
            ipam: Some(Ipam {
                config: Some(vec![IpamConfig { subnet: Some(subnet.to_owned()), ..IpamConfig::default() }]),
                ..Ipam::default()
            }),
            ..Network::default()
        };
        let networks =
            [network("bridge", "172.17.0.0/16"), network("own", "10.213.0.64/26"), network("v6", "fd00::/64")];
        let routes = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
            eth0 00000000 0100000A 0003 0 0 0 00000000 0 0 0\n\
            eth0 0000000A 00000000 0001 0 0 0 0000FFFF 0 0 0\n\
            br-1 4000D50A 00000000 0001 0 0 0 C0FFFFFF 0 0 0\n";
        let found = taken(&networks, routes, |network| network.name.as_deref() == Some("own"));
        assert_eq!(found, [("10.0.0.0".parse().unwrap(), 16), ("172.17.0.0".parse().unwrap(), 16)]);
        assert_eq!(range("1.2.3.4/33"), None);
    }
}
