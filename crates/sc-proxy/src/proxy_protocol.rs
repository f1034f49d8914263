//! The PROXY protocol, versions 1 and 2 (HAProxy's `doc/proxy-protocol.txt`, 2020): who the client is, said before its first
//! byte by a proxy in front. Pure: bytes to a header and back.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use sc_core::spec::ProxyProtocol;

/// The most bytes of a header. A text is at most 107 long; of a binary one's room for extensions this is what senders use.
pub const MAX: usize = 536;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const TEXT: &[u8; 6] = b"PROXY ";
/// The longest text, its line end counted.
const TEXT_MAX: usize = 107;
/// Signature, version and command, family, length.
const FIXED: usize = 16;

/// The ends of a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Where the client is.
    pub client: SocketAddr,
    /// Where it connected to.
    pub server: SocketAddr,
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The connection is made for this one.
    Proxied(Ends),
    /// It is made by the proxy itself, or for something without an IP address: the connection's own ends hold.
    Unknown,
}

/// What was made of the first bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A header, and its length in bytes.
    Whole(Header, usize),
    /// The beginning of one.
    Partial,
    /// None.
    Bad,
}

/// Reads the header at the start of `bytes`; what follows it is not looked at. Never [`Verdict::Partial`] from [`MAX`] bytes on.
pub fn read(bytes: &[u8]) -> Verdict {
    if begins(bytes, SIGNATURE) {
        return read_binary(bytes).unwrap_or(Verdict::Bad);
    }
    if begins(bytes, TEXT) {
        return read_text(bytes).unwrap_or(Verdict::Bad);
    }
    Verdict::Bad
}

/// Whether one of them is the beginning of the other.
fn begins(bytes: &[u8], with: &[u8]) -> bool {
    let n = bytes.len().min(with.len());
    bytes[..n] == with[..n]
}

fn read_text(bytes: &[u8]) -> Option<Verdict> {
    let bytes = &bytes[..bytes.len().min(TEXT_MAX)];
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        return (bytes.len() < TEXT_MAX).then_some(Verdict::Partial);
    };
    let line = std::str::from_utf8(bytes.get(TEXT.len()..end)?.strip_suffix(b"\r")?).ok()?;
    let header = if line == "UNKNOWN" || line.starts_with("UNKNOWN ") { Header::Unknown } else { ends_of(line)? };
    Some(Verdict::Whole(header, end + 1))
}

/// `TCP4 192.0.2.1 192.0.2.2 50000 443`
fn ends_of(line: &str) -> Option<Header> {
    let words: Vec<&str> = line.split(' ').collect();
    let [family, client, server, client_port, server_port] = words[..] else { return None };
    let addr = |ip: &str, port: &str| -> Option<SocketAddr> {
        let ip: IpAddr = ip.parse().ok()?;
        let fits = (family == "TCP4" && ip.is_ipv4()) || (family == "TCP6" && ip.is_ipv6());
        let digits = port.bytes().all(|b| b.is_ascii_digit()) && (port == "0" || !port.starts_with('0'));
        (fits && digits).then_some(SocketAddr::new(ip, port.parse().ok()?))
    };
    Some(Header::Proxied(Ends { client: addr(client, client_port)?, server: addr(server, server_port)? }))
}

fn read_binary(bytes: &[u8]) -> Option<Verdict> {
    let Some(fixed) = bytes.first_chunk::<FIXED>() else {
        let plain = bytes.get(12).is_none_or(|b| b >> 4 == 2 && b & 0xf <= 1);
        return plain.then_some(Verdict::Partial);
    };
    let (version, command) = (fixed[12] >> 4, fixed[12] & 0xf);
    let len = FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if version != 2 || command > 1 || len > MAX {
        return None;
    }
    let Some(body) = bytes.get(FIXED..len) else { return Some(Verdict::Partial) };
    let header = match (command, fixed[13]) {
        (0, _) => Header::Unknown,
        (_, 0x11) => Header::Proxied(addresses::<4>(body, |ip| Ipv4Addr::from(ip).into())?),
        (_, 0x21) => Header::Proxied(addresses::<16>(body, |ip| Ipv6Addr::from(ip).into())?),
        _ => Header::Unknown,
    };
    Some(Verdict::Whole(header, len))
}

/// Both addresses, then both ports; what follows are extensions.
fn addresses<const N: usize>(body: &[u8], ip: impl Fn([u8; N]) -> IpAddr) -> Option<Ends> {
    let (client, rest) = body.split_first_chunk::<N>()?;
    let (server, rest) = rest.split_first_chunk::<N>()?;
    let ports = rest.first_chunk::<4>()?;
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Some(Ends { client: SocketAddr::new(ip(*client), port(0)), server: SocketAddr::new(ip(*server), port(2)) })
}

impl Header {
    /// The header's bytes.
    pub fn write(&self, version: ProxyProtocol) -> Vec<u8> {
        match version {
            ProxyProtocol::V1 => self.text().into_bytes(),
            ProxyProtocol::V2 => self.binary(),
        }
    }

    fn text(&self) -> String {
        let Self::Proxied(ends) = self else { return "PROXY UNKNOWN\r\n".to_owned() };
        let (client, server, is_v4) = one_family(ends);
        let mut text = format!("PROXY TCP{} ", if is_v4 { 4 } else { 6 });
        let (from, to) = (ends.client.port(), ends.server.port());
        let _ = write!(text, "{client} {server} {from} {to}\r\n");
        text
    }

    fn binary(&self) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        let Self::Proxied(ends) = self else {
            bytes.extend([0x20, 0, 0, 0]);
            return bytes;
        };
        let (client, server, is_v4) = one_family(ends);
        bytes.extend(if is_v4 { [0x21, 0x11, 0, 12] } else { [0x21, 0x21, 0, 36] });
        for ip in [client, server] {
            match ip {
                IpAddr::V4(ip) => bytes.extend(ip.octets()),
                IpAddr::V6(ip) => bytes.extend(ip.octets()),
            }
        }
        bytes.extend(ends.client.port().to_be_bytes());
        bytes.extend(ends.server.port().to_be_bytes());
        bytes
    }
}

/// Both addresses as IPv4 if they are, else both as IPv6: a header has one family.
fn one_family(ends: &Ends) -> (IpAddr, IpAddr, bool) {
    let (client, server) = (ends.client.ip().to_canonical(), ends.server.ip().to_canonical());
    let wide = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => IpAddr::V6(ip.to_ipv6_mapped()),
        IpAddr::V6(_) => ip,
    };
    if client.is_ipv4() && server.is_ipv4() { (client, server, true) } else { (wide(client), wide(server), false) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ends() -> impl Strategy<Value = Ends> {
        let v4 = (any::<[u8; 4]>(), any::<[u8; 4]>()).prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)));
        // Not mapped ones: these are written as IPv4.
        let v6 = |ip: [u8; 16]| {
            IpAddr::from(
                [[0x20, 0x01], [ip[2], ip[3]]]
                    .concat()
                    .into_iter()
                    .chain(ip[4..].iter().copied())
                    .collect::<Vec<u8>>()
                    .try_into()
                    .unwrap_or(ip),
            )
        };
        let v6 = (any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(move |(a, b)| (v6(a), v6(b)));
        (prop_oneof![v4, v6], any::<u16>(), any::<u16>()).prop_map(|((client, server), from, to)| Ends {
            client: SocketAddr::new(client, from),
            server: SocketAddr::new(server, to),
        })
    }

    fn headers() -> impl Strategy<Value = Header> {
        prop_oneof![ends().prop_map(Header::Proxied), Just(Header::Unknown)]
    }

    fn versions() -> impl Strategy<Value = ProxyProtocol> {
        prop_oneof![Just(ProxyProtocol::V1), Just(ProxyProtocol::V2)]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_every_prefix_of_it_wants_more(
            header in headers(), version in versions(), rest: Vec<u8>,
        ) {
            let bytes = header.write(version);
            for n in 0..bytes.len() {
                prop_assert_eq!(read(&bytes[..n]), Verdict::Partial);
            }
            prop_assert_eq!(read(&[&bytes[..], &rest].concat()), Verdict::Whole(header, bytes.len()));
        }

        #[test]
        fn extensions_are_skipped_within_bounds(header in headers(), extra in 0usize..600) {
            let mut bytes = header.write(ProxyProtocol::V2);
            let len = bytes.len() + extra;
            bytes[14..16].copy_from_slice(&u16::try_from(len - FIXED).unwrap().to_be_bytes());
            bytes.resize(len, 7);
            let want = if len <= MAX { Verdict::Whole(header, len) } else { Verdict::Bad };
            prop_assert_eq!(read(&bytes), want);
        }

        #[test]
        fn anything_else_is_refused_or_bounded(mut bytes: Vec<u8>, text: bool, signed: bool) {
            if signed {
                bytes.splice(0..0, if text { TEXT.to_vec() } else { SIGNATURE.to_vec() });
            }
            match read(&bytes) {
                Verdict::Partial => prop_assert!(bytes.len() < MAX),
                Verdict::Whole(_, len) => prop_assert!(signed && len <= bytes.len().min(MAX)),
                Verdict::Bad => {}
            }
        }
    }

    #[test]
    fn texts_of_other_shapes_are_refused() {
        for line in [
            "TCP4 1.2.3.4 1.2.3.4 1",
            "TCP4 1.2.3.4 1.2.3.4 1 2 3",
            "TCP4 1.2.3.4 ::1 1 2",
            "TCP6 1.2.3.4 1.2.3.4 1 2",
            "TCP4 1.2.3.4 1.2.3.4 65536 1",
            "TCP4 1.2.3.4 1.2.3.4 +1 1",
            "TCP4 1.2.3.4 1.2.3.4 01 1",
            "TCP4  1.2.3.4 1.2.3.4 1 1",
            "UDP4 1.2.3.4 1.2.3.4 1 1",
            "UNKNOWNS",
        ] {
            assert_eq!(read(format!("PROXY {line}\r\n").as_bytes()), Verdict::Bad, "{line}");
        }
        assert_eq!(read(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n"), Verdict::Bad, "without a carriage return");
        assert_eq!(read(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat()), Verdict::Bad, "too long");
        assert_eq!(read(b"GET / HTTP/1.1\r\n"), Verdict::Bad);
        let other = b"PROXY UNKNOWN ffff:f fffe\r\nrest";
        assert_eq!(read(other), Verdict::Whole(Header::Unknown, other.len() - 4));
    }

    #[test]
    fn a_client_without_an_ip_address_is_unknown() {
        let unix = [&SIGNATURE[..], &[0x21, 0x31, 0, 2, 9, 9]].concat();
        assert_eq!(read(&unix), Verdict::Whole(Header::Unknown, 18));
        let short = [&SIGNATURE[..], &[0x21, 0x11, 0, 2, 9, 9]].concat();
        assert_eq!(read(&short), Verdict::Bad);
        let mapped = Ends { client: "[::ffff:10.0.0.1]:5".parse().unwrap(), server: "10.0.0.2:6".parse().unwrap() };
        assert_eq!(Header::Proxied(mapped).write(ProxyProtocol::V1), b"PROXY TCP4 10.0.0.1 10.0.0.2 5 6\r\n");
    }
}
