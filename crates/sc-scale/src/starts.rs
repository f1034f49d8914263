//! How long a replica takes from being asked for to serving, learned from rises: of those that are made anew, and apart from
//! them of those that are only woken, and of those that were stopped and are started again.

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
    /// Seconds nearly all stay within that are woken; none: no rise by those alone was seen to its end.
    pub woken_seconds: Option<f64>,
    /// Seconds nearly all stay within that are started again, or woken; none: no rise by those alone was seen to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revived_seconds: Option<f64>,
    /// The rise being watched: when, and to how many.
    pub rise: Option<(u64, u32)>,
    /// Whether those that sleep are enough for that rise.
    pub wakes: bool,
    /// Whether those that sleep and those that were stopped are enough for that rise, and the former alone are not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub revives: bool,
}

/// Seconds from waking a replica to its serving, until it is learned per app: thawing it, one probe, and new routes.
pub const WAKE_SECONDS: f64 = 0.5;

impl Starts {
    /// Seconds to reckon with for a replica that is woken.
    pub fn woken_horizon(&self) -> f64 {
        self.woken_seconds.unwrap_or(WAKE_SECONDS).min(self.horizon())
    }

    /// Seconds to reckon with for a replica that is started again: no longer than for a new one.
    pub fn revived_horizon(&self) -> f64 {
        self.revived_seconds.unwrap_or(f64::MAX).min(self.horizon())
    }

    /// Seconds to reckon with for a replica that is started.
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
            let seconds = match (self.wakes, self.revives) {
                (true, _) => &mut self.woken_seconds,
                (false, true) => &mut self.revived_seconds,
                (false, false) => &mut self.seconds,
            };
            let old = seconds.unwrap_or(took);
            let share = if took > old { 0.5 } else { 0.05 };
            *seconds = Some(old + share * (took - old));
            self.rise = None;
        }
    }

    /// Begins to watch a rise, if none is being watched.
    pub(crate) fn rose(&mut self, now: &Now, want: u32) {
        if self.rise.is_none() {
            self.rise = Some((now.at_ms, want));
            let more = want.saturating_sub(now.want);
            self.wakes = more <= now.warm;
            self.revives = !self.wakes && more <= now.warm.saturating_add(now.stopped);
        }
    }
}
