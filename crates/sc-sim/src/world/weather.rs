//! Which faults there are: what a run may have at all ([`Season`]), and what is going on just now ([`Weather`]).

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sc_engine::fake::{Call, Fate, Fault, Faults};

use crate::dice::Dice;

/// The kinds of faults that a run may have. Each run has some: a fault that is always there hides what the others do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Season {
    /// Managers are killed at random moments.
    pub manager_crashes: bool,
    /// Managers are killed between a store or engine call's beginning, effect and answer.
    pub crash_points: bool,
    /// A second manager runs now and then.
    pub two_managers: bool,
    /// Managers stand still for a while, then go on.
    pub freezes: bool,
    /// Store calls fail, or their answers are lost, or they take effect late.
    pub store_faults: bool,
    /// The store is away for a while.
    pub store_outages: bool,
    /// Watches end or stall.
    pub watch_faults: bool,
    /// Engine calls fail, hang, come late or twice, or lose their answers.
    pub engine_faults: bool,
    /// The engine is away for a while.
    pub engine_outages: bool,
    /// Replicas crash.
    pub replica_crashes: bool,
    /// Containers vanish, are restarted by somebody, or appear unasked.
    pub meddling: bool,
    /// Versions that do not start, crash or never become ready.
    pub bad_versions: bool,
    /// Proxies are killed and started again.
    pub proxy_crashes: bool,
    /// Proxies lose the store or the manager for a while.
    pub proxy_cuts: bool,
    /// The managers' clocks jump.
    pub clock_jumps: bool,
}

impl Season {
    /// The season of a seed.
    pub fn of(dice: &Dice) -> Self {
        let calm = dice.chance(100);
        let maybe = || !calm && dice.chance(450);
        Self {
            manager_crashes: dice.chance(600),
            crash_points: dice.chance(600),
            two_managers: maybe(),
            freezes: maybe(),
            store_faults: maybe(),
            store_outages: maybe(),
            watch_faults: maybe(),
            engine_faults: maybe(),
            engine_outages: maybe(),
            replica_crashes: maybe(),
            meddling: maybe(),
            bad_versions: maybe(),
            proxy_crashes: maybe(),
            proxy_cuts: maybe(),
            clock_jumps: maybe(),
        }
    }

    /// Whether no request may fail: nothing but managers and the store fails, which carry no traffic.
    pub fn traffic_is_safe(&self) -> bool {
        !(self.engine_faults
            || self.replica_crashes
            || self.meddling
            || self.bad_versions
            || self.proxy_crashes
            || self.proxy_cuts
            || self.clock_jumps)
    }
}

/// The store's faults just now; chances per mille of calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreWeather {
    /// The longest a call takes, in milliseconds.
    pub slow_ms: u64,
    /// Calls fail without effect.
    pub fail: u64,
    /// Commits happen, their answers are lost.
    pub lose_reply: u64,
    /// Commits get no answer and happen later.
    pub late: u64,
    /// Watches end.
    pub lose_watch: u64,
    /// Watches say nothing.
    pub stall: bool,
    /// Nothing answers.
    pub down: bool,
}

/// The engine's faults just now; chances per mille of calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineWeather {
    /// The longest a call is under way before it has an effect, in milliseconds.
    pub slow_ms: u64,
    /// Calls that meet one of the fake's faults.
    pub faulty: u64,
}

/// What becomes of a store call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFate {
    /// It works.
    Works,
    /// It fails without effect.
    Fails,
    /// It works, the answer is lost.
    LosesReply,
    /// It gets no answer and works later.
    Late(Duration),
}

/// What is going on just now.
#[derive(Debug)]
pub struct Weather {
    dice: Dice,
    now: Mutex<(StoreWeather, EngineWeather)>,
}

impl Weather {
    /// Fair.
    pub fn new(dice: Dice) -> Self {
        Self { dice, now: Mutex::default() }
    }

    /// Changes the store's.
    pub fn store(&self, change: impl FnOnce(&mut StoreWeather)) {
        change(&mut self.lock().0);
    }

    /// Changes the engine's.
    pub fn engine(&self, change: impl FnOnce(&mut EngineWeather)) {
        change(&mut self.lock().1);
    }

    /// Everything works from now on.
    pub fn clear(&self) {
        *self.lock() = Default::default();
    }

    /// How long a store call is under way, and what becomes of it.
    pub fn store_fate(&self, commit: bool) -> (Duration, StoreFate) {
        let weather = self.lock().0;
        let delay = self.dice.millis(0, weather.slow_ms.max(1));
        let roll = self.dice.below(1_000);
        let fate = match roll {
            _ if weather.down => StoreFate::Fails,
            roll if roll < weather.fail => StoreFate::Fails,
            roll if commit && roll < weather.fail + weather.lose_reply => StoreFate::LosesReply,
            roll if commit && roll < weather.fail + weather.lose_reply + weather.late => {
                StoreFate::Late(self.dice.millis(1, 6_000))
            }
            _ => StoreFate::Works,
        };
        (delay, fate)
    }

    /// Whether the store answers at all.
    pub fn store_is_down(&self) -> bool {
        self.lock().0.down
    }

    /// Whether watches say nothing.
    pub fn watches_stall(&self) -> bool {
        self.lock().0.stall
    }

    /// Whether a watch ends now.
    pub fn watch_ends(&self) -> bool {
        let weather = self.lock().0;
        weather.down || self.dice.chance(weather.lose_watch)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (StoreWeather, EngineWeather)> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Faults for Weather {
    fn fate(&self, call: &Call) -> Fate {
        let weather = self.lock().1;
        let delay = self.dice.millis(0, weather.slow_ms.max(1));
        // An engine that hangs hangs in `observe` as well, but not every second.
        let faulty = if *call == Call::Observe { weather.faulty / 4 } else { weather.faulty };
        if !self.dice.chance(faulty) {
            return Fate { delay, fault: Fault::None };
        }
        let fault = match self.dice.below(6) {
            0 => Fault::Fail,
            1 => Fault::Hang,
            2 => Fault::LoseReply,
            3 => Fault::Late(self.dice.millis(1, 20_000)),
            4 => Fault::Twice(self.dice.millis(1, 20_000)),
            _ => Fault::Half,
        };
        Fate { delay, fault }
    }
}
