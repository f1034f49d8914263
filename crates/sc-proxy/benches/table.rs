//! How long a look-up takes, by the number of hosts, and how soon a change serves on every thread.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sc_core::{
    AppId, ReplicaId,
    routes::{AppRoutes, BackendRoute},
    spec::RouteSpec,
};
use sc_proxy::{Config, Source, config::Given, live::Shared, table::RouteTable};

fn main() {
    divan::main();
}

/// One app per host, with a path route each.
fn apps(hosts: usize) -> Vec<AppRoutes> {
    let app = |n: usize| {
        let id = AppId::in_default(&format!("app-{n}")).expect("a valid name");
        let route = |path: &str| RouteSpec {
            host: Some(format!("h{n}.test")),
            path: path.into(),
            strip: false,
            redirect: None,
            tcp: None,
        };
        let backend =
            BackendRoute { replica: ReplicaId::new(&id, 1), addr: ([127, 0, 0, 1], 9).into(), weight: 1, version: 1 };
        AppRoutes::new(id, vec![route("/"), route("/api/v1")], vec![backend])
    };
    (0..hosts).map(app).collect()
}

#[divan::bench(args = [1, 100, 10_000])]
fn find(bencher: divan::Bencher<'_, '_>, hosts: usize) {
    let (table, _) = RouteTable::new(&apps(hosts));
    let names: Vec<_> = (0..hosts).map(|n| format!("h{}.test", (n * 7919) % hosts)).collect();
    let mut next = 0;
    bencher.bench_local(|| {
        next = (next + 1) % hosts;
        table.find(divan::black_box(&names[next]), divan::black_box("/api/v1/users/7"))
    });
}

#[divan::bench(args = [1, 100, 10_000])]
fn build(bencher: divan::Bencher<'_, '_>, hosts: usize) {
    let apps = apps(hosts);
    bencher.bench_local(|| RouteTable::new(&apps));
}

/// From new routes to all threads having acknowledged them, four threads.
#[divan::bench(args = [1, 10_000], sample_count = 20)]
fn swap_to_serving(bencher: divan::Bencher<'_, '_>, hosts: usize) {
    let all = apps(hosts);
    let (routes, given) = tokio::sync::watch::channel(Given { revision: 1, apps: all.clone() });
    let config = Config { threads: 4, ..Config::new(Source::Given(given)) };
    let running = sc_proxy::start(config).expect("a proxy starts");
    let shared: Arc<Shared> = running.shared();
    let mut generation = wait_beyond(&shared, 1);
    let mut stopped = false;
    bencher.bench_local(|| {
        stopped = !stopped;
        routes.send_modify(|given| {
            given.revision += 1;
            given.apps[0].stopped = stopped;
        });
        generation = wait_beyond(&shared, generation);
    });
}

fn wait_beyond(shared: &Shared, generation: u64) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let now = shared.generation_everywhere();
        if now > generation {
            return now;
        }
        assert!(Instant::now() < deadline, "the change is served within ten seconds");
        std::thread::yield_now();
    }
}
