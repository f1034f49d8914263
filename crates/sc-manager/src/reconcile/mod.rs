//! The reconciler: load, observe, plan, commit, act, publish. By level, never by edge: whatever wakes it, a pass looks
//! at everything and takes no hint of what changed. A step that fails is not tried again inside: the next pass plans
//! afresh.

mod act;
mod cause;
mod lacking;
mod observe;
pub use observe::ENGINE;
mod pass;
mod probing;
mod tell;
mod too_large;

use std::{sync::Arc, time::Duration};

use sc_engine::Engine;
use sc_store::Store;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::act::Acts;
use crate::{
    clock::Clock,
    lead::{self, Candidate},
    outside,
    pace::Pace,
    probe::{Prober, Probes},
    proxies::{Connections, Lag, StatsSource},
    scaler,
    settings::Settings,
    usage,
    world::World,
};

/// Without anything to wake it, a pass is made so often.
pub const EVERY: Duration = Duration::from_secs(1);
/// The least time between two passes.
const GAP: Duration = Duration::from_millis(5);

/// The edges of the manager: everything it looks at and acts on. Tests put fakes here.
#[derive(Clone)]
pub struct Parts {
    /// The state.
    pub store: Arc<dyn Store>,
    /// What runs replicas.
    pub engine: Arc<dyn Engine>,
    /// What asks replicas whether they can serve.
    pub prober: Arc<dyn Prober>,
    /// What opens the proxies' stats streams.
    pub stats: Arc<dyn StatsSource>,
    /// The time. It must go at the pace of tokio's timers.
    pub clock: Arc<dyn Clock>,
}

/// The manager without its HTTP interface.
pub struct Reconciler {
    world: Arc<World>,
    parts: Parts,
}

impl Reconciler {
    /// One that has not begun.
    pub fn new(parts: Parts, settings: Settings) -> Self {
        let world = World::new(settings, parts.store.clone(), parts.engine.clone(), parts.clock.clone());
        Self { world: Arc::new(world), parts }
    }

    /// What it knows; [`crate::commands`] and the HTTP interface work on this.
    pub fn world(&self) -> Arc<World> {
        self.world.clone()
    }

    /// Runs until `stop`: then it gives leadership up and ends; what it runs goes on. Dropping the future ends it as a
    /// crash does: every task of its own ends with it, and nothing is said to anybody.
    pub async fn run(self, stop: CancellationToken) {
        let world = &self.world;
        let _tasks = self.background();
        let mut turns = Turns {
            probes: Probes::new(self.parts.prober.clone(), self.parts.clock.clone(), world.answers.clone()),
            connections: Connections::new(self.parts.stats.clone(), world.reports.clone()),
            lag: Lag::default(),
            acts: Acts::new(world.clone()),
            networks_gone: Default::default(),
            pace: Pace::default(),
            too_large: Default::default(),
            lacking: Default::default(),
            failed: Default::default(),
        };
        let mut changes = world.mirror.changes();
        let mut leads = world.lead.subscribe();
        loop {
            let begun = Instant::now();
            turns.pass(world).await;
            let soonest = begun + GAP;
            let woken = async {
                tokio::select! {
                    biased;
                    _ = leads.changed() => {}
                    () = world.wake.notified() => {}
                    () = world.answers.changed.notified() => {}
                    () = changes.next() => {}
                    () = world.reports.applied.notified() => {}
                    () = world.engine.changed() => {}
                    () = sleep(EVERY) => {}
                }
                sleep_until(soonest).await;
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = woken => {}
            }
        }
        if let Some(fence) = world.fence() {
            lead::resign(world.store.as_ref(), fence).await;
        }
    }

    /// Everything that runs beside the passes. Dropping the handles ends them.
    fn background(&self) -> Vec<AbortOnDropHandle<()>> {
        let spawn = |task| AbortOnDropHandle::new(tokio::spawn(task));
        let (mirror, events, sampler) = (self.world(), self.world(), self.world());
        let (scaling, asking) = (self.world(), self.world());
        vec![
            spawn(Box::pin(async move { mirror.mirror.run().await }) as futures_util::future::BoxFuture<'static, ()>),
            spawn(Box::pin(async move { events.events.write(&events.mirror).await })),
            spawn(Box::pin(async move { usage::sample(&sampler).await })),
            spawn(Box::pin(async move { scaler::scale(&scaling).await })),
            spawn(Box::pin(async move { outside::ask(&asking).await })),
            spawn(Box::pin(candidacy(self.world()))),
        ]
    }
}

async fn candidacy(world: Arc<World>) {
    let settings = &world.settings;
    let candidate = Candidate { id: settings.id.clone(), place: settings.place.clone(), api: settings.api.clone() };
    candidate.run(world.store.clone(), &world.mirror, world.clock.clone(), &world.lead).await;
}

/// What passes hand on to each other: running tasks, and remarks that only save work.
struct Turns {
    probes: Probes,
    connections: Connections,
    lag: Lag,
    acts: Acts,
    pace: Pace,
    too_large: too_large::TooLarge,
    lacking: lacking::Lacking,
    /// Retired ranges whose networks the engine has removed.
    networks_gone: std::collections::BTreeSet<u32>,
    /// The replica that failed last, by app: its last words are the cause of a roll-back.
    failed: std::collections::BTreeMap<sc_core::AppId, sc_core::ReplicaId>,
}
