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
    /// Where names become variables (CGI, WSGI, PHP) it is taken for another field, as `X_Real_IP` for `X-Real-IP`, or for what is no
    /// field at all, as `Proxy` for `HTTP_PROXY` (CVE-2016-5385).
    Lookalike,
    Other,
}

impl Field {
    /// Whether a client may not send it on, for what it says of itself or of others: what only trusted peers may say is `trusted`.
    ///
    /// A lookalike comes from nobody: proxies before us, trusted or not, pass on what their clients send. It is one only of
    /// fields that this proxy answers for: where a message ends, whom it is from and for, and what belongs to one connection.
    /// Names with `_` are valid otherwise (RFC 9110 section 5.6.2) and stay; so do all of credentials, which the client
    /// may send by their true names as well.
    pub(super) fn is_barred(self, trusted: bool) -> bool {
        match self {
            Self::Lookalike => true,
            Self::Forwarded
            | Self::ForwardedFor
            | Self::ForwardedHost
            | Self::ForwardedProto
            | Self::ForwardedOther => !trusted,
            _ => false,
        }
    }
}

/// The same by its name.
pub fn is_barred(name: &[u8], trusted: bool) -> bool {
    field(name).is_barred(trusted)
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
        (5, b'p') if is(name, b"proxy") => Field::Lookalike,
        (10, b'c') if is(name, b"connection") => Field::Connection,
        (10, b'k') => which(name, b"keep-alive", Field::HopByHop),
        (12, b'm') => which(name, b"max-forwards", Field::MaxForwards),
        (14, b'c') => which(name, b"content-length", Field::ContentLength),
        (14, b'h') => which(name, b"http2-settings", Field::HopByHop),
        (16, b'p') => which(name, b"proxy-connection", Field::HopByHop),
        (17, b't') => which(name, b"transfer-encoding", Field::TransferEncoding),
        (18, b'p') => which(name, b"proxy-authenticate", Field::HopByHop),
        (19, b'p') => which(name, b"proxy-authorization", Field::HopByHop),
        // The third letter leaves few others.
        (9, b'x') if name[2] | 0x20 == b'r' => which(name, b"x-real-ip", Field::ForwardedOther),
        (12.., b'x') if name[2] | 0x20 == b'f' => forwarded(name),
        _ => Field::Other,
    }
}

/// Which of `X-Forwarded-*` a name is.
fn forwarded(name: &[u8]) -> Field {
    let Some((prefix, rest)) = name.split_first_chunk::<12>() else { return Field::Other };
    match which(prefix, b"x-forwarded-", Field::ForwardedOther) {
        Field::ForwardedOther if is(rest, b"for") => Field::ForwardedFor,
        Field::ForwardedOther if is(rest, b"host") => Field::ForwardedHost,
        Field::ForwardedOther if is(rest, b"proto") => Field::ForwardedProto,
        other => other,
    }
}

/// `field` if this is its name, a lookalike if it is that with `_` for `-`.
fn which<const N: usize>(name: &[u8], want: &[u8; N], field: Field) -> Field {
    if is(name, want) { field } else { lookalike(name, want) }
}

/// Apart from the rest, which is run for every field.
#[cold]
fn lookalike(name: &[u8], want: &[u8]) -> Field {
    let alike = |(byte, want): (&u8, &u8)| byte.eq_ignore_ascii_case(want) || (*byte == b'_' && *want == b'-');
    if name.len() == want.len() && name.iter().zip(want).all(alike) { Field::Lookalike } else { Field::Other }
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
pub struct Connection {
    /// It ends after this message.
    pub close: bool,
    /// How many times it names fields that belong to this connection only.
    pub names: usize,
}

/// How many times `Connection` may name a field. Every field of the head is looked for among them; and nobody has so many.
const NAMES: usize = 16;

impl Connection {
    /// It names more fields than may be.
    pub fn is_crowded(self) -> bool {
        self.names > NAMES
    }

    /// Takes one field line in.
    pub fn read(&mut self, value: &[u8]) {
        if is(value, b"keep-alive") {
            return;
        }
        for item in items(value) {
            match () {
                () if is(item, b"close") => self.close = true,
                () if is(item, b"keep-alive") => {}
                () => self.names += 1,
            }
        }
    }
}

/// The fields that the `Connection` fields of a head name, found once for all of its fields.
pub(super) struct Named<'b> {
    names: [&'b [u8]; NAMES],
    count: usize,
}

impl<'b> Named<'b> {
    /// `count`: how many [`Connection`] has found; for none, as in nearly all heads, nothing is done.
    pub(super) fn of(count: usize, fields: &[httparse::Header<'b>]) -> Option<Self> {
        (count > 0).then(|| {
            let mut named = Self { names: [b""; NAMES], count: 0 };
            let values = fields.iter().filter(|f| field(f.name.as_bytes()) == Field::Connection);
            let names = values.flat_map(|f| items(f.value)).filter(|item| !is(item, b"close"));
            for (place, name) in named.names.iter_mut().zip(names.filter(|item| !is(item, b"keep-alive"))) {
                *place = name;
                named.count += 1;
            }
            named
        })
    }

    /// Whether this field is among them, and may be: those that describe the message itself stay.
    pub(super) fn takes(&self, name: &[u8]) -> bool {
        self.names[..self.count].iter().any(|item| item.eq_ignore_ascii_case(name))
            && !matches!(field(name), Field::Host | Field::ContentLength | Field::Via | Field::Forwarded)
            && !name.get(..12).is_some_and(|start| is(start, b"x-forwarded-"))
    }
}

/// A length of decimal digits only (RFC 9110 section 8.6).
pub fn length(value: &[u8]) -> Option<u64> {
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

    #[test]
    fn what_a_client_may_not_say_is_known_by_every_spelling() {
        for name in
            ["X-Forwarded-For", "x-forwarded-ssl", "X-Forwarded-", "x-real-ip", "Forwarded", "X-Forwarded-Client_Cert"]
        {
            assert!(is_barred(name.as_bytes(), false) && !is_barred(name.as_bytes(), true), "{name}");
        }
        for name in [
            "X_Forwarded_For",
            "x-forwarded_for",
            "x_real-ip",
            "CONTENT_LENGTH",
            "Transfer_Encoding",
            "Proxy",
            "Proxy_Connection",
        ] {
            assert!(is_barred(name.as_bytes(), false) && is_barred(name.as_bytes(), true), "{name}");
        }
        for name in
            ["x", "x_", "X_Requested_With", "x-forwarder", "content_type", "x-real-ipv", "prox", "Host", "proxy-x", "_"]
        {
            assert!(!is_barred(name.as_bytes(), false), "{name}");
        }
    }

    #[test]
    fn what_connection_names_is_counted_and_found_once() {
        let header = |name, value: &'static str| httparse::Header { name, value: value.as_bytes() };
        let fields = [header("connection", "close, a ,,B"), header("a", ""), header("Connection", "keep-alive,c, via")];
        let mut connection = Connection::default();
        fields.iter().filter(|f| f.name != "a").for_each(|f| connection.read(f.value));
        assert_eq!(connection, Connection { close: true, names: 4 });
        let named = Named::of(connection.names, &fields).unwrap();
        let takes = ["A", "b", "C"].iter().all(|name| named.takes(name.as_bytes()));
        assert!(takes && !["close", "keep-alive", "via", "d", ""].iter().any(|name| named.takes(name.as_bytes())));
        assert!(Named::of(0, &fields).is_none());
        let crowd = |names| {
            let mut connection = Connection::default();
            connection.read("a,".repeat(names).as_bytes());
            connection.is_crowded()
        };
        assert!(!crowd(NAMES) && crowd(NAMES + 1));
    }

    proptest::proptest! {
        #[test]
        fn a_name_with_underscores_is_what_it_is_with_hyphens_or_a_lookalike(
            name in proptest::sample::select(vec!["x-forwarded-for", "x-real-ip", "content-length", "transfer-encoding", "keep-alive",
                "http2-settings", "proxy-authorization", "max-forwards", "x-forwarded-host"]),
            changed: u32, upper: u32,
        ) {
            let bit = |bits: u32, at: usize| bits >> (at % 32) & 1 == 1;
            let other = |(at, byte): (usize, u8)| match byte {
                b'-' if bit(changed, at) => b'_',
                byte if bit(upper, at) => byte.to_ascii_uppercase(),
                byte => byte,
            };
            let spelled: Vec<u8> = name.bytes().enumerate().map(other).collect();
            // In what follows `x-forwarded-` a `_` makes another name of the same family.
            let want = if spelled.contains(&b'_') { Field::Lookalike } else { field(name.as_bytes()) };
            proptest::prop_assert_eq!(field(&spelled), want, "{}", String::from_utf8_lossy(&spelled));
        }

        #[test]
        fn a_token_is_another_in_any_case(name in "[!#-'*+.0-9A-Z^-z|~-]{2}", other in proptest::sample::select(vec![*b"te", *b"a-", *b"z-"])) {
            proptest::prop_assert_eq!(is(name.as_bytes(), &other), name.as_bytes().eq_ignore_ascii_case(&other));
            let upper = other.map(|byte| byte.to_ascii_uppercase());
            proptest::prop_assert!(is(&upper, &other) && !is(&other[1..], &other));
        }
    }
}
