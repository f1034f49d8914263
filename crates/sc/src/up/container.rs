//! A [`Part`] as Docker is asked for it, and how one that runs is known to be the same.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigLogConfig, NetworkingConfig,
    PortBinding, PortMap, RestartPolicy, RestartPolicyNameEnum,
};

use super::parts::{INSTANCE, Part, Port};

/// The label that tells what a container was made from: the same again means nothing to do.
const CONFIG: &str = "sc.config";
/// The label with the name of the container whose network it shares: the manager starts it again when that was.
const JOINS: &str = "sc.joins";
/// The label with the ports of the host that it takes.
const PORTS: &str = "sc.ports";

/// What Docker is asked for; `image_id` is what the image's name means now.
pub(crate) fn body(part: &Part, instance: &str, image_id: &str) -> ContainerCreateBody {
    let log = [("max-size", "10m"), ("max-file", "3")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let volume = format!("{}:/data", part.volume);
    let bridge = part.address.as_ref();
    let shared = part.joins.as_ref().map_or("host".to_owned(), |joined| format!("container:{joined}"));
    let host = HostConfig {
        network_mode: Some(bridge.map_or(shared, |(network, _)| network.clone())),
        port_bindings: bridge.map(|_| bindings(&part.ports)),
        // It is in the networks of many apps: nothing gets from one to the other through it.
        sysctls: bridge.map(|_| HashMap::from([("net.ipv4.ip_forward".to_owned(), "0".to_owned())])),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::ALWAYS), maximum_retry_count: None }),
        log_config: Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(log.into()) }),
        binds: Some([vec![volume], part.binds.clone()].concat()),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        cap_drop: part.drop_all.then(|| vec!["ALL".to_owned()]),
        cap_add: (!part.cap_add.is_empty()).then(|| part.cap_add.clone()),
        ..HostConfig::default()
    };
    let ports = part.ports.iter().map(|port| port.host.to_string()).collect::<Vec<_>>().join(" ");
    let labels = [(INSTANCE, instance.to_owned()), (CONFIG, fingerprint(part, image_id)), (PORTS, ports)];
    let joins = part.joins.as_ref().map(|joined| (JOINS, joined.clone()));
    let labels = labels.into_iter().chain(joins);
    ContainerCreateBody {
        image: Some(part.image.clone()),
        cmd: Some(part.arguments.clone()),
        labels: Some(labels.map(|(key, value)| (key.to_owned(), value)).collect()),
        exposed_ports: bridge.map(|_| part.ports.iter().map(inside).collect()),
        host_config: Some(host),
        networking_config: networking(part),
        ..ContainerCreateBody::default()
    }
}

fn inside(port: &Port) -> String {
    format!("{}/tcp", port.inside)
}

fn bindings(ports: &[Port]) -> PortMap {
    let binding = |port: &Port| PortBinding {
        host_ip: Some(port.host.ip().to_string()),
        host_port: Some(port.host.port().to_string()),
    };
    ports.iter().map(|port| (inside(port), Some(vec![binding(port)]))).collect()
}

fn networking(part: &Part) -> Option<NetworkingConfig> {
    let (network, address) = part.address.as_ref()?;
    let ipam = EndpointIpamConfig { ipv4_address: Some(address.to_string()), ..EndpointIpamConfig::default() };
    let endpoint = EndpointSettings { ipam_config: Some(ipam), ..EndpointSettings::default() };
    Some(NetworkingConfig { endpoints_config: Some(HashMap::from([(network.clone(), endpoint)])) })
}

/// Whether a container with these labels is what would be made now.
pub(crate) fn is_current(labels: Option<&HashMap<String, String>>, part: &Part, image_id: &str) -> bool {
    labels.and_then(|labels| labels.get(CONFIG)).is_some_and(|config| *config == fingerprint(part, image_id))
}

/// The ports of the host that a container with these labels takes while it runs.
pub(crate) fn ports(labels: &HashMap<String, String>) -> impl Iterator<Item = std::net::SocketAddr> {
    labels.get(PORTS).map_or("", String::as_str).split(' ').filter_map(|port| port.parse().ok())
}

/// Changes with anything that a container is made from.
fn fingerprint(part: &Part, image_id: &str) -> String {
    use sha2::Digest;
    let text = format!("{part:?} {image_id}");
    sha2::Sha256::digest(text.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::parts::{parts, tests::elsewhere, tests::wanted};

    #[test]
    fn only_a_change_changes_a_container() {
        let (one, two) = (wanted(elsewhere("http://a:1")), wanted(elsewhere("http://b:1")));
        let labels = body(&parts(&one)[0], "sc", "image").labels;
        assert!(is_current(labels.as_ref(), &parts(&one)[0], "image"));
        assert!(!is_current(labels.as_ref(), &parts(&one)[0], "another image"));
        assert!(!is_current(labels.as_ref(), &parts(&two)[0], "image"));
        assert!(!is_current(None, &parts(&one)[0], "image"));
    }

    #[test]
    fn a_container_tells_its_ports() {
        let labels = body(&parts(&wanted(elsewhere("http://a:1")))[1], "sc", "image").labels.unwrap();
        assert_eq!(ports(&labels).map(|port| port.port()).collect::<Vec<_>>(), [80, 9901]);
    }
}
