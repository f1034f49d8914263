//! One run: users command, things fail, and in the end everything works again and must come to rest.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use sc_core::{AppId, ReplicaId, observed::Run, plan::DesiredApp, records::Rollout, warm::WarmSpec};
use sc_engine::fake::{Fake, FakeConfig};
use sc_store::Memory;
use tokio::time::{Instant, sleep, timeout};

use super::{
    life::Life,
    manager::{Ground, Manager},
    proxy::{Fleet, SimProxy},
    store::StoreEdge,
    trace::Trace,
    users::{self, Answer, Command, Users},
    watchdog::Watchdog,
    weather::{Season, Weather},
};
use crate::dice::Dice;

/// Managers that may run at once.
const SLOTS: usize = 2;
/// How long everything may take to come to rest, once all faults are over.
const REST: Duration = Duration::from_secs(300);

/// Everything in one run.
pub struct Chaos {
    seed: u64,
    dice: Dice,
    season: Season,
    trace: Arc<Trace>,
    store: Memory,
    weather: Arc<Weather>,
    watchdog: Arc<Watchdog>,
    ground: Ground,
    skew_ms: Arc<AtomicI64>,
    slots: Vec<Option<Manager>>,
    apps: Vec<AppId>,
    users: Users,
    started: u64,
    deploys: u64,
    /// Faults that end by themselves.
    until: BTreeMap<&'static str, Instant>,
}

impl Chaos {
    /// The world of a seed, before anything runs.
    pub fn new(seed: u64, trace: Arc<Trace>) -> Self {
        let dice = Dice::named(seed, "chaos");
        let season = Season::of(&dice);
        trace.note(&format!("seed {seed}: {season:?}"));
        let fake = Fake::new(FakeConfig { deadline: Duration::from_secs(4), ..FakeConfig::default() });
        let store = Memory::new();
        let weather = Arc::new(Weather::new(Dice::named(seed, "weather")));
        fake.set_faults(Some(weather.clone()));
        let watchdog = Watchdog::new(fake.clone(), store.clone(), trace.clone(), !season.clock_jumps);
        let mut chaos = Self {
            seed,
            slots: (0..SLOTS).map(|_| None).collect(),
            apps: ["web", "api", "job"].iter().map(|name| AppId::in_default(name).expect("a valid name")).collect(),
            ground: Ground {
                fake,
                trace: trace.clone(),
                fleet: Arc::new(Fleet(Vec::new())),
                on_stop: watchdog.clone(),
                data: "nowhere".into(),
            },
            users: Users::default(),
            skew_ms: Arc::default(),
            started: 0,
            deploys: 0,
            until: BTreeMap::new(),
            dice,
            season,
            trace,
            store,
            weather,
            watchdog,
        };
        let proxies = (0..chaos.dice.between(1, 3)).map(|n| chaos.proxy(n)).collect();
        chaos.ground.fleet = Arc::new(Fleet(proxies));
        chaos.watchdog.watch_fleet(&chaos.ground.fleet);
        chaos
    }

    fn proxy(&self, n: u64) -> Arc<SimProxy> {
        let id = format!("proxy-{n}");
        let edge = self.edge(&id, Life::default());
        SimProxy::new(&id, self.ground.fake.clone(), self.trace.clone(), Dice::named(self.seed, &id), edge)
    }

    fn edge(&self, who: &str, life: Life) -> StoreEdge {
        StoreEdge {
            who: who.into(),
            inner: Arc::new(self.store.clone()),
            life: Arc::new(life),
            weather: self.weather.clone(),
            trace: self.trace.clone(),
            on_commit: self.watchdog.clone(),
            cut: Arc::new(AtomicBool::new(false)),
        }
    }

    /// The whole run.
    pub async fn run(mut self) {
        for proxy in &self.ground.fleet.0 {
            proxy.start();
        }
        self.start_manager(0);
        for _ in 0..self.dice.between(20, 45) {
            self.step().await;
            sleep(self.dice.millis(10, if self.dice.chance(200) { 8_000 } else { 1_200 })).await;
            self.watchdog.check();
        }
        self.heal();
        self.rest().await;
        self.judge().await;
    }

    fn start_manager(&mut self, slot: usize) {
        self.started += 1;
        let doomed = self.season.crash_points && self.dice.chance(500);
        let life = Life::new(doomed.then(|| self.dice.between(1, 400)));
        let edge = self.edge(&format!("manager-{}", self.started), life);
        self.slots[slot] = Some(Manager::start(&self.ground, edge, self.skew_ms.clone()));
    }

    /// One thing happens.
    async fn step(&mut self) {
        self.revive();
        self.end_faults();
        if self.dice.chance(550) {
            return self.user().await;
        }
        match self.dice.below(13) {
            0 if self.season.manager_crashes => self.kill_manager(),
            1 if self.season.crash_points => self.doom_manager(),
            2 if self.season.two_managers && self.slots[1].is_none() => self.start_manager(1),
            3 if self.season.freezes => self.freeze_manager(),
            4 if self.season.store_faults => self.store_faults(),
            5 if self.season.store_outages => self.store_outage(),
            6 if self.season.watch_faults => self.watch_faults(),
            7 if self.season.engine_faults => self.engine_faults(),
            8 if self.season.engine_outages => self.engine_outage(),
            9 if self.season.replica_crashes => self.crash_replica(),
            10 if self.season.meddling => self.meddle(),
            11 => self.harm_proxy(),
            12 if self.season.clock_jumps => self.jump_clock(),
            _ => {}
        }
    }

    /// Dead managers come back after a while; the first slot never stays empty.
    fn revive(&mut self) {
        for slot in 0..SLOTS {
            if self.slots[slot].as_ref().is_some_and(Manager::is_over) {
                self.slots[slot] = None;
            }
        }
        if self.slots[0].is_none() && self.dice.chance(600) {
            self.start_manager(0);
        }
        for proxy in &self.ground.fleet.0 {
            if !proxy.is_alive() && self.dice.chance(500) {
                proxy.start();
            }
        }
    }

    fn end_faults(&mut self) {
        let now = Instant::now();
        let over: Vec<&'static str> = self.until.iter().filter(|(_, until)| **until <= now).map(|(n, _)| *n).collect();
        for name in over {
            self.until.remove(name);
            self.trace.note(&format!("{name} is over"));
            match name {
                "store faults" => self.weather.store(|w| (w.fail, w.lose_reply, w.late, w.slow_ms) = (0, 0, 0, 0)),
                "store outage" => self.weather.store(|w| w.down = false),
                "watch faults" => self.weather.store(|w| (w.lose_watch, w.stall) = (0, false)),
                "engine faults" => self.weather.engine(|w| *w = Default::default()),
                "engine outage" => self.ground.fake.set_down(false),
                _ => self.ground.fleet.0.iter().for_each(|proxy| proxy.cut(false, false)),
            }
        }
    }

    fn begin(&mut self, name: &'static str, low_ms: u64, high_ms: u64) {
        self.trace.note(&format!("{name} begin"));
        self.until.insert(name, Instant::now() + self.dice.millis(low_ms, high_ms));
    }

    fn store_faults(&mut self) {
        self.begin("store faults", 500, 15_000);
        let (dice, much) = (&self.dice, self.dice.between(10, 250));
        let (fail, lose_reply, late) = (dice.below(much), dice.below(much), dice.below(much));
        let slow_ms = dice.between(1, 400);
        self.weather.store(|w| (w.fail, w.lose_reply, w.late, w.slow_ms) = (fail, lose_reply, late, slow_ms));
    }

    fn store_outage(&mut self) {
        self.begin("store outage", 200, 20_000);
        self.weather.store(|w| w.down = true);
    }

    fn watch_faults(&mut self) {
        self.begin("watch faults", 500, 20_000);
        let (lose_watch, stall) = (self.dice.between(0, 100), self.dice.chance(400));
        self.weather.store(|w| (w.lose_watch, w.stall) = (lose_watch, stall));
    }

    fn engine_faults(&mut self) {
        self.begin("engine faults", 500, 15_000);
        let (slow_ms, faulty) = (self.dice.between(1, 1_500), self.dice.between(20, 400));
        self.weather.engine(|w| (w.slow_ms, w.faulty) = (slow_ms, faulty));
    }

    fn engine_outage(&mut self) {
        self.begin("engine outage", 200, 20_000);
        self.ground.fake.set_down(true);
    }

    fn a_manager(&self) -> Option<&Manager> {
        let alive: Vec<&Manager> = self.slots.iter().flatten().filter(|manager| !manager.life.is_over()).collect();
        self.dice.pick(&alive).copied()
    }

    fn kill_manager(&self) {
        let Some(manager) = self.a_manager() else { return };
        match self.dice.chance(150) {
            true => manager.ask_to_end(),
            false => manager.life.kill(),
        }
    }

    fn doom_manager(&self) {
        if let Some(manager) = self.a_manager() {
            manager.life.doom(self.dice.between(1, 60));
        }
    }

    fn freeze_manager(&self) {
        if let Some(manager) = self.a_manager() {
            self.trace.note(&format!("{} freezes", manager.who));
            manager.life.freeze(Instant::now() + self.dice.millis(100, 20_000));
        }
    }

    fn a_replica(&self) -> Option<ReplicaId> {
        let all: Vec<ReplicaId> = self.ground.fake.containers().into_keys().collect();
        self.dice.pick(&all).cloned()
    }

    fn crash_replica(&self) {
        if let Some(replica) = self.a_replica() {
            let code = [0, 1, 137][self.dice.below(3) as usize];
            self.trace.note(&format!("{replica} crashes with {code}"));
            self.ground.fake.crash(&replica, code);
        }
    }

    /// Somebody uses the engine behind the managers' backs.
    fn meddle(&self) {
        let Some(replica) = self.a_replica() else { return };
        let fake = &self.ground.fake;
        match self.dice.below(4) {
            0 => {
                self.trace.note(&format!("{replica} vanishes"));
                fake.vanish(&replica);
            }
            1 => {
                self.trace.note(&format!("{replica} is restarted by somebody"));
                fake.restart(&replica);
            }
            2 => {
                self.trace.note(&format!("{replica} turns deaf"));
                fake.set_healthy(&replica, false);
            }
            _ => {
                let Some(mut spec) = fake.spec(&replica) else { return };
                // One that was there before, or one that was never handed out (and is not about to be).
                let n = self.dice.between(1, replica.incarnation + 1);
                let n = if n > replica.incarnation { n + 50 } else { n };
                let stray = ReplicaId::new(&replica.app, n);
                if self.watchdog.desired().replica(&stray).is_some() {
                    return;
                }
                spec.replica = stray.clone();
                spec.addr.set_port(9_999);
                self.trace.note(&format!("{stray} appears unasked"));
                fake.appear(&spec);
            }
        }
    }

    fn harm_proxy(&mut self) {
        let proxies = self.ground.fleet.0.clone();
        let Some(proxy) = self.dice.pick(&proxies) else { return };
        if self.season.proxy_crashes && self.dice.chance(500) {
            if proxy.is_alive() {
                proxy.kill();
            }
        } else if self.season.proxy_cuts {
            self.begin("proxy cut", 500, 30_000);
            proxy.cut(self.dice.chance(600), self.dice.chance(600));
        }
    }

    fn jump_clock(&self) {
        let jump = self.dice.between(0, 40_000) as i64 - 20_000;
        let skew_ms = if self.dice.chance(300) { 0 } else { jump };
        self.trace.note(&format!("the managers' clocks are {skew_ms} ms off"));
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
    }

    /// A user commands something of some manager that happens to live.
    async fn user(&mut self) {
        let Some(app) = self.dice.pick(&self.apps).cloned() else { return };
        let command = self.command(&app);
        let Some(manager) = self.a_manager() else { return };
        self.trace.note(&format!("a user asks {} for {app}: {command:?}", manager.who));
        let (world, life) = (manager.world.clone(), manager.life.clone());
        let answer = tokio::select! {
            biased;
            () = life.over() => Answer::Unknown("the manager died".to_owned()),
            answer = timeout(Duration::from_secs(30), users::run(&world, &app, &command)) => {
                answer.unwrap_or(Answer::Unknown("no answer within 30 s".to_owned()))
            }
        };
        self.trace.note(&format!("the user hears: {answer:?}"));
        self.users.note(&app, &command, &answer);
    }

    fn command(&mut self, app: &AppId) -> Command {
        let exists = self.watchdog.desired().apps.contains_key(app);
        let kind = if exists { self.dice.below(28) } else { 0 };
        match kind {
            0..4 => self.deploy(app, !exists),
            4..9 => Command::Scale(self.dice.between(0, 6) as u32),
            9..11 => Command::Stop,
            11..14 => Command::Start,
            14 => Command::Restart,
            15 => Command::Remove,
            23..25 => Command::Share(self.dice.between(1, 99) as u8),
            25..27 => Command::Promote,
            27 => Command::RollBack,
            16..19 => Command::Warm(self.dice.between(0, 3) as u32),
            _ => {
                let all: Vec<ReplicaId> = self.ground.fake.containers().into_keys().filter(|r| r.app == *app).collect();
                let n = self.dice.pick(&all).map_or(1, |replica| replica.incarnation);
                if self.dice.chance(500) { Command::StopOne(n) } else { Command::RestartOne(n) }
            }
        }
    }

    fn deploy(&mut self, app: &AppId, new: bool) -> Command {
        self.deploys += 1;
        let bad = self.season.bad_versions && self.dice.chance(400);
        let kinds = ["crash", "exit", "deaf", "refused", "slow"];
        let behaves = self.dice.pick(&kinds).filter(|_| bad).copied().unwrap_or_default();
        // One app scales by itself.
        let auto = new && app.name.as_str() == "api";
        let replicas = self.dice.between(1, 4) as u32;
        let canary = (!new && self.dice.chance(400)).then(|| self.dice.between(1, 99) as u8);
        Command::Deploy { mark: self.deploys, behaves: behaves.to_owned(), replicas, auto, canary }
    }

    /// All faults end.
    fn heal(&mut self) {
        self.trace.note("all faults end");
        self.weather.clear();
        self.ground.fake.set_down(false);
        self.skew_ms.store(0, Ordering::Relaxed);
        self.until.clear();
        for proxy in &self.ground.fleet.0 {
            proxy.cut(false, false);
            if !proxy.is_alive() {
                proxy.start();
            }
        }
        for manager in self.slots.iter().flatten() {
            manager.life.spare();
        }
        self.season.crash_points = false;
        if self.slots[0].as_ref().is_none_or(|manager| manager.life.is_over()) {
            self.start_manager(0);
        }
    }

    /// Waits until everything is as it shall be.
    async fn rest(&self) {
        self.ground.fake.quiet().await;
        let end = Instant::now() + REST;
        loop {
            sleep(Duration::from_millis(500)).await;
            self.watchdog.check();
            let unsettled = self.watchdog.unsettled();
            if unsettled.is_empty() {
                self.trace.note("at rest");
                return;
            }
            if Instant::now() >= end {
                unsettled.iter().for_each(|what| self.trace.violation(&format!("not at rest: {what}")));
                return;
            }
        }
    }

    /// What must be true at the end.
    async fn judge(&self) {
        let desired = self.watchdog.desired();
        for lost in self.users.lost(&desired) {
            self.trace.violation(&format!("a command was lost: {lost}"));
        }
        if self.season.traffic_is_safe() {
            let failed = self.ground.fleet.0.iter().flat_map(|proxy| proxy.outcome().0);
            failed.for_each(|text| self.trace.violation(&format!("a request failed: {text}")));
        }
        let sound = |app: &DesiredApp| users::all_sound(app) && app.app.rollout == Rollout::Settled;
        // An app that scales by itself lets replicas sleep only for moments, also after its scaler was turned off.
        let dozes = |app: &DesiredApp| app.app.scale.warm.for_ms < WarmSpec::default().for_ms;
        let restless = desired.apps.values().any(|app| app.app.scale.auto || dozes(app) || !sound(app));
        if !restless && self.trace.violations().is_empty() {
            self.stays_at_rest().await;
        }
    }

    /// At rest, nothing is started or stopped any more.
    async fn stays_at_rest(&self) {
        let running = || {
            let all = self.ground.fake.containers().into_iter();
            all.filter(|(_, seen)| matches!(seen.run, Run::Running { .. })).map(|(id, _)| id).collect::<Vec<_>>()
        };
        let before = (running(), self.watchdog.stops());
        sleep(Duration::from_secs(15)).await;
        if before != (running(), self.watchdog.stops()) {
            self.trace.violation("at rest, replicas were started or stopped all the same");
        }
    }
}
