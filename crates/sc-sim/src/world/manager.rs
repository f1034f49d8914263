//! Managers: the real [`Reconciler`] on simulated edges, killed and started again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sc_engine::fake::Fake;
use sc_manager::{
    Parts, Reconciler, Settings,
    clock::Clock,
    probe::{Prober, Target},
};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    engine::{EngineEdge, OnStop},
    life::Life,
    proxy::Fleet,
    store::StoreEdge,
    trace::Trace,
};

/// A clock that can be wrong.
#[derive(Clone)]
pub struct SkewedClock {
    /// The right time.
    pub fake: Fake,
    /// How wrong, in milliseconds.
    pub skew_ms: Arc<AtomicI64>,
}

impl Clock for SkewedClock {
    fn now_ms(&self) -> u64 {
        self.fake.now_ms().saturating_add_signed(self.skew_ms.load(Ordering::Relaxed))
    }
}

/// Asks the fake engine whether somebody listens, as a TCP connection would.
pub struct SimProber(pub Fake);

#[async_trait]
impl Prober for SimProber {
    async fn probe(&self, target: &Target) -> Result<(), String> {
        sleep(Duration::from_millis(1)).await;
        self.0.listening(&target.addr).map(drop).ok_or_else(|| format!("connect to {}: refused", target.addr))
    }
}

/// What all managers share.
#[derive(Clone)]
pub struct Ground {
    /// The engine.
    pub fake: Fake,
    /// What happens.
    pub trace: Arc<Trace>,
    /// The proxies.
    pub fleet: Arc<Fleet>,
    /// Who hears of stops.
    pub on_stop: Arc<dyn OnStop>,
    /// Where managers keep files; nothing is written there.
    pub data: std::path::PathBuf,
}

/// One running manager.
pub struct Manager {
    /// Its name, new with each start.
    pub who: Arc<str>,
    /// Its life.
    pub life: Arc<Life>,
    /// What it knows: commands work on this.
    pub world: Arc<sc_manager::World>,
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Manager {
    /// Starts one.
    pub fn start(ground: &Ground, store: StoreEdge, skew_ms: Arc<AtomicI64>) -> Self {
        let (who, life) = (store.who.clone(), store.life.clone());
        ground.trace.note(&format!("{who} starts"));
        let clock = Arc::new(SkewedClock { fake: ground.fake.clone(), skew_ms });
        let engine = EngineEdge {
            who: who.clone(),
            inner: ground.fake.clone(),
            life: life.clone(),
            trace: ground.trace.clone(),
            on_stop: ground.on_stop.clone(),
        };
        let parts = Parts {
            store: Arc::new(store),
            engine: Arc::new(engine),
            prober: Arc::new(SimProber(ground.fake.clone())),
            stats: ground.fleet.clone(),
            clock,
        };
        let reconciler = Reconciler::new(parts, Settings::new(&*who, &ground.data));
        let (world, stop) = (reconciler.world(), CancellationToken::new());
        let task = tokio::spawn(run(reconciler, stop.clone(), life.clone(), ground.trace.clone(), who.clone()));
        Self { who, life, world, task, stop }
    }

    /// Asks it to end in good order.
    pub fn ask_to_end(&self) {
        self.stop.cancel();
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.task.is_finished()
    }
}

/// Lives until the end of its life; dropping the manager's future in the middle is its death.
async fn run(reconciler: Reconciler, stop: CancellationToken, life: Arc<Life>, trace: Arc<Trace>, who: Arc<str>) {
    let end = tokio::select! {
        biased;
        () = life.over() => "dies",
        () = reconciler.run(stop) => "ends",
    };
    trace.note(&format!("{who} {end}"));
    life.kill();
}
