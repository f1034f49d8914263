//! One run: a scaler, an app and a load, second by second.

use std::sync::Arc;

use super::{
    app::App,
    fault::{Spell, weather},
    fleet::Fleet,
    fluid::Fluid,
    metrics::Metrics,
    plant::{Conditions, Plant},
    requests::Requests,
    scalers::{Scaler, Seen},
};
use crate::dice::Dice;

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct Run {
    /// The app's true nature.
    pub app: App,
    /// Requests per second, every second.
    pub rates: Arc<Vec<f64>>,
    /// Replicas needed, every second.
    pub needed: Arc<Vec<u32>>,
    /// Seconds that a start takes.
    pub start_seconds: u64,
    /// What goes wrong.
    pub spells: Vec<Spell>,
    /// Of all chance in it.
    pub seed: u64,
    /// As a fluid, however few requests there are.
    pub as_fluid: bool,
}

/// More requests than this are computed as a fluid.
pub const MOST_REQUESTS: f64 = 1e7;

/// One second of a run, as it is told to whoever watches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// The second.
    pub at: u64,
    /// Requests that came.
    pub arrivals: f64,
    /// Replicas needed.
    pub needed: u32,
    /// Replicas ready.
    pub ready: u32,
    /// Replicas wanted after it.
    pub want: u32,
    /// Of the requests: late or turned away.
    pub bad: f64,
}

impl Run {
    /// A load of this shape whose peak needs `peak` replicas.
    pub fn new(app: App, shape: &[f64], peak: u32, start_seconds: u64, seed: u64) -> Self {
        let highest = shape.iter().copied().fold(0.0, f64::max);
        let scale = if highest > 0.0 { app.capacity(peak) / highest } else { 0.0 };
        let rates: Vec<f64> = shape.iter().map(|rate| rate * scale).collect();
        let needed = needed(&app, &rates);
        Self {
            app,
            rates: Arc::new(rates),
            needed: Arc::new(needed),
            start_seconds,
            spells: Vec::new(),
            seed,
            as_fluid: false,
        }
    }

    /// Requests to expect.
    pub fn requests(&self) -> f64 {
        self.rates.iter().sum()
    }

    fn plant(&self) -> Box<dyn Plant> {
        let dice = Dice::named(self.seed, "plant");
        let fluid = self.as_fluid || self.requests() > MOST_REQUESTS;
        if fluid { Box::new(Fluid::new(dice)) } else { Box::new(Requests::new(dice)) }
    }
}

/// What is needed for each rate; rates that repeat are computed once.
fn needed(app: &App, rates: &[f64]) -> Vec<u32> {
    let mut steps: Vec<f64> = vec![0.0]; // steps[n] = the largest rate that n replicas take
    rates
        .iter()
        .map(|rate| {
            while steps[steps.len() - 1] < *rate && steps.len() < 2_000 {
                steps.push(app.capacity(steps.len() as u32).max(1e-9));
            }
            (steps.partition_point(|most| most < rate) as u32).max(1)
        })
        .collect()
}

/// Runs it, and tells each second.
pub fn run(run: &Run, scaler: &mut dyn Scaler, mut tell: impl FnMut(Moment, &dyn Scaler)) -> Metrics {
    let mut plant = run.plant();
    let mut metrics = Metrics::default();
    let mut want = run.needed.first().copied().unwrap_or(1);
    let mut fleet = Fleet::new(want, run.start_seconds);
    for (at, (rate, needed)) in (0u64..).zip(run.rates.iter().zip(run.needed.iter())) {
        fleet.tick(at);
        let weather = weather(&run.spells, at);
        if weather.death && fleet.ready > 0 {
            fleet.ready -= 1;
            fleet.set(want, at);
        }
        let tax = (weather.start_tax * f64::from(fleet.starting())).min(f64::from(fleet.ready) * 0.9);
        let replicas = f64::from(fleet.ready) - tax;
        let (slowness, latency) = (weather.slowness, scaler.wants_latency());
        let mut second = plant.second(&run.app, Conditions { rate: *rate, replicas, slowness, latency });
        metrics.add(&second, *needed, fleet.ready, fleet.paid());
        let slots = f64::from(fleet.ready) * f64::from(run.app.slots);
        // What waits for something else uses no CPU; what starts does.
        let used = second.busy * weather.work / weather.slowness + tax * f64::from(run.app.slots);
        let seen = Seen {
            at,
            want,
            ready: fleet.ready,
            slots: run.app.slots,
            arrivals: second.arrivals,
            completed: second.completed,
            queue: second.queue,
            concurrency: second.concurrency,
            cpu: if slots > 0.0 { (used / slots).min(1.0) } else { 0.0 },
            latency: std::mem::take(&mut second.latency),
            version: weather.version,
            blind: weather.blind,
        };
        let next = scaler.step(&seen);
        metrics.actions += f64::from(u8::from(next != want));
        want = next;
        fleet.set(want, at);
        let bad = second.late + second.rejected;
        let moment = Moment { at, arrivals: second.arrivals, needed: *needed, ready: seen.ready, want, bad };
        tell(moment, scaler);
    }
    metrics
}
