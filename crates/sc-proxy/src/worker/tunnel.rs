//! WebSocket on one stream of a client's HTTP/2 connection (RFC 8441): the client's extended CONNECT becomes an `Upgrade` of HTTP/1.1
//! towards the backend, and the backend's 101 a 200. No other protocol has a way from one to the other that is written down.

use hyper::{
    HeaderMap, Method, Request,
    ext::Protocol,
    header::{CONNECTION, HeaderName, HeaderValue, UPGRADE},
};

use super::answer::Refusal;

const KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// Makes of an extended CONNECT what HTTP/1.1 has for it. False: it is none. `roll`: random bits.
pub(super) fn unfold<B>(request: &mut Request<B>, roll: impl Fn() -> u32) -> Result<bool, Refusal> {
    if request.method() != Method::CONNECT {
        return Ok(false);
    }
    let Some(protocol) = request.extensions_mut().remove::<Protocol>() else { return Ok(false) };
    if !protocol.as_str().eq_ignore_ascii_case("websocket") {
        return Err(Refusal::UnknownProtocol);
    }
    *request.method_mut() = Method::GET;
    let headers = request.headers_mut();
    if let Ok(key) = HeaderValue::from_str(&nonce(roll)) {
        headers.insert(KEY, key); // HTTP/2 has none (RFC 8441 section 5)
    }
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    Ok(true)
}

/// Takes off a 101 what belongs to HTTP/1.1.
pub(super) fn fold(headers: &mut HeaderMap) {
    for name in [CONNECTION, UPGRADE, ACCEPT] {
        headers.remove(name);
    }
}

/// 16 random bytes in base64 (RFC 6455 section 4.1).
fn nonce(roll: impl Fn() -> u32) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = (0..4).fold(0u128, |bits, _| bits << 32 | u128::from(roll()));
    // 21 letters of six bits, one of the last two, and the padding.
    let letter = |n: u32| char::from(LETTERS[(bits.rotate_left(6 * (n + 1)) & 63) as usize]);
    let last = char::from(LETTERS[((bits & 3) << 4) as usize]);
    (0..21).map(letter).chain([last, '=', '=']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extended_connect_becomes_an_upgrade_and_no_other_does() {
        let protocol = Protocol::from_static("websocket");
        let mut request = Request::connect("https://a.test/chat").extension(protocol).body(()).unwrap();
        assert_eq!(unfold(&mut request, || 0xffff_ffff), Ok(true));
        assert_eq!(
            (request.method(), &request.headers()[UPGRADE]),
            (&Method::GET, &HeaderValue::from_static("websocket"))
        );
        assert_eq!(request.headers()[KEY], "/////////////////////w==");
        let mut plain = Request::connect("a.test:443").body(()).unwrap();
        assert!(unfold(&mut plain, || 0) == Ok(false) && plain.method() == Method::CONNECT);
        let mut get = Request::get("/").extension(Protocol::from_static("websocket")).body(()).unwrap();
        assert!(unfold(&mut get, || 0) == Ok(false) && get.headers().is_empty());
        for other in ["h2c", "HTTP/2.0", "connect-udp", "websocket, h2c", ""] {
            let mut request = Request::connect("https://a.test/").extension(Protocol::from(other)).body(()).unwrap();
            assert_eq!(unfold(&mut request, || 0), Err(Refusal::UnknownProtocol), "{other}");
        }
    }

    #[test]
    fn a_nonce_is_16_bytes_of_base64() {
        let count = std::cell::Cell::new(0u32);
        let roll = || {
            count.set(count.get() + 1);
            0x0123_4567u32.wrapping_mul(count.get())
        };
        // printf '\x01\x23\x45\x67\x02\x46\x8a\xce\x03\x69\xd0\x35\x04\x8d\x15\x9c' | base64
        assert_eq!(nonce(roll), "ASNFZwJGis4DadA1BI0VnA==");
    }
}
