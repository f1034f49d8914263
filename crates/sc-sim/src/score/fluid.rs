//! Seconds as a fluid: what comes beyond the capacity waits; the rest has the response times of a steady queue.
//!
//! The count of a second is drawn (Poisson), and what of it exceeds the capacity waits. Otherwise the queue is taken to be as
//! after a long time at the mean rate, whose formula has the chance of arrivals in it already: a queue of some dozens of
//! slots forgets in far less than a second, unless it is nearly full.

use std::collections::{BTreeMap, VecDeque};

use sc_core::stats::{Histogram, bucket_of};

use super::{
    app::App,
    plant::{Conditions, PATIENCE, Plant, Second},
};
use crate::dice::Dice;

/// An app as a fluid.
#[derive(Debug)]
pub struct Fluid {
    dice: Dice,
    queue: f64,
    /// What came in each of the seconds that one may have waited for.
    recent: VecDeque<f64>,
}

/// The part of the capacity that a steady state is computed for at most; what comes beyond waits.
const STEADY: f64 = 0.99;

impl Fluid {
    /// An app at rest.
    pub fn new(dice: Dice) -> Self {
        Self { dice, queue: 0.0, recent: VecDeque::new() }
    }
}

impl Plant for Fluid {
    fn second(&mut self, app: &App, now: Conditions) -> Second {
        let slow;
        let app = if now.slowness == 1.0 {
            app
        } else {
            slow = app.slower(now.slowness);
            &slow
        };
        let arrivals = self.dice.poisson(now.rate);
        let most = now.replicas * app.throughput();
        let before = self.queue;
        let completed = (before + arrivals).min(most);
        let waiting = before + arrivals - completed;
        self.recent.push_back(arrivals);
        if self.recent.len() as f64 > PATIENCE {
            self.recent.pop_front();
        }
        // First come, first served: nobody in the queue came longer ago than one waits at most.
        let rejected = (waiting - self.recent.iter().sum::<f64>()).max(0.0);
        self.queue = waiting - rejected;
        let delay = if most > 0.0 { ((before + self.queue) / 2.0 / most).min(PATIENCE) } else { PATIENCE };
        let steady = now.rate.min(most * STEADY);
        let share = app.late(steady, now.replicas, delay);
        let (waits, _) = if most > 0.0 { app.waiting(steady, now.replicas) } else { (1.0, 1.0) };
        let mut second = Second {
            arrivals,
            completed,
            late: share * (arrivals - rejected).max(0.0),
            rejected,
            held: if delay > 0.0 { arrivals } else { arrivals * waits },
            queue: self.queue,
            busy: completed * app.service,
            ..Second::default()
        };
        second.concurrency = second.busy + (before + self.queue) / 2.0 + queued(app, steady, now.replicas);
        if now.latency {
            second.latency = latency(app, completed, steady, now.replicas, delay);
        }
        second
    }
}

/// Requests that wait on average in a steady queue (Little).
fn queued(app: &App, rate: f64, replicas: f64) -> f64 {
    if replicas <= 0.0 {
        return 0.0;
    }
    let (waits, ends) = app.waiting(rate, replicas);
    rate * waits / ends
}

fn latency(app: &App, completed: f64, rate: f64, replicas: f64, delay: f64) -> Histogram {
    let mut histogram = Histogram::default();
    if completed <= 0.0 || replicas <= 0.0 {
        return histogram;
    }
    let mut shares: BTreeMap<u16, f64> = BTreeMap::new();
    for (seconds, share) in app.times(rate, replicas, delay) {
        *shares.entry(bucket_of((seconds * 1e9) as u64)).or_default() += share * completed;
        histogram.sum_seconds += seconds * share * completed;
    }
    // Whole counts whose sum stays true.
    let mut carry = 0.0;
    for (bucket, share) in shares {
        carry += share;
        let count = carry.round();
        if count > 0.0 {
            histogram.buckets.insert(bucket, count as u64);
            carry -= count;
        }
    }
    histogram
}
