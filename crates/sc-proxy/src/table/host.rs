//! Hosts as they are compared: lower case, without port and final dot.

use std::borrow::Cow;

/// The longest host name that is looked at (RFC 1035: 253 characters; brackets and a port fit as well).
const HOST_MAX: usize = 270;

/// The host of a `Host` field or an authority, as routes are looked up by it. None: it is not valid.
pub fn normal_host(authority: &str) -> Option<Cow<'_, str>> {
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
    if !fine {
        return None;
    }
    let upper = host.bytes().any(|b| b.is_ascii_uppercase());
    Some(if upper { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) })
}

fn without_port(authority: &str) -> Option<&str> {
    let bracket = authority.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = authority[bracket..].find(':') else {
        return Some(authority);
    };
    let (host, port) = authority.split_at(bracket + colon);
    let port = &port[1..];
    (port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit())).then_some(host)
}

/// Checks a route's host: a name, or `*.` and a name.
///
/// # Errors
/// Says what is wrong with it.
pub fn host_pattern(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let why = match normal_host(name) {
        _ if name.contains('*') => "a wildcard stands for the first labels only, like *.example.com",
        _ if name.contains(':') && !name.starts_with('[') => "a route's host has no port",
        None => "only letters, digits, '-', '_' and '.' are allowed",
        Some(host) if host.is_empty() => "it is empty; leave `host` out for any host",
        Some(host) => return Ok(if text.len() == name.len() { host.into() } else { format!("*.{host}") }),
    };
    Err(format!("{text:?} is no valid host: {why}"))
}
