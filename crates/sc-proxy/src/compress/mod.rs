//! Compression of answers: whether one is compressed and with what ([`Compressor`]), and the coders themselves ([`Coder`]).
//! Nothing here does I/O.

mod accept;
mod coder;

use hyper::{
    HeaderMap, Method, Request, StatusCode, Version,
    header::{
        ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
        ETAG, Entry, HeaderName, HeaderValue, IF_NONE_MATCH, VARY,
    },
};
use sc_core::spec::{Coding, Compress};

pub use self::{accept::choose, coder::Coder};
use crate::headers::has_token;

/// Types that are known to shrink, beside `text/*` and all that end in `+json` or `+xml`. Without `text/event-stream`.
const SHRINKING: [&str; 14] = [
    "application/javascript",
    "application/json",
    "application/rtf",
    "application/vnd.ms-fontobject",
    "application/wasm",
    "application/x-javascript",
    "application/x-ndjson",
    "application/xml",
    "application/yaml",
    "font/otf",
    "font/ttf",
    "image/bmp",
    "image/vnd.microsoft.icon",
    "image/x-icon",
];

/// Fields that hold a sum over the very bytes of a body (RFC 9530, RFC 3230, RFC 1864): these are not to change.
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

const WANTS_CODING: HeaderValue = HeaderValue::from_static("Accept-Encoding");

/// What an app's answers are compressed by.
#[derive(Debug)]
pub struct Compressor {
    types: Vec<String>,
    min_size: u64,
    codings: Vec<Coding>,
}

/// What of a request tells how its answer may be coded.
#[derive(Debug, Default)]
pub struct Asked {
    /// The coding that its client would have; none: the answer as it is.
    coding: Option<Coding>,
    /// What its client has already.
    known: Option<HeaderValue>,
}

/// How an answer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// With what.
    pub coding: Coding,
    /// How long it was, where that was told.
    pub length: Option<u64>,
}

impl Compressor {
    /// The app's.
    pub fn new(asked: &Compress) -> Self {
        let types = asked.types.iter().map(|name| name.to_ascii_lowercase()).collect();
        Self { types, min_size: asked.min_size, codings: asked.codings.clone() }
    }

    /// What a request asks for, read before its head is changed.
    pub fn asked<B>(&self, request: &Request<B>) -> Asked {
        let headers = request.headers();
        // Without chunks (HTTP/1.0) a client could not tell a whole answer from a broken one.
        let old = matches!(request.version(), Version::HTTP_09 | Version::HTTP_10);
        let plain = old || request.method() == Method::HEAD || has_token(headers, &CACHE_CONTROL, "no-transform");
        let coding = choose(headers.get_all(ACCEPT_ENCODING), &self.codings).filter(|_| !plain);
        Asked { coding, known: headers.get(IF_NONE_MATCH).cloned() }
    }

    /// Whether and how an answer is compressed, and its head changed for that. `has_room`: there is a body, and a coder for it.
    pub fn plan(&self, asked: &Asked, status: StatusCode, headers: &mut HeaderMap, has_room: bool) -> Option<Plan> {
        if status == StatusCode::NOT_MODIFIED {
            asked.speak_of_the_same(headers);
            vary(headers);
            return None;
        }
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if !may_change(status, headers) || !self.fits(headers) || length.is_some_and(|bytes| bytes < self.min_size) {
            return None;
        }
        vary(headers);
        let coding = asked.coding.filter(|_| has_room)?;
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
        headers.remove(CONTENT_LENGTH);
        headers.remove(ACCEPT_RANGES);
        weaken(headers);
        Some(Plan { coding, length })
    }

    fn fits(&self, headers: &HeaderMap) -> bool {
        let Some(kind) = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) else { return false };
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if kind.starts_with("application/grpc") {
            return false;
        }
        if self.types.is_empty() {
            let text = kind.starts_with("text/") && kind != "text/event-stream";
            return text || kind.ends_with("+json") || kind.ends_with("+xml") || SHRINKING.contains(&&*kind);
        }
        let named = |name: &String| match name.strip_suffix('*') {
            Some(prefix) => kind.starts_with(prefix),
            None => kind == *name,
        };
        self.types.iter().any(named)
    }
}

impl Asked {
    /// A client that has the compressed answer knows it by its weak tag: a 304 is to tell that one (RFC 9110 section 15.4.5).
    fn speak_of_the_same(&self, headers: &mut HeaderMap) {
        let (Some(known), Some(tag)) = (&self.known, headers.get(ETAG)) else { return };
        let weak = [b"W/", tag.as_bytes()].concat();
        if tag.as_bytes().starts_with(b"\"") && memchr::memmem::find(known.as_bytes(), &weak).is_some() {
            weaken(headers);
        }
    }
}

/// Whether the bytes of an answer's body may be others.
fn may_change(status: StatusCode, headers: &HeaderMap) -> bool {
    let bare = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::PARTIAL_CONTENT];
    let fixed = [CONTENT_ENCODING, CONTENT_RANGE].iter().any(|name| headers.contains_key(name));
    let summed = DIGESTS.iter().any(|name| headers.contains_key(HeaderName::from_static(name)));
    let told = has_token(headers, &CACHE_CONTROL, "no-transform");
    !status.is_informational() && !bare.contains(&status) && !fixed && !summed && !told
}

/// Tells caches that the answer depends on what the client can decode (RFC 9110 section 12.5.5).
fn vary(headers: &mut HeaderMap) {
    if !has_token(headers, &VARY, "accept-encoding") && !has_token(headers, &VARY, "*") {
        headers.append(VARY, WANTS_CODING);
    }
}

/// What was byte for byte the same is so no longer (RFC 9110 section 8.8.1).
fn weaken(headers: &mut HeaderMap) {
    let Entry::Occupied(mut tag) = headers.entry(ETAG) else { return };
    if tag.get().as_bytes().starts_with(b"\"")
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.get().as_bytes()].concat())
    {
        tag.insert(weak);
    }
}

#[cfg(test)]
mod tests;
