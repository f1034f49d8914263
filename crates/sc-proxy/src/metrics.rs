//! What Prometheus reads. Labels are apps and classes of answers, never backends, hosts or paths, and apps beyond
//! [`APPS_MAX`] share one label: the number of series is bounded.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed};

use prometheus::{
    Encoder, TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};
use sc_core::stats;

use crate::{
    control::{SourceState, State},
    live::Shared,
};

/// How many apps get series of their own.
pub const APPS_MAX: usize = 500;
/// The label of all others. No app can have this name.
const OTHERS: &str = "_others";

/// Upper ends of the duration histogram's buckets, in seconds.
const BOUNDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Default)]
struct Sums {
    answers: [u64; 5],
    duration: stats::Histogram,
    retries: u64,
    rejected: u64,
    limited: u64,
    bytes_in: u64,
    bytes_out: u64,
    queue: stats::Histogram,
    upstream: stats::Histogram,
    held: u64,
    streams: u64,
    connects: u64,
    connect_errors: u64,
    in_flight: u64,
    ejected: u64,
    ejections: u64,
}

/// All metrics as text.
pub(crate) fn text(state: &State, shared: &Shared) -> String {
    let mut out = Vec::new();
    let families = families(&sums(state), shared, state.source());
    if let Err(error) = TextEncoder::new().encode(&families, &mut out) {
        tracing::error!(%error, "metrics could not be written");
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn sums(state: &State) -> BTreeMap<String, Sums> {
    let mut apps: BTreeMap<String, Sums> = BTreeMap::new();
    let mut names = BTreeMap::new();
    for (n, live) in state.registry().apps().enumerate() {
        let name = if n < APPS_MAX { live.id.to_string() } else { OTHERS.to_owned() };
        let sums = apps.entry(name.clone()).or_default();
        let (totals, stats) = (live.totals(), live.stats());
        sums.answers.iter_mut().zip(totals.answers).for_each(|(sum, n)| *sum += n);
        sums.duration.merge(&totals.duration);
        sums.retries += stats.retries;
        sums.rejected += stats.rejected;
        sums.limited += totals.limited;
        sums.bytes_in += totals.bytes_in;
        sums.bytes_out += totals.bytes_out;
        sums.queue.merge(&totals.queue);
        sums.held += stats.held;
        sums.streams += stats.streams;
        if let Some(past) = state.registry().past(&live.id) {
            sums.connects += past.connects;
            sums.connect_errors += past.connect_errors;
            sums.ejections += past.ejections;
            sums.upstream.merge(&past.latency);
        }
        names.insert(live.id.clone(), name);
    }
    for backend in state.registry().backends() {
        let name = names.get(&backend.replica.app).cloned().unwrap_or_else(|| OTHERS.to_owned());
        let (sums, stats) = (apps.entry(name).or_default(), backend.stats(|| 0));
        sums.connects += backend.connects();
        sums.connect_errors += stats.connect_errors;
        sums.in_flight += stats.in_flight;
        sums.ejected += u64::from(stats.ejected);
        sums.ejections += backend.ejections();
        sums.upstream.merge(&stats.latency);
    }
    apps
}

fn families(apps: &BTreeMap<String, Sums>, shared: &Shared, source: &SourceState) -> Vec<MetricFamily> {
    let each = |value: fn(&Sums) -> u64| apps.iter().map(move |(app, sums)| (vec![("app", app.as_str())], value(sums)));
    let requests = apps.iter().flat_map(|(app, sums)| {
        let class = |(n, count): (usize, &u64)| (vec![("app", app.as_str()), ("code_class", CLASSES[n])], *count);
        sums.answers.iter().enumerate().map(class).collect::<Vec<_>>()
    });
    let connections: u64 = shared.connections.iter().map(|thread| thread.0.load(Relaxed)).sum();
    let threads: Vec<String> = (0..shared.connections.len()).map(|thread| thread.to_string()).collect();
    let by_thread = threads
        .iter()
        .zip(&shared.connections)
        .map(|(thread, open)| (vec![("thread", thread.as_str())], open.0.load(Relaxed)));
    let unrouted: u64 = shared.unrouted.iter().map(|thread| thread.0.load(Relaxed)).sum();
    let lines = |count: &std::sync::atomic::AtomicU64| [(vec![], count.load(Relaxed))];
    let families = vec![
        counter("sc_proxy_requests_total", "Requests answered, by class of the answer.", requests),
        histograms(
            "sc_proxy_request_duration_seconds",
            "Time from a request's head to the head of its answer, waiting and retries included.",
            apps,
            |sums| &sums.duration,
        ),
        histograms(
            "sc_proxy_queue_duration_seconds",
            "Time that requests waited for a backend, of those that had to.",
            apps,
            |sums| &sums.queue,
        ),
        histograms(
            "sc_proxy_upstream_duration_seconds",
            "Time from the last byte of a request sent to a backend to the head of its answer.",
            apps,
            |sums| &sums.upstream,
        ),
        counter("sc_proxy_request_bytes_total", "Bytes of requests' bodies, and of streams.", each(|s| s.bytes_in)),
        counter("sc_proxy_response_bytes_total", "Bytes of answers' bodies, and of streams.", each(|s| s.bytes_out)),
        counter("sc_proxy_upstream_connects_total", "Connections made to backends.", each(|s| s.connects)),
        counter("sc_proxy_upstream_connect_errors_total", "Connections that failed.", each(|s| s.connect_errors)),
        counter("sc_proxy_retries_total", "Attempts beyond the first.", each(|s| s.retries)),
        counter(
            "sc_proxy_rejected_total",
            "Requests refused for want of a backend, room or time.",
            each(|s| s.rejected),
        ),
        counter("sc_proxy_rate_limited_total", "Requests beyond what their client may send.", each(|s| s.limited)),
        gauge("sc_proxy_held_requests", "Requests waiting for a backend.", each(|s| s.held)),
        gauge("sc_proxy_in_flight_requests", "Requests and streams with a backend.", each(|s| s.in_flight)),
        gauge("sc_proxy_streams", "Upgraded and TCP connections open.", each(|s| s.streams)),
        gauge("sc_proxy_ejected_backends", "Backends passed over because of failures.", each(|s| s.ejected)),
        counter("sc_proxy_ejections_total", "Ejections of backends after failures.", each(|s| s.ejections)),
        gauge("sc_proxy_open_connections", "Client connections and streams open.", [(vec![], connections)]),
        gauge("sc_proxy_thread_connections", "Those of each worker thread.", by_thread),
        counter(
            "sc_proxy_refused_connections_total",
            "Connections closed at once: their address had as many as it may.",
            [(vec![], shared.turned_away.load(Relaxed))],
        ),
        counter("sc_proxy_unrouted_requests_total", "Requests that belong to no app.", [(vec![], unrouted)]),
        counter("sc_proxy_source_errors_total", "Routes read and refused.", [(vec![], source.errors)]),
        gauge(
            "sc_proxy_source_broken",
            "1 while the newest routes are refused and older ones serve.",
            [(vec![], u64::from(source.broken.is_some()))],
        ),
        gauge(
            "sc_proxy_tcp_ports_closed",
            "Ports of TCP routes that cannot be listened on; the admin API's /routes says why.",
            [(vec![], shared.ports.faults().len() as u64)],
        ),
        counter("sc_proxy_access_log_lines_total", "Lines of the access log written.", lines(&shared.access.written)),
        counter(
            "sc_proxy_access_log_dropped_total",
            "Lines of the access log lost: its writer was behind or could not write.",
            lines(&shared.access.dropped),
        ),
    ];
    families.into_iter().filter(|family| !family.get_metric().is_empty()).collect()
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

type Labels<'a> = Vec<(&'static str, &'a str)>;

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn labelled(labels: Labels<'_>) -> Metric {
    let pair = |(name, value): (&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    Metric::from_label(labels.into_iter().map(pair).collect())
}

fn counter<'a>(name: &str, help: &str, values: impl IntoIterator<Item = (Labels<'a>, u64)>) -> MetricFamily {
    let metric = |(labels, value): (Labels<'a>, u64)| {
        let (mut metric, mut counter) = (labelled(labels), Counter::default());
        counter.set_value(value as f64);
        metric.set_counter(counter);
        metric
    };
    family(name, help, MetricType::COUNTER, values.into_iter().map(metric).collect())
}

fn gauge<'a>(name: &str, help: &str, values: impl IntoIterator<Item = (Labels<'a>, u64)>) -> MetricFamily {
    let metric = |(labels, value): (Labels<'a>, u64)| {
        let (mut metric, mut gauge) = (labelled(labels), Gauge::default());
        gauge.set_value(value as f64);
        metric.set_gauge(gauge);
        metric
    };
    family(name, help, MetricType::GAUGE, values.into_iter().map(metric).collect())
}

fn histograms(
    name: &str,
    help: &str,
    apps: &BTreeMap<String, Sums>,
    of: fn(&Sums) -> &stats::Histogram,
) -> MetricFamily {
    let metric = |(app, sums): (&String, &Sums)| {
        let mut metric = labelled(vec![("app", app)]);
        metric.set_histogram(histogram(of(sums)));
        metric
    };
    family(name, help, MetricType::HISTOGRAM, apps.iter().map(metric).collect())
}

fn histogram(durations: &stats::Histogram) -> Histogram {
    let count = durations.count();
    let bucket = |bound: &f64| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        let up_to = durations.buckets.range(..=stats::bucket_of((bound * 1e9) as u64));
        bucket.set_cumulative_count(up_to.map(|(_, n)| n).sum());
        bucket
    };
    let mut histogram = Histogram::default();
    histogram.set_bucket(BOUNDS.iter().map(bucket).collect());
    histogram.set_sample_count(count);
    histogram.set_sample_sum(durations.sum_seconds);
    histogram
}
