//! What a routes file says of an app's traffic, with the keys of an app file's `[app.x.traffic]`.

use std::fmt;

use sc_core::{
    spec::{ClientKey, Rate, Sticky, Traffic},
    units::parse_duration,
    validate::{Invalid, validate_clients},
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
}

impl Terms {
    /// What is wrong with them beyond their syntax.
    pub(super) fn faults(&self) -> Vec<Invalid> {
        validate_clients(&self.clone().into())
    }
}

impl From<Terms> for Traffic {
    fn from(Terms { sticky, rate }: Terms) -> Self {
        Self { sticky, rate: rate.map(Rate::from), ..Self::default() }
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
