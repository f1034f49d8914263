//! The head as it goes on: one pass, runs of fields that stay copied whole. What it does to the fields is what
//! [`crate::headers`] does for hyper; a test holds the two together.

use std::ops::Range;

use httparse::Header;
use hyper::header::HeaderName;

use super::{
    Framing, Request, Response,
    field::{Field, Named, field},
};

/// Whom a request came from.
#[derive(Debug, Clone, Copy)]
pub struct From<'a> {
    /// The client's address, or that of a proxy before us.
    pub address: &'a [u8],
    /// Its `X-Forwarded-*` are kept and added to.
    pub trusted: bool,
    /// It came under TLS.
    pub secure: bool,
}

/// Writes the head of a request as a backend gets it. `target`: what it asks for there.
pub fn forward_request(request: &Request<'_, '_>, target: &str, from: From<'_>, out: &mut Vec<u8>) {
    out.reserve(request.len + ADDED);
    let mut lines = Lines::new(request.head);
    let first = [request.method.as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1\r\n"];
    lines.first(&first, out);
    let (mut proto, mut forwarded_host) = (false, false);
    let named = Named::of(request.names, request.fields);
    for header in request.fields {
        let (name, trusted) = (header.name.as_bytes(), from.trusted);
        let stays = match field(name) {
            Field::Host
            | Field::ContentLength
            | Field::Via
            | Field::Other
            | Field::Date
            | Field::Trailer
            | Field::MaxForwards => true,
            Field::ForwardedProto => {
                proto |= trusted;
                trusted
            }
            Field::ForwardedHost => {
                forwarded_host |= trusted;
                trusted
            }
            Field::Forwarded | Field::ForwardedFor | Field::ForwardedOther => trusted,
            Field::Connection | Field::Upgrade | Field::Expect | Field::Te => false,
            Field::HopByHop | Field::TransferEncoding | Field::Lookalike => false,
        };
        if stays && !named.as_ref().is_some_and(|named| named.takes(name)) {
            lines.field(header, out);
        }
    }
    lines.end(out);
    put(out, &[b"x-forwarded-for: ", from.address]);
    if !proto {
        let proto: &[u8] = if from.secure { b"\r\nx-forwarded-proto: https" } else { b"\r\nx-forwarded-proto: http" };
        out.extend_from_slice(proto);
    }
    if !forwarded_host {
        put(out, &[b"\r\nx-forwarded-host: ", request.host.as_bytes()]);
    }
    out.extend_from_slice(b"\r\n");
    if request.body == Framing::Chunked {
        out.extend_from_slice(CHUNKED);
    }
    if request.takes_trailers {
        out.extend_from_slice(b"te: trailers\r\n");
    }
    out.extend_from_slice(b"via: 1.1 sc\r\n\r\n");
}

/// Adds a field to a head that is written.
pub fn add_field(out: &mut Vec<u8>, name: &HeaderName, value: &str) {
    out.truncate(out.len() - 2); // the empty line
    put(out, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n\r\n"]);
}

/// More bytes than are added to a head as a rule.
const ADDED: usize = 160;

const CHUNKED: &[u8] = b"transfer-encoding: chunked\r\n";

/// Writes the head of a response as a client gets it. `date` is added if it has none; `close`: the connection ends after it.
pub fn forward_response(response: &Response<'_, '_>, date: &[u8], close: bool, out: &mut Vec<u8>) {
    let code = [
        b'0' + (response.status / 100) as u8,
        b'0' + (response.status / 10 % 10) as u8,
        b'0' + (response.status % 10) as u8,
    ];
    out.reserve(response.len + ADDED);
    let mut lines = Lines::new(response.head);
    lines.first(&[b"HTTP/1.1 ", &code, b" ", response.reason.as_bytes(), b"\r\n"], out);
    let mut length =
        matches!(response.body, Framing::Length(_) | Framing::None) && response.status >= 200 && response.status != 204;
    let named = Named::of(response.names, response.fields);
    for header in response.fields {
        let name = header.name.as_bytes();
        let stays = match field(name) {
            Field::ContentLength => std::mem::take(&mut length), // one of several that are the same
            Field::Connection | Field::Upgrade | Field::Te | Field::HopByHop | Field::TransferEncoding => false,
            _ => true,
        };
        if stays && !named.as_ref().is_some_and(|named| named.takes(name)) {
            lines.field(header, out);
        }
    }
    lines.end(out);
    if matches!(response.body, Framing::Chunked | Framing::Close) {
        out.extend_from_slice(CHUNKED);
    }
    if response.status >= 200 {
        if !response.has_date {
            put(out, &[b"date: ", date, b"\r\n"]);
        }
        if close {
            out.extend_from_slice(b"connection: close\r\n");
        }
    }
    out.extend_from_slice(b"via: 1.1 sc\r\n\r\n");
}

/// Lines on their way from one head to another: runs of those that stand there as they would be written are copied whole.
struct Lines<'a> {
    head: &'a [u8],
    /// What is to be copied next.
    run: Range<usize>,
}

impl<'a> Lines<'a> {
    fn new(head: &'a [u8]) -> Self {
        Self { head, run: 0..0 }
    }

    /// Writes the first line, which has these parts.
    fn first(&mut self, parts: &[&[u8]], out: &mut Vec<u8>) {
        let mut at = 0;
        for part in parts {
            if self.head.get(at..at + part.len()) != Some(*part) {
                return put(out, parts);
            }
            at += part.len();
        }
        self.run = 0..at;
    }

    /// Writes a field.
    fn field(&mut self, header: &Header<'_>, out: &mut Vec<u8>) {
        let (name, value) = (header.name.as_bytes(), header.value);
        let start = self.offset(name);
        let colon = start.wrapping_add(name.len());
        let end = colon.wrapping_add(2 + value.len());
        let usual = self.head.get(colon..colon.wrapping_add(2)) == Some(b": ")
            && self.head.get(end..end.wrapping_add(2)) == Some(b"\r\n");
        if usual && start == self.run.end && !self.run.is_empty() {
            self.run.end = end + 2;
            return;
        }
        self.end(out);
        if usual {
            self.run = start..end + 2;
        } else {
            put(out, &[name, b": ", value, b"\r\n"]);
        }
    }

    /// Writes what has not been written yet.
    fn end(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head[std::mem::take(&mut self.run)]);
    }

    /// Where in the head a part of it begins.
    fn offset(&self, part: &[u8]) -> usize {
        (part.as_ptr() as usize).wrapping_sub(self.head.as_ptr() as usize)
    }
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

#[cfg(test)]
mod tests {
    use hyper::{HeaderMap, header::HeaderValue};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        headers::{self, Peer},
        http1::{Answer, FIELDS, Verdict, answer, fields, judge},
    };

    fn sorted(lines: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut lines: Vec<_> = lines.into_iter().collect();
        lines.sort_unstable();
        lines
    }

    /// The fields of a written head.
    fn written(head: &[u8]) -> Vec<String> {
        let text = std::str::from_utf8(head).unwrap();
        let lines = text.strip_suffix("\r\n\r\n").unwrap().split("\r\n").skip(1);
        sorted(
            lines.map(|line| line.split_once(": ").map(|(n, v)| format!("{}: {v}", n.to_ascii_lowercase())).unwrap()),
        )
    }

    fn mapped(map: &HeaderMap) -> Vec<String> {
        sorted(map.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())))
    }

    fn map(lines: &[(String, String)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn text(first: &str, lines: &[(String, String)]) -> String {
        let lines: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{first}\r\n{lines}\r\n")
    }

    fn some_fields() -> impl Strategy<Value = Vec<(String, String)>> {
        let name = prop::sample::select(vec![
            "Accept",
            "X-Mine",
            "Cookie",
            "Via",
            "TE",
            "Keep-Alive",
            "Proxy-Connection",
            "Proxy-Authorization",
            "Connection",
            "Connection",
            "Forwarded",
            "X-Forwarded-For",
            "X-Forwarded-Proto",
            "X-Forwarded-Host",
            "X-Forwarded-Port",
            "X-Forwarded-Server",
            "X-Real-IP",
            "X-Forwarded-Ssl",
            "X-Forwarded-",
            "X_Forwarded_For",
            "X-Forwarded_Host",
            "X_Real_IP",
            "Content_Length",
            "X_Mine",
            "Proxy",
            "HTTP2-Settings",
            "Proxy-Authenticate",
            "Trailer",
            "Date",
        ]);
        let value = prop::sample::select(vec![
            "a",
            "close",
            "X-Mine, Accept",
            "x-forwarded-for, host",
            "trailers",
            "gzip;q=1, trailers",
            "keep-alive",
            "Via, cookie",
            "content-length, Date",
            "x-forwarded-ssl, x_mine, proxy",
        ]);
        prop::collection::vec((name.prop_map(str::to_owned), value.prop_map(str::to_owned)), 0..10)
    }

    proptest! {
        #[test]
        fn requests_go_on_as_hyper_would_send_them(lines in some_fields(), trusted: bool, secure: bool, body in 0..3) {
            let mut lines = lines;
            lines.insert(0, ("Host".to_owned(), "web.test".to_owned()));
            match body {
                1 => lines.push(("Content-Length".to_owned(), "5".to_owned())),
                2 => lines.push(("Transfer-Encoding".to_owned(), "chunked".to_owned())),
                _ => {}
            }
            let head = text("POST /x HTTP/1.1", &lines);
            let mut room = fields();
            let Verdict::Plain(request) = judge(head.as_bytes(), FIELDS, &mut room) else { panic!("{head}") };
            let (mut out, mut want) = (Vec::new(), map(&lines));
            forward_request(&request, "/x", From { address: b"9.9.9.9", trusted, secure }, &mut out);
            let peer = Peer { text: &HeaderValue::from_static("9.9.9.9"), trusted, secure };
            headers::forward_request(&mut want, Some(HeaderValue::from_static("web.test")), peer, body == 2);
            prop_assert_eq!(written(&out), mapped(&want));
            prop_assert!(out.starts_with(b"POST /x HTTP/1.1\r\n"));
        }

        #[test]
        fn answers_go_on_as_hyper_would_send_them(lines in some_fields(), body in 0..3) {
            let mut lines = lines;
            match body {
                1 => lines.push(("Content-Length".to_owned(), "5".to_owned())),
                2 => lines.push(("Transfer-Encoding".to_owned(), "chunked".to_owned())),
                _ => {}
            }
            let head = text("HTTP/1.1 200 OK", &lines);
            let mut room = fields();
            let Ok(Answer::Head(response)) = answer(head.as_bytes(), false, &mut room) else { panic!("{head}") };
            let (mut out, mut want) = (Vec::new(), map(&lines));
            let dated = want.contains_key("date");
            forward_response(&response, b"now", false, &mut out);
            headers::forward_response(&mut want, false);
            let got = written(&out).into_iter().filter(|line| !line.starts_with("transfer-encoding") && (dated || line != "date: now"));
            prop_assert_eq!(got.collect::<Vec<_>>(), mapped(&want));
        }
    }

    #[test]
    fn an_answer_until_the_end_is_chunked_and_lengths_are_said_once() {
        let show = |text: &str, to_head| {
            let mut room = fields();
            let Ok(Answer::Head(response)) = answer(text.as_bytes(), to_head, &mut room) else { panic!("{text}") };
            let mut out = Vec::new();
            forward_response(&response, b"now", true, &mut out);
            String::from_utf8(out).unwrap()
        };
        let end = "date: now\r\nconnection: close\r\nvia: 1.1 sc\r\n\r\n";
        assert_eq!(
            show("HTTP/1.0 200 Fine\r\n\r\n", false),
            format!("HTTP/1.1 200 Fine\r\ntransfer-encoding: chunked\r\n{end}")
        );
        let twice = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(show(twice, false), format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n{end}"));
        assert_eq!(show(twice, true), format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n{end}"));
        let both = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(show(both, false), format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{end}"));
        assert_eq!(show("HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n", false), format!("HTTP/1.1 204 No\r\n{end}"));
        assert_eq!(
            show("HTTP/1.1 103 Early\r\nlink: a\r\n\r\n", false),
            "HTTP/1.1 103 Early\r\nlink: a\r\nvia: 1.1 sc\r\n\r\n"
        );
    }
}
