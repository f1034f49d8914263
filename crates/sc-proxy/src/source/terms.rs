//! What a routes file says of an app's traffic and of its heads, with the keys of an app file's `[app.x.traffic]` and
//! `[app.x.headers]`.

use std::{fmt, marker::PhantomData, num::NonZeroU16};

use sc_core::{
    rules::{FieldRules, Rules},
    spec::{
        BackendTls, Balance, Bounds, ClientKey, Coding, Compress, ProxyProtocol, Rate, Sticky, TcpSpec, Traffic, Verify,
    },
    units::{parse_duration, parse_size},
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
    https: Https,
    tls: Tls,
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
            rules: terms.https.0,
            tls: terms.tls.0,
            ..default
        }
    }
}

/// What is done to the heads of an app's requests and answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Headers {
    request_id: bool,
    trace: bool,
    forwarded: bool,
    server_timing: bool,
    request: FieldRules,
    response: FieldRules,
}

impl Headers {
    /// The rules with these beside what is said of HTTPS.
    pub(super) fn on(self, Rules { https, https_port, .. }: Rules) -> Rules {
        let Self { request_id, trace, forwarded, server_timing, request, response } = self;
        Rules { https, https_port, request_id, trace, forwarded, server_timing, request, response }
    }
}

/// `"redirect"`, to a port other than 443 as `"redirect:8443"` or `{ port = 8443 }`, or `"optional"`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Https(Rules);

impl<'de> Deserialize<'de> for Https {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordOrPort)
    }
}

struct WordOrPort;

impl<'de> Visitor<'de> for WordOrPort {
    type Value = Https;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"redirect\", { port = 8443 } or \"optional\"")
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<Https, E> {
        Rules::https_named(word).map(Https).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Https, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Port {
            port: NonZeroU16,
        }
        let Port { port } = Port::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Https(Rules::https_at(Some(port.get()))))
    }
}

/// How backends are known under TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "SaidOfTls")]
struct Tls(BackendTls);

#[derive(Default, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table: { verify = \"none\" } or { ca = \"PEM text\" }, also with server_name"
)]
struct SaidOfTls {
    verify: Option<Named>,
    ca: Option<String>,
    server_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Named {
    System,
    None,
}

impl TryFrom<SaidOfTls> for Tls {
    type Error = &'static str;
    fn try_from(SaidOfTls { verify, ca, server_name }: SaidOfTls) -> Result<Self, Self::Error> {
        let verify = match (verify, ca) {
            (Some(_), Some(_)) => {
                return Err("`verify` and `ca` together: backends are known by the authorities in `ca` alone");
            }
            (_, Some(ca)) => Verify::Ca(ca),
            (Some(Named::None), _) => Verify::None,
            _ => Verify::System,
        };
        Ok(Self(BackendTls { verify, server_name }))
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
