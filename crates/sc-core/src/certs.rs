//! Certificates in the store: their records, and what is seen of them in a snapshot.
//!
//! | key | value | read by proxies |
//! |---|---|---|
//! | `certs/{name}` | [`Cert`]: a chain, and its private key sealed | yes |
//! | `certs/challenges/{token}` | [`Challenge`]: what an authority is to find (RFC 8555 section 8.3); not secret | yes |
//! | `acme/account` | [`Account`], its credentials sealed | no |
//! | `acme/orders/{host}` | [`Order`]: how far a host's certificate has come | no |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    names::AppId,
    records::{self, Extra, UnixMs},
};

/// Prefix of all certificates and challenges: beside `routes/` all that proxies read.
pub const CERTS: &str = "certs/";
/// Prefix of what authorities are to find.
pub const CHALLENGES: &str = "certs/challenges/";
/// Prefix of all that is known of an authority; proxies do not read it.
pub const ACME: &str = "acme/";
/// Key of the account with the authority.
pub const ACCOUNT: &str = "acme/account";
/// Prefix of all orders.
pub const ORDERS: &str = "acme/orders/";
/// What the names of certificates begin with that came from an authority. Nobody can give such a name by hand.
const ISSUED: &str = "acme:";
/// The longest name of a certificate: that of a host.
const NAME_MAX: usize = 253;
const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// Key of a certificate.
pub fn cert_key(name: &str) -> String {
    format!("{CERTS}{name}")
}

/// Key of a challenge.
pub fn challenge_key(token: &str) -> String {
    format!("{CHALLENGES}{token}")
}

/// Key of a host's order.
pub fn order_key(host: &str) -> String {
    format!("{ORDERS}{host}")
}

/// The name under which an authority's certificate for a host is kept.
pub fn issued_name(host: &str) -> String {
    format!("{ISSUED}{host}")
}

/// The host whose certificate from an authority has this name.
pub fn issued_host(name: &str) -> Option<&str> {
    name.strip_prefix(ISSUED)
}

/// What is wrong with a name that somebody gave a certificate.
pub fn name_fault(name: &str) -> Option<&'static str> {
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    match name {
        "" => Some("it is empty"),
        _ if name.len() > NAME_MAX => Some("at most 253 characters are taken"),
        _ if !name.bytes().all(fine) => Some("lower-case letters, digits and . _ - only"),
        _ if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) => Some("it begins with a letter or a digit"),
        _ => None,
    }
}

/// Something secret, sealed with a key that the store does not hold (AES-256-GCM, the record's key as associated data).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// How: `A256GCM`.
    pub alg: String,
    /// Which key, by its short name.
    pub key: String,
    /// Base64, 96 bits, new with every sealing.
    pub nonce: String,
    /// Base64, with the tag at its end.
    pub text: String,
}

/// A certificate with its private key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cert {
    /// Layout version of this record, 1.
    pub v: u32,
    /// The certificate and those that lead to its authority, as PEM.
    pub chain: String,
    /// The private key's PEM, sealed.
    pub key: Sealed,
    /// The host names in it, also `*.example.com`.
    pub names: Vec<String>,
    /// From when it is good.
    pub not_before_ms: UnixMs,
    /// Until when.
    pub not_after_ms: UnixMs,
    /// Where it comes from.
    #[serde(default)]
    pub source: Origin,
    /// When it came into the store.
    #[serde(default)]
    pub added_ms: UnixMs,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Where a certificate comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Somebody added it.
    #[default]
    Added,
    /// An authority gave it to us by ACME.
    Acme,
}

impl Cert {
    /// Whether it is for a host: by its own name, or by that with `*` for its first label.
    pub fn covers(&self, host: &str) -> bool {
        let wild = host.split_once('.').map(|(_, rest)| rest);
        self.names.iter().any(|name| name == host || name.strip_prefix("*.").is_some_and(|rest| wild == Some(rest)))
    }

    /// How long it is good in all.
    pub fn lifetime_ms(&self) -> u64 {
        self.not_after_ms.saturating_sub(self.not_before_ms)
    }

    /// Whether it is good now.
    pub fn is_good(&self, now_ms: UnixMs) -> bool {
        (self.not_before_ms..self.not_after_ms).contains(&now_ms)
    }

    /// Whether somebody should do something about its end: a quarter of its lifetime is left, at most three weeks. One that
    /// is renewed by itself should have been long before: for it a sixth and two weeks.
    pub fn ends_soon(&self, now_ms: UnixMs) -> bool {
        let notice = match self.source {
            Origin::Added => (self.lifetime_ms() / 4).min(21 * DAY_MS),
            Origin::Acme => (self.lifetime_ms() / 6).min(14 * DAY_MS),
        };
        now_ms.saturating_add(notice) >= self.not_after_ms
    }
}

/// What an authority is to find at `/.well-known/acme-challenge/{token}` of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// Layout version, 1.
    pub v: u32,
    /// For which host.
    pub host: String,
    /// The answer: the token and the account key's thumbprint.
    pub answer: String,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The account with an authority.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Layout version, 1.
    pub v: u32,
    /// The authority, by its directory's URL.
    pub directory: String,
    /// Whom it writes to.
    pub email: String,
    /// Its credentials, sealed.
    pub credentials: Sealed,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// How far the certificate of a host has come with the authority.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Layout version, 1.
    pub v: u32,
    /// Attempts in a row that failed.
    #[serde(default)]
    pub failures: u32,
    /// Why the last one did; empty after none.
    #[serde(default)]
    pub why: String,
    /// Where it is.
    pub state: OrderState,
    /// Unknown fields.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Where an order is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum OrderState {
    /// The next attempt begins then.
    Waiting {
        /// Not before this time.
        until_ms: UnixMs,
    },
    /// The authority is about to be asked. Written before it is: a manager that dies then has used one attempt.
    Begun {
        /// Since when.
        since_ms: UnixMs,
    },
    /// The authority has told what it wants to find; proxies are being told.
    Open {
        /// The order's URL.
        url: String,
        /// The certificate's private key, sealed. Kept here so that another manager can finish the order.
        key: Sealed,
        /// The challenge's token; none: the authority wants no proof.
        token: Option<String>,
        /// Since when.
        since_ms: UnixMs,
    },
    /// The authority was told to look.
    Answered {
        /// The order's URL.
        url: String,
        /// The certificate's private key, sealed.
        key: Sealed,
        /// The challenge's token.
        token: Option<String>,
        /// Since when.
        since_ms: UnixMs,
    },
}

impl Order {
    /// The token that is published for it.
    pub fn token(&self) -> Option<&str> {
        match &self.state {
            OrderState::Open { token, .. } | OrderState::Answered { token, .. } => token.as_deref(),
            _ => None,
        }
    }

    /// Whether the authority is at work on it, or about to be.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, OrderState::Waiting { .. })
    }
}

/// A record and the revision that last wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept<T> {
    /// The record.
    pub record: T,
    /// For compare-and-set, and for what proxies have applied.
    pub revision: u64,
}

/// All that the store says of certificates.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Certificates {
    /// By name.
    pub certs: BTreeMap<String, Kept<Cert>>,
    /// By token.
    pub challenges: BTreeMap<String, Kept<Challenge>>,
    /// By host.
    pub orders: BTreeMap<String, Kept<Order>>,
    /// The account, if there is one.
    pub account: Option<Kept<Account>>,
    /// Keys whose records could not be read, why, and their revisions: nothing is done about these.
    pub unreadable: BTreeMap<String, (String, u64)>,
    /// The store's revision of this snapshot.
    pub revision: u64,
}

impl Certificates {
    /// Reads a consistent snapshot: keys without the store's prefix, values, and the revision that last wrote each. All other
    /// keys are passed over.
    pub fn from_snapshot<'a>(revision: u64, entries: impl IntoIterator<Item = (&'a str, &'a [u8], u64)>) -> Self {
        let mut all = Self { revision, ..Self::default() };
        for (key, value, revision) in entries {
            all.entry(key, value, revision);
        }
        all
    }

    /// Takes in one key.
    pub fn entry(&mut self, key: &str, value: &[u8], revision: u64) {
        if let Some(token) = key.strip_prefix(CHALLENGES) {
            let read = self.read(key, value, revision);
            self.challenges.extend(read.map(|kept| (token.to_owned(), kept)));
        } else if let Some(name) = key.strip_prefix(CERTS).filter(|name| !name.contains('/')) {
            let read = self.read(key, value, revision);
            self.certs.extend(read.map(|kept| (name.to_owned(), kept)));
        } else if let Some(host) = key.strip_prefix(ORDERS) {
            let read = self.read(key, value, revision);
            self.orders.extend(read.map(|kept| (host.to_owned(), kept)));
        } else if key == ACCOUNT {
            self.account = self.read(key, value, revision);
        }
    }

    fn read<T: DeserializeOwned>(&mut self, key: &str, value: &[u8], revision: u64) -> Option<Kept<T>> {
        match records::read(key, value) {
            Ok(record) => Some(Kept { record, revision }),
            Err(error) => {
                self.unreadable.insert(key.to_owned(), (error.source.to_string(), revision));
                None
            }
        }
    }

    /// The revision of a key; 0: there is no such key.
    pub fn revision_of(&self, key: &str) -> u64 {
        let of = |key: &str| {
            if let Some(token) = key.strip_prefix(CHALLENGES) {
                return self.challenges.get(token).map(|kept| kept.revision);
            }
            if let Some(name) = key.strip_prefix(CERTS) {
                return self.certs.get(name).map(|kept| kept.revision);
            }
            if let Some(host) = key.strip_prefix(ORDERS) {
                return self.orders.get(host).map(|kept| kept.revision);
            }
            self.account.as_ref().filter(|_| key == ACCOUNT).map(|kept| kept.revision)
        };
        of(key).or_else(|| self.unreadable.get(key).map(|(_, revision)| *revision)).unwrap_or(0)
    }
}

/// Where an app's hosts have their certificates from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certificate {
    /// From the authority that the manager has an account with.
    Acme,
}

/// Why no authority gives a certificate for a host by HTTP-01; none: it may.
pub fn acme_fault(host: &str) -> Option<&'static str> {
    let last = host.rsplit('.').next().unwrap_or_default();
    match host {
        _ if host.starts_with('*') => Some("a wildcard cannot be proved over HTTP (RFC 8555 section 8.3)"),
        _ if last == "localhost" => {
            Some("names below localhost are every machine's own; no authority vouches for them")
        }
        _ if ["local", "internal", "invalid"].contains(&last) => Some("no authority can look this name up"),
        _ if host.bytes().all(|b| b.is_ascii_digit() || b == b'.') => Some("it is an address, not a name"),
        _ if !host.contains('.') => Some("a name of one label is nobody's; no authority vouches for it"),
        _ if host.contains('_') => Some("authorities take no `_` in host names"),
        _ => None,
    }
}

/// An app and a host of its routes that shall have a certificate from the authority.
pub type Hosts = BTreeMap<String, AppId>;

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn sealed() -> Sealed {
        Sealed { alg: "A256GCM".into(), key: "k".into(), nonce: "n".into(), text: "t".into() }
    }

    pub(crate) fn cert(names: &[&str], from: UnixMs, to: UnixMs, source: Origin) -> Cert {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let (chain, key, extra) = (String::new(), sealed(), Extra::new());
        Cert { v: 1, chain, key, names, not_before_ms: from, not_after_ms: to, source, added_ms: from, extra }
    }

    #[test]
    fn names_that_somebody_gives_never_meet_the_authoritys() {
        for good in ["shop", "shop.example.com", "9-a_b", "challenges"] {
            assert_eq!(name_fault(good), None, "{good}");
        }
        for bad in ["", "Shop", "a/b", "acme:shop", "-a", ".a", "a b"] {
            assert!(name_fault(bad).is_some(), "{bad}");
        }
        assert!(name_fault(&issued_name("shop.example")).is_some());
        assert_eq!(issued_host(&issued_name("shop.example")), Some("shop.example"));
        assert_eq!(issued_host("shop.example"), None);
    }

    #[test]
    fn a_certificate_covers_its_names_and_one_label_below_a_wildcard() {
        let cert = cert(&["a.test", "*.b.test"], 0, 10, Origin::Added);
        for (host, covered) in [("a.test", true), ("x.b.test", true), ("b.test", false), ("y.x.b.test", false)] {
            assert_eq!(cert.covers(host), covered, "{host}");
        }
        assert!(cert.is_good(0) && cert.is_good(9) && !cert.is_good(10));
    }

    #[test]
    fn notice_is_given_in_time_and_later_for_what_renews_itself() {
        let year = 365 * DAY_MS;
        let (added, acme) = (cert(&[], 0, year, Origin::Added), cert(&[], 0, 90 * DAY_MS, Origin::Acme));
        assert!(!added.ends_soon(year - 22 * DAY_MS) && added.ends_soon(year - 21 * DAY_MS));
        assert!(!acme.ends_soon(60 * DAY_MS) && acme.ends_soon(76 * DAY_MS));
    }

    #[test]
    fn a_snapshot_is_read_and_unknown_fields_are_kept() {
        let json = |value: serde_json::Value| serde_json::to_vec(&value).unwrap();
        let mut record = serde_json::to_value(cert(&["a.test"], 1, 2, Origin::Acme)).unwrap();
        record["from_later"] = serde_json::json!({ "x": 1 });
        let order = serde_json::json!({ "v": 1, "state": { "state": "waiting", "until_ms": 9 } });
        let entries = [
            ("certs/a", json(record.clone()), 3),
            ("certs/b", b"{".to_vec(), 4),
            ("certs/challenges/tok", json(serde_json::json!({ "v": 1, "host": "h", "answer": "tok.x" })), 5),
            ("certs/some/thing/else", b"{".to_vec(), 6),
            ("acme/orders/a.test", json(order), 7),
            ("routes/default/web", b"{".to_vec(), 8),
        ];
        let all = Certificates::from_snapshot(9, entries.iter().map(|(key, value, n)| (*key, &value[..], *n)));
        assert_eq!(all.certs.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(serde_json::to_value(&all.certs["a"].record).unwrap(), record);
        assert_eq!(all.challenges["tok"].record.answer, "tok.x");
        assert!(!all.orders["a.test"].record.is_open());
        let revisions = ["certs/a", "certs/b", "certs/c", "certs/challenges/tok", "acme/orders/a.test", ACCOUNT];
        assert_eq!(revisions.map(|key| all.revision_of(key)), [3, 4, 0, 5, 7, 0]);
    }

    #[test]
    fn hosts_that_no_authority_can_vouch_for() {
        for bad in ["*.shop.com", "localhost", "web.localhost", "10.0.0.1", "intranet", "a_b.com", "web.local"] {
            assert!(acme_fault(bad).is_some(), "{bad}");
        }
        for good in ["shop.com", "a.b.shop.co.uk", "shop.example"] {
            assert_eq!(acme_fault(good), None, "{good}");
        }
    }
}
