//! Which replica a client stays with: what its cookie says ([`sc_core::spec::Sticky`]).

use hyper::{
    HeaderMap,
    header::{COOKIE, HeaderValue},
};
use sc_core::{AppId, ReplicaId, spec::Sticky as Asked};

/// A replica as cookies name it: the same at every proxy and after every restart, with nothing of its address or name to be
/// read in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag(u64);

impl Tag {
    /// The replica's. In a routes file replicas are numbered as their addresses appear, so proxies with the same file agree.
    pub fn of(replica: &ReplicaId) -> Self {
        Self(mixed(&format!("sc sticky {replica}")))
    }
}

/// A version as cookies name it, so that clients stay with it also when their replica is gone: 16 bits of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u16);

impl Mark {
    /// An app's version.
    pub fn of(app: &AppId, version: u64) -> Self {
        Self(mixed(&format!("sc sticky {app} version {version}")) as u16)
    }
}

/// Whom a client stays with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stay {
    /// With this replica.
    pub replica: Tag,
    /// Else with one of this version; none: the cookie is from a time when versions had no shares.
    pub version: Option<Mark>,
}

impl Stay {
    fn read(text: &str) -> Option<Self> {
        let hex = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let (replica, version) = text.split_at_checked(16).filter(|_| hex)?;
        let replica = Tag(u64::from_str_radix(replica, 16).ok()?);
        match version.len() {
            0 => Some(Self { replica, version: None }),
            4 => Some(Self { replica, version: Some(Mark(u16::from_str_radix(version, 16).ok()?)) }),
            _ => None,
        }
    }
}

/// FNV-1a, and the end of MurmurHash3 so that neighbours have nothing in common.
fn mixed(text: &str) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, fold);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// An app's cookie, made ready when the table is built.
#[derive(Debug)]
pub struct Sticky {
    name: String,
    /// What comes after the value.
    attributes: String,
}

impl Sticky {
    /// As the app asks for it.
    pub fn new(app: &AppId, asked: &Asked) -> Self {
        let name = asked.cookie.clone().unwrap_or_else(|| format!("sc_{}", app.name));
        let age = asked.ttl_ms.map_or_else(String::new, |ms| format!("; Max-Age={}", ms / 1_000));
        Self { name, attributes: format!("; Path=/; HttpOnly; SameSite=Lax{age}") }
    }

    /// What a request's cookie names (RFC 6265 section 4.2.1); a value that is none of ours names nothing.
    pub fn named(&self, headers: &HeaderMap) -> Option<Stay> {
        let fields = headers.get_all(COOKIE).into_iter().filter_map(|field| field.to_str().ok());
        let pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(|(name, _)| *name == self.name).find_map(|(_, value)| Stay::read(value))
    }

    /// The `Set-Cookie` that names whom a client stays with. `secure`: the client came under TLS.
    pub fn cookie(&self, stay: Stay, secure: bool) -> Option<HeaderValue> {
        let secure = if secure { "; Secure" } else { "" };
        let version = stay.version.map_or_else(String::new, |mark| format!("{:04x}", mark.0));
        HeaderValue::try_from(format!("{}={:016x}{version}{}{secure}", self.name, stay.replica.0, self.attributes)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(replica: &str) -> Tag {
        Tag::of(&replica.parse().unwrap())
    }

    fn stay(replica: &str) -> Stay {
        Stay { replica: tag(replica), version: None }
    }

    #[test]
    fn a_cookie_is_read_as_it_was_written() {
        let app = AppId::in_default("web").unwrap();
        let sticky = Sticky::new(&app, &Asked { cookie: None, ttl_ms: Some(90_000) });
        let set = sticky.cookie(stay("web-7"), true).unwrap();
        let (pair, attributes) = set.to_str().unwrap().split_once("; ").unwrap();
        assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax; Max-Age=90; Secure");
        assert!(pair.starts_with("sc_web="), "{pair}");
        let named = |fields: &[&str]| {
            let fields = fields.iter().map(|field| (COOKIE, HeaderValue::from_str(field).unwrap()));
            sticky.named(&fields.collect())
        };
        assert_eq!(named(&["a=b; sc_web=forged", &format!("c=d;{pair}")]), Some(stay("web-7")));
        let of_version = Stay { version: Some(Mark::of(&app, 7)), ..stay("web-7") };
        let set = sticky.cookie(of_version, false).unwrap();
        let (pair, _) = set.to_str().unwrap().split_once("; ").unwrap();
        assert_eq!((pair.len(), named(&[pair])), ("sc_web=".len() + 20, Some(of_version)));
        for foreign in [
            "sc_web=",
            "sc_web=+123456789abcdef",
            "sc_web=0123456789abcdef0",
            "sc_webx=0123456789abcdef",
            "sc_web",
            "x",
        ] {
            assert_eq!(named(&[foreign]), None, "{foreign}");
        }
    }

    #[test]
    fn tags_differ_and_stay_the_same_from_release_to_release() {
        let tags: Vec<_> = (1..2_000).map(|n| tag(&format!("web-{n}")).0).collect();
        assert_eq!(tags.iter().collect::<std::collections::HashSet<_>>().len(), tags.len());
        assert_eq!(format!("{:016x}", tag("web-1").0), "1ef4df5ee7941397");
    }
}
