//! The containers of one installation, as data.

use std::{collections::HashMap, net::SocketAddr};

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig, RestartPolicy, RestartPolicyNameEnum};

/// The label that names the installation on everything of it.
pub(crate) const INSTANCE: &str = "sc.instance";
/// The label that tells what a container was made from: the same again means nothing to do.
const CONFIG: &str = "sc.config";
/// The release whose images are run.
pub(crate) const RELEASE: &str = env!("CARGO_PKG_VERSION");
/// How much etcd may hold, in bytes.
const QUOTA: u64 = 512 << 20;

/// What the user asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub instance: String,
    /// Where the proxy takes HTTP.
    pub http: SocketAddr,
    /// Where the manager's API listens.
    pub api: SocketAddr,
    /// Where the proxy's stats are.
    pub admin: SocketAddr,
    /// The pool of the apps' networks.
    pub pool: String,
    /// The Docker socket on this host.
    pub docker_socket: String,
    pub etcd: Etcd,
}

/// Where the state is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Etcd {
    /// In members of our own: client and peer port of each.
    Own(Vec<(u16, u16)>),
    /// In somebody else's, at these URLs.
    At(Vec<String>),
}

/// One container.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub name: String,
    pub image: String,
    /// Volume and where it is in the container.
    pub volume: String,
    pub arguments: Vec<String>,
    pub binds: Vec<String>,
    pub cap_add: Vec<String>,
    pub drop_all: bool,
}

impl Etcd {
    fn urls(&self) -> Vec<String> {
        match self {
            Self::Own(members) => members.iter().map(|(client, _)| format!("http://127.0.0.1:{client}")).collect(),
            Self::At(urls) => urls.clone(),
        }
    }
}

/// Its name as a container or volume: `sc-etcd`, `sc-etcd-2`.
pub(crate) fn etcd_name(instance: &str, member: usize) -> String {
    match member {
        0 => format!("{instance}-etcd"),
        n => format!("{instance}-etcd-{}", n + 1),
    }
}

/// All containers, in the order in which they are to be started.
pub(crate) fn parts(wanted: &Wanted) -> Vec<Part> {
    let mut parts = match &wanted.etcd {
        Etcd::Own(members) => (0..members.len()).map(|n| etcd(wanted, members, n)).collect(),
        Etcd::At(_) => Vec::new(),
    };
    parts.extend([manager(wanted), proxy(wanted)]);
    parts
}

fn etcd(wanted: &Wanted, members: &[(u16, u16)], n: usize) -> Part {
    let name = |n| etcd_name(&wanted.instance, n);
    let (client, peer) = (format!("http://127.0.0.1:{}", members[n].0), format!("http://127.0.0.1:{}", members[n].1));
    let all = members.iter().enumerate().map(|(n, (_, peer))| format!("{}=http://127.0.0.1:{peer}", name(n)));
    let arguments = [
        format!("--name={}", name(n)),
        "--data-dir=/data".to_owned(),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster={}", all.collect::<Vec<_>>().join(",")),
        "--auto-compaction-mode=periodic".to_owned(),
        "--auto-compaction-retention=1h".to_owned(),
        format!("--quota-backend-bytes={QUOTA}"),
    ];
    Part { drop_all: true, ..part(wanted, &name(n), "etcd", arguments.into()) }
}

fn manager(wanted: &Wanted) -> Part {
    let arguments = vec![
        "--data=/data".to_owned(),
        "--store=etcd".to_owned(),
        format!("--etcd={}", wanted.etcd.urls().join(",")),
        "--engine=docker".to_owned(),
        format!("--instance={}", wanted.instance),
        format!("--listen={}", wanted.api),
        format!("--pool={}", wanted.pool),
    ];
    let name = format!("{}-manager", wanted.instance);
    let binds = vec![format!("{}:/var/run/docker.sock", wanted.docker_socket)];
    Part { binds, ..part(wanted, &name, "manager", arguments) }
}

fn proxy(wanted: &Wanted) -> Part {
    let arguments = vec![
        "--data=/data".to_owned(),
        format!("--listen={}", wanted.http),
        format!("--admin={}", wanted.admin),
        format!("--etcd={}", wanted.etcd.urls().join(",")),
    ];
    let cap_add = if wanted.http.port() < 1024 { vec!["NET_BIND_SERVICE".to_owned()] } else { Vec::new() };
    let name = format!("{}-proxy", wanted.instance);
    Part { cap_add, drop_all: true, ..part(wanted, &name, "proxy", arguments) }
}

fn part(_: &Wanted, name: &str, image: &str, arguments: Vec<String>) -> Part {
    Part {
        name: name.to_owned(),
        image: format!("sc/{image}:{RELEASE}"),
        volume: name.to_owned(),
        arguments,
        binds: Vec::new(),
        cap_add: Vec::new(),
        drop_all: false,
    }
}

/// What Docker is asked for; `image_id` is what the image's name means now.
pub(crate) fn body(part: &Part, instance: &str, image_id: &str) -> ContainerCreateBody {
    let log = [("max-size", "10m"), ("max-file", "3")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let volume = format!("{}:/data", part.volume);
    let host = HostConfig {
        network_mode: Some("host".to_owned()),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::ALWAYS), maximum_retry_count: None }),
        log_config: Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(log.into()) }),
        binds: Some([vec![volume], part.binds.clone()].concat()),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        cap_drop: part.drop_all.then(|| vec!["ALL".to_owned()]),
        cap_add: (!part.cap_add.is_empty()).then(|| part.cap_add.clone()),
        ..HostConfig::default()
    };
    let config = fingerprint(part, image_id);
    let labels = HashMap::from([(INSTANCE.to_owned(), instance.to_owned()), (CONFIG.to_owned(), config)]);
    ContainerCreateBody {
        image: Some(part.image.clone()),
        cmd: Some(part.arguments.clone()),
        labels: Some(labels),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    }
}

/// Whether a container with these labels is what would be made now.
pub(crate) fn is_current(labels: Option<&HashMap<String, String>>, part: &Part, image_id: &str) -> bool {
    labels.and_then(|labels| labels.get(CONFIG)).is_some_and(|config| *config == fingerprint(part, image_id))
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

    fn wanted(etcd: Etcd) -> Wanted {
        Wanted {
            instance: "sc".into(),
            http: "0.0.0.0:80".parse().unwrap(),
            api: "127.0.0.1:7700".parse().unwrap(),
            admin: "127.0.0.1:9901".parse().unwrap(),
            pool: "10.213.0.0/16".into(),
            docker_socket: "/var/run/docker.sock".into(),
            etcd,
        }
    }

    #[test]
    fn three_containers_in_the_order_of_need() {
        let parts = parts(&wanted(Etcd::Own(vec![(2379, 2380)])));
        assert_eq!(parts.iter().map(|part| &*part.name).collect::<Vec<_>>(), ["sc-etcd", "sc-manager", "sc-proxy"]);
        assert!(parts[1].arguments.contains(&"--etcd=http://127.0.0.1:2379".to_owned()));
        assert_eq!(parts[2].cap_add, ["NET_BIND_SERVICE"], "80 is a privileged port");
    }

    #[test]
    fn three_members_know_each_other() {
        let parts = parts(&wanted(Etcd::Own(vec![(1, 2), (3, 4), (5, 6)])));
        assert_eq!(parts.len(), 5);
        let all =
            "--initial-cluster=sc-etcd=http://127.0.0.1:2,sc-etcd-2=http://127.0.0.1:4,sc-etcd-3=http://127.0.0.1:6";
        assert!(parts[..3].iter().all(|part| part.arguments.contains(&all.to_owned())), "{parts:#?}");
    }

    #[test]
    fn a_cluster_of_somebody_elses_needs_no_container() {
        assert_eq!(parts(&wanted(Etcd::At(vec!["http://10.0.0.1:2379".into()]))).len(), 2);
    }

    #[test]
    fn only_a_change_changes_a_container() {
        let (one, two) = (wanted(Etcd::At(vec!["http://a:1".into()])), wanted(Etcd::At(vec!["http://b:1".into()])));
        let labels = body(&parts(&one)[0], "sc", "image").labels;
        assert!(is_current(labels.as_ref(), &parts(&one)[0], "image"));
        assert!(!is_current(labels.as_ref(), &parts(&one)[0], "another image"));
        assert!(!is_current(labels.as_ref(), &parts(&two)[0], "image"));
        assert!(!is_current(None, &parts(&one)[0], "image"));
    }
}
