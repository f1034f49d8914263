//! An app's rules of fields ([`sc_core::rules`]), made ready when the table is built, and done to heads.

use std::time::Duration;

use hyper::{
    HeaderMap, Method, StatusCode, Uri,
    header::{FORWARDED, HeaderName, HeaderValue},
};
use sc_core::rules::{FieldRules, Rules as Asked};

use crate::headers::Peer;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The longest request id that is taken from a trusted peer, in bytes.
const ID_MAX: usize = 128;

/// An app's rules, ready to be done.
#[derive(Debug)]
pub struct Rules {
    asked: Asked,
    request: Vec<Change>,
    response: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Remove(HeaderName),
    Set(HeaderName, HeaderValue),
    Add(HeaderName, HeaderValue),
}

impl Rules {
    /// None where nothing is asked for. Names and values that cannot be were refused before: they are left out.
    pub fn new(asked: &Asked) -> Option<Self> {
        let (request, response) = (changes(&asked.request), changes(&asked.response));
        (!asked.is_default()).then(|| Self { asked: asked.clone(), request, response })
    }

    /// Where a request that must come under TLS is sent instead, and with which status.
    pub fn redirect(
        &self,
        method: &Method,
        uri: &Uri,
        host: Option<&HeaderValue>,
        headers: &HeaderMap,
        peer: Peer<'_>,
    ) -> Option<(StatusCode, HeaderValue)> {
        // What a trusted proxy before us took in under TLS comes to us without.
        let secure = peer.secure || (peer.trusted && headers.get(PROTO).is_some_and(|proto| proto == "https"));
        if !self.asked.https || secure {
            return None;
        }
        let host = without_port(host?.to_str().ok()?);
        let path = uri.path_and_query().map_or("/", |target| target.as_str());
        let path = if path.starts_with('/') { path } else { "/" };
        let simple = [Method::GET, Method::HEAD].contains(method);
        let status = if simple { StatusCode::MOVED_PERMANENTLY } else { StatusCode::PERMANENT_REDIRECT };
        let port =
            self.asked.https_port.filter(|port| *port != 443).map_or_else(String::new, |port| format!(":{port}"));
        Some((status, HeaderValue::try_from(format!("https://{host}{port}{path}")).ok()?))
    }

    /// The id that a trusted peer gave a request, read before the head is made fit to go on.
    pub fn given_id(&self, headers: &HeaderMap, peer: Peer<'_>) -> Option<HeaderValue> {
        let sound = |id: &&HeaderValue| {
            (1..=ID_MAX).contains(&id.len()) && id.as_bytes().iter().all(|byte| (b'!'..=b'~').contains(byte))
        };
        headers.get(REQUEST_ID).filter(|_| self.asked.request_id && peer.trusted).filter(sound).cloned()
    }

    /// Changes a request's head that is fit to go on. `id`: what a trusted peer gave it; `roll`: random bits. Gives back the id that
    /// it goes on with.
    pub fn on_request(
        &self,
        headers: &mut HeaderMap,
        host: Option<&HeaderValue>,
        peer: Peer<'_>,
        id: Option<HeaderValue>,
        roll: impl Fn() -> u32,
    ) -> Option<HeaderValue> {
        let bits = |words: usize| (0..words).map(|_| format!("{:08x}", roll())).collect::<String>();
        if self.asked.trace && !headers.get(TRACE_PARENT).is_some_and(is_sound) {
            headers.remove(TRACE_STATE);
            // All zeros are no ids.
            let parent = format!("00-{:08x}{}-{:08x}{}-01", roll() | 1, bits(3), roll() | 1, bits(1));
            headers.remove(TRACE_PARENT);
            if let Ok(parent) = HeaderValue::try_from(parent) {
                headers.insert(TRACE_PARENT, parent);
            }
        }
        if let Some(element) = self.asked.forwarded.then(|| forwarded(host, peer)).flatten() {
            headers.append(FORWARDED, element);
        }
        apply(&self.request, headers);
        if !self.asked.request_id {
            return None;
        }
        let id = id.or_else(|| HeaderValue::try_from(bits(4)).ok())?;
        headers.insert(REQUEST_ID, id.clone());
        Some(id)
    }

    /// Changes an answer's head. `queue`: how long its request waited for a backend; `upstream`: for the head of the answer.
    pub fn on_response(
        &self,
        headers: &mut HeaderMap,
        id: Option<HeaderValue>,
        queue: Duration,
        upstream: Option<Duration>,
    ) {
        if let Some(id) = id {
            headers.insert(REQUEST_ID, id);
        }
        if self.asked.server_timing {
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            let upstream = upstream.map_or_else(String::new, |time| format!(", upstream;dur={:.3}", ms(time)));
            let timing = HeaderValue::try_from(format!("queue;dur={:.3}{upstream}", ms(queue)));
            if let Ok(timing) = timing {
                headers.append(SERVER_TIMING, timing);
            }
        }
        apply(&self.response, headers);
    }
}

fn changes(rules: &FieldRules) -> Vec<Change> {
    let name = |name: &String| HeaderName::try_from(name).ok();
    let field = |(n, value): (&String, &String)| Some((name(n)?, HeaderValue::try_from(value).ok()?));
    let removed = rules.remove.iter().filter_map(name).map(Change::Remove);
    let set = rules.set.iter().filter_map(field).map(|(name, value)| Change::Set(name, value));
    let added = rules.add.iter().filter_map(field).map(|(name, value)| Change::Add(name, value));
    removed.chain(set).chain(added).collect()
}

fn apply(changes: &[Change], headers: &mut HeaderMap) {
    for change in changes {
        match change {
            Change::Remove(name) => drop(headers.remove(name)),
            Change::Set(name, value) => drop(headers.insert(name, value.clone())),
            Change::Add(name, value) => drop(headers.append(name, value.clone())),
        }
    }
}

/// Whether a `traceparent` is one (W3C Trace Context, section 3.2): version, trace id, parent id, flags.
fn is_sound(parent: &HeaderValue) -> bool {
    let Ok(text) = parent.to_str() else { return false };
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let some = |part: &str| part.bytes().any(|byte| byte != b'0');
    match parts[..] {
        [version, trace, span, flags, ..] => {
            let ends = parts.len() == 4 || version != "00";
            let sound = hex(version, 2) && version != "ff" && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
            ends && sound && some(trace) && some(span)
        }
        _ => false,
    }
}

/// One element of `Forwarded` (RFC 7239 section 4).
fn forwarded(host: Option<&HeaderValue>, peer: Peer<'_>) -> Option<HeaderValue> {
    let address = peer.text.to_str().ok()?;
    let address = if address.contains(':') { format!("\"[{address}]\"") } else { address.to_owned() };
    let quotable = |host: &&str| !host.contains(['"', '\\']);
    let host = host.and_then(|host| host.to_str().ok()).filter(quotable);
    let host = host.map_or_else(String::new, |host| format!(";host=\"{host}\""));
    let proto = if peer.secure { "https" } else { "http" };
    HeaderValue::try_from(format!("for={address}{host};proto={proto}")).ok()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &'static str, trusted: bool, secure: bool) -> (HeaderValue, bool, bool) {
        (HeaderValue::from_static(text), trusted, secure)
    }

    #[test]
    fn a_sound_traceparent_is_told_from_others() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_sound(&HeaderValue::from_static(good)));
        assert!(is_sound(&HeaderValue::from_static("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what")));
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            assert!(!is_sound(&HeaderValue::from_static(bad)), "{bad}");
        }
    }

    #[test]
    fn forwarded_is_written_as_rfc_7239_says() {
        let host = HeaderValue::from_static("a.test:8080");
        for (who, want) in [
            (peer("192.0.2.7", false, false), "for=192.0.2.7;host=\"a.test:8080\";proto=http"),
            (peer("2001:db8::1", false, true), "for=\"[2001:db8::1]\";host=\"a.test:8080\";proto=https"),
        ] {
            let peer = Peer { text: &who.0, trusted: who.1, secure: who.2 };
            assert_eq!(forwarded(Some(&host), peer).unwrap(), want);
        }
    }

    #[test]
    fn redirects_keep_path_and_query_and_leave_the_port() {
        let rules = Rules::new(&Asked { https: true, ..Asked::default() }).unwrap();
        let text = HeaderValue::from_static("192.0.2.7");
        let sent = |method: Method, host: &'static str, trusted: bool, proto: Option<&'static str>| {
            let headers: HeaderMap = proto.map(|proto| (PROTO, HeaderValue::from_static(proto))).into_iter().collect();
            let uri = Uri::from_static("/a%20b?c=d");
            let peer = Peer { text: &text, trusted, secure: false };
            rules.redirect(&method, &uri, Some(&HeaderValue::from_static(host)), &headers, peer)
        };
        let (status, to) = sent(Method::GET, "a.test:8080", false, Some("https")).unwrap();
        assert_eq!((status.as_u16(), to.to_str().unwrap()), (301, "https://a.test/a%20b?c=d"));
        assert_eq!(sent(Method::POST, "[::1]:80", false, None).unwrap().1, "https://[::1]/a%20b?c=d");
        assert_eq!(sent(Method::POST, "a.test", false, None).unwrap().0, 308);
        assert_eq!(sent(Method::GET, "a.test", true, Some("https")), None);
        for (port, want) in [(443, "https://a.test/"), (8443, "https://a.test:8443/")] {
            let rules = Rules::new(&Asked { https: true, https_port: Some(port), ..Asked::default() }).unwrap();
            let (uri, host) = (Uri::from_static("/"), HeaderValue::from_static("a.test:8080"));
            let peer = Peer { text: &text, trusted: false, secure: false };
            assert_eq!(rules.redirect(&Method::GET, &uri, Some(&host), &HeaderMap::new(), peer).unwrap().1, want);
        }
    }
}
