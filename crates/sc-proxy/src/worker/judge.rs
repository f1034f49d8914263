//! What a request's head must be before anything is done with it, of all that hyper and h2 let pass. Heads that the proxy reads
//! itself were judged by [`crate::http1`]; HTTP/1.1 that goes to hyper was seen by a [`crate::http1::Guard`] before, and HTTP/2 by
//! nobody.
//!
//! One thing of HTTP/2 cannot be seen here: where `:path` has a fragment, h2 cuts it off and tells nobody. What is routed and
//! what goes on are both without it, so that it is overlooked by all alike.

use hyper::{
    HeaderMap, Method, Request, Version,
    header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderValue},
    http::uri::Authority,
};

use super::answer::Refusal;
use crate::{
    config::Limits,
    headers::can_be_met,
    http1::{Connection, length},
    table::normal_host,
};

/// The authority that a request is for, if it has any; or why it goes no further.
pub(super) fn judge<B>(request: &Request<B>, limits: &Limits) -> Result<Option<HeaderValue>, Refusal> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits.uri_bytes {
        return Err(Refusal::LongTarget);
    }
    // On HTTP/1.1 they were counted before.
    if request.headers().len() > limits.head_fields {
        return Err(Refusal::ManyFields);
    }
    match *request.method() {
        Method::CONNECT => return Err(Refusal::Connect),
        Method::TRACE => return Err(Refusal::Trace),
        _ => {}
    }
    let mut connection = Connection::default();
    request.headers().get_all(CONNECTION).iter().for_each(|value| connection.read(value.as_bytes()));
    if connection.is_crowded() || (request.version() == Version::HTTP_2 && !is_sound(request)) {
        return Err(Refusal::BadHead);
    }
    if !can_be_met(request.headers()) {
        return Err(Refusal::Expectation);
    }
    authority(request)
}

/// Whether a head of HTTP/2 could be written as one of HTTP/1.1 with the same meaning.
fn is_sound<B>(request: &Request<B>) -> bool {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let fine = match request.uri().path() {
        // RFC 9113 section 8.3.1.
        "*" => target == "*" && request.method() == Method::OPTIONS,
        // A backslash is a slash to some (RFC 3986 has none).
        _ => target.starts_with('/') && !target.contains('\\'),
    };
    // Blanks around a value are malformed (RFC 9113 section 8.2.1); on HTTP/1.1 they are none of it.
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let blank = |value: &HeaderValue| is_blank(value.as_bytes().first()) || is_blank(value.as_bytes().last());
    fine && !request.headers().values().any(blank) && has_one_length(request.headers())
}

/// `Content-Length` is there at most once, and a number (RFC 9110 section 8.6).
fn has_one_length(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    lengths.next().is_none_or(|first| length(first.as_bytes()).is_some()) && lengths.next().is_none()
}

/// Whom a request is for: the authority of its target, else its one `Host` field (RFC 9112 section 3.2).
///
/// On HTTP/2 a `Host` beside `:authority` must name the same (RFC 9113 section 8.3.1): the request is malformed otherwise, which
/// is a 400. A 421 would say that another connection might do; and the certificates asked of clients are the same for all
/// names, so that it does not matter by which name (SNI) a connection was opened.
fn authority<B>(request: &Request<B>) -> Result<Option<HeaderValue>, Refusal> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() || (host.is_none() && request.version() == Version::HTTP_11) {
        return Err(Refusal::BadHost);
    }
    let uri = request.uri();
    let differs = |authority| {
        let is_2 = request.version() == Version::HTTP_2;
        is_2 && host.is_some_and(|host| !is_same(host, authority, uri.scheme_str()))
    };
    match uri.authority() {
        // hyper takes `GET x` for an authority.
        Some(_) if !matches!(uri.scheme_str(), Some("http" | "https")) => Err(Refusal::BadHead),
        Some(authority) if authority.as_str().contains('@') || differs(authority) => Err(Refusal::BadHost),
        None if uri.path() == "*" && request.method() != Method::OPTIONS => Err(Refusal::BadHead),
        Some(authority) => HeaderValue::from_str(authority.as_str()).map(Some).map_err(|_| Refusal::BadHost),
        None => Ok(host.cloned()),
    }
}

/// Whether a `Host` names what an authority does.
fn is_same(host: &HeaderValue, authority: &Authority, scheme: Option<&str>) -> bool {
    let port = |text: &str| {
        let digits = text.rsplit_once(':').map_or("", |(_, port)| port);
        let own = if scheme == Some("https") { 443 } else { 80 };
        digits.parse().unwrap_or(own) // nothing, or the end of an address of IPv6
    };
    let (Ok(host), authority) = (host.to_str(), authority.as_str()) else { return false };
    let name = normal_host(host);
    name.is_some() && name == normal_host(authority) && port(host) == port(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(version: Version, method: &str, target: &str, fields: &[(&str, &str)]) -> Result<String, Refusal> {
        let request = Request::builder().version(version).method(method).uri(target);
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let host = judge(&request.body(()).unwrap(), &Limits::default())?;
        Ok(host.map_or_else(String::new, |host| host.to_str().unwrap().to_owned()))
    }

    #[test]
    fn a_head_of_http_2_is_one_that_http_1_could_have() {
        let judged = |method, target, fields: &[_]| judged(Version::HTTP_2, method, target, fields);
        for (method, target) in [("GET", "http://a/"), ("GET", "https://a/x?y"), ("OPTIONS", "*"), ("GET", "/x")] {
            assert!(judged(method, target, &[("x", "a b"), ("y", "")]).is_ok(), "{method} {target}");
        }
        for (method, target) in [("GET", "*"), ("GET", "/a\\b"), ("GET", "http://a/b?\\"), ("GET", "http://a?x")] {
            assert_eq!(judged(method, target, &[]), Err(Refusal::BadHead), "{method} {target}");
        }
        for value in [" a", "a ", "\ta", "a\t", " ", "  a  "] {
            assert_eq!(judged("GET", "http://a/", &[("x", value)]), Err(Refusal::BadHead), "{value:?}");
        }
    }

    #[test]
    fn a_length_is_said_once_and_is_a_number() {
        let judged = |lengths: &[&str]| {
            let fields: Vec<_> = lengths.iter().map(|length| ("content-length", *length)).collect();
            judged(Version::HTTP_2, "POST", "http://a/", &fields).is_ok()
        };
        assert!(judged(&[]) && judged(&["0"]) && judged(&["03"]));
        for lengths in
            [&[""][..], &["0", "0"], &["3", "3"], &["", ""], &["+3"], &["3,3"], &["x"], &["99999999999999999999"]]
        {
            assert!(!judged(lengths), "{lengths:?}");
        }
    }

    #[test]
    fn host_and_authority_agree_on_http_2() {
        let judged = |version, target, host| judged(version, "GET", target, &[("host", host)]);
        for (target, host) in [
            ("http://a/", "a"),
            ("http://a/", "A:80"),
            ("https://a:443/", "a"),
            ("http://a.:8080/", "a:8080"),
            ("http://[::1]/", "[::1]:80"),
        ] {
            assert!(judged(Version::HTTP_2, target, host).is_ok(), "{target} {host}");
        }
        for (target, host) in [
            ("http://a/", "b"),
            ("http://a/", ""),
            ("http://a/", "a:8080"),
            ("https://a/", "a:80"),
            ("http://a/", "a b"),
            ("http://[::1]/", "[::2]"),
        ] {
            assert_eq!(judged(Version::HTTP_2, target, host), Err(Refusal::BadHost), "{target} {host}");
            assert!(
                judged(Version::HTTP_11, target, host).is_ok(),
                "there the target decides (RFC 9112 section 3.2.2)"
            );
        }
    }

    #[test]
    fn nobody_names_so_many_fields_of_the_connection() {
        for version in [Version::HTTP_10, Version::HTTP_11] {
            let judged = |names: usize| {
                let names = ["a,b", &", x".repeat(names - 2)].concat();
                judged(version, "GET", "/", &[("host", "a"), ("connection", &names)])
            };
            assert_eq!((judged(16), judged(17)), (Ok("a".to_owned()), Err(Refusal::BadHead)));
        }
    }

    #[test]
    fn methods_that_go_nowhere() {
        for (method, refusal) in [("TRACE", Refusal::Trace), ("CONNECT", Refusal::Connect)] {
            assert_eq!(judged(Version::HTTP_11, method, "http://a/", &[("host", "a")]), Err(refusal));
        }
    }
}
