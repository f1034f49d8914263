//! How long a replica takes from being asked for to serving, learned from rises.

use serde::{Deserialize, Serialize};

use crate::{Now, window::START_SECONDS};

/// A rise that takes longer than this is not waited for: something else is wrong.
const LONGEST_MS: u64 = 300_000;

/// The learned start time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Starts {
    /// Seconds nearly all starts stay within; none: no rise was seen to its end.
    pub seconds: Option<f64>,
    /// The rise being watched: when, and to how many.
    pub rise: Option<(u64, u32)>,
}

impl Starts {
    /// Seconds to reckon with.
    pub fn horizon(&self) -> f64 {
        self.seconds.unwrap_or(START_SECONDS)
    }

    /// Looks whether the rise has ended. A longer start is believed by half at once, shorter ones little by little: what
    /// is kept lies near the longest of the recent ones.
    pub(crate) fn watch(&mut self, now: &Now) {
        let Some((at_ms, want)) = self.rise else { return };
        let took_ms = now.at_ms.saturating_sub(at_ms);
        if now.want < want || took_ms > LONGEST_MS || now.at_ms < at_ms {
            self.rise = None;
        } else if now.ready >= want {
            let took = took_ms as f64 / 1_000.0;
            let old = self.seconds.unwrap_or(took);
            let share = if took > old { 0.5 } else { 0.05 };
            self.seconds = Some(old + share * (took - old));
            self.rise = None;
        }
    }

    /// Begins to watch a rise, if none is being watched.
    pub(crate) fn rose(&mut self, at_ms: u64, want: u32) {
        self.rise.get_or_insert((at_ms, want));
    }
}
