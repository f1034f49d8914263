//! A request's head: whether it is plain enough to be served here, and what it says.

use std::mem::MaybeUninit;

use httparse::{Header, Status};

use super::{
    Framing,
    field::{Connection, Field, field, length},
};

/// The most fields a head may have here; one with more is hyper's to refuse or to serve.
pub const FIELDS: usize = 100;

/// Room for the fields of a head.
pub type Fields<'b> = [MaybeUninit<Header<'b>>; FIELDS];

/// Room for the fields of a head, unused.
pub fn fields<'b>() -> Fields<'b> {
    [const { MaybeUninit::uninit() }; FIELDS]
}

/// What is to be done with the bytes that were read.
#[derive(Debug)]
pub enum Verdict<'h, 'b> {
    /// More must be read.
    Partial,
    /// Not for us to decide: hyper takes it.
    Odd,
    /// It could be read in two ways: refused, and the connection closed.
    Bad,
    /// A plain request.
    Plain(Request<'h, 'b>),
}

/// The head of a plain request: HTTP/1.1, one `Host`, a path as its target, one framing, no change of protocol.
#[derive(Debug)]
pub struct Request<'h, 'b> {
    /// Its method, as it came.
    pub method: &'b str,
    /// Its target; it begins with `/` and has no characters but those of RFC 3986.
    pub target: &'b str,
    /// How long the path of the target is.
    pub path_len: usize,
    /// The path has nothing to be resolved or decoded: it is its own normal form.
    pub is_normal: bool,
    /// Its one `Host`, not checked.
    pub host: &'b str,
    /// Its fields.
    pub fields: &'h [Header<'b>],
    /// All of it, as it came.
    pub(super) head: &'b [u8],
    /// Its length with the empty line.
    pub len: usize,
    /// How its body is delimited.
    pub body: Framing,
    /// The connection ends after it.
    pub close: bool,
    /// Its client waits for a 100 before it sends the body.
    pub expects: bool,
    /// Its client takes trailers.
    pub takes_trailers: bool,
    /// It announces trailers of its own.
    pub has_trailers: bool,
    /// How many times `Connection` names fields.
    pub(super) names: usize,
}

impl Request<'_, '_> {
    /// The path of the target.
    pub fn path(&self) -> &str {
        &self.target[..self.path_len]
    }

    /// What follows the `?` of the target.
    pub fn query(&self) -> Option<&str> {
        self.target.get(self.path_len + 1..)
    }

    /// Whether it may be sent again when its fate is unknown (RFC 9110 section 9.2.2).
    pub fn is_idempotent(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE")
    }
}

/// Reads the head at the start of `bytes`. `most` fields are allowed, and never more than [`FIELDS`].
pub fn judge<'h, 'b>(bytes: &'b [u8], most: usize, fields: &'h mut Fields<'b>) -> Verdict<'h, 'b> {
    let most = most.min(FIELDS);
    let mut parsed = httparse::Request::new(&mut []);
    let len = match parsed.parse_with_uninit_headers(bytes, &mut fields[..most]) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) => return Verdict::Partial,
        Err(_) => return Verdict::Odd,
    };
    let httparse::Request { method: Some(method), path: Some(target), version: Some(1), headers } = parsed else {
        return Verdict::Odd;
    };
    if has_bare_line_feed(&bytes[..len]) {
        return Verdict::Bad;
    }
    if matches!(method, "CONNECT" | "TRACE") {
        return Verdict::Odd;
    }
    let Some((path_len, is_normal)) = path(target.as_bytes()) else { return Verdict::Odd };
    let mut seen = Seen::default();
    if !headers.iter().all(|header| seen.field(header)) || (seen.counts_hops && method == "OPTIONS") {
        return Verdict::Odd;
    }
    if seen.connection.is_crowded() {
        return Verdict::Odd;
    }
    let (Some(host), Some(body)) = (seen.host, seen.framing()) else { return Verdict::Odd };
    Verdict::Plain(Request {
        method,
        target,
        path_len,
        is_normal,
        head: &bytes[..len],
        host,
        fields: headers,
        len,
        body,
        close: seen.connection.close,
        expects: seen.expects,
        takes_trailers: seen.takes_trailers,
        has_trailers: seen.has_trailers,
        names: seen.connection.names,
    })
}

/// What the fields have said so far.
#[derive(Default)]
struct Seen<'b> {
    host: Option<&'b str>,
    length: Option<u64>,
    chunked: bool,
    connection: Connection,
    expects: bool,
    takes_trailers: bool,
    has_trailers: bool,
    counts_hops: bool,
}

impl<'b> Seen<'b> {
    /// Takes one field in. False when the request is not plain.
    fn field(&mut self, header: &Header<'b>) -> bool {
        match field(header.name.as_bytes()) {
            Field::Host => {
                let first = self.host.is_none();
                self.host = std::str::from_utf8(header.value).ok();
                return first && self.host.is_some();
            }
            Field::ContentLength => {
                let first = self.length.is_none();
                self.length = length(header.value);
                return first && self.length.is_some();
            }
            Field::TransferEncoding => {
                let first = !self.chunked;
                self.chunked = header.value.eq_ignore_ascii_case(b"chunked");
                return first && self.chunked;
            }
            Field::Expect => {
                self.expects = header.value.eq_ignore_ascii_case(b"100-continue");
                return self.expects;
            }
            Field::Upgrade => return false,
            Field::Connection => self.connection.read(header.value),
            Field::Te => {
                let trailers = |item: &[u8]| item.eq_ignore_ascii_case(b"trailers");
                self.takes_trailers |= super::field::items(header.value).any(trailers);
            }
            Field::Trailer => self.has_trailers = true,
            Field::MaxForwards => self.counts_hops = true,
            _ => {}
        }
        true
    }

    fn framing(&self) -> Option<Framing> {
        match (self.length, self.chunked) {
            (Some(_), true) => None,
            (Some(0), false) => Some(Framing::Length(0)),
            (Some(length), false) => Some(Framing::Length(length)),
            (None, true) => Some(Framing::Chunked),
            (None, false) => Some(Framing::None),
        }
    }
}

/// A line feed that no carriage return precedes: some take it for the end of a line, some do not.
pub(super) fn has_bare_line_feed(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r')
}

/// How long the path of a target is, and whether it is in its normal form; none when it is no path, or has characters that
/// are not of RFC 3986.
fn path(target: &[u8]) -> Option<(usize, bool)> {
    if target.first() != Some(&b'/') {
        return None;
    }
    let (mut len, mut is_normal, mut after_slash) = (target.len(), true, false);
    for (at, byte) in target.iter().enumerate() {
        match byte {
            b'?' => {
                len = at;
                break;
            }
            b'/' | b'.' => is_normal &= !after_slash,
            b'%' => is_normal = false,
            other if !is_of_uri(*other) => return None,
            _ => {}
        }
        after_slash = *byte == b'/';
    }
    target[len..].iter().all(|byte| is_of_uri(*byte)).then_some((len, is_normal))
}

fn is_of_uri(byte: u8) -> bool {
    const ALLOWED: [bool; 256] = {
        let (mut table, mut n) = ([false; 256], 0);
        let others = b"-._~:/?[]@!$&'()*+,;=%";
        while n < 256 {
            table[n] = (n as u8).is_ascii_alphanumeric();
            n += 1;
        }
        n = 0;
        while n < others.len() {
            table[others[n] as usize] = true;
            n += 1;
        }
        table
    };
    ALLOWED[usize::from(byte)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str) -> String {
        match judge(text.as_bytes(), FIELDS, &mut fields()) {
            Verdict::Partial => "partial".to_owned(),
            Verdict::Odd => "odd".to_owned(),
            Verdict::Bad => "bad".to_owned(),
            Verdict::Plain(r) => {
                format!("{} {} {} {:?}{}", r.method, r.target, r.host, r.body, if r.close { " close" } else { "" })
            }
        }
    }

    #[test]
    fn plain_requests() {
        assert_eq!(verdict("GET /a?b HTTP/1.1\r\nHost: x\r\n\r\nrest"), "GET /a?b x None");
        assert_eq!(
            verdict("PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 012\r\nconnection: Close\r\n\r\n"),
            "PUT / x Length(12) close"
        );
        assert_eq!(verdict("POST / HTTP/1.1\r\nHost:x\r\ntransfer-encoding: Chunked\r\n\r\n"), "POST / x Chunked");
        let text = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        (0..text.len()).for_each(|n| assert_eq!(verdict(&text[..n]), "partial"));
    }

    #[test]
    fn what_is_not_plain_is_for_hyper_to_judge() {
        for text in [
            "GET / HTTP/1.0\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nhost: x\r\n\r\n",
            "GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
            "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
            "TRACE / HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: a,a,a,a,a,a,a,a,a\r\nconnection: a,a,a,a,a,a,a,a\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET /#a HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /\x7f HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551616\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, xchunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n y: z\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\ny: a\x00b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\ny: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nExpect: else\r\n\r\n",
            "OPTIONS / HTTP/1.1\r\nHost: x\r\nMax-Forwards: 1\r\n\r\n",
        ] {
            assert_eq!(verdict(text), "odd", "{text:?}");
        }
    }

    #[test]
    fn a_bare_line_feed_is_refused() {
        assert_eq!(verdict("GET / HTTP/1.1\nHost: x\n\n"), "bad");
        assert_eq!(verdict("GET / HTTP/1.1\r\nHost: x\ny: z\r\n\r\n"), "bad");
        assert_eq!(verdict("GET / HTTP/1.1\r\nHost: x\r\n\n"), "bad");
    }

    proptest::proptest! {
        #[test]
        fn a_path_is_normal_if_nothing_is_to_be_done_with_it(target in "/[a/.%2?]{0,9}") {
            let (len, is_normal) = path(target.as_bytes()).unwrap();
            let (want, _) = target.split_once('?').unwrap_or((&target, ""));
            proptest::prop_assert_eq!(&target[..len], want);
            let borrowed = matches!(crate::table::normal_path(want), std::borrow::Cow::Borrowed(_));
            proptest::prop_assert_eq!(is_normal, borrowed);
        }

        #[test]
        fn no_bytes_break_it(bytes: Vec<u8>) {
            judge(&bytes, FIELDS, &mut fields());
        }
    }
}
