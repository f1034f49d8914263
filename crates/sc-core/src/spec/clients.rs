//! What the proxy does by client: whom it stays with.

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
