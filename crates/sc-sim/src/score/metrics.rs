//! How good a run was: the elasticity measures of SPEC's research group (Herbst et al. 2016, "Ready for Rain?") and what
//! users pay and feel.

use super::plant::Second;

/// Sums over a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    /// Requests that came.
    pub requests: f64,
    /// Requests that were later than the objective.
    pub late: f64,
    /// Requests that were turned away.
    pub rejected: f64,
    /// Requests that had to wait for a slot.
    pub held: f64,
    /// Ready, starting and draining replicas × seconds.
    pub replica_seconds: f64,
    /// Seconds of the run.
    pub seconds: f64,
    /// Changes of the wanted count.
    pub actions: f64,
    under: f64,
    over: f64,
    under_seconds: f64,
    over_seconds: f64,
    unlike: f64,
    last: Option<(u32, u32)>,
}

impl Metrics {
    /// Adds a second with so many replicas needed, ready and paid for.
    pub fn add(&mut self, second: &Second, needed: u32, ready: u32, paid: u32) {
        self.requests += second.arrivals;
        self.late += second.late;
        self.rejected += second.rejected;
        self.held += second.held;
        self.replica_seconds += f64::from(paid);
        self.seconds += 1.0;
        let (d, s) = (f64::from(needed), f64::from(ready));
        self.under += (d - s).max(0.0) / d;
        self.over += (s - d).max(0.0) / d;
        self.under_seconds += f64::from(u8::from(needed > ready));
        self.over_seconds += f64::from(u8::from(ready > needed));
        if let Some((d0, s0)) = self.last.replace((needed, ready)) {
            let (dd, ds) = (sign(d0, needed), sign(s0, ready));
            self.unlike += f64::from((ds - dd).abs().min(1));
        }
    }

    /// Percentage of the requests that were answered later than the objective, or not at all.
    pub fn violation_pct(&self) -> f64 {
        100.0 * (self.late + self.rejected) / self.requests.max(1.0)
    }

    /// θU: mean share of the needed replicas that were missing, in percent.
    pub fn theta_u(&self) -> f64 {
        self.percent(self.under)
    }

    /// θO: mean surplus in relation to the needed replicas, in percent.
    pub fn theta_o(&self) -> f64 {
        self.percent(self.over)
    }

    /// τU: share of the time with too few, in percent.
    pub fn tau_u(&self) -> f64 {
        self.percent(self.under_seconds)
    }

    /// τO: share of the time with too many, in percent.
    pub fn tau_o(&self) -> f64 {
        self.percent(self.over_seconds)
    }

    /// υ: share of the time in which supply and demand did not move alike, in percent.
    pub fn upsilon(&self) -> f64 {
        self.percent(self.unlike)
    }

    /// ε: elastic speedup over a run that did not scale, the geometric mean of the four ratios. A ratio of two zeros is 1;
    /// a measure of 0 counts as 0.01 %, so that a perfect one does not make all of it infinite.
    pub fn elastic_speedup(&self, fixed: &Metrics) -> f64 {
        let ratio = |ours: f64, theirs: f64| theirs.max(0.01) / ours.max(0.01);
        let product = ratio(self.theta_u(), fixed.theta_u())
            * ratio(self.theta_o(), fixed.theta_o())
            * ratio(self.tau_u(), fixed.tau_u())
            * ratio(self.tau_o(), fixed.tau_o());
        libm::pow(product, 0.25)
    }

    /// Changes of the wanted count in an hour.
    pub fn actions_per_hour(&self) -> f64 {
        self.actions / (self.seconds / 3_600.0).max(1e-9)
    }

    fn percent(&self, sum: f64) -> f64 {
        100.0 * sum / self.seconds.max(1.0)
    }
}

fn sign(from: u32, to: u32) -> i32 {
    i64::from(to).cmp(&i64::from(from)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out by hand: needed 2 2 4 4, ready 2 3 3 4.
    #[test]
    fn a_short_run_by_hand() {
        let mut run = Metrics::default();
        let second = Second { arrivals: 10.0, late: 1.0, ..Second::default() };
        for (needed, ready) in [(2, 2), (2, 3), (4, 3), (4, 4)] {
            run.add(&second, needed, ready, ready + 1);
        }
        assert_eq!((run.violation_pct(), run.replica_seconds), (10.0, 16.0));
        assert_eq!((run.theta_u(), run.theta_o()), (6.25, 12.5));
        assert_eq!((run.tau_u(), run.tau_o()), (25.0, 25.0));
        // Ready rose alone, needed rose alone, ready rose alone: never alike.
        assert_eq!(run.upsilon(), 75.0);
    }
}
