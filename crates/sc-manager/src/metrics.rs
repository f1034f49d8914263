//! Numbers for Prometheus.

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// What is counted.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// Passes of the reconciler.
    pub passes: IntCounter,
    /// Passes that ended with an error.
    pub failed_passes: IntCounter,
    /// How long they took.
    pub pass_seconds: Histogram,
    /// Engine calls by operation and result (`ok`, `error`, `timeout`, `refused`).
    pub engine_calls: IntCounterVec,
    /// How long engine calls took, by operation.
    pub engine_seconds: HistogramVec,
    /// Store calls that failed, by kind.
    pub store_errors: IntCounterVec,
    /// Apps.
    pub apps: IntGauge,
    /// Replicas by app and state.
    pub replicas: IntGaugeVec,
    /// Replicas wanted by app.
    pub want: IntGaugeVec,
    /// 1 while this manager leads.
    pub leads: IntGauge,
    /// API requests by method, route and status.
    pub requests: IntCounterVec,
}

impl Metrics {
    /// All at zero, with a registry of their own.
    pub fn new() -> Self {
        let registry = Registry::new();
        let metrics = Self {
            passes: IntCounter::with_opts(opts("sc_manager_passes_total", "Passes of the reconciler")).expect(VALID),
            failed_passes: IntCounter::with_opts(opts(
                "sc_manager_failed_passes_total",
                "Passes that ended with an error",
            ))
            .expect(VALID),
            pass_seconds: Histogram::with_opts(timing("sc_manager_pass_duration_seconds", "Duration of a pass"))
                .expect(VALID),
            engine_calls: counters("sc_manager_engine_calls_total", "Engine calls", &["op", "result"]),
            engine_seconds: HistogramVec::new(
                timing("sc_manager_engine_call_duration_seconds", "Duration of engine calls"),
                &["op"],
            )
            .expect(VALID),
            store_errors: counters("sc_manager_store_errors_total", "Store calls that failed", &["kind"]),
            apps: IntGauge::with_opts(opts("sc_apps", "Apps")).expect(VALID),
            replicas: gauges("sc_replicas", "Replicas by app and state", &["app", "state"]),
            want: gauges("sc_scale_want", "Replicas wanted by app", &["app"]),
            leads: IntGauge::with_opts(opts("sc_manager_leads", "1 while this manager leads")).expect(VALID),
            requests: counters("sc_manager_api_requests_total", "API requests", &["method", "route", "status"]),
            registry,
        };
        metrics.register();
        metrics
    }

    fn register(&self) {
        let all: Vec<Box<dyn prometheus::core::Collector>> = vec![
            Box::new(self.passes.clone()),
            Box::new(self.failed_passes.clone()),
            Box::new(self.pass_seconds.clone()),
            Box::new(self.engine_calls.clone()),
            Box::new(self.engine_seconds.clone()),
            Box::new(self.store_errors.clone()),
            Box::new(self.apps.clone()),
            Box::new(self.replicas.clone()),
            Box::new(self.want.clone()),
            Box::new(self.leads.clone()),
            Box::new(self.requests.clone()),
        ];
        for collector in all {
            self.registry.register(collector).expect(VALID);
        }
    }

    /// Everything, in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "metrics could not be written");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

const VALID: &str = "names and labels of metrics are constants, valid and distinct";

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help)
}

fn timing(name: &str, help: &str) -> HistogramOpts {
    let buckets = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
    HistogramOpts::new(name, help).buckets(buckets)
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(opts(name, help), labels).expect(VALID)
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    IntGaugeVec::new(opts(name, help), labels).expect(VALID)
}
