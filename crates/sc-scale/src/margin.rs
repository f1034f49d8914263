//! The margin over the forecast: an online quantile of its own misses.
//!
//! A second in which more came in than the ready replicas can take is a miss. Misses widen the margin, their absence
//! narrows it, such that in the long run the share [`MISSES`] of all seconds is missed: steady load pays for little
//! room, wild load for much (Gibbs & Candès 2021, adaptive conformal inference, in the logarithm).

use serde::{Deserialize, Serialize};

use crate::{Now, window::Window};

/// The share of seconds that may be missed.
pub const MISSES: f64 = 0.01;

/// How far one miss widens the margin: 1 %.
const STEP: f64 = 0.01;

/// Bounds of the margin. A ninth at the least: what is missed for want of room is seen only after it was late, and room
/// for a rise costs less than replicas held long after each peak. At the most, load so wild that a third more is not
/// enough is not met by any multiple of what comes in now.
const BOUNDS: (f64, f64) = (1.11, 1.3);

/// What the forecast is multiplied with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Margin {
    /// Its logarithm.
    pub ln: f64,
    /// The last second judged, Unix ms.
    pub judged_ms: u64,
}

impl Default for Margin {
    fn default() -> Self {
        Self { ln: libm::log(BOUNDS.0), judged_ms: 0 }
    }
}

impl Margin {
    /// The factor.
    pub fn factor(&self) -> f64 {
        libm::exp(self.ln)
    }

    /// Judges the last second, once, by what one replica takes. At the most that is allowed no miss can be helped.
    pub(crate) fn judge(&mut self, now: &Now, max: u32, window: &Window, each: f64, late: bool) {
        let Some(last) = window.seconds.back().filter(|s| s.at_ms > self.judged_ms && s.at_ms <= now.at_ms) else {
            self.judged_ms = self.judged_ms.min(now.at_ms);
            return;
        };
        self.judged_ms = last.at_ms;
        if last.ready == 0 || last.ready >= max {
            return;
        }
        let miss = late && last.arrivals > each * f64::from(last.ready);
        let change = if miss { STEP * (1.0 - MISSES) } else { -STEP * MISSES };
        self.ln = (self.ln + change).clamp(libm::log(BOUNDS.0), libm::log(BOUNDS.1));
    }
}
