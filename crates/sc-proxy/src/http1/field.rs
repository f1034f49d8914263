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
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    match name.len() {
        2 if is("te") => Field::Te,
        3 if is("via") => Field::Via,
        4 if is("host") => Field::Host,
        4 if is("date") => Field::Date,
        6 if is("expect") => Field::Expect,
        7 if is("upgrade") => Field::Upgrade,
        7 if is("trailer") => Field::Trailer,
        9 if is("forwarded") => Field::Forwarded,
        9 if is("x-real-ip") => Field::ForwardedOther,
        10 if is("connection") => Field::Connection,
        10 if is("keep-alive") => Field::HopByHop,
        12 if is("max-forwards") => Field::MaxForwards,
        14 if is("content-length") => Field::ContentLength,
        15 if is("x-forwarded-for") => Field::ForwardedFor,
        16 if is("x-forwarded-host") => Field::ForwardedHost,
        16 if is("x-forwarded-port") => Field::ForwardedOther,
        16 if is("proxy-connection") => Field::HopByHop,
        17 if is("transfer-encoding") => Field::TransferEncoding,
        17 if is("x-forwarded-proto") => Field::ForwardedProto,
        18 if is("x-forwarded-prefix") || is("x-forwarded-server") => Field::ForwardedOther,
        18 if is("proxy-authenticate") => Field::HopByHop,
        19 if is("proxy-authorization") => Field::HopByHop,
        _ => Field::Other,
    }
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
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}
