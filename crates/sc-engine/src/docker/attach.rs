//! Bridge mode: manager and proxy are containers on a bridge of their own, and join the network of every app.
//!
//! The proxy's own network is that of a container which does nothing but hold it, so that one proxy can hand its sockets to
//! the next: that one is attached, and what shares its network is started again with it.
//!
//! **By level.** Every look at Docker joins what is not joined: a proxy that was made anew has lost its networks, and
//! nobody says so. A container that is not there is left for the next look.
//!
//! **Addresses.** The last ones of an app's network, which no replica gets ([`sc_core::plan::ranges`]).
//!
//! **The default route stays.** Docker takes it from the network whose name sorts first, so that of the parts must sort
//! before every app's: `sc--parts` does, since no name of a project begins with a hyphen.

use std::{collections::BTreeSet, net::Ipv4Addr};

use bollard::{
    models::{
        ContainerInspectResponse, EndpointIpamConfig, EndpointSettings, NetworkConnectRequest,
        NetworkDisconnectRequest, RestartPolicyNameEnum,
    },
    query_parameters::{ListContainersOptions, ListNetworksOptions, RestartContainerOptions},
};
use sc_core::AppId;

use super::{Failure, Inner, is, names, network, observe::millis, refusal};
use crate::EngineError;

impl Inner {
    /// Joins the parts to the networks of these apps where they are not in them. Apps without replicas are left alone: their
    /// networks may be about to go.
    pub(super) async fn join_all(&self, apps: impl Iterator<Item = &AppId>) -> Result<(), EngineError> {
        if self.config.attach.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.start_joined().await {
            tracing::warn!(%error, "what shares a network is not looked after; tried again with the next look");
        }
        let wanted: BTreeSet<_> = apps.map(|app| names::network(&self.config.instance, app)).collect();
        let mut networks = self.own_networks().await?;
        networks.retain(|(name, _)| wanted.contains(name));
        for (nth, part) in self.config.attach.iter().enumerate() {
            let Some(joined) = self.joined(part).await? else { continue };
            for (name, range) in networks.iter().filter(|(name, _)| !joined.contains(name)) {
                // One that cannot be joined (it is being removed, say) keeps nothing else from going on.
                if let Err(error) = self.join(part, name, address(*range, nth)).await {
                    tracing::warn!(%error, "an app's network is not joined; tried again with the next look");
                }
            }
        }
        Ok(())
    }

    /// Starts what shares the network of an attached container and does not run, or has run since before that one was
    /// started: then it is in a network that is no more. Docker itself starts the two in any order, and does not try again.
    async fn start_joined(&self) -> Result<(), EngineError> {
        for holder in &self.config.attach {
            let Some(since) = self.named(holder).await?.as_ref().and_then(running_since) else { continue };
            let labels = [format!("{}={}", names::INSTANCE, self.config.instance), format!("sc.joins={holder}")];
            let options =
                ListContainersOptions { all: true, filters: Some(names::filter(&labels)), ..Default::default() };
            let what = "list what shares a network";
            let found = self.call(what, |docker| async move { docker.list_containers(Some(options)).await }).await?;
            for id in found.into_iter().filter_map(|found| found.id) {
                let Some(part) = self.named(&id).await?.filter(is_to_run) else { continue };
                if running_since(&part).is_none_or(|started| started < since) {
                    tracing::info!(container = part.name, "started again: the network it shares is a new one");
                    let options = RestartContainerOptions { t: Some(5), ..Default::default() };
                    let what = format!("restart {id}");
                    self.call(&what, |docker| async move { docker.restart_container(&id, Some(options)).await })
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// Joins the parts to one network, just made.
    pub(super) async fn join_one(&self, name: &str, range: (Ipv4Addr, u8)) -> Result<(), EngineError> {
        for (nth, part) in self.config.attach.iter().enumerate() {
            self.join(part, name, address(range, nth)).await?;
        }
        Ok(())
    }

    /// Takes the parts out of a network that is to go. What fails here, Docker says when the network is removed.
    pub(super) async fn leave(&self, name: &str) {
        for part in &self.config.attach {
            let request = NetworkDisconnectRequest { container: part.clone(), force: Some(true) };
            let what = format!("take {part} out of the network {name}");
            let left = self.call(&what, |docker| async move { docker.disconnect_network(name, request).await }).await;
            if let Err(error) = left {
                tracing::debug!(%error, "not in it");
            }
        }
    }

    async fn join(&self, part: &str, name: &str, address: Ipv4Addr) -> Result<(), EngineError> {
        let what = format!("join {part} to the network {name}");
        let ipam = EndpointIpamConfig { ipv4_address: Some(address.to_string()), ..EndpointIpamConfig::default() };
        let endpoint = EndpointSettings { ipam_config: Some(ipam), ..EndpointSettings::default() };
        let request = NetworkConnectRequest { container: part.to_owned(), endpoint_config: Some(endpoint) };
        let done =
            self.ask(&what, self.config.deadline, |docker| async move { docker.connect_network(name, request).await });
        match done.await {
            Ok(()) => Ok(()),
            // The part is not there, or another call was faster.
            Err(Failure::Docker(error)) if is(&error, 404) => Ok(()),
            Err(Failure::Docker(error))
                if refusal(&error).is_some_and(|(_, words)| words.contains("already exists")) =>
            {
                Ok(())
            }
            Err(failure) => Err(self.plain(&what, failure)),
        }
    }

    /// The networks that a container is in; none when there is no such container.
    async fn joined(&self, part: &str) -> Result<Option<BTreeSet<String>>, EngineError> {
        let found = self.named(part).await?;
        let networks = found.map(|container| container.network_settings.and_then(|settings| settings.networks));
        Ok(networks.map(|networks| networks.unwrap_or_default().into_keys().collect()))
    }

    async fn own_networks(&self) -> Result<Vec<(String, (Ipv4Addr, u8))>, EngineError> {
        let labels = [
            format!("{}={}", names::INSTANCE, self.config.instance),
            format!("{}={}", names::STORE, self.config.store_id),
        ];
        let options = ListNetworksOptions { filters: Some(names::filter(&labels)) };
        let found =
            self.call("list networks", |docker| async move { docker.list_networks(Some(options)).await }).await?;
        let named = found.into_iter().filter_map(|found| {
            let range = network::subnets(found.ipam.as_ref()).find_map(network::range)?;
            Some((found.name?, range))
        });
        Ok(named.collect())
    }
}

/// Since when a container runs, Unix ms; none: it does not.
fn running_since(container: &ContainerInspectResponse) -> Option<u64> {
    let state = container.state.as_ref().filter(|state| state.running == Some(true))?;
    state.started_at.as_deref().map(millis)
}

/// Whether a container has run and is to be started again when it ends. One that was never started waits for somebody.
fn is_to_run(container: &ContainerInspectResponse) -> bool {
    let host = container.host_config.as_ref().and_then(|host| host.restart_policy.as_ref());
    let always = host.is_some_and(|policy| policy.name == Some(RestartPolicyNameEnum::ALWAYS));
    let has_run = |at: &str| !at.starts_with("0001-");
    let started = container.state.as_ref().and_then(|state| state.started_at.as_deref());
    always && started.is_some_and(has_run)
}

/// The `nth` address from the end of a range, broadcast left out.
fn address((base, bits): (Ipv4Addr, u8), nth: usize) -> Ipv4Addr {
    let broadcast = u32::from(base) | u32::MAX.checked_shr(u32::from(bits)).unwrap_or(0);
    Ipv4Addr::from(broadcast - 1 - nth as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_have_the_last_addresses() {
        let range = (Ipv4Addr::new(10, 213, 0, 128), 25);
        assert_eq!(address(range, 0), Ipv4Addr::new(10, 213, 0, 254));
        assert_eq!(address(range, 1), Ipv4Addr::new(10, 213, 0, 253));
    }
}
