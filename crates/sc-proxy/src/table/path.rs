//! Paths as they are compared: so that no way of writing a path leads around a route.

use std::borrow::Cow;

/// The path as routes are looked up by it (RFC 3986 section 6.2.2): percent-encoded unreserved characters decoded, the
/// digits of others in upper case, `.` and `..` resolved (also with parameters, as in `..;x`), no empty segments.
/// It always begins with `/`, and a path in this form is its own normal form.
pub fn normal_path(path: &str) -> Cow<'_, str> {
    let plain = path.starts_with('/') && !path.contains('%') && !path.contains("//") && !path.contains("/.");
    if plain { Cow::Borrowed(path) } else { Cow::Owned(resolved(&decoded(path))) }
}

/// Decodes what need not be encoded. A `%` that begins no code is itself encoded, so that none can arise.
fn decoded(path: &str) -> String {
    let hex = |b: Option<&u8>| b.and_then(|b| (*b as char).to_digit(16));
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let (byte, code) = (bytes[at], (hex(bytes.get(at + 1)), hex(bytes.get(at + 2))));
        match code {
            (Some(high), Some(low)) if byte == b'%' => {
                let value = (high * 16 + low) as u8;
                if value.is_ascii_alphanumeric() || b"-._~".contains(&value) {
                    out.push(value);
                } else {
                    out.extend(format!("%{value:02X}").bytes());
                }
                at += 3;
            }
            _ if byte == b'%' => {
                out.extend(b"%25");
                at += 1;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn resolved(path: &str) -> String {
    let mut segments = Vec::new();
    let mut open = false; // whether the path ends in a segment that is only a slash
    for segment in path.split('/') {
        open = false;
        match segment.split(';').next() {
            Some("" | ".") if !segment.starts_with(';') => open = true,
            Some("..") => {
                segments.pop();
                open = true;
            }
            _ => segments.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len() + 1);
    for segment in &segments {
        out.push('/');
        out.push_str(segment);
    }
    if open || segments.is_empty() {
        out.push('/');
    }
    out
}
