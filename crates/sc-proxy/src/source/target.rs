//! A backend in a routes file: its address alone, or with its share of the traffic.

use std::{fmt, net::SocketAddr};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// The largest weight.
const WEIGHT_MAX: u32 = 1_000;

/// A backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) addr: SocketAddr,
    /// Relative to the others; 0: only when no other can be had.
    pub(super) weight: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Weighted {
    addr: SocketAddr,
    #[serde(default = "one")]
    weight: u32,
}

fn one() -> u32 {
    1
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AddrOrTable)
    }
}

/// Not an untagged enum: that would not say what is wrong.
struct AddrOrTable;

impl<'de> Visitor<'de> for AddrOrTable {
    type Value = Target;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address like \"127.0.0.1:9000\", or { addr = \"127.0.0.1:9000\", weight = 1 }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Target, E> {
        let addr = text.parse().map_err(|_| E::custom(format!("{text:?} is no socket address: write IP:PORT")))?;
        Ok(Target { addr, weight: 1 })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Target, A::Error> {
        let Weighted { addr, weight } = Weighted::deserialize(MapAccessDeserializer::new(map))?;
        if weight > WEIGHT_MAX {
            return Err(de::Error::custom(format!("weight {weight} is not in 0 to {WEIGHT_MAX}")));
        }
        Ok(Target { addr, weight })
    }
}
