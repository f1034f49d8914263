//! Ports of this host that the parts want, looked at before anything is made: a taken one is named, with who has it.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::ffi::OsStrExt,
};

use super::{container, host::Host, parts::Port};
use crate::exit;

/// A socket that listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listening {
    at: SocketAddr,
    inode: u64,
}

/// Makes sure that no port is somebody else's.
///
/// # Errors
/// When some are; names each with its holder as far as that can be seen, and the option that sets it.
pub(crate) async fn check(host: &Host, instance: &str, ports: impl IntoIterator<Item = &Port>) -> anyhow::Result<()> {
    if !super::host::address().starts_with("unix://") {
        // The ports of another host cannot be seen from here; Docker says it there.
        return Ok(());
    }
    let ours = host.labels(instance).await?;
    let ours: Vec<_> = ours.iter().flat_map(container::ports).collect();
    let listening = listening();
    let mut taken = Vec::new();
    for port in ports.into_iter().filter(|port| !ours.contains(&port.host)) {
        if let Some(found) = listening.iter().find(|found| clash(found.at, port.host)) {
            let holder = match host.publisher(port.host.port()).await? {
                Some(container) => format!(" by the container {container}"),
                None => process(found.inode).map_or_else(String::new, |process| format!(" by {process}")),
            };
            let other = match port.flag {
                "" => "stop that first".to_owned(),
                flag => {
                    format!("stop that, or choose another: {flag} {}:{}", port.host.ip(), another(port.host.port()))
                }
            };
            taken.push(format!("port {} is taken: {} is held{holder}\n  → {other}", port.host.port(), found.at));
        }
    }
    if taken.is_empty() {
        return Ok(());
    }
    Err(exit::failure(exit::CONFLICT, taken.join("\n")))
}

/// An example of another port.
fn another(port: u16) -> u16 {
    match port {
        80 => 8080,
        _ => port.checked_add(1).unwrap_or(port - 1),
    }
}

/// Whether nobody can listen at one while somebody does at the other.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let any = |ip: IpAddr| ip.is_unspecified();
    a.port() == b.port() && (a.ip() == b.ip() || any(a.ip()) || any(b.ip()))
}

fn listening() -> Vec<Listening> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    [read("/proc/net/tcp"), read("/proc/net/tcp6")].iter().flat_map(|table| parse(table)).collect()
}

/// The lines of `/proc/net/tcp` and `tcp6` that are in state LISTEN (proc(5)).
fn parse(table: &str) -> Vec<Listening> {
    let line = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (ip, port) = fields.get(1)?.split_once(':')?;
        let at = SocketAddr::new(address(ip)?, u16::from_str_radix(port, 16).ok()?);
        (*fields.get(3)? == "0A").then_some(Listening { at, inode: fields.get(9)?.parse().ok()? })
    };
    table.lines().filter_map(line).collect()
}

/// Words of 32 bits in the host's byte order.
fn address(hex: &str) -> Option<IpAddr> {
    let word = |n: usize| Some(u32::from_str_radix(hex.get(n * 8..n * 8 + 8)?, 16).ok()?.to_ne_bytes());
    if hex.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let words: Vec<u8> = (0..4).filter_map(word).flatten().collect();
    Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?)).to_canonical())
}

/// The process that has a socket, if this user may see it.
fn process(inode: u64) -> Option<String> {
    let link = format!("socket:[{inode}]");
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let pid = entry.file_name();
        if !pid.as_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let Ok(files) = fs::read_dir(entry.path().join("fd")) else { continue };
        let has = |file: fs::DirEntry| {
            fs::read_link(file.path()).is_ok_and(|to| to.as_os_str().as_bytes() == link.as_bytes())
        };
        if files.flatten().any(has) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {})", name.trim(), pid.to_string_lossy()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    #[cfg(target_endian = "little")]
    fn reads_what_listens() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000  0 4711 1 0 100 0 0 10 0\n\
            1: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000  0 4712 1 0 100 0 0 10 0\n";
        assert_eq!(parse(table), [Listening { at: "127.0.0.1:8080".parse().unwrap(), inode: 4711 }]);
        assert_eq!(address("00000000000000000000000000000000"), Some(Ipv6Addr::UNSPECIFIED.into()));
        assert_eq!(address("0000000000000000FFFF00000100007F"), Some(Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn an_address_is_taken_by_itself_and_by_all_addresses() {
        let clash = |a: &str, b: &str| clash(a.parse().unwrap(), b.parse().unwrap());
        assert!(clash("127.0.0.1:80", "0.0.0.0:80") && clash("[::]:80", "127.0.0.1:80"));
        assert!(!clash("127.0.0.1:80", "127.0.0.2:80") && !clash("127.0.0.1:80", "127.0.0.1:81"));
    }

    #[test]
    fn names_who_listens() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let found = listening().into_iter().find(|found| found.at == at).unwrap();
        assert!(process(found.inode).unwrap().contains(&format!("(process {})", std::process::id())));
    }
}
