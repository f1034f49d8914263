//! What a routes file says of an app's traffic, with the keys of an app file's `[app.x.traffic]`.

use std::fmt;

use sc_core::{
    spec::{Bounds, ClientKey, ProxyProtocol, Rate, Sticky, TcpSpec, Traffic},
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
        Self { sticky: terms.sticky, rate: terms.rate.map(Rate::from), bounds, tcp, ..Self::default() }
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

fn sticky<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Sticky>, D::Error> {
    deserializer.deserialize_any(FlagOrTable)
}

/// Not an untagged enum: that would not say what is wrong.
struct FlagOrTable;

impl<'de> Visitor<'de> for FlagOrTable {
    type Value = Option<Sticky>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, or { cookie = \"sc_web\", ttl = \"1h\" }")
    }

    fn visit_bool<E: de::Error>(self, sticky: bool) -> Result<Option<Sticky>, E> {
        Ok(sticky.then(Sticky::default))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<Sticky>, A::Error> {
        let Cookie { cookie, ttl } = Cookie::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Some(Sticky { cookie, ttl_ms: ttl.map(|ttl| ttl.0) }))
    }
}
