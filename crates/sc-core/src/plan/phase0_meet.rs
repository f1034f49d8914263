//! Phase 0: which proxies may serve.
//!
//! A proxy's own entry goes with its lease, but a proxy that is cut off serves on by its last table. So each is written
//! down once it is noticed, and forgotten long after its lease has ended: whoever leads then knows whom to wait for.
//! What no longer answers is waited for only so long: a dead host must not hold up every drain.
//!
//! One that handed over to another process says so when it has ended (`ended` in its entry), and drains wait for it no more:
//! nobody would ever report that it has applied what was published since. Only such a one says it. A process that merely
//! stops may be back at any moment, and it then serves by the table on its disk before it has read the routes.

use super::{Action, Desired, Steps};
use crate::{
    observed::{Observed, ProxySeen},
    records::{Met, UnixMs, key},
};

/// How long after the end of its lease a proxy is remembered, in milliseconds.
pub const PROXY_KEPT_MS: u64 = 15 * 60_000;
/// How long after the end of its lease drains wait for a proxy: what was sent by then has ended, or its deadline has.
const DRAINS_WAIT_MS: u64 = 60_000;

pub(super) fn meet(desired: &Desired, observed: &Observed) -> Steps {
    let mut steps = Steps::new();
    for id in desired.proxies.keys() {
        if desired.met.get(id).is_none_or(|met| met.gone_ms.is_some()) && !is_unreadable(desired, id) {
            steps.push((Action::Meet(id.clone()), "it has registered".to_owned()));
        }
    }
    for (id, met) in desired.met.iter().filter(|(id, _)| !desired.proxies.contains_key(*id)) {
        match met.gone_ms {
            // An entry that cannot be read is one of a proxy that lives.
            _ if desired.unreadable.contains_key(&key::proxy(id)) => {}
            _ if desired.ended.contains(id) && !met.ended => {
                steps.push((Action::Miss(id.clone()), "it has handed over and ended".to_owned()));
            }
            None => steps.push((Action::Miss(id.clone()), "its lease has ended".to_owned())),
            Some(gone_ms) if observed.at >= gone_ms.saturating_add(PROXY_KEPT_MS) => {
                steps.push((Action::Part(id.clone()), "it was gone for long".to_owned()));
            }
            Some(_) => {}
        }
    }
    steps
}

fn is_unreadable(desired: &Desired, id: &str) -> bool {
    desired.unreadable.contains_key(&key::met(id))
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    /// That none sends to a replica: each is asked that may be running.
    Idle,
    /// That none knows an address: each is asked that may be running, or be started again with the table on its disk.
    Forgotten,
}

impl Awaited {
    fn asks(self, met: &Met, now: UnixMs) -> bool {
        let within = |wait_ms: UnixMs| met.gone_ms.is_none_or(|gone_ms| now < gone_ms.saturating_add(wait_ms));
        match self {
            Self::Idle => !met.ended && within(DRAINS_WAIT_MS),
            Self::Forgotten => within(PROXY_KEPT_MS),
        }
    }
}

/// Whether every proxy that is to be asked has reported this.
pub(super) fn all_report(
    desired: &Desired,
    observed: &Observed,
    awaited: Awaited,
    this: impl Fn(&ProxySeen) -> bool,
) -> bool {
    let mut asked = desired.met.iter().filter(|(_, met)| awaited.asks(met, observed.at));
    let known = !desired.unreadable_below(key::PROXIES) && !desired.unreadable_below(key::MET);
    known && asked.all(|(id, _)| observed.proxies.get(id).is_some_and(&this))
}
