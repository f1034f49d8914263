//! The members of our own etcd: how many there are, and at which ports. Both are chosen once and kept on their volumes,
//! since a cluster knows its members by them.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, TcpListener},
};

use super::{
    host::Host,
    parts::{self, INSTANCE},
};
use crate::exit;

/// Labels of a member's volume.
const CLIENT: &str = "sc.etcd.client";
const PEER: &str = "sc.etcd.peer";
const MEMBERS: &str = "sc.etcd.members";
const NETWORK: &str = "sc.etcd.network";

/// Where ports are looked for when etcd's usual ones are taken: below the range that the kernel gives to outgoing
/// connections, which may hold one just when a member is started again.
const FIRST: u16 = 23_790;
const LAST: u16 = 32_767;

/// Ports of so many members: those kept, else new ones. `network` is `host` or `bridge`.
///
/// # Errors
/// When there are members already, in another number, or of three on another network; says what to do.
pub(crate) async fn members(
    host: &Host,
    instance: &str,
    count: usize,
    network: &str,
) -> anyhow::Result<Vec<(u16, u16)>> {
    let mut kept = Vec::new();
    for member in 0..3 {
        kept.push(host.volume_labels(&parts::etcd_name(instance, member)).await?);
    }
    check(&kept, count, network, instance)?;
    let mut ports: Vec<(u16, u16)> = Vec::new();
    for (member, kept) in kept.into_iter().take(count).enumerate() {
        let labels = match kept {
            Some(labels) => labels,
            None => {
                let taken: Vec<u16> = ports.iter().flat_map(|(client, peer)| [*client, *peer]).collect();
                let (client, peer) = free(member, &taken)?;
                let labels = labels(instance, count, network, client, peer);
                host.volume(&parts::etcd_name(instance, member), labels).await?
            }
        };
        let port = |label| labels.get(label).and_then(|port| port.parse::<u16>().ok());
        ports.push(port(CLIENT).zip(port(PEER)).unwrap_or((2379, 2380)));
    }
    Ok(ports)
}

fn labels(instance: &str, count: usize, network: &str, client: u16, peer: u16) -> HashMap<String, String> {
    let labels = [
        (INSTANCE, instance.to_owned()),
        (MEMBERS, count.to_string()),
        (NETWORK, network.to_owned()),
        (CLIENT, client.to_string()),
        (PEER, peer.to_string()),
    ];
    labels.map(|(key, value)| (key.to_owned(), value)).into()
}

/// Whether the members that there are (the labels of their volumes) are those that are wanted.
fn check(kept: &[Option<HashMap<String, String>>], count: usize, network: &str, instance: &str) -> anyhow::Result<()> {
    let there = kept.iter().flatten().count();
    let Some(labels) = kept.iter().flatten().next() else { return Ok(()) };
    // A first `sc up` that was broken off has made some of its volumes; earlier releases wrote no number.
    let before = labels.get(MEMBERS).and_then(|count| count.parse().ok()).unwrap_or(there);
    if before != count {
        let text = format!(
            "the state of {instance} is in {before} etcd member{}, and --etcd {count} would begin with none of it\n  \
             → keep --etcd {before}; or start anew: `sc down --purge` (this forgets every app), then `sc up --etcd {count}` \
             and `sc deploy`",
            if before == 1 { "" } else { "s" }
        );
        return Err(exit::failure(exit::CONFLICT, text));
    }
    let was = labels.get(NETWORK).map_or("host", String::as_str);
    if count > 1 && was != network {
        let text = format!(
            "the etcd members of {instance} know each other by addresses on the {was} network\n  → keep --network {was}; or start \
             anew: `sc down --purge` (this forgets every app)"
        );
        return Err(exit::failure(exit::CONFLICT, text));
    }
    Ok(())
}

/// etcd's usual ports for the first member where they are free, else the first two that are.
fn free(member: usize, taken: &[u16]) -> anyhow::Result<(u16, u16)> {
    let free = |port: u16| !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    if member == 0 && free(2379) && free(2380) {
        return Ok((2379, 2380));
    }
    let mut ports = (FIRST..=LAST).filter(|port| free(*port));
    ports.next().zip(ports.next()).ok_or_else(|| anyhow::anyhow!("no port from {FIRST} to {LAST} is free for etcd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(count: &str, network: &str) -> Option<HashMap<String, String>> {
        Some(HashMap::from([(MEMBERS.to_owned(), count.to_owned()), (NETWORK.to_owned(), network.to_owned())]))
    }

    #[test]
    fn members_stay_as_many_as_they_are() {
        let try_it = |kept: &[_], count, network| check(kept, count, network, "sc").map_err(|error| exit::text(&error));
        assert_eq!(try_it(&[None, None, None], 3, "host"), Ok(()));
        assert_eq!(try_it(&[volume("1", "host"), None, None], 1, "bridge"), Ok(()));
        assert_eq!(try_it(&[volume("3", "host"), None, None], 3, "host"), Ok(()), "the first time was broken off");
        assert_eq!(try_it(&[Some(HashMap::new()), None, None], 1, "host"), Ok(()), "by an earlier release");
        assert!(try_it(&[volume("1", "host"), None, None], 3, "host").unwrap_err().contains("keep --etcd 1"));
        assert!(try_it(&[volume("3", "host"), volume("3", "host"), None], 1, "host").unwrap_err().contains("--purge"));
        assert!(try_it(&[volume("3", "host"), None, None], 3, "bridge").unwrap_err().contains("keep --network host"));
    }

    #[test]
    fn ports_are_below_those_of_outgoing_connections() {
        let first = free(1, &[]).unwrap();
        let second = free(2, &[first.0, first.1]).unwrap();
        let all = [first.0, first.1, second.0, second.1];
        assert!(all.iter().all(|port| (FIRST..=LAST).contains(port)), "{all:?}");
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
    }
}
