//! Where a manager is.

use std::{fmt, path::PathBuf, str::FromStr};

/// Where a manager's API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// On TCP: `http://HOST:PORT`; here without `http://`.
    Tcp(String),
    /// On a unix socket: `unix:PATH`.
    Unix(PathBuf),
}

/// A text that names no manager.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no manager's address: {why}. Write http://HOST:PORT or unix:/PATH")]
pub struct TargetError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// The port taken where none is given.
const PORT: u16 = 7700;

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let error = |why| TargetError { text: text.to_owned(), why };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(error("the path is missing")) } else { Ok(Self::Unix(path.into())) };
        }
        if text.starts_with("https://") {
            return Err(error("the manager does not speak TLS itself; use an SSH tunnel to its port or socket"));
        }
        let rest = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let odd = |c: char| c.is_whitespace() || c.is_control() || "/?#@".contains(c);
        if rest.is_empty() || rest.contains(odd) {
            return Err(error("it has no host, or more than host and port"));
        }
        let authority: hyper::http::uri::Authority = rest.parse().map_err(|_| error("host and port are not valid"))?;
        match rest[authority.host().len()..].strip_prefix(':').map(str::parse::<u16>) {
            None => Ok(Self::Tcp(format!("{rest}:{PORT}"))),
            Some(Ok(1..)) => Ok(Self::Tcp(rest.to_owned())),
            Some(_) => Err(error("the port is not one of 1 to 65535")),
        }
    }
}

impl Target {
    /// The value of the `Host` field.
    pub(super) fn host(&self) -> &str {
        match self {
            Self::Tcp(authority) => authority,
            Self::Unix(_) => "localhost",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(authority) => write!(f, "http://{authority}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A text as it may stand in one segment of a path or in a query (RFC 3986: all but unreserved characters escaped).
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let read = |text: &str| text.parse::<Target>().map(|target| target.to_string());
        assert_eq!(read("http://127.0.0.1:7700/").as_deref(), Ok("http://127.0.0.1:7700"));
        assert_eq!(read("cloud.example").as_deref(), Ok("http://cloud.example:7700"));
        assert_eq!(read("[::1]:80").as_deref(), Ok("http://[::1]:80"));
        assert_eq!(read("unix:///run/sc/x.sock").as_deref(), Ok("unix:/run/sc/x.sock"));
        for bad in ["", "unix:", "https://a:1", "http://a b:1", "http://a:0", "http://a:99999", "a:b", "http://a/b"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn everything_odd_is_escaped() {
        assert_eq!(escaped("team/web a%é"), "team%2Fweb%20a%25%C3%A9");
    }
}
