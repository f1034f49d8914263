//! The reconciler's decision: from what is desired and what was observed to the next steps.
//!
//! [`Desired`] is everything the store says, [`plan`] names the next [`Action`]s, [`Desired::take`] turns each into the
//! change of records that it means. A pass of the manager is: load, observe (in this order, see `phase9_clean`), plan,
//! take and commit each step and make its engine call, publish the routes.
//!
//! The plan is level-triggered: it depends on nothing but the records and what was just seen, so it does not matter
//! which passes were lost. Each phase sees the records as the phases before it leave them, and every step is safe
//! without those after it. What is on a node that did not answer is not touched.

mod action;
mod apply;
mod commands;
mod desired;
mod effects;
mod phase0_meet;
mod phase1_notice;
mod phase2_fail;
mod phase3_roll;
mod phase4_reduce;
mod phase5_grow;
mod phase6_ask;
mod phase7_stop;
mod phase8_settle;
mod phase9_clean;
pub mod ranges;
mod snapshot;
mod view;
mod warm;

pub use action::{Action, Plan, Why};
pub use commands::{Refused, replace_one, stop_one};
pub use desired::{Addressing, Desired, DesiredApp, Published};
pub(crate) use effects::Slot;
pub use effects::{Change, Effects, Expected, effects};
pub use phase0_meet::PROXY_KEPT_MS;
pub use view::{Stage, stage};

use crate::{names::AppId, observed::Observed};
use view::View;

/// How many versions of an app are kept, those in use included.
pub const VERSIONS_MAX: usize = 20;

/// Crashes in a row after which a rollout goes back.
pub const CRASHES_MAX: u32 = 3;

/// Steps with their reasons.
type Steps = Vec<(Action, Why)>;

/// What is decided for each app, in this order.
const PHASES: [fn(&View) -> Steps; 8] = [
    phase1_notice::notice,
    phase2_fail::fail,
    phase3_roll::roll,
    phase4_reduce::reduce,
    phase5_grow::grow,
    phase6_ask::ask,
    phase7_stop::stop,
    phase8_settle::settle,
];

/// What to do next. Level-triggered: the same whatever led here, empty when everything is as it should be.
pub fn plan(desired: &Desired, observed: &Observed) -> Plan {
    let mut draft = Draft { desired: desired.clone(), now: observed.at, steps: Vec::new() };
    draft.add(phase0_meet::meet(desired, observed));
    for id in desired.apps.keys() {
        for phase in PHASES {
            draft.add_phase(phase, id, observed);
        }
    }
    let steps = phase9_clean::clean(&draft.desired, observed);
    draft.add(steps);
    Plan { steps: draft.steps }
}

/// What keeps an app from getting the addresses that its missing replicas need, in a sentence for people; none when
/// nothing does.
pub fn lack_of_addresses(desired: &Desired, observed: &Observed, id: &AppId) -> Option<String> {
    let app = desired.apps.get(id)?;
    phase5_grow::lack(&View { id, app, desired, observed })
}

/// The records as the steps so far leave them.
struct Draft {
    desired: Desired,
    now: u64,
    steps: Steps,
}

impl Draft {
    fn add_phase(&mut self, phase: fn(&View) -> Steps, id: &AppId, observed: &Observed) {
        if let Some(app) = self.desired.apps.get(id) {
            let steps = phase(&View { id, app, desired: &self.desired, observed });
            self.add(steps);
        }
    }

    fn add(&mut self, steps: Steps) {
        for (action, why) in steps {
            // One that is woken, say, is seen paused by the next phase still.
            let engines = matches!(action, Action::Wake(_) | Action::Park(_) | Action::Revive { .. });
            if engines && self.steps.iter().any(|(known, _)| *known == action) {
                continue;
            }
            apply::apply(&mut self.desired, &action, &why, self.now);
            self.steps.push((action, why));
        }
    }
}
