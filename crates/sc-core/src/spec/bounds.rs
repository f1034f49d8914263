//! How much and how long the proxy bears of one request of an app.

use serde::{Deserialize, Serialize};

/// How much and how long the proxy bears of one request. All of it is off by default: `response_timeout_ms` alone bounds the wait
/// for an answer, the proxy's own `--body-timeout` a silence of the client's, and a body may take as long as something of it comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// The longest request body in bytes. A longer one gets 413 (RFC 9110 section 15.5.14): before anything of it goes on where its
    /// length is told, else as soon as it is exceeded, if no answer has begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body: Option<u64>,
    /// Milliseconds that may pass with nothing of a body: of a request's (408, if no answer has begun; `response_timeout_ms` does
    /// not run meanwhile) and of an answer's, which is broken off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_idle_ms: Option<u64>,
    /// Milliseconds from a request's head to the end of its answer, waiting and retries included. Over it is 504, or an answer that
    /// is broken off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_ms: Option<u64>,
    /// Milliseconds that an upgraded connection (WebSocket), or a stream of gRPC whose client may send on, may be silent both ways
    /// before it is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_idle_ms: Option<u64>,
}

/// The longest body that a bound may be set to: 1 PiB.
const BODY_MAX: u64 = 1 << 50;
/// The longest time: a year.
const LONGEST_MS: u64 = 366 * 86_400_000;

impl Bounds {
    /// Whether there are none.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What is wrong with them, by key.
    pub fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let time = |ms: Option<u64>| ms.is_none_or(|ms| (1..=LONGEST_MS).contains(&ms));
        let span = "give a duration from 1ms to a year; left out there is no such limit";
        let known = [
            ("max_body", self.max_body.is_none_or(|bytes| bytes <= BODY_MAX), "give at most 1024TiB, like 10MiB"),
            ("body_idle_timeout", time(self.body_idle_ms), span),
            ("total_timeout", time(self.total_ms), span),
            ("idle_timeout", time(self.stream_idle_ms), span),
        ];
        known.into_iter().filter(|(_, fine, _)| !fine).map(|(key, _, what)| (key, what)).collect()
    }
}
