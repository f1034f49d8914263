//! The containers of one installation, as data.

use std::net::{Ipv4Addr, SocketAddr};

use super::{bridge::Bridge, etcd::Etcd};

/// The label that names the installation on everything of it.
pub(crate) const INSTANCE: &str = "sc.instance";
/// The release whose images are run.
pub(crate) const RELEASE: &str = env!("CARGO_PKG_VERSION");
/// How much etcd may hold, in bytes.
const QUOTA: u64 = 512 << 20;
/// Where the proxy takes HTTP in a container of its own network: no privilege is needed for it there.
const HTTP: u16 = 8080;
/// Where it takes HTTPS there.
const HTTPS: u16 = 8443;

/// What the user asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub instance: String,
    /// Where the proxy takes HTTP.
    pub http: SocketAddr,
    /// Where the proxy takes HTTPS.
    pub https: Option<SocketAddr>,
    /// Ports of TCP routes, at the address of `http`.
    pub tcp_ports: Vec<u16>,
    /// The host's folder of certificates for it.
    pub certs: Option<String>,
    /// The authority that certificates are had from.
    pub acme: Option<Acme>,
    /// Where the manager's API listens.
    pub api: SocketAddr,
    /// Where the proxy's stats are.
    pub admin: SocketAddr,
    /// The pool of the apps' networks.
    pub pool: String,
    /// The Docker socket on this host.
    pub docker_socket: String,
    pub etcd: Etcd,
    /// The parts' own network; none: the host's.
    pub bridge: Option<Bridge>,
}

/// An authority, and what we are to it.
#[derive(Debug, Clone)]
pub(crate) struct Acme {
    pub email: String,
    /// None: the manager's own default.
    pub directory: Option<String>,
    /// The authorities that its HTTPS is known by, as PEM: an image from scratch has none.
    pub ca: Vec<u8>,
}

/// Where the manager finds those.
const ACME_CA: &str = "/etc/sc/acme-ca.pem";
/// The store key, in a volume that manager and proxy share.
const STORE_KEY: &str = "/keys/store.key";

impl Acme {
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![format!("--acme-email={}", self.email), format!("--acme-ca={ACME_CA}")];
        arguments.extend(self.directory.iter().map(|url| format!("--acme-directory={url}")));
        arguments
    }
}

/// The volume of the store key.
pub(crate) fn keys_name(instance: &str) -> String {
    format!("{instance}-keys")
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
    /// Files in the container: path and content.
    pub files: Vec<(String, Vec<u8>)>,
    pub ports: Vec<Port>,
    /// Network and address of its own; none: the host's network, or that of another part.
    pub address: Option<(String, Ipv4Addr)>,
    /// The part whose network it shares.
    pub joins: Option<String>,
    /// The part that has to be made anew with this one, since it shares the network.
    pub joined_by: Option<String>,
    /// A new one takes over the listening sockets of the one that runs.
    pub hands_over: bool,
}

/// A port of this host that a part takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    /// The option that sets it.
    pub flag: &'static str,
    /// On this host.
    pub host: SocketAddr,
    /// In the container.
    pub inside: u16,
}

/// Its name as a container or volume: `sc-etcd`, `sc-etcd-2`.
pub(crate) fn etcd_name(instance: &str, member: usize) -> String {
    match member {
        0 => format!("{instance}-etcd"),
        n => format!("{instance}-etcd-{}", n + 1),
    }
}

/// The manager's container.
pub(crate) fn manager_name(instance: &str) -> String {
    format!("{instance}-manager")
}

/// The proxy's container.
pub(crate) fn proxy_name(instance: &str) -> String {
    format!("{instance}-proxy")
}

/// The container that owns the proxy's network on a bridge, so that proxies can come and go in it.
pub(crate) fn holder_name(instance: &str) -> String {
    format!("{instance}-proxy-net")
}

/// All containers, in the order in which they are to be started.
pub(crate) fn parts(wanted: &Wanted) -> Vec<Part> {
    let members = wanted.etcd.members().len();
    let mut parts: Vec<_> = (0..members).map(|n| etcd(wanted, n)).collect();
    parts.push(manager(wanted));
    let proxy = proxy(wanted);
    parts.extend(wanted.bridge.as_ref().map(|bridge| holder(wanted, bridge, &proxy)));
    let ports = if wanted.bridge.is_some() { Vec::new() } else { proxy.ports.clone() };
    parts.push(Part { ports, ..proxy });
    parts
}

impl Wanted {
    /// Where a member of our own etcd listens, for clients and for the others.
    fn member(&self, n: usize) -> (SocketAddr, SocketAddr) {
        let (client, peer) = self.etcd.members()[n];
        match &self.bridge {
            None => ((Ipv4Addr::LOCALHOST, client).into(), (Ipv4Addr::LOCALHOST, peer).into()),
            Some(bridge) => ((bridge.etcd(n), 2379).into(), (bridge.etcd(n), 2380).into()),
        }
    }

    /// What manager and proxy are told about etcd.
    fn etcd_arguments(&self) -> Vec<String> {
        let own = |n| format!("http://{}", self.member(n).0);
        let urls = match &self.etcd {
            Etcd::Own(members) => (0..members.len()).map(own).collect(),
            Etcd::At { urls, .. } => urls.clone(),
        };
        let mut arguments = vec![format!("--etcd={}", urls.join(","))];
        if let Etcd::At { access, .. } = &self.etcd {
            arguments.extend(access.arguments());
        }
        arguments
    }
}

fn etcd(wanted: &Wanted, n: usize) -> Part {
    let name = |n| etcd_name(&wanted.instance, n);
    let all = (0..wanted.etcd.members().len()).map(|n| format!("{}=http://{}", name(n), wanted.member(n).1));
    let (client, peer) = wanted.member(n);
    let arguments = [
        format!("--name={}", name(n)),
        "--data-dir=/data".to_owned(),
        format!("--listen-client-urls=http://{client}"),
        format!("--advertise-client-urls=http://{client}"),
        format!("--listen-peer-urls=http://{peer}"),
        format!("--initial-advertise-peer-urls=http://{peer}"),
        format!("--initial-cluster={}", all.collect::<Vec<_>>().join(",")),
        "--auto-compaction-mode=periodic".to_owned(),
        "--auto-compaction-retention=1h".to_owned(),
        format!("--quota-backend-bytes={QUOTA}"),
    ];
    let port = |host: SocketAddr| Port { flag: "", host, inside: host.port() };
    let ports = if wanted.bridge.is_some() { Vec::new() } else { vec![port(client), port(peer)] };
    let address = wanted.bridge.as_ref().map(|bridge| (bridge.name.clone(), bridge.etcd(n)));
    Part { drop_all: true, ports, address, ..part(&name(n), "etcd", arguments.into()) }
}

fn manager(wanted: &Wanted) -> Part {
    let bridge = wanted.bridge.as_ref();
    let api = Port { flag: "--listen", host: wanted.api, inside: wanted.api.port() };
    let listen = bridge.map_or(wanted.api, |bridge| (bridge.manager(), api.inside).into());
    let name = manager_name(&wanted.instance);
    let mut arguments = vec![
        "--data=/data".to_owned(),
        "--store=etcd".to_owned(),
        "--engine=docker".to_owned(),
        format!("--instance={}", wanted.instance),
        format!("--listen={listen}"),
        format!("--pool={}", wanted.pool),
    ];
    arguments.extend(wanted.etcd_arguments());
    arguments.push(format!("--store-key={STORE_KEY}"));
    arguments.extend(wanted.acme.iter().flat_map(Acme::arguments));
    let authorities = wanted.acme.iter().map(|acme| (ACME_CA.to_owned(), acme.ca.clone()));
    // The proxy first: what it cannot reach is not served.
    arguments.extend(bridge.map(|_| format!("--attach={},{name}", holder_name(&wanted.instance))));
    Part {
        binds: vec![
            format!("{}:/var/run/docker.sock", wanted.docker_socket),
            format!("{}:/keys", keys_name(&wanted.instance)),
        ],
        files: wanted.etcd.files().into_iter().chain(authorities).collect(),
        ports: vec![api],
        address: bridge.map(|bridge| (bridge.name.clone(), bridge.manager())),
        ..part(&name, "manager", arguments)
    }
}

fn proxy(wanted: &Wanted) -> Part {
    let bridge = wanted.bridge.as_ref();
    let http = Port { flag: "--http", host: wanted.http, inside: bridge.map_or(wanted.http.port(), |_| HTTP) };
    let admin = Port { flag: "--admin", host: wanted.admin, inside: wanted.admin.port() };
    let listen = bridge.map_or(wanted.http, |_| (Ipv4Addr::UNSPECIFIED, HTTP).into());
    // On its address among the parts alone, so that no app reaches it.
    let stats = bridge.map_or(wanted.admin, |bridge| (bridge.proxy(), admin.inside).into());
    let mut arguments = vec!["--data=/data".to_owned(), format!("--listen={listen}"), format!("--admin={stats}")];
    arguments.extend(wanted.etcd_arguments());
    arguments.push(format!("--store-key={STORE_KEY}"));
    let https = wanted.https.map(|host| Port { flag: "--https", host, inside: bridge.map_or(host.port(), |_| HTTPS) });
    let secure = https.as_ref().map(|port| match bridge {
        None => port.host,
        Some(_) => (Ipv4Addr::UNSPECIFIED, HTTPS).into(),
    });
    arguments.extend(secure.map(|listen| format!("--listen-tls={listen}")));
    let certs = wanted.certs.as_ref().filter(|_| secure.is_some());
    arguments.extend(certs.map(|_| "--certs=/certs".to_owned()));
    // On the host's network the proxy takes those that routes have, and nothing is to be published.
    let published: &[u16] = if bridge.is_some() { &wanted.tcp_ports } else { &[] };
    let tcp = published.iter().map(|port| Port { flag: "", host: (wanted.http.ip(), *port).into(), inside: *port });
    let low = wanted.tcp_ports.iter().any(|port| *port < 1024);
    let privileged = low || listen.port() < 1024 || secure.is_some_and(|listen| listen.port() < 1024);
    Part {
        binds: std::iter::once(format!("{}:/keys:ro", keys_name(&wanted.instance)))
            .chain(certs.map(|folder| format!("{folder}:/certs:ro")))
            .collect(),
        cap_add: privileged.then(|| "NET_BIND_SERVICE".to_owned()).into_iter().collect(),
        drop_all: true,
        files: wanted.etcd.files(),
        ports: [http, admin].into_iter().chain(https).chain(tcp).collect(),
        joins: bridge.map(|_| holder_name(&wanted.instance)),
        hands_over: true,
        ..part(&proxy_name(&wanted.instance), "proxy", arguments)
    }
}

/// Does nothing but hold the network in which the proxy listens, with the published ports: sockets that are handed from one
/// container to the next are worth nothing in another network.
fn holder(wanted: &Wanted, bridge: &Bridge, proxy: &Part) -> Part {
    let wait = "trap 'exit 0' TERM INT; while :; do sleep 86400 & wait $!; done";
    let arguments = ["/bin/sh", "-c", wait].map(str::to_owned);
    Part {
        volume: proxy.volume.clone(),
        drop_all: true,
        ports: proxy.ports.clone(),
        address: Some((bridge.name.clone(), bridge.proxy())),
        joined_by: Some(proxy.name.clone()),
        ..part(&holder_name(&wanted.instance), "base", arguments.into())
    }
}

fn part(name: &str, image: &str, arguments: Vec<String>) -> Part {
    Part {
        name: name.to_owned(),
        image: format!("sc/{image}:{RELEASE}"),
        volume: name.to_owned(),
        arguments,
        binds: Vec::new(),
        cap_add: Vec::new(),
        drop_all: false,
        files: Vec::new(),
        ports: Vec::new(),
        address: None,
        joins: None,
        joined_by: None,
        hands_over: false,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::*;
    use crate::up::etcd::Access;

    pub(crate) fn wanted(etcd: Etcd) -> Wanted {
        Wanted {
            instance: "sc".into(),
            http: "0.0.0.0:80".parse().unwrap(),
            https: None,
            tcp_ports: Vec::new(),
            certs: None,
            acme: None,
            api: "127.0.0.1:7700".parse().unwrap(),
            admin: "127.0.0.1:9901".parse().unwrap(),
            pool: "10.213.0.0/16".into(),
            docker_socket: "/var/run/docker.sock".into(),
            etcd,
            bridge: None,
        }
    }

    pub(crate) fn elsewhere(url: &str) -> Etcd {
        Etcd::At { urls: vec![url.into()], access: Box::default() }
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
        assert_eq!(parts(&wanted(elsewhere("http://10.0.0.1:2379"))).len(), 2);
    }

    #[test]
    fn on_a_bridge_only_the_published_ports_are_the_hosts() {
        let bridge = Bridge::new("sc", Ipv4Addr::new(172, 20, 0, 0), 16);
        let wanted = Wanted { bridge: Some(bridge), ..wanted(Etcd::Own(vec![(2379, 2380)])) };
        let parts = parts(&wanted);
        assert_eq!(parts[0].ports, [], "etcd is reached on the bridge");
        assert!(parts[1].arguments.contains(&"--listen=172.20.0.2:7700".to_owned()), "{parts:#?}");
        assert!(parts[1].arguments.contains(&"--attach=sc-proxy-net,sc-manager".to_owned()), "{parts:#?}");
        assert_eq!(parts[2].ports[0], Port { flag: "--http", host: wanted.http, inside: HTTP });
        let (holder, proxy) = (&parts[2], &parts[3]);
        assert_eq!((&*holder.name, holder.joined_by.as_deref()), ("sc-proxy-net", Some("sc-proxy")));
        assert!(proxy.arguments.contains(&"--etcd=http://172.20.0.4:2379".to_owned()), "{parts:#?}");
        assert_eq!((proxy.joins.as_deref(), &proxy.ports[..]), (Some("sc-proxy-net"), &[][..]));
        assert!(proxy.cap_add.is_empty() && proxy.hands_over);
    }

    #[test]
    fn ports_of_tcp_routes_are_published_on_a_bridge_and_low_ones_allowed_on_the_host() {
        let wanted = Wanted {
            http: "0.0.0.0:8080".parse().unwrap(),
            tcp_ports: vec![25, 5432],
            ..wanted(Etcd::Own(vec![(2379, 2380)]))
        };
        let proxy = &parts(&wanted)[2];
        assert_eq!((proxy.ports.len(), &proxy.cap_add[..]), (2, &["NET_BIND_SERVICE".to_owned()][..]), "{proxy:#?}");
        let bridge = Some(Bridge::new("sc", Ipv4Addr::new(172, 20, 0, 0), 16));
        let holder = &parts(&Wanted { bridge, ..wanted })[2];
        let port = Port { flag: "", host: "0.0.0.0:5432".parse().unwrap(), inside: 5432 };
        assert!(holder.ports.len() == 4 && holder.ports.contains(&port), "{holder:#?}");
    }

    #[test]
    fn https_has_its_port_and_its_certificates() {
        let own = || wanted(Etcd::Own(vec![(2379, 2380)]));
        let host: SocketAddr = "0.0.0.0:443".parse().unwrap();
        let secure =
            Wanted { http: "0.0.0.0:8080".parse().unwrap(), https: Some(host), certs: Some("/pki".into()), ..own() };
        let proxy = &parts(&secure)[2];
        assert!(proxy.arguments.contains(&"--listen-tls=0.0.0.0:443".to_owned()), "{proxy:#?}");
        assert_eq!(
            (&proxy.binds[..], &proxy.cap_add[..]),
            (&["sc-keys:/keys:ro".to_owned(), "/pki:/certs:ro".to_owned()][..], &["NET_BIND_SERVICE".to_owned()][..])
        );
        let bridge = Some(Bridge::new("sc", Ipv4Addr::new(172, 20, 0, 0), 16));
        let (holder, proxy) =
            (&parts(&Wanted { bridge: bridge.clone(), ..secure.clone() })[2], &parts(&Wanted { bridge, ..secure })[3]);
        assert!(proxy.arguments.contains(&"--listen-tls=0.0.0.0:8443".to_owned()), "{proxy:#?}");
        assert!(holder.ports.contains(&Port { flag: "--https", host, inside: HTTPS }) && proxy.cap_add.is_empty());
    }

    #[test]
    fn manager_and_proxy_share_the_store_key_and_the_manager_knows_the_authority() {
        let acme = Acme { email: "me@a.test".into(), directory: Some("https://ca.test/dir".into()), ca: b"PEM".into() };
        let parts = parts(&Wanted { acme: Some(acme), ..wanted(Etcd::Own(vec![(2379, 2380)])) });
        for part in &parts[1..] {
            assert!(part.arguments.contains(&"--store-key=/keys/store.key".to_owned()), "{part:#?}");
        }
        assert!(parts[1].binds.contains(&"sc-keys:/keys".to_owned()), "{:#?}", parts[1]);
        assert!(parts[2].binds.contains(&"sc-keys:/keys:ro".to_owned()), "the proxy only reads it");
        for argument in
            ["--acme-email=me@a.test", "--acme-directory=https://ca.test/dir", "--acme-ca=/etc/sc/acme-ca.pem"]
        {
            assert!(parts[1].arguments.contains(&argument.to_owned()), "{:#?}", parts[1]);
        }
        assert_eq!(parts[1].files, [("/etc/sc/acme-ca.pem".to_owned(), b"PEM".to_vec())]);
        assert!(parts[2].files.is_empty());
    }

    #[test]
    fn both_get_the_way_into_a_cluster_with_tls() {
        let file = |name: &str| Some((name.to_owned(), name.as_bytes().to_vec()));
        let access = Access { ca: file("ca"), user: Some("sc".into()), password: file("word"), ..Access::default() };
        let access = Box::new(access);
        let parts = parts(&wanted(Etcd::At { urls: vec!["https://a:1".into(), "https://b:1".into()], access }));
        for part in parts {
            let path = |flag: &str| {
                let given = part.arguments.iter().find_map(|argument| argument.strip_prefix(flag)).unwrap();
                Path::new(given).file_name().is_some() && part.files.iter().any(|(path, _)| path == given)
            };
            assert!(path("--etcd-ca=") && path("--etcd-password-file="), "{part:#?}");
            assert!(part.arguments.contains(&"--etcd=https://a:1,https://b:1".to_owned()));
            assert!(part.arguments.contains(&"--etcd-user=sc".to_owned()));
        }
    }
}
