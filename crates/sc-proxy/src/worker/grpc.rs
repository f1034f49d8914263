//! The proxy's own answers to gRPC requests: they carry a gRPC status, since clients of gRPC look at no other.

use hyper::{
    HeaderMap, Request, Response, StatusCode, Version,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue},
};

use super::{answer::Refusal, body::ToClient};
use crate::headers::REASON;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
/// The status of a call that took longer than it may.
const DEADLINE_EXCEEDED: u32 = 4;
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether a request is one of gRPC: by its content type, on HTTP/2.
pub(super) fn is_grpc<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_2 && has_grpc_type(request.headers())
}

/// Whether a message is one of gRPC by its content type.
pub(super) fn has_grpc_type(headers: &HeaderMap) -> bool {
    let rest = headers.get(CONTENT_TYPE).and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// How many milliseconds a call may take, by its `grpc-timeout`: up to eight digits and a unit (gRPC over HTTP/2). One that is
/// malformed is the app's to refuse.
pub(super) fn timeout_ms(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_number)?;
    match unit {
        "H" => Some(number * 3_600_000),
        "M" => Some(number * 60_000),
        "S" => Some(number * 1_000),
        "m" => Some(number),
        "u" => Some(number.div_ceil(1_000)),
        "n" => Some(number.div_ceil(1_000_000)),
        _ => None,
    }
}

/// Makes an answer of the proxy's own one of gRPC: 200, no body, and the status as `grpc-status`. What a backend answered
/// stays as it is.
pub(super) fn translate(response: &mut Response<ToClient>) {
    let status = response.status();
    let Some(reason) = response.headers().get(REASON).filter(|_| status.as_u16() >= 400) else { return };
    if !response.body().is_own() {
        return;
    }
    let is_overtime = reason == Refusal::Overtime.parts().1;
    let code = if is_overtime { DEADLINE_EXCEEDED } else { code(status) };
    let text = response.body_mut().take_own();
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, GRPC);
    headers.insert(STATUS, HeaderValue::from(code));
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
    fn timeouts_are_a_number_and_a_unit() {
        let ms = |text: &'static str| timeout_ms(&HeaderMap::from_iter([(TIMEOUT, HeaderValue::from_static(text))]));
        assert_eq!(["1H", "2M", "3S", "4m", "1u", "2000001n"].map(ms), [3_600_000, 120_000, 3_000, 4, 1, 3].map(Some));
        assert_eq!(ms("99999999H"), Some(99_999_999 * 3_600_000));
        assert_eq!(["", "S", "1", "1s", "+1S", "123456789S", "1.5S", "1 S"].map(ms), [None; 8]);
        assert_eq!(timeout_ms(&HeaderMap::new()), None);
    }

    #[test]
    fn messages_are_visible_ascii() {
        assert_eq!(percent("a %\nü".as_bytes()), b"a %25%0A%C3%BC");
    }
}
