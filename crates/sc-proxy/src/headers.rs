//! A proxy's duties with a message's fields (RFC 9110 section 7.6), on both ways.

use std::net::SocketAddr;

use hyper::{
    HeaderMap, Method,
    header::{
        CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, MAX_FORWARDS, PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE, VIA,
    },
};

use crate::http1;

/// Where the proxy tells why it answered a request itself.
pub const REASON: HeaderName = HeaderName::from_static("x-sc-reason");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The path that was taken off a request's target before it went on.
pub const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

const VIA_US: HeaderValue = HeaderValue::from_static("1.1 sc");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const HTTP: HeaderValue = HeaderValue::from_static("http");
const HTTPS: HeaderValue = HeaderValue::from_static("https");
const UPGRADES: HeaderValue = HeaderValue::from_static("upgrade");

/// Fields that describe the message itself: naming them in `Connection` takes nothing off.
const NEVER_HOP_BY_HOP: [HeaderName; 4] = [HOST, CONTENT_LENGTH, VIA, FORWARDED];

/// The protocols that a message asks, or agrees, to change to: all but HTTP itself. In a tunnel of that a client would ask for
/// whatever it likes, with no route, limit or rule of fields between it and the backend; to ask for an upgrade is only to
/// offer it, and without it the request is served as it is (RFC 9110 section 7.8).
pub fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    if !headers.contains_key(UPGRADE) || !has_token(headers, &CONNECTION, "upgrade") {
        return None;
    }
    let others: Vec<&str> = items(headers, &UPGRADE).filter(|protocol| !is_http(protocol)).collect();
    if others.is_empty() { None } else { HeaderValue::try_from(others.join(", ")).ok() }
}

/// Whether a protocol is HTTP, of any version and by any of its names (`h2c`, `h2c-14`, `HTTP/2.0`), or the TLS that HTTP would be
/// in (RFC 2817). No other protocol's name that is registered begins with `h2` or `h3`.
fn is_http(protocol: &str) -> bool {
    let name = protocol.split('/').next().unwrap_or_default().trim();
    let begins = name.get(..2).is_some_and(|start| ["h2", "h3"].iter().any(|http| start.eq_ignore_ascii_case(http)));
    begins || ["http", "https", "tls"].iter().any(|http| name.eq_ignore_ascii_case(http))
}

/// Whether a 101 changes to protocols that were asked for, and to no other (RFC 9110 section 7.8). `asked`: what
/// [`forward_request`] gave.
pub fn agrees(asked: &HeaderValue, headers: &HeaderMap) -> bool {
    let asked = asked.to_str().unwrap_or_default();
    let was_asked = |protocol: &str| asked.split(',').any(|item| item.trim().eq_ignore_ascii_case(protocol));
    has_token(headers, &CONNECTION, "upgrade")
        && items(headers, &UPGRADE).next().is_some()
        && items(headers, &UPGRADE).all(was_asked)
}

/// Whether a list field has a token, in any case.
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    items(headers, name).any(|item| item.eq_ignore_ascii_case(token))
}

/// The items of a list field.
fn items<'m>(headers: &'m HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'m str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|item| !item.is_empty())
}

/// Takes off all fields that belong to one connection only, those that `Connection` names as well. A chunked body's
/// `Transfer-Encoding` goes too: whoever writes the message frames it anew.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        remove_named(headers);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    // The second says how HTTP/2 would be spoken after the first (RFC 7540 section 3.2.1).
    for name in [UPGRADE, HTTP2_SETTINGS] {
        headers.remove(name);
    }
}

fn remove_named(headers: &mut HeaderMap) {
    let values: Vec<_> = headers.get_all(CONNECTION).into_iter().cloned().collect();
    headers.remove(CONNECTION);
    let names = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    for name in names.filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok()) {
        if !NEVER_HOP_BY_HOP.contains(&name) && !name.as_str().starts_with("x-forwarded-") {
            headers.remove(name);
        }
    }
}

/// Whom a request came from.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// The client's address, or that of a proxy before us.
    pub text: &'a HeaderValue,
    /// It may speak for others: its `X-Forwarded-*` are kept and added to.
    pub trusted: bool,
    /// It came under TLS.
    pub secure: bool,
}

/// Makes a client's request head fit to go on. `host`: the authority it is for; `chunked`: its body has no known length.
/// Gives back the protocol it wants to change to.
pub fn forward_request(
    headers: &mut HeaderMap,
    host: Option<HeaderValue>,
    peer: Peer<'_>,
    chunked: bool,
) -> Option<HeaderValue> {
    let upgrade = upgrade_of(headers);
    let trailers = has_token(headers, &TE, "trailers");
    remove_hop_by_hop(headers);
    headers.remove(EXPECT); // we answer 100 ourselves, when the body is first read
    forwarded(headers, host.as_ref(), peer);
    if let Some(host) = host {
        headers.insert(HOST, host);
    }
    if chunked {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if trailers {
        headers.insert(TE, TRAILERS);
    }
    if let Some(protocol) = &upgrade {
        headers.insert(UPGRADE, protocol.clone());
        headers.insert(CONNECTION, UPGRADES);
    }
    headers.append(VIA, VIA_US);
    upgrade
}

fn forwarded(headers: &mut HeaderMap, host: Option<&HeaderValue>, peer: Peer<'_>) {
    let proto = if peer.secure { HTTPS } else { HTTP };
    let barred = headers.keys().filter(|name| http1::is_barred(name.as_str().as_bytes(), peer.trusted));
    for name in barred.cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
    if !peer.trusted {
        headers.insert(FOR, peer.text.clone());
        headers.insert(PROTO, proto);
        if let Some(host) = host {
            headers.insert(FORWARDED_HOST, host.clone());
        }
        return;
    }
    headers.append(FOR, peer.text.clone());
    headers.entry(PROTO).or_insert(proto);
    if let Some(host) = host {
        headers.entry(FORWARDED_HOST).or_insert_with(|| host.clone());
    }
}

/// Gives a request without `Host`, as HTTP/1.0 has them, the address of the backend that it goes to: HTTP/1.1 needs one (RFC 9112
/// section 3.2).
pub fn ensure_host(headers: &mut HeaderMap, backend: SocketAddr) {
    if !headers.contains_key(HOST)
        && let Ok(host) = HeaderValue::try_from(backend.to_string())
    {
        headers.insert(HOST, host);
    }
}

/// Whether the client came under TLS, to us or to a trusted proxy before us: said by a request head that is fit to go on.
pub fn came_secure(headers: &HeaderMap) -> bool {
    headers.get(PROTO).is_some_and(|proto| proto == "https")
}

/// Makes a backend's response head fit to go on; `switching`: it agreed to change the protocol.
pub fn forward_response(headers: &mut HeaderMap, switching: bool) {
    let upgrade = if switching { upgrade_of(headers) } else { None };
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH); // the chunks count (RFC 9112 section 6.3)
    }
    remove_hop_by_hop(headers);
    if let Some(protocol) = upgrade {
        headers.insert(UPGRADE, protocol);
        headers.insert(CONNECTION, UPGRADES);
    }
    headers.append(VIA, VIA_US);
}

/// Counts an OPTIONS on by one (RFC 9110 section 7.6.2); TRACE goes nowhere. False: it may go no further.
pub fn may_go_on(method: &Method, headers: &mut HeaderMap) -> bool {
    if method != Method::OPTIONS {
        return true;
    }
    let hops: Option<u32> = headers.get(MAX_FORWARDS).and_then(|value| value.to_str().ok()?.parse().ok());
    match hops {
        Some(0) => return false,
        Some(hops) => _ = headers.insert(MAX_FORWARDS, HeaderValue::from(hops - 1)),
        None => {}
    }
    true
}

/// Whether all that a request expects is a 100 (RFC 9110 section 10.1.1).
pub fn can_be_met(headers: &HeaderMap) -> bool {
    headers.get_all(EXPECT).iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Whether a request may be sent again when its fate is unknown (RFC 9110 section 9.2.2).
pub fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE].contains(method)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let mut map = HeaderMap::new();
        fields.iter().map(field).for_each(|(name, value)| _ = map.append(name, value));
        map
    }

    fn text(map: &HeaderMap) -> String {
        let mut lines: Vec<_> = map.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        lines.sort();
        lines.join("\n")
    }

    const TEXT: HeaderValue = HeaderValue::from_static("9.9.9.9");

    fn peer(trusted: bool) -> Peer<'static> {
        Peer { text: Box::leak(Box::new(TEXT)), trusted, secure: false }
    }

    #[test]
    fn what_belongs_to_one_connection_stays_there() {
        let mut headers = map(&[
            ("connection", "close, X-Mine"),
            ("connection", "x-forwarded-for, host, content-length"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "gzip"),
            ("proxy-authorization", "secret"),
            ("upgrade", "h2c"),
            ("content-length", "3"),
            ("host", "a"),
            ("accept", "*/*"),
        ]);
        let upgrade = forward_request(&mut headers, Some(HeaderValue::from_static("a")), peer(false), false);
        assert_eq!(upgrade, None, "without the token in Connection it is no upgrade");
        assert_eq!(
            text(&headers),
            "accept: */*\ncontent-length: 3\nhost: a\nvia: 1.1 sc\nx-forwarded-for: 9.9.9.9\n\
             x-forwarded-host: a\nx-forwarded-proto: http"
        );
    }

    #[test]
    fn only_a_trusted_peer_speaks_for_others() {
        let spoof = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-real-ip", "1.1.1.1"),
            ("forwarded", "for=1.1.1.1"),
        ];
        let mut headers = map(&spoof);
        forward_request(&mut headers, None, peer(false), false);
        assert_eq!(text(&headers), "via: 1.1 sc\nx-forwarded-for: 9.9.9.9\nx-forwarded-proto: http");
        let mut headers = map(&spoof);
        forward_request(&mut headers, None, peer(true), false);
        let kept = text(&headers);
        assert!(kept.contains("x-forwarded-for: 1.1.1.1\nx-forwarded-for: 9.9.9.9"), "{kept}");
        assert!(kept.contains("x-forwarded-proto: https") && kept.contains("forwarded: for=1.1.1.1"), "{kept}");
    }

    #[test]
    fn an_upgrade_passes_both_ways() {
        let mut request = map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket"), ("te", "trailers")]);
        assert!(forward_request(&mut request, None, peer(false), false).is_some());
        assert_eq!((&request["upgrade"], &request["connection"]), (&"websocket".parse().unwrap(), &UPGRADES));
        let mut response = map(&[("connection", "upgrade"), ("upgrade", "websocket")]);
        forward_response(&mut response, true);
        assert_eq!(text(&response), "connection: upgrade\nupgrade: websocket\nvia: 1.1 sc");
        let mut response = map(&[("connection", "upgrade"), ("upgrade", "websocket")]);
        forward_response(&mut response, false);
        assert_eq!(text(&response), "via: 1.1 sc");
    }

    #[test]
    fn http_is_no_protocol_to_change_to() {
        let asked = |upgrade| {
            let mut request =
                map(&[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", upgrade), ("http2-settings", "AAMAAABk")]);
            let asked = forward_request(&mut request, None, peer(false), false);
            assert_eq!((request.get("upgrade"), request.get("http2-settings")), (asked.as_ref(), None), "{upgrade}");
            assert_eq!(request.contains_key("connection"), asked.is_some(), "{upgrade}");
            asked.map(|asked| asked.to_str().unwrap().to_owned())
        };
        for http in [
            "h2c", "H2C", "h2", "h2c-14", "h3", "HTTP/2.0", "http/1.1", "TLS/1.0", "tls", "HTTP", "h2c, h2", ",h2c ,",
            "h2c/1", "HTTP /2",
        ] {
            assert_eq!(asked(http), None, "{http}");
        }
        for other in ["websocket", "WebSocket", "SPDY/3", "IRC/6.9", "echo", "hh2c", "h", "tlsx"] {
            assert_eq!(asked(other).as_deref(), Some(other));
        }
        assert_eq!(asked("h2c, websocket,TLS/1.3 , echo").as_deref(), Some("websocket, echo"));
    }

    #[test]
    fn a_switch_is_to_what_was_asked_for() {
        let agrees = |asked, connection, upgrade| {
            agrees(&HeaderValue::from_static(asked), &map(&[("connection", connection), ("upgrade", upgrade)]))
        };
        assert!(agrees("websocket", "Upgrade", "WebSocket") && agrees("a, b", "x, upgrade", "b"));
        for (asked, connection, upgrade) in [
            ("websocket", "upgrade", "h2c"),
            ("websocket", "upgrade", "websocket, h2c"),
            ("websocket", "upgrade", ""),
            ("websocket", "close", "websocket"),
            ("a, b", "upgrade", "a b"),
        ] {
            assert!(!agrees(asked, connection, upgrade), "{asked:?} {connection:?} {upgrade:?}");
        }
    }

    #[test]
    fn a_request_without_host_gets_its_backends() {
        for (address, want) in [("192.0.2.1:80", "192.0.2.1:80"), ("[2001:db8::1]:8080", "[2001:db8::1]:8080")] {
            let mut headers = HeaderMap::new();
            ensure_host(&mut headers, address.parse().unwrap());
            assert_eq!(headers[HOST], want);
            ensure_host(&mut headers, "192.0.2.2:80".parse().unwrap());
            assert_eq!(headers[HOST], want, "one that is there stays");
        }
    }

    #[test]
    fn what_may_be_sent_twice() {
        assert!(is_idempotent(&Method::GET) && is_idempotent(&Method::PUT));
        assert!(!is_idempotent(&Method::POST) && !is_idempotent(&Method::PATCH));
    }
}
