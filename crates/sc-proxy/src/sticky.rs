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
        // FNV-1a, and the end of MurmurHash3 so that neighbours have nothing in common.
        let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = format!("sc sticky {replica}").bytes().fold(0xcbf2_9ce4_8422_2325, fold);
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        Self(hash ^ (hash >> 33))
    }

    fn read(text: &str) -> Option<Self> {
        let hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        hex.then(|| u64::from_str_radix(text, 16).ok()).flatten().map(Self)
    }
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
    pub fn named(&self, headers: &HeaderMap) -> Option<Tag> {
        let fields = headers.get_all(COOKIE).into_iter().filter_map(|field| field.to_str().ok());
        let pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(|(name, _)| *name == self.name).find_map(|(_, value)| Tag::read(value))
    }

    /// The `Set-Cookie` that names a replica. `secure`: the client came under TLS.
    pub fn cookie(&self, tag: Tag, secure: bool) -> Option<HeaderValue> {
        let secure = if secure { "; Secure" } else { "" };
        HeaderValue::try_from(format!("{}={:016x}{}{secure}", self.name, tag.0, self.attributes)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(replica: &str) -> Tag {
        Tag::of(&replica.parse().unwrap())
    }

    #[test]
    fn a_cookie_is_read_as_it_was_written() {
        let app = AppId::in_default("web").unwrap();
        let sticky = Sticky::new(&app, &Asked { cookie: None, ttl_ms: Some(90_000) });
        let set = sticky.cookie(tag("web-7"), true).unwrap();
        let (pair, attributes) = set.to_str().unwrap().split_once("; ").unwrap();
        assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax; Max-Age=90; Secure");
        assert!(pair.starts_with("sc_web="), "{pair}");
        let named = |fields: &[&str]| {
            let fields = fields.iter().map(|field| (COOKIE, HeaderValue::from_str(field).unwrap()));
            sticky.named(&fields.collect())
        };
        assert_eq!(named(&["a=b; sc_web=forged", &format!("c=d;{pair}")]), Some(tag("web-7")));
        for foreign in ["sc_web=", "sc_web=+123456789abcdef", "sc_webx=0123456789abcdef", "sc_web", "x"] {
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
