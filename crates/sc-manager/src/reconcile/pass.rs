//! One pass.

use std::{collections::VecDeque, sync::Arc};

use sc_core::{
    observed::Observed,
    plan::{self, Action, Desired, Effects, Why},
    routes,
};
use sc_store::{COMMIT_BYTES_MAX, COMMIT_MAX, Expect, Fence, Revision, Snapshot, StoreError, Write};
use tokio::time::Instant;

use super::{Turns, act::Call, cause, observe, probing, tell};
use crate::{identity, metrics::Metrics, waiting::chain, world::World};

impl Turns {
    /// Looks at everything and, where this manager leads, takes the next steps.
    pub(super) async fn pass(&mut self, world: &World) {
        let begun = Instant::now();
        self.acts.reap();
        let fence = world.fence();
        let Some(desired) = self.load(world, fence).await else { return };
        let started = self.acts.started(&desired);
        // Those just started answer while the engine is looked at.
        self.probes.sync(probing::wanted(&desired, &world.observed(), &started));
        let observed = observe::observe(world).await;
        let even_since_ms = self.pace.even_since(observed.at, Instant::now());
        let looked = begun.elapsed();
        self.probes.sync(probing::wanted(&desired, &observed, &started));
        self.connections.sync(&desired.proxies);
        world.keep_refused(|replica| desired.replica(replica).is_some());
        measure(&world.metrics, &desired, fence);
        let Some(fence) = fence else { return };
        let late = self.lag.late(&desired, &observed, Instant::now());
        self.connections.relist(&late, &desired.proxies);
        let mut desired = (*desired).clone();
        desired.leads_since_ms = desired.leads_since_ms.max(even_since_ms);
        self.too_large.leave_alone(&mut desired);
        self.lacking.tell(world, &desired, &observed);
        if desired.epoch == fence.epoch
            && let Err(error) = self.steps(world, fence, desired, &observed).await
        {
            world.metrics.failed_passes.inc();
            tracing::debug!(error = chain(&error), "the pass ended early");
        }
        world.metrics.passes.inc();
        world.metrics.pass_seconds.observe(begun.elapsed().as_secs_f64());
        tracing::trace!(took = ?begun.elapsed(), looked = ?looked, "a pass");
    }

    /// The store's state, not older than this manager's epoch. Loaded *before* the engine is looked at: a replica that
    /// a record says was seen, and that is not there afterwards, is gone.
    async fn load(&self, world: &World, fence: Option<Fence>) -> Option<Arc<Desired>> {
        let snapshot = match fence {
            Some(fence) => world.mirror.reach(fence.epoch).await.ok()?,
            None => world.mirror.snapshot()?,
        };
        self.same_store(world, &snapshot).then(|| world.parse(&snapshot))
    }

    /// Whether it is the store that the engine's replicas belong to. With another one, or one that was emptied, all of
    /// them would look like left-overs.
    fn same_store(&self, world: &World, snapshot: &Snapshot) -> bool {
        let Some(own) = &world.settings.store_id else { return true };
        let id = snapshot.entries.get(identity::KEY).map(|entry| String::from_utf8_lossy(&entry.value).into_owned());
        if id.as_ref() == Some(own) {
            world.waiting.present(identity::KEY);
            return true;
        }
        let is = id.map_or_else(|| "was emptied".to_owned(), |id| format!("is another one (id {id})"));
        let why = format!("{} {is}: nothing is touched. Restore it, or restart the manager", world.store.describe());
        if world.waiting.missing(identity::KEY, why.clone()) {
            world.events.warn("store_changed", None, why);
        }
        false
    }

    /// Plans, commits, acts, publishes. An error ends the pass.
    async fn steps(
        &mut self,
        world: &World,
        fence: Fence,
        mut desired: Desired,
        observed: &Observed,
    ) -> Result<(), StoreError> {
        let plan = plan::plan(&desired, observed);
        let mut batch = Batch::default();
        for (action, why) in plan.steps {
            let Some((action, why)) = self.complete(world, &desired, action, why).await else { continue };
            let next = self.step(&mut desired, action, why, observed.at);
            let Some(next) = next else { continue };
            self.too_large.check(world, &desired, &next.effects)?;
            if !batch.fits(&next.effects) {
                self.commit(world, fence, &mut desired, std::mem::take(&mut batch)).await?;
            }
            batch.add(next);
        }
        let documents = routes::routes(&desired, observed);
        for effects in routes::publish(&mut desired, &documents) {
            self.too_large.check(world, &desired, &effects)?;
            if !batch.fits(&effects) {
                self.commit(world, fence, &mut desired, std::mem::take(&mut batch)).await?;
            }
            batch.add(Step { effects, told: None });
        }
        self.commit(world, fence, &mut desired, batch).await
    }

    /// Adds to a step what only this shell knows; none: not yet.
    async fn complete(&mut self, world: &World, desired: &Desired, action: Action, why: Why) -> Option<(Action, Why)> {
        match action {
            Action::Release { subnet } if !self.networks_gone.remove(&subnet) => {
                if let Some(range) = desired.subnets.get(&subnet) {
                    self.networks_gone.extend(self.acts.free_network(&range.app, subnet));
                }
                None
            }
            Action::Fail { ref replica, .. } => {
                self.failed.insert(replica.app.clone(), replica.clone());
                Some((action, why))
            }
            Action::RollBack { app, failed, to, cause } => {
                let cause = cause::with_last_words(world, desired, &app, failed, self.failed.get(&app), cause).await;
                Some((Action::RollBack { app, failed, to, cause }, why))
            }
            Action::GiveUp { app, cause } => {
                let version = desired.apps.get(&app).map_or(0, |app| app.app.version);
                let cause = cause::with_last_words(world, desired, &app, version, self.failed.get(&app), cause).await;
                Some((Action::GiveUp { app, cause }, why))
            }
            other => Some((other, why)),
        }
    }

    /// A step's change of records. None when it has none and its engine call is running already, or may not begin yet.
    fn step(&mut self, desired: &mut Desired, action: Action, why: Why, now: u64) -> Option<Step> {
        let effects = desired.take(&action, &why, now);
        let idle = effects.changes.is_empty();
        if idle && !self.acts.may_begin(&action) {
            return None;
        }
        Some(Step { effects, told: Some((action, why, !idle)) })
    }

    async fn commit(
        &mut self,
        world: &World,
        fence: Fence,
        desired: &mut Desired,
        batch: Batch,
    ) -> Result<(), StoreError> {
        if batch.steps.is_empty() {
            return Ok(());
        }
        let revision = commit(world, fence, &batch.effects).await?;
        desired.committed(&batch.effects, revision);
        for (action, why, changed) in batch.steps.into_iter().filter_map(|step| step.told) {
            match &action {
                Action::Fail { replica, .. } if changed => self.acts.tell_of_failure(replica, &why),
                _ if changed => tell::tell(world, &action, &why),
                _ => {}
            }
            if let Some(call) = Call::of(&action, desired, &world.settings.blobs) {
                self.acts.begin(call, fence, desired);
            }
        }
        Ok(())
    }
}

/// One step: its change, and what it is.
struct Step {
    effects: Effects,
    /// The action, why, and whether it changes a record.
    told: Option<(Action, Why, bool)>,
}

/// Steps for one commit.
#[derive(Default)]
struct Batch {
    effects: Effects,
    steps: VecDeque<Step>,
}

impl Batch {
    fn fits(&self, next: &Effects) -> bool {
        self.effects.operations() + next.operations() <= COMMIT_MAX
            && self.effects.bytes() + next.bytes() <= COMMIT_BYTES_MAX
    }

    fn add(&mut self, mut step: Step) {
        let effects = std::mem::take(&mut step.effects);
        self.effects = std::mem::take(&mut self.effects).then(effects);
        self.steps.push_back(step);
    }
}

/// Commits a change of records under this epoch. Without an answer, the next pass loads and looks.
async fn commit(world: &World, fence: Fence, effects: &Effects) -> Result<Revision, StoreError> {
    let expects = effects.expects.iter().map(|e| Expect { key: e.key.clone(), revision: e.revision }).collect();
    let writes = effects.changes.iter().map(|change| match &change.put {
        Some(value) => Write::Put { key: change.key.clone(), value: value.clone(), lease: None },
        None => Write::Delete { key: change.key.clone() },
    });
    let result = world.mirror.commit(Some(fence), expects, writes.collect()).await;
    match &result {
        Ok(revision) if !effects.changes.is_empty() => drop(world.mirror.reach(*revision).await?),
        Ok(_) => {}
        // What was planned on is out of date, or unknown.
        Err(error) => {
            world.metrics.store_errors.with_label_values(&[kind(error)]).inc();
            world.wake.notify_one();
            drop(world.mirror.reload().await);
        }
    }
    result
}

/// A constant word for an error.
pub(crate) fn kind(error: &StoreError) -> &'static str {
    match error {
        StoreError::Conflict => "conflict",
        StoreError::Fenced => "fenced",
        StoreError::TooLarge { .. } | StoreError::TooManyBytes { .. } => "too_large",
        StoreError::Full { .. } => "full",
        StoreError::Unavailable { .. } => "unavailable",
        StoreError::Unknown { .. } => "unknown",
        StoreError::Denied { .. } => "denied",
        _ => "other",
    }
}

fn measure(metrics: &Metrics, desired: &Desired, fence: Option<Fence>) {
    metrics.leads.set(i64::from(fence.is_some()));
    metrics.apps.set(desired.apps.len() as i64);
    metrics.want.reset();
    metrics.replicas.reset();
    for (id, app) in &desired.apps {
        let id = id.to_string();
        metrics.want.with_label_values(&[&id]).set(i64::from(app.want()));
        for replica in app.replicas.values() {
            metrics.replicas.with_label_values(&[id.as_str(), crate::view::state_of_record(replica)]).inc();
        }
    }
}
