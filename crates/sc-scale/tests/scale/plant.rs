//! An app as a fluid: replicas with slots, a service time, and a queue that forms when the load is too high.

use sc_core::stats::Histogram;
use sc_scale::{Decision, Memory, Now, Policy, Sample, Window, decide};

/// The truth that `decide` does not know.
#[derive(Debug, Clone, Copy)]
pub struct App {
    /// Requests a replica serves at once.
    pub slots: f64,
    /// Seconds one takes.
    pub service: f64,
    /// Seconds from asking for a replica to its being ready.
    pub start: u64,
}

impl App {
    /// Requests per second one replica can do.
    pub fn capacity(&self) -> f64 {
        self.slots / self.service
    }
}

/// The closed loop: load → app → window → decide → replicas.
pub struct Loop {
    pub app: App,
    pub policy: Policy,
    pub window: Window,
    /// How things stood at the last decision.
    pub now: Now,
    pub memory: Memory,
    pub want: u32,
    pub queue: f64,
    pub at_ms: u64,
    /// Seconds at which replicas asked for become ready.
    starting: Vec<u64>,
    pub ready: u32,
    /// Multiplies the service time without making a replica any busier: a slow database.
    pub slow: f64,
}

/// What a second came to.
pub struct Second {
    pub decision: Decision,
    /// Seconds an answer took.
    pub latency: f64,
}

impl Loop {
    pub fn new(app: App, policy: Policy) -> Self {
        let want = policy.min.max(1);
        Self {
            app,
            policy,
            window: Window::default(),
            now: Now::default(),
            memory: Memory::default(),
            want,
            queue: 0.0,
            at_ms: 1_700_000_000_000,
            starting: vec![],
            ready: want,
            slow: 1.0,
        }
    }

    /// One second with so many requests.
    pub fn second(&mut self, arrivals: f64) -> Second {
        self.at_ms += 1_000;
        self.starting.retain(|at| *at > self.at_ms);
        self.ready = self.want - (self.starting.len() as u32).min(self.want);
        let latency = self.serve(arrivals);
        let now = Now {
            at_ms: self.at_ms,
            want: self.want,
            ready: self.ready,
            held: 0,
            version: 1,
            warm: 0,
            ..Now::default()
        };
        self.now = now;
        let (decision, memory) = decide(&self.policy, &now, &self.window, std::mem::take(&mut self.memory));
        self.memory = memory;
        for _ in self.want..decision.want {
            self.starting.push(self.at_ms + self.app.start * 1_000);
        }
        for _ in decision.want..self.want {
            self.starting.pop();
        }
        self.want = decision.want;
        Second { decision, latency }
    }

    fn serve(&mut self, arrivals: f64) -> f64 {
        let most = f64::from(self.ready) * self.app.capacity();
        let served = (self.queue + arrivals).min(most);
        self.queue += arrivals - served;
        let load = if most > 0.0 { (arrivals / most).min(0.98) } else { 0.98 };
        let crowd = 0.3 * (load * load * load) * (load * load * load) / (1.0 - load) / self.app.slots;
        let waiting = if most > 0.0 { self.queue / most } else { self.queue };
        let latency = self.app.service * self.slow * (1.0 + crowd) + waiting;
        let mut histogram = Histogram::default();
        (0..served.round() as u64).for_each(|_| histogram.record((latency * 1e9) as u64));
        self.window.push(Sample {
            at_ms: self.at_ms,
            arrivals,
            completions: [0.0, served, 0.0, 0.0, 0.0, 0.0],
            in_flight: served * latency + self.queue,
            latency: histogram,
            ready: self.ready,
            complete: true,
            ..Sample::default()
        });
        latency
    }
}
