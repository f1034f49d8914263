//! The app that is scaled: what one of its replicas can really take. The scalers are not told.
//!
//! A replica has a number of request slots; a request takes a log-normal time in one. The proxy in front gives each
//! request to the replica with most room, so that n replicas act as one queue with n × slots servers: an M/G/c queue.
//! Its waiting time is Sakasegawa's approximation (1977) with the Allen–Cunneen factor for the spread of service times.

use crate::dice::Dice;

/// Points that stand for the distribution of service times.
const POINTS: usize = 20;

/// The share of requests that may be later than the objective at the true capacity: the objective is one for the 99th
/// percentile.
pub const BUDGET: f64 = 0.01;

/// Above this use of all slots a queue grows beyond any bound.
const FULL: f64 = 0.999;

/// An app's true nature.
#[derive(Debug, Clone)]
pub struct App {
    /// Requests that a replica works on at once.
    pub slots: u32,
    /// Mean seconds of work in a request.
    pub service: f64,
    /// Standard deviation of the work's logarithm.
    pub sigma: f64,
    /// Seconds within which an answer must come.
    pub objective: f64,
    /// Service times in equal shares.
    points: [f64; POINTS],
}

impl App {
    /// An app with these properties.
    pub fn new(slots: u32, service: f64, variation: f64, objective: f64) -> Self {
        let sigma = libm::sqrt(libm::log(1.0 + variation * variation));
        let raw: [f64; POINTS] = std::array::from_fn(|i| libm::exp(sigma * normal((i as f64 + 0.5) / POINTS as f64)));
        let mean = raw.iter().sum::<f64>() / POINTS as f64;
        Self { slots: slots.max(1), service, sigma, objective, points: raw.map(|point| point * service / mean) }
    }

    /// One of many kinds: 2 to 16 slots, work of a tenth to three tenths of the objective, spread little or much.
    pub fn draw(dice: &Dice, objective: f64) -> Self {
        let slots = 2 << dice.below(4);
        let service = objective * (0.1 + 0.2 * dice.unit());
        Self::new(slots, service, 0.3 + 0.4 * dice.unit(), objective)
    }

    /// The same app with work that takes `factor` times as long.
    pub fn slower(&self, factor: f64) -> Self {
        let points = self.points.map(|point| point * factor);
        Self { service: self.service * factor, points, ..self.clone() }
    }

    /// Requests per second that one replica can finish with all its slots in use.
    pub fn throughput(&self) -> f64 {
        f64::from(self.slots) / self.service
    }

    /// Seconds of work of one request.
    pub fn work(&self, dice: &Dice) -> f64 {
        let mean = -self.sigma * self.sigma / 2.0;
        self.service * libm::exp(mean + self.sigma * dice.normal())
    }

    /// The probability that a request must wait, and the rate (per second) at which such waits end.
    pub fn waiting(&self, rate: f64, replicas: f64) -> (f64, f64) {
        let servers = replicas * f64::from(self.slots);
        let used = (rate / (replicas * self.throughput())).min(FULL);
        let spread = libm::exp(self.sigma * self.sigma) - 1.0;
        let waits = libm::pow(used, libm::sqrt(2.0 * (servers + 1.0)) - 1.0);
        (waits, servers / self.service * (1.0 - used) * 2.0 / (1.0 + spread))
    }

    /// The share of requests that are later than the objective, at a steady rate, when each has waited `delay` already.
    pub fn late(&self, rate: f64, replicas: f64, delay: f64) -> f64 {
        if replicas <= 0.0 {
            return 1.0;
        }
        let (waits, ends) = self.waiting(rate, replicas);
        let late = |work: &f64| {
            let room = self.objective - delay - work;
            if room <= 0.0 { 1.0 } else { waits * libm::exp(-ends * room) }
        };
        self.points.iter().map(late).sum::<f64>() / POINTS as f64
    }

    /// The least replicas that meet the objective at a steady rate, at least 1.
    pub fn needed(&self, rate: f64) -> u32 {
        let mut replicas = (rate / self.throughput() / FULL).ceil().max(1.0);
        while self.late(rate, replicas, 0.0) > BUDGET && replicas < f64::from(MOST) {
            replicas += 1.0;
        }
        replicas as u32
    }

    /// The largest rate that so many replicas can take.
    pub fn capacity(&self, replicas: u32) -> f64 {
        let (mut low, mut high) = (0.0, f64::from(replicas) * self.throughput());
        for _ in 0..50 {
            let middle = (low + high) / 2.0;
            if self.needed(middle) <= replicas { low = middle } else { high = middle }
        }
        low
    }

    /// Response times in equal shares of those that wait and those that do not: (seconds, share).
    pub fn times(&self, rate: f64, replicas: f64, delay: f64) -> impl Iterator<Item = (f64, f64)> {
        const WAITS: [(f64, f64); 6] = [(0.1, 0.2), (0.3, 0.2), (0.5, 0.2), (0.7, 0.2), (0.9, 0.16), (0.98, 0.04)];
        let (waits, ends) = self.waiting(rate, replicas);
        let each = 1.0 / POINTS as f64;
        self.points.into_iter().flat_map(move |work| {
            let at_once = (delay + work, each * (1.0 - waits));
            let later = WAITS.map(|(at, share)| (delay + work - libm::log(1.0 - at) / ends, each * waits * share));
            std::iter::once(at_once).chain(later)
        })
    }
}

/// More replicas than any run has.
const MOST: u32 = 10_000;

/// The value that a standard normal variable stays below with probability `p`: bisection on the error function.
fn normal(p: f64) -> f64 {
    let (mut low, mut high) = (-8.0, 8.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if 0.5 * libm::erfc(-middle / std::f64::consts::SQRT_2) < p { low = middle } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_load_needs_more_and_the_capacity_is_what_is_needed() {
        let app = App::new(4, 0.04, 0.5, 0.2);
        assert_eq!(app.throughput(), 100.0);
        let needs: Vec<u32> = (0..400).map(|rate| app.needed(f64::from(rate) * 10.0)).collect();
        assert!(needs.is_sorted() && needs[0] == 1 && needs[399] > 40, "{needs:?}");
        for replicas in [1, 2, 10, 50] {
            let most = app.capacity(replicas);
            assert_eq!((app.needed(most), app.needed(most * 1.01)), (replicas, replicas + 1));
        }
    }

    #[test]
    fn the_shares_of_the_response_times_are_a_whole() {
        let app = App::new(8, 0.03, 0.7, 0.2);
        let whole: f64 = app.times(700.0, 3.0, 0.0).map(|(_, share)| share).sum();
        assert!((whole - 1.0).abs() < 1e-9, "{whole}");
    }
}
