//! How backends are probed, as a routes file says it.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use sc_core::AppId;
use serde::{Deserialize, Deserializer, de::Error};

/// How an app's backends are probed, by app.
pub type Probes = BTreeMap<AppId, Probe>;

/// The longest interval and timeout.
const LONGEST: Duration = Duration::from_secs(3_600);

/// How a backend is probed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Probe {
    /// What is asked for with GET; an answer of class 2xx or 3xx is a good one. None: a connection is enough.
    #[serde(deserialize_with = "path")]
    pub path: Option<String>,
    /// Time from one probe to the next, give or take a tenth.
    #[serde(deserialize_with = "span")]
    pub interval: Duration,
    /// Time for one probe.
    #[serde(deserialize_with = "span")]
    pub timeout: Duration,
    /// So many failures in a row and the backend is passed over.
    #[serde(deserialize_with = "count")]
    pub unhealthy_after: u32,
    /// So many good ones in a row and it is chosen again.
    #[serde(deserialize_with = "count")]
    pub healthy_after: u32,
}

impl Default for Probe {
    fn default() -> Self {
        let (interval, timeout) = (Duration::from_secs(2), Duration::from_secs(1));
        Self { path: None, interval, timeout, unhealthy_after: 3, healthy_after: 2 }
    }
}

fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let fine = text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic());
    if fine { Ok(Some(text)) } else { Err(D::Error::custom(format!("{text:?} is no path: it must start with /"))) }
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    NonZeroU32::deserialize(deserializer).map(NonZeroU32::get)
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bad = || D::Error::custom(format!("{text:?} is no time up to an hour, like 500ms or 2s"));
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = digits.parse().map_err(|_| bad())?;
    let span = match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        _ => return Err(bad()),
    };
    if span.is_zero() || span > LONGEST { Err(bad()) } else { Ok(span) }
}
