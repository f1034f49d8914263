//! Hosts as they are compared: lower case, without port and final dot.

use std::borrow::Cow;

/// The longest host name that is looked at (RFC 1035: 253 characters; brackets and a port fit as well).
const HOST_MAX: usize = 270;

/// The host of a `Host` field or an authority, as routes are looked up by it. None: it is not valid.
pub fn normal_host(authority: &str) -> Option<Cow<'_, str>> {
    if let Some(host) = plain(authority) {
        return Some(Cow::Borrowed(host));
    }
    any(authority)
}

/// The host of any authority.
fn any(authority: &str) -> Option<Cow<'_, str>> {
    if authority.len() > HOST_MAX {
        return None;
    }
    let host = without_port(authority)?;
    let host = host.strip_suffix('.').filter(|host| !host.ends_with('.')).unwrap_or(host);
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let fine = match inside {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.bytes().all(valid) && !host.starts_with('.') && !host.contains(".."),
    };
    // No authority of `http` or `https` is without a host (RFC 9110 section 4.2.1).
    if !fine || host.is_empty() {
        return None;
    }
    let upper = host.bytes().any(|b| b.is_ascii_uppercase());
    Some(if upper { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) })
}

/// The host of what nearly all authorities are, in one pass: a name in lower case, perhaps with a port.
fn plain(authority: &str) -> Option<&str> {
    let bytes = authority.as_bytes();
    let (mut end, mut after_dot) = (bytes.len(), true);
    for (at, byte) in bytes.iter().enumerate() {
        after_dot = match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => false,
            b'.' if !after_dot => true,
            b':' => {
                end = at;
                break;
            }
            _ => return None,
        };
    }
    let fine = !after_dot && bytes.len() <= HOST_MAX && is_port(bytes.get(end + 1..).unwrap_or_default());
    fine.then(|| &authority[..end])
}

fn without_port(authority: &str) -> Option<&str> {
    let bracket = authority.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = authority[bracket..].find(':') else {
        return Some(authority);
    };
    let (host, port) = authority.split_at(bracket + colon);
    let port = &port[1..];
    is_port(port.as_bytes()).then_some(host)
}

/// A port, or none after the colon (RFC 3986 section 3.2.3). Of five digits the same order is that of their numbers.
fn is_port(digits: &[u8]) -> bool {
    digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) && (digits.len() < 5 || digits <= &b"65535"[..])
}

/// Checks a route's host: a name, or `*.` and a name.
///
/// # Errors
/// Says what is wrong with it.
pub fn host_pattern(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let why = match normal_host(name) {
        _ if name.is_empty() => "it is empty; leave `host` out for any host",
        _ if name.contains('*') => "a wildcard stands for the first labels only, like *.example.com",
        _ if name.contains(':') && !name.starts_with('[') => "a route's host has no port",
        None => "only letters, digits, '-', '_' and '.' are allowed",
        Some(host) => return Ok(if text.len() == name.len() { host.into() } else { format!("*.{host}") }),
    };
    Err(format!("{text:?} is no valid host: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_ones_are_found_to_be_plain() {
        for (text, want) in [("a.test", Some("a.test")), ("10.0.0.1:80", Some("10.0.0.1")), ("a:", Some("a"))] {
            assert_eq!(plain(text), want);
        }
        for text in
            ["a:65536", "a:99999", "", ".", "a.", ".a", "a..b", "A", "a:b", "a:123456", ":80", "[::1]", "a b", "a:1:2"]
        {
            assert_eq!(plain(text), None, "{text}");
        }
    }

    #[test]
    fn a_host_is_not_empty_and_a_port_is_one() {
        for (text, host) in [("a:", "a"), ("a:0", "a"), ("A:65535", "a"), ("[::1]:00080", "[::1]")] {
            assert_eq!(normal_host(text).as_deref(), Some(host), "{text}");
        }
        for text in ["", ".", ":80", ".:80", "a:65536", "a:99999", "A:70000", "[::1]:65536", "a:123456", "a:+1", "a:-1"]
        {
            assert_eq!(normal_host(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn one_pass_says_what_all_rules_say(text in "[a-bA._:0-1/-]{0,9}", long in "[a.:1]{265,275}") {
            for text in [text, long] {
                if let Some(host) = plain(&text) {
                    proptest::prop_assert_eq!(any(&text), Some(Cow::Borrowed(host)));
                }
            }
        }
    }
}
