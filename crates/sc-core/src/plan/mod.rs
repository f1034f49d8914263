//! The reconciler's decision: from what is desired and what was observed to the next steps.
//!
//! [`Desired`] is everything the store says, [`plan`] names the next [`Action`]s, [`Desired::take`] turns each into the
//! change of records that it means.

mod action;
mod apply;
mod desired;
mod effects;
pub mod ranges;
mod snapshot;

pub use action::{Action, Plan, Why};
pub use desired::{Addressing, Desired, DesiredApp, Published};
pub(crate) use effects::Slot;
pub use effects::{Change, Effects, Expected, effects};

use crate::observed::Observed;

/// How many versions of an app are kept, those in use included.
pub const VERSIONS_MAX: usize = 20;

/// What to do next. Level-triggered: the same whatever led here, empty when everything is as it should be.
pub fn plan(_desired: &Desired, _observed: &Observed) -> Plan {
    Plan::default()
}
