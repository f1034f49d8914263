//! What a routes file says of an app's traffic, with the keys of an app file's `[app.x.traffic]`.

use std::{fmt, marker::PhantomData};

use sc_core::{
    spec::{Balance, Bounds, ClientKey, Coding, Compress, ProxyProtocol, Rate, Sticky, TcpSpec, Traffic},
    units::{parse_duration, parse_size},
    validate::{Invalid, validate_terms},
};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// The terms that an app's requests are served on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Terms {
    #[serde(deserialize_with = "sticky")]
    sticky: Option<Sticky>,
    rate: Option<Frequency>,
    max_body: Option<Size>,
    body_idle_timeout: Option<Span>,
    total_timeout: Option<Span>,
    idle_timeout: Option<Span>,
    tcp: Option<Tcp>,
    max_in_flight: Option<u32>,
    queue_max: Option<u32>,
    queue_timeout: Option<Span>,
    connect_timeout: Option<Span>,
    response_timeout: Option<Span>,
    balance: Option<Balance>,
    slow_start: Option<Span>,
    #[serde(deserialize_with = "compress")]
    compress: Option<Compress>,
}

impl Terms {
    /// What is wrong with them beyond their syntax.
    pub(super) fn faults(&self) -> Vec<Invalid> {
        validate_terms(&self.clone().into())
    }
}

impl From<Terms> for Traffic {
    fn from(terms: Terms) -> Self {
        let span = |span: Option<Span>| span.map(|span| span.0);
        let bounds = Bounds {
            max_body: terms.max_body.map(|size| size.0),
            body_idle_ms: span(terms.body_idle_timeout),
            total_ms: span(terms.total_timeout),
            stream_idle_ms: span(terms.idle_timeout),
        };
        let tcp = terms.tcp.map(TcpSpec::from).unwrap_or_default();
        let default = Self::default();
        let or = |asked, default| span(asked).unwrap_or(default);
        Self {
            max_in_flight: terms.max_in_flight,
            queue_max: terms.queue_max.unwrap_or(default.queue_max),
            queue_timeout_ms: or(terms.queue_timeout, default.queue_timeout_ms),
            connect_timeout_ms: or(terms.connect_timeout, default.connect_timeout_ms),
            response_timeout_ms: or(terms.response_timeout, default.response_timeout_ms),
            balance: terms.balance.unwrap_or_default(),
            slow_start_ms: or(terms.slow_start, default.slow_start_ms),
            sticky: terms.sticky,
            rate: terms.rate.map(Rate::from),
            bounds,
            tcp,
            compress: terms.compress,
            ..default
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tcp {
    idle_timeout: Option<Span>,
    proxy_protocol: Option<ProxyProtocol>,
}

impl From<Tcp> for TcpSpec {
    fn from(Tcp { idle_timeout, proxy_protocol }: Tcp) -> Self {
        let idle_timeout_ms = idle_timeout.map_or(Self::default().idle_timeout_ms, |span| span.0);
        Self { idle_timeout_ms, proxy_protocol }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Frequency {
    requests: u32,
    per: Span,
    burst: Option<u32>,
    #[serde(default)]
    by: ClientKey,
}

impl From<Frequency> for Rate {
    fn from(Frequency { requests, per, burst, by }: Frequency) -> Self {
        Self { requests, per_ms: per.0, burst, by }
    }
}

/// A duration in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Span(u64);

impl TryFrom<String> for Span {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        parse_duration(&text).map(Self).map_err(|error| error.to_string())
    }
}

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Size(u64);

impl TryFrom<String> for Size {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        parse_size(&text).map(Self).map_err(|error| error.to_string())
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Cookie {
    cookie: Option<String>,
    ttl: Option<Span>,
}

impl From<Cookie> for Sticky {
    fn from(Cookie { cookie, ttl }: Cookie) -> Self {
        Self { cookie, ttl_ms: ttl.map(|ttl| ttl.0) }
    }
}

fn sticky<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Sticky>, D::Error> {
    let expected = FlagOrTable::<Cookie, Sticky>("true, or { cookie = \"sc_web\", ttl = \"1h\" }", PhantomData);
    deserializer.deserialize_any(expected)
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Compressed {
    types: Vec<String>,
    min_size: Option<Size>,
    codings: Option<Vec<Coding>>,
}

impl From<Compressed> for Compress {
    fn from(Compressed { types, min_size, codings }: Compressed) -> Self {
        let default = Self::default();
        let min_size = min_size.map_or(default.min_size, |size| size.0);
        Self { types, min_size, codings: codings.unwrap_or(default.codings) }
    }
}

fn compress<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Compress>, D::Error> {
    let expected =
        FlagOrTable::<Compressed, Compress>("true, or { types = [\"text/*\"], min_size = \"1KiB\" }", PhantomData);
    deserializer.deserialize_any(expected)
}

/// A flag, or a table `T` from which the value `V` is made. Not an untagged enum: that would not say what is wrong.
struct FlagOrTable<T, V>(&'static str, PhantomData<(T, V)>);

impl<'de, T: Deserialize<'de>, V: From<T> + Default> Visitor<'de> for FlagOrTable<T, V> {
    type Value = Option<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_bool<E: de::Error>(self, wanted: bool) -> Result<Option<V>, E> {
        Ok(wanted.then(V::default))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<V>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|table| Some(table.into()))
    }
}
