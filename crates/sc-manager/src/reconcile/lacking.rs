//! Tells when an app gets no addresses for its replicas, and when it does again.

use std::collections::BTreeSet;

use sc_core::{
    AppId,
    observed::Observed,
    plan::{Desired, lack_of_addresses},
};

use crate::world::World;

/// The apps of which it was told.
#[derive(Debug, Default)]
pub(super) struct Lacking(BTreeSet<AppId>);

impl Lacking {
    /// Tells of what has changed since the last time.
    pub(super) fn tell(&mut self, world: &World, desired: &Desired, observed: &Observed) {
        let mut lacking = BTreeSet::new();
        for id in desired.apps.keys() {
            let Some(lack) = lack_of_addresses(desired, observed, id) else { continue };
            if !self.0.contains(id) {
                world.events.warn("no_addresses", Some(id), format!("{id} gets no more replicas: {lack}"));
            }
            lacking.insert(id.clone());
        }
        for id in self.0.difference(&lacking).filter(|id| desired.apps.contains_key(id)) {
            world.events.info("addresses", Some(id), format!("{id} lacks no addresses any more"));
        }
        self.0 = lacking;
    }
}
