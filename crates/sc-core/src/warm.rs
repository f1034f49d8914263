//! What a user may ask of the warm pool. Plain data.

use serde::{Deserialize, Serialize};

use crate::spec::Resources;

/// How many replicas that scale-in takes away are kept, frozen, to be woken in milliseconds. Not part of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WarmSpec {
    /// At most so many replicas sleep; 0: none.
    pub size: u32,
    /// Milliseconds after which one that was not needed is stopped.
    pub for_ms: u64,
    /// Bytes that all of them together may hold, each reckoned with its memory limit; none: no such budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
}

impl Default for WarmSpec {
    fn default() -> Self {
        Self { size: 0, for_ms: 600_000, memory: None }
    }
}

impl WarmSpec {
    /// How many replicas with these limits may sleep. Those without a memory limit fit no budget.
    pub fn most(&self, resources: &Resources) -> u32 {
        let fits =
            |budget: u64| resources.memory.map_or(0, |each| u32::try_from(budget / each.max(1)).unwrap_or(u32::MAX));
        self.memory.map_or(self.size, |budget| self.size.min(fits(budget)))
    }

    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
