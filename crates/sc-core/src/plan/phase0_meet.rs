//! Phase 0: which proxies may serve.
//!
//! A proxy's own entry goes with its lease, but a proxy that is cut off serves on by its last table. So each is written
//! down once it is noticed, and forgotten long after its lease has ended: whoever leads then knows whom to wait for.
//! What no longer answers is waited for only so long: a dead host must not hold up every drain.

use super::{Action, Desired, Steps};
use crate::{
    observed::{Observed, ProxySeen},
    records::{UnixMs, key},
};

/// How long after the end of its lease a proxy is remembered, in milliseconds.
pub const PROXY_KEPT_MS: u64 = 15 * 60_000;
/// How long after the end of its lease drains wait for a proxy: what was sent by then has ended, or its deadline has.
pub(super) const DRAINS_WAIT_MS: u64 = 60_000;

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

/// Whether every proxy that is registered, or whose lease ended less than `wait_ms` ago, has reported this.
pub(super) fn all_report(
    desired: &Desired,
    observed: &Observed,
    wait_ms: UnixMs,
    this: impl Fn(&ProxySeen) -> bool,
) -> bool {
    let recent = |gone_ms: UnixMs| observed.at < gone_ms.saturating_add(wait_ms);
    let awaited = desired.met.iter().filter(|(_, met)| met.gone_ms.is_none_or(recent));
    let known = !desired.unreadable_below(key::PROXIES) && !desired.unreadable_below(key::MET);
    known && { awaited }.all(|(id, _)| observed.proxies.get(id).is_some_and(&this))
}
