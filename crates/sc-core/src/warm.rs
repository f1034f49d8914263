//! What a user may ask of the warm pool. Plain data.

use serde::{Deserialize, Serialize};

use crate::spec::Resources;

/// How many replicas that scale-in takes away are kept: frozen, to be woken in milliseconds, and then stopped, to be started
/// again without being made anew. Not part of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WarmSpec {
    /// At most so many replicas are frozen; 0: none.
    pub size: u32,
    /// Milliseconds after which one that was not needed is frozen no more.
    pub for_ms: u64,
    /// Bytes that all of them together may hold, each reckoned with its memory limit; none: no such budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// At most so many, beside the frozen ones, are stopped and kept; 0: none. If nothing is said:
    /// [`crate::spec::ScaleSpec::most_stopped`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<u32>,
    /// Milliseconds after which one that was stopped and not needed is removed.
    #[serde(skip_serializing_if = "is_stop_for")]
    pub stop_for_ms: u64,
}

/// [`WarmSpec::stop_for_ms`] if nothing is said: a stopped one costs a little disk, no memory.
const STOP_FOR_MS: u64 = 86_400_000;

fn is_stop_for(ms: &u64) -> bool {
    *ms == STOP_FOR_MS
}

impl Default for WarmSpec {
    fn default() -> Self {
        Self { size: 0, for_ms: 600_000, memory: None, stopped: None, stop_for_ms: STOP_FOR_MS }
    }
}

impl WarmSpec {
    /// How many replicas with these limits may be frozen. Those without a memory limit fit no budget.
    pub fn most(&self, resources: &Resources) -> u32 {
        let fits =
            |budget: u64| resources.memory.map_or(0, |each| u32::try_from(budget / each.max(1)).unwrap_or(u32::MAX));
        self.memory.map_or(self.size, |budget| self.size.min(fits(budget)))
    }

    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
