//! From an [`Action`] to the change of records that it means, for any store to commit.
//!
//! A shell takes the steps of a plan one after the other (or several as one commit), each computed from the state that
//! those before it made:
//! ```text
//! for (action, why) in plan.steps {
//!     let effects = desired.take(&action, &why, now);
//!     let revision = store.commit(fence, effects.expects, effects.changes)?;   // an error ends the pass
//!     desired.committed(&effects, revision);
//!     engine call of the action, if it has one
//! }
//! ```

use std::collections::BTreeMap;

use super::{
    Action, Desired,
    apply::{apply, is_unused},
};
use crate::{
    names::{AppId, ReplicaId},
    records::{App, Rollout, UnixMs, key, write},
};

/// A change of records: what must hold, and what is written then. All of it or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Keys that must last have been written by these revisions.
    pub expects: Vec<Expected>,
    /// What is written. Empty: only the expectations and the fence are to be checked.
    pub changes: Vec<Change>,
}

/// A key, and the revision that last wrote it (0: the key is absent).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The key, without the store's prefix.
    pub key: String,
    /// Its revision, or 0.
    pub revision: u64,
}

/// A key's new value, or its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key, without the store's prefix.
    pub key: String,
    /// The new value; none: delete the key.
    pub put: Option<Vec<u8>>,
}

impl Effects {
    /// How many operations a commit of this has.
    pub fn operations(&self) -> usize {
        self.expects.len() + self.changes.len()
    }

    /// How many bytes of keys and values a commit of this writes.
    pub fn bytes(&self) -> usize {
        self.changes.iter().map(|change| change.key.len() + change.put.as_ref().map_or(0, Vec::len)).sum()
    }

    /// This and then `later`, computed from the state that this one made, as one commit.
    #[must_use]
    pub fn then(mut self, later: Self) -> Self {
        for expected in later.expects {
            if !self.expects.iter().any(|known| known.key == expected.key) {
                self.expects.push(expected);
            }
        }
        for change in later.changes {
            match self.changes.iter_mut().find(|known| known.key == change.key) {
                Some(known) => *known = change,
                None => self.changes.push(change),
            }
        }
        self
    }
}

/// One record that an action may touch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    App(AppId),
    Version(AppId, u64),
    Scale(AppId),
    Replica(ReplicaId),
    Routes(AppId),
    Gone(AppId),
    Subnet(u32),
    Met(String),
    Claim(String),
}

impl Slot {
    pub(crate) fn key(&self) -> String {
        match self {
            Self::App(app) => key::app(app),
            Self::Version(app, n) => key::version(app, *n),
            Self::Scale(app) => key::scale(app),
            Self::Replica(replica) => key::replica(replica),
            Self::Routes(app) => key::routes(app),
            Self::Gone(app) => key::gone(app),
            Self::Subnet(n) => key::subnet(*n),
            Self::Met(id) => key::met(id),
            Self::Claim(key) => key.clone(),
        }
    }

    fn value(&self, desired: &Desired) -> Option<Vec<u8>> {
        let app = |id: &AppId| desired.apps.get(id);
        match self {
            Self::App(id) => app(id).map(|app| write(&app.app)),
            Self::Version(id, n) => app(id)?.versions.get(n).map(write),
            Self::Scale(id) => app(id).map(|app| write(&app.scale)),
            Self::Replica(id) => desired.replica(id).map(write),
            Self::Routes(id) => match app(id) {
                Some(app) => app.published.as_ref().map(|published| write(&published.routes)),
                None => desired.stray_routes.get(id).map(write),
            },
            Self::Gone(id) => desired.gone.get(id).map(write),
            Self::Subnet(n) => desired.subnets.get(n).map(write),
            Self::Met(id) => desired.met.get(id).map(write),
            Self::Claim(key) => desired.claims.get(key).map(write),
        }
    }
}

impl Desired {
    /// Makes the change of records that an action means, here, and says what it is for the store. Expectations are
    /// those of the last commit known, so effects taken one after the other may be joined with [`Effects::then`].
    ///
    /// When the commit fails, throw this value away and load anew.
    pub fn take(&mut self, action: &Action, why: &str, now: UnixMs) -> Effects {
        let slots = touched(action, self);
        let mut effects = self.change(&slots, |desired| apply(desired, action, why, now));
        if let Action::Delete(app) = action {
            // What an app has is changed by nobody without its own record; a commit has no room for all of it twice.
            let decisive = [key::app(app), key::routes(app), key::gone(app)];
            effects.expects.retain(|expected| decisive.contains(&expected.key));
        }
        effects
    }

    /// Notes that effects taken from here were committed as this revision.
    pub fn committed(&mut self, effects: &Effects, revision: u64) {
        for change in &effects.changes {
            match change.put {
                Some(_) => drop(self.revisions.insert(change.key.clone(), revision)),
                None => drop(self.revisions.remove(&change.key)),
            }
        }
        let written: BTreeMap<&str, ()> = effects.changes.iter().map(|change| (change.key.as_str(), ())).collect();
        for (id, app) in &mut self.apps {
            let Some(published) = &mut app.published else { continue };
            if written.contains_key(key::routes(id).as_str()) {
                published.revision = revision;
            }
        }
        self.revision = self.revision.max(revision);
    }

    /// Runs a change and says what it did to these records. Unchanged ones are expected to be as they were as well.
    pub(crate) fn change(&mut self, slots: &[Slot], change: impl FnOnce(&mut Self)) -> Effects {
        let before: Vec<_> = slots.iter().map(|slot| slot.value(self)).collect();
        change(self);
        let expects = slots.iter().map(Slot::key).map(|key| {
            let revision = self.revisions.get(&key).copied().unwrap_or(0);
            Expected { key, revision }
        });
        let changes = slots.iter().zip(before).filter_map(|(slot, before)| {
            let put = slot.value(self);
            (put != before).then(|| Change { key: slot.key(), put })
        });
        Effects { expects: expects.collect(), changes: changes.collect() }
    }
}

/// What an action means for the records, without changing `desired`. See [`Desired::take`].
pub fn effects(action: &Action, why: &str, desired: &Desired, now: UnixMs) -> Effects {
    desired.clone().take(action, why, now)
}

/// The records that an action depends on or changes.
fn touched(action: &Action, desired: &Desired) -> Vec<Slot> {
    match action {
        Action::Assign { app, subnet } => vec![Slot::App(app.clone()), Slot::Subnet(*subnet)],
        Action::Start { replica, .. } | Action::Fail { replica, crash: Some(_), .. } => with_app(replica),
        Action::MarkReady(replica) | Action::Forget(replica) if is_rolling(desired, &replica.app) => with_app(replica),
        Action::Remove(replica) if is_unused(desired, replica) => match desired.apps.contains_key(&replica.app) {
            true => with_app(replica),
            false => [with_app(replica), vec![Slot::Gone(replica.app.clone())]].concat(),
        },
        Action::Recovered { app, .. }
        | Action::CanaryUp(app)
        | Action::Roll(app)
        | Action::Defer(app)
        | Action::Settle { app, .. }
        | Action::RollBack { app, .. }
        | Action::GiveUp { app, .. } => vec![Slot::App(app.clone())],
        Action::Prune { app, version } => vec![Slot::App(app.clone()), Slot::Version(app.clone(), *version)],
        Action::Unclaim { app, claim } => vec![Slot::App(app.clone()), Slot::Claim(claim.clone())],
        Action::Delete(app) => all_of(desired, app),
        Action::Meet(proxy) | Action::Miss(proxy) | Action::Part(proxy) => vec![Slot::Met(proxy.clone())],
        Action::Release { subnet } => vec![Slot::Subnet(*subnet)],
        Action::Purge(app) => vec![Slot::App(app.clone()), Slot::Gone(app.clone())],
        _ => action.replica().cloned().map(Slot::Replica).into_iter().collect(),
    }
}

fn with_app(replica: &ReplicaId) -> Vec<Slot> {
    vec![Slot::App(replica.app.clone()), Slot::Replica(replica.clone())]
}

fn is_rolling(desired: &Desired, app: &AppId) -> bool {
    let comes_up = |app: &App| app.canary.as_ref().is_some_and(|canary| canary.up_ms.is_none());
    desired.apps.get(app).is_some_and(|app| matches!(app.app.rollout, Rollout::Rolling { .. }) || comes_up(&app.app))
}

/// Everything an app has. It fits one commit, since the plan prunes the versions before, and routes are bounded.
fn all_of(desired: &Desired, id: &AppId) -> Vec<Slot> {
    let app = || id.clone();
    let mut slots = vec![Slot::App(app()), Slot::Scale(app()), Slot::Routes(app()), Slot::Gone(app())];
    if let Some(record) = desired.apps.get(id) {
        slots.extend(record.versions.keys().map(|n| Slot::Version(app(), *n)));
        slots.extend(record.replicas.keys().map(|n| Slot::Replica(ReplicaId::new(id, *n))));
    }
    slots.extend(desired.subnets.iter().filter(|(_, s)| s.app == *id).map(|(n, _)| Slot::Subnet(*n)));
    slots.extend(desired.claims.iter().filter(|(_, c)| c.app == *id).map(|(key, _)| Slot::Claim(key.clone())));
    slots
}
