//! What users see: apps and replicas as they are now.

use sc_core::records::{Intent, Replica};

/// A replica's state as its record alone says.
pub fn state_of_record(replica: &Replica) -> &'static str {
    match (&replica.intent, replica.ready_ms) {
        (Intent::Run, Some(_)) => "ready",
        (Intent::Run, None) => "starting",
        (Intent::Pause, _) => "paused",
        (Intent::Drain { .. }, _) => "draining",
        (Intent::Stop { .. }, _) => "stopping",
    }
}
