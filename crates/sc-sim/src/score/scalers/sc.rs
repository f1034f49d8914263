//! Ours: the same [`decide()`] that the manager calls, given the largest count and the objective alone.

use sc_scale::{Alert, Memory, Now, Objective, Policy, Sample, Window, decide};

use super::{Scaler, Seen};
use crate::score::app::BUDGET;

/// The scaler and what it keeps.
#[derive(Debug)]
pub struct Sc {
    policy: Policy,
    window: Window,
    memory: Memory,
    learned: Option<f64>,
    reason: String,
    alerts: Vec<&'static str>,
    /// Keeps reasons and alerts, for stories.
    tells: bool,
}

/// The simulated second 0, Unix ms.
const EPOCH_MS: u64 = 1_700_000_000_000;

impl Sc {
    /// With so many replicas at most, and answers within so many seconds.
    pub fn new(max: u32, objective: f64) -> Self {
        Self::with(max, Some(Objective { seconds: objective, budget: BUDGET }))
    }

    /// With so many replicas at most, and nothing else: it looks for the knee.
    pub fn plain(max: u32) -> Self {
        Self::with(max, None)
    }

    fn with(max: u32, objective: Option<Objective>) -> Self {
        let policy = Policy { min: 1, max, objective, ..Policy::default() };
        Self {
            policy,
            window: Window::default(),
            memory: Memory::default(),
            learned: None,
            reason: String::new(),
            alerts: vec![],
            tells: false,
        }
    }

    /// Keeps the reason and the alerts of each decision.
    pub fn telling(mut self) -> Self {
        self.tells = true;
        self
    }
}

impl Scaler for Sc {
    fn step(&mut self, seen: &Seen) -> u32 {
        let at_ms = EPOCH_MS + (seen.at + 1) * 1_000;
        if !seen.blind {
            let ready = f64::from(seen.ready);
            self.window.push(Sample {
                at_ms,
                arrivals: seen.arrivals,
                completions: [0.0, seen.completed, 0.0, 0.0, 0.0, 0.0],
                in_flight: (seen.concurrency - seen.queue).max(0.0),
                held: seen.queue,
                latency: seen.latency.clone(),
                ready: seen.ready,
                cpu: Some(seen.cpu * ready),
                cpu_limit: Some(ready),
                cpu_replicas: seen.ready,
                complete: true,
                ..Sample::default()
            });
        }
        let held = if seen.blind { 0 } else { seen.queue as u64 };
        let now =
            Now { at_ms, want: seen.want, ready: seen.ready, held, version: seen.version, warm: 0, ..Now::default() };
        let (decision, memory) = decide(&self.policy, &now, &self.window, std::mem::take(&mut self.memory));
        self.memory = memory;
        self.learned = decision.capacity_rps;
        if self.tells {
            self.reason = decision.reason;
            self.alerts = decision.alerts.iter().map(alert).collect();
        }
        decision.want
    }

    fn wants_latency(&self) -> bool {
        true
    }

    fn learned(&self) -> Option<f64> {
        self.learned
    }

    fn reason(&self) -> String {
        self.reason.clone()
    }

    fn alerts(&self) -> Vec<&'static str> {
        self.alerts.clone()
    }
}

fn alert(alert: &Alert) -> &'static str {
    match alert {
        Alert::MaxReached { .. } => "max reached",
        Alert::NoHelp => "more replicas do not help",
        Alert::Unreachable => "objective unreachable",
    }
}
