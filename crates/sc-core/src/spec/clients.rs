//! What the proxy does by client: whom it stays with, and how much it may send.

use serde::{Deserialize, Serialize};

/// A client stays with the replica that answered it first: a cookie names that replica.
///
/// The cookie is followed as long as requests may go to the replica: it is routed to, not drained, not passed over for
/// failures, and was not tried in vain for this request. Else another one is chosen, and the cookie is set anew. A replica at
/// its `max_in_flight` is not waited for: the request goes elsewhere, as HAProxy does once a server's own queue is full, but the
/// cookie stays, since what the client has left there is still there.
///
/// New clients are spread as without cookies, by weight. A replica of weight 0 keeps the clients that it has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sticky {
    /// The cookie's name (RFC 6265 section 4.1.1); none: `sc_` and the app's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// Milliseconds, from 1 s to a year, that a client keeps the cookie from when it was set; none: until the browser ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
}

/// The longest name of a cookie.
const COOKIE_MAX: usize = 64;

impl Sticky {
    /// What is wrong with the cookie's name, in a sentence.
    pub fn name_fault(&self) -> Option<String> {
        let name = self.cookie.as_deref()?;
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if !(1..=COOKIE_MAX).contains(&name.len()) || !name.bytes().all(token) {
            return Some(format!("{name:?} is no name of a cookie: letters, digits, - and _, at most {COOKIE_MAX}"));
        }
        let lower = name.to_ascii_lowercase();
        // Browsers take these only with `Secure`, which the cookie has only under TLS.
        (lower.starts_with("__host-") || lower.starts_with("__secure-"))
            .then(|| format!("{name:?}: names with __Host- and __Secure- are not for it"))
    }
}

/// How many requests one client may send, counted by each proxy for itself. What is more gets 429 with `Retry-After`.
///
/// A bucket of tokens: it holds `burst`, a request takes one, and `requests` come each `per_ms`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Requests in each `per_ms`, from 1 to 1,000,000.
    pub requests: u32,
    /// Milliseconds, from 1 to a day.
    pub per_ms: u64,
    /// How many may come at once, from 1 to 1,000,000; none: `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// What tells one client from another.
    #[serde(default, skip_serializing_if = "ClientKey::is_default")]
    pub by: ClientKey,
}

/// What tells one client from another; written `address` or `header:NAME`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ClientKey {
    /// Its address: behind trusted proxies the one they tell; of IPv6 the /64.
    #[default]
    Address,
    /// The value of a field; without one, its address. Only for a field that the app checks, such as an API key: a client that
    /// makes values up has a new limit with each.
    Header(String),
}

/// The most requests of a rate, and of its burst.
const REQUESTS_MAX: u32 = 1_000_000;
/// The longest span of a rate.
const PER_MAX_MS: u64 = 86_400_000;

impl Rate {
    /// How many may come at once.
    pub fn burst(&self) -> u32 {
        self.burst.unwrap_or(self.requests)
    }

    /// What is wrong with it, by key.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let count = |n: u32| (1..=REQUESTS_MAX).contains(&n);
        let known = [
            ("requests", count(self.requests), format!("give 1 to {REQUESTS_MAX}")),
            ("burst", count(self.burst()), format!("give 1 to {REQUESTS_MAX}; left out it is `requests`")),
            ("per", (1..=PER_MAX_MS).contains(&self.per_ms), "give a duration from 1ms to a day".to_owned()),
        ];
        known.into_iter().filter(|(_, fine, _)| !fine).map(|(key, _, what)| (key, what)).collect()
    }
}

impl ClientKey {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl TryFrom<String> for ClientKey {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        match text.strip_prefix("header:") {
            None if text == "address" => Ok(Self::Address),
            Some(name) if (1..=128).contains(&name.len()) && name.bytes().all(token) => {
                Ok(Self::Header(name.to_owned()))
            }
            _ => Err(format!("{text:?} tells no clients apart: write \"address\" or \"header:X-Api-Key\"")),
        }
    }
}

impl From<ClientKey> for String {
    fn from(key: ClientKey) -> Self {
        match key {
            ClientKey::Address => "address".to_owned(),
            ClientKey::Header(name) => format!("header:{name}"),
        }
    }
}
