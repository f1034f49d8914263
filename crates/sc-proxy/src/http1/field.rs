//! Field names that a proxy must know.

/// A field by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Upgrade,
    Expect,
    Te,
    Trailer,
    MaxForwards,
    Date,
    /// Belongs to one connection and has no further meaning for us.
    HopByHop,
    Forwarded,
    ForwardedFor,
    ForwardedHost,
    ForwardedProto,
    /// Other fields that say whom a request came from.
    ForwardedOther,
    Via,
    Other,
}

/// Which field a name is, in any case.
pub(super) fn field(name: &[u8]) -> Field {
    // Most names are told apart by their length and first letter.
    let first = name.first().map_or(0, |byte| byte | 0x20);
    match (name.len(), first) {
        (2, b't') if is(name, b"te") => Field::Te,
        (3, b'v') if is(name, b"via") => Field::Via,
        (4, b'h') if is(name, b"host") => Field::Host,
        (4, b'd') if is(name, b"date") => Field::Date,
        (6, b'e') if is(name, b"expect") => Field::Expect,
        (7, b'u') if is(name, b"upgrade") => Field::Upgrade,
        (7, b't') if is(name, b"trailer") => Field::Trailer,
        (9, b'f') if is(name, b"forwarded") => Field::Forwarded,
        (9, b'x') if is(name, b"x-real-ip") => Field::ForwardedOther,
        (10, b'c') if is(name, b"connection") => Field::Connection,
        (10, b'k') if is(name, b"keep-alive") => Field::HopByHop,
        (12, b'm') if is(name, b"max-forwards") => Field::MaxForwards,
        (14, b'c') if is(name, b"content-length") => Field::ContentLength,
        (15, b'x') if is(name, b"x-forwarded-for") => Field::ForwardedFor,
        (16, b'x') if is(name, b"x-forwarded-host") => Field::ForwardedHost,
        (16, b'x') if is(name, b"x-forwarded-port") => Field::ForwardedOther,
        (16, b'p') if is(name, b"proxy-connection") => Field::HopByHop,
        (17, b't') if is(name, b"transfer-encoding") => Field::TransferEncoding,
        (17, b'x') if is(name, b"x-forwarded-proto") => Field::ForwardedProto,
        (18, b'x') if is(name, b"x-forwarded-prefix") || is(name, b"x-forwarded-server") => Field::ForwardedOther,
        (18, b'p') if is(name, b"proxy-authenticate") => Field::HopByHop,
        (19, b'p') if is(name, b"proxy-authorization") => Field::HopByHop,
        _ => Field::Other,
    }
}

/// Whether a token (RFC 9110 section 5.6.2) is this one of small letters and hyphens, in any case. The length is known when it
/// is compiled, so that it takes a handful of instructions.
pub(super) fn is<const N: usize>(token: &[u8], other: &[u8; N]) -> bool {
    let Ok(token) = <&[u8; N]>::try_from(token) else { return false };
    // Of all characters of a token, this makes a letter of the other case into it and no other into a hyphen.
    token.iter().zip(other).fold(0, |differs, (byte, want)| differs | ((byte | 0x20) ^ want)) == 0
}

/// The items of a list field.
pub(super) fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

/// What `Connection` says of this connection and of other fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Connection {
    pub close: bool,
    /// It names fields that belong to this connection only.
    pub names: bool,
}

impl Connection {
    pub(super) fn read(&mut self, value: &[u8]) {
        if is(value, b"keep-alive") {
            return;
        }
        for item in items(value) {
            match () {
                () if item.eq_ignore_ascii_case(b"close") => self.close = true,
                () if item.eq_ignore_ascii_case(b"keep-alive") => {}
                () => self.names = true,
            }
        }
    }
}

/// Whether one of the `Connection` fields names this field, and may: those that describe the message itself stay.
pub(super) fn is_named(name: &[u8], fields: &[httparse::Header<'_>]) -> bool {
    let stays = matches!(field(name), Field::Host | Field::ContentLength | Field::Via | Field::Forwarded)
        || name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case(b"x-forwarded-"));
    let values = fields.iter().filter(|f| field(f.name.as_bytes()) == Field::Connection);
    !stays && values.flat_map(|f| items(f.value)).any(|item| item.eq_ignore_ascii_case(name))
}

/// A length of decimal digits only (RFC 9110 section 8.6).
pub(super) fn length(value: &[u8]) -> Option<u64> {
    let digit = |length: u64, byte: &u8| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| length.checked_mul(10)?.checked_add(digit.into())).flatten()
    };
    if value.is_empty() { None } else { value.iter().try_fold(0, digit) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_digits_and_fit() {
        for (text, want) in [("0", Some(0)), ("012", Some(12)), ("18446744073709551615", Some(u64::MAX))] {
            assert_eq!(length(text.as_bytes()), want);
        }
        for text in ["", "+1", "-1", " 1", "1 ", "1,1", "0x1", "18446744073709551616", "99999999999999999999", "1\0"] {
            assert_eq!(length(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_token_is_another_in_any_case(name in "[!#-'*+.0-9A-Z^-z|~-]{2}", other in proptest::sample::select(vec![*b"te", *b"a-", *b"z-"])) {
            proptest::prop_assert_eq!(is(name.as_bytes(), &other), name.as_bytes().eq_ignore_ascii_case(&other));
            let upper = other.map(|byte| byte.to_ascii_uppercase());
            proptest::prop_assert!(is(&upper, &other) && !is(&other[1..], &other));
        }
    }
}
