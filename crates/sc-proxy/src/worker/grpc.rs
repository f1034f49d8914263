//! The proxy's own answers to gRPC requests: they carry a gRPC status, since clients of gRPC look at no other.

use hyper::{
    HeaderMap, Request, Response, StatusCode, Version,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue},
};

use super::body::ToClient;
use crate::headers::REASON;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether a request is one of gRPC: by its content type, on HTTP/2.
pub(super) fn is_grpc<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_2 && has_grpc_type(request.headers())
}

fn has_grpc_type(headers: &HeaderMap) -> bool {
    let rest = headers.get(CONTENT_TYPE).and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Makes an answer of the proxy's own one of gRPC: 200, no body, and the status as `grpc-status`. What a backend answered
/// stays as it is.
pub(super) fn translate(response: &mut Response<ToClient>) {
    let status = response.status();
    if !response.body().is_own() || status.as_u16() < 400 || !response.headers().contains_key(REASON) {
        return;
    }
    let text = response.body_mut().take_own();
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, GRPC);
    headers.insert(STATUS, HeaderValue::from(code(status)));
    if let Ok(message) = HeaderValue::from_bytes(&percent(text.trim_ascii())) {
        headers.insert(MESSAGE, message);
    }
}

/// The gRPC status of an HTTP status: gRPC's document "HTTP to gRPC Status Code Mapping".
fn code(status: StatusCode) -> u32 {
    match status.as_u16() {
        400 => 13,                   // INTERNAL
        401 => 16,                   // UNAUTHENTICATED
        403 => 7,                    // PERMISSION_DENIED
        404 => 12,                   // UNIMPLEMENTED
        429 | 502 | 503 | 504 => 14, // UNAVAILABLE
        _ => 2,                      // UNKNOWN
    }
}

/// A message as `grpc-message` has it: all but visible ASCII, and the percent sign, as percent and two digits.
fn percent(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for &byte in text {
        match byte {
            b'%' => out.extend_from_slice(b"%25"),
            b' '..=b'~' => out.push(byte),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_grpc() {
        let is = |content: &'static str| {
            has_grpc_type(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content))]))
        };
        assert!(is("application/grpc") && is("application/grpc+proto") && is("application/grpc;x=y"));
        assert!(!is("application/grpc-web") && !is("application/json") && !has_grpc_type(&HeaderMap::new()));
    }

    #[test]
    fn messages_are_visible_ascii() {
        assert_eq!(percent("a %\nü".as_bytes()), b"a %25%0A%C3%BC");
    }
}
