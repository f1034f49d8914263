//! What the proxy does to an app's requests and answers beyond its duties. Plain data; all of it is off by default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What the proxy does to an app's requests and answers beyond its duties.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Requests without TLS are sent to `https://`: 301 for GET and HEAD, 308 for others.
    pub https: bool,
    /// The port they are sent to; none: 443.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https_port: Option<u16>,
    /// `X-Request-Id`: a trusted peer's stays, others get a new one; the answer carries it too.
    pub request_id: bool,
    /// `traceparent` (W3C Trace Context): a sound one stays, else one is made, sampled.
    pub trace: bool,
    /// `Forwarded` (RFC 7239) beside `X-Forwarded-*`.
    pub forwarded: bool,
    /// `Server-Timing` of answers tells how long the request waited for a replica, and for the head of its answer.
    pub server_timing: bool,
    /// Fields of requests.
    pub request: FieldRules,
    /// Fields of answers.
    pub response: FieldRules,
}

/// Fields that are put into a head or taken off it: taken off first, then set, then added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FieldRules {
    /// Name → value; in the place of what was there.
    pub set: BTreeMap<String, String>,
    /// Name → value; beside what was there.
    pub add: BTreeMap<String, String>,
    /// Names.
    pub remove: Vec<String>,
}

impl Rules {
    /// What `https = "…"` in a file asks for: `redirect`, `redirect:PORT` or `optional`.
    ///
    /// # Errors
    /// It is none of these: what to write.
    pub fn https_named(word: &str) -> Result<Self, &'static str> {
        match (word, word.strip_prefix("redirect:").map(str::parse)) {
            ("redirect", _) => Ok(Self::https_at(None)),
            ("optional", _) => Ok(Self::default()),
            (_, Some(Ok(port @ 1..))) => Ok(Self::https_at(Some(port))),
            _ => Err("write \"redirect\", \"redirect:8443\" for another port, or \"optional\""),
        }
    }

    /// Requests without TLS are sent to `https://`, on this port (none: 443).
    pub fn https_at(https_port: Option<u16>) -> Self {
        Self { https: true, https_port, ..Self::default() }
    }

    /// Whether nothing is asked for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The most fields that one list of rules may name.
const FIELDS_MAX: usize = 64;
/// The longest value in bytes.
const VALUE_MAX: usize = 4_096;

/// Fields that frame messages or speak of one connection, and those that say whom a request came from: they are the proxy's.
const OURS: [&str; 18] = [
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "traceparent",
    "tracestate",
    "x-request-id",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

/// What is wrong with rules of fields, in sentences.
pub fn faults(rules: &FieldRules) -> Vec<String> {
    let names = rules.set.keys().chain(rules.add.keys()).chain(&rules.remove);
    let mut found: Vec<String> = names.filter_map(|name| name_fault(name)).collect();
    for (name, value) in rules.set.iter().chain(&rules.add) {
        if value.len() > VALUE_MAX {
            found.push(format!("the value of {name:?} is longer than {VALUE_MAX} bytes"));
        }
        if !value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
            found.push(format!("the value of {name:?} has a character that no field may have; write visible ASCII"));
        }
    }
    if rules.set.len() + rules.add.len() + rules.remove.len() > FIELDS_MAX {
        found.push(format!("more than {FIELDS_MAX} fields are named"));
    }
    found
}

fn name_fault(name: &str) -> Option<String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(token) {
        return Some(format!("{name:?} is no field name (RFC 9110 section 5.1)"));
    }
    let ours = OURS.contains(&name.to_ascii_lowercase().as_str());
    ours.then(|| format!("{name:?} is the proxy's to write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> FieldRules {
        FieldRules { set: BTreeMap::from([(name.to_owned(), value.to_owned())]), ..FieldRules::default() }
    }

    #[test]
    fn what_would_break_a_message_is_refused() {
        assert_eq!(faults(&set("Strict-Transport-Security", "max-age=31536000")), Vec::<String>::new());
        for (name, value, says) in [
            ("Content-Length", "3", "the proxy's"),
            ("x y", "1", "no field name"),
            ("", "1", "no field name"),
            ("x-a", "1\r\nx-b: 2", "no field may have"),
            ("x-a", "\u{e9}", "no field may have"),
        ] {
            let found = faults(&set(name, value));
            assert!(found.len() == 1 && found[0].contains(says), "{name}: {found:?}");
        }
        let many = FieldRules { remove: (0..65).map(|n| format!("x-{n}")).collect(), ..FieldRules::default() };
        assert!(faults(&many)[0].contains("more than 64"));
        assert!(faults(&set("x-a", &"x".repeat(5_000)))[0].contains("longer"));
    }

    #[test]
    fn defaults_are_nothing_for_a_proxy_of_the_release_before() {
        let text = serde_json::to_string(&crate::spec::Traffic::default()).unwrap();
        assert!(!text.contains("rules"), "{text}");
    }
}
