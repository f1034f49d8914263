//! What one pass of the reconciler costs: 100 apps of 10 replicas each.

use std::collections::BTreeMap;

use divan::{Bencher, black_box};
use sc_core::{
    AppId, Name, ReplicaId, check,
    observed::{Node, Observed, Probed, Run, Seen},
    plan,
    plan::{Addressing, Desired},
    records::{Scale, key, write},
    routes,
};

fn main() {
    divan::main();
}

const APPS: usize = 100;
const REPLICAS: u32 = 10;
const NOW: u64 = 1_000_000;

type Entries = BTreeMap<String, Vec<u8>>;

fn app(n: usize) -> AppId {
    AppId::in_default(&format!("app-{n}")).expect("a name")
}

/// The store before anything runs.
fn entries() -> Entries {
    let json = |value: serde_json::Value| write(&value);
    let mut entries = Entries::new();
    for id in (0..APPS).map(app) {
        let scale = serde_json::json!({"v": 1, "want": REPLICAS});
        let record = serde_json::json!({
            "v": 1, "version": 1, "next": 1, "created_ms": NOW, "scale": {"min": 1, "max": 2 * REPLICAS},
            "rollout": {"state": "rolling", "since_ms": NOW, "progress_ms": NOW},
        });
        let version = serde_json::json!({
            "v": 1, "created_ms": NOW,
            "spec": {"source": {"image": "example:1"}, "port": 80, "routes": [{"host": format!("{id}.example")}]},
        });
        entries.insert(key::app(&id), json(record));
        entries.insert(key::scale(&id), json(scale));
        entries.insert(key::version(&id, 1), json(version));
    }
    entries
}

fn read(entries: &Entries) -> Desired {
    let addressing = Addressing::Networks { base: [10, 213, 0, 0].into(), bits: 16 };
    Desired::from_snapshot(addressing, 1, entries.iter().map(|(key, value)| (key.as_str(), &value[..], 1))).0
}

/// What the engine shows when all that is desired runs and answers.
fn observed(desired: &Desired, at: u64) -> Observed {
    let ids = desired.apps.iter().flat_map(|(id, app)| app.replicas.keys().map(move |n| ReplicaId::new(id, *n)));
    let seen = Seen { run: Run::Running { since_ms: NOW }, version: 1, addr: None, restarts: 0 };
    let replicas: BTreeMap<_, _> = ids.map(|id| (id, seen.clone())).collect();
    let probe = Probed { at, ok: true, failures: 0, error: String::new() };
    let probes = replicas.keys().map(|id| (id.clone(), probe.clone())).collect();
    let node = Node::Known { at, replicas, taken: Vec::new() };
    let nodes = [(Name::new("here").expect("a name"), node)].into();
    Observed { at, nodes, probes, ..Observed::default() }
}

fn take(desired: &mut Desired, observed: &Observed) {
    for (action, why) in plan(desired, observed).steps {
        desired.take(&action, &why, observed.at);
    }
}

/// All 1,000 replicas run and are listed.
fn settled() -> (Desired, Observed) {
    let mut desired = read(&entries());
    let nothing = observed(&desired, NOW);
    take(&mut desired, &nothing);
    let all = observed(&desired, NOW + 1);
    take(&mut desired, &all);
    let documents = routes(&desired, &all);
    sc_core::routes::publish(&mut desired, &documents);
    assert!(plan(&desired, &all).steps.is_empty(), "there is nothing left to do");
    (desired, all)
}

#[divan::bench]
fn plan_when_nothing_is_to_do(bencher: Bencher) {
    let (desired, observed) = settled();
    bencher.bench_local(|| plan(black_box(&desired), black_box(&observed)));
}

#[divan::bench]
fn plan_when_every_app_grows(bencher: Bencher) {
    let (mut desired, observed) = settled();
    desired.apps.values_mut().for_each(|app| app.scale = Scale { want: 2 * REPLICAS, ..app.scale.clone() });
    bencher.bench_local(|| plan(black_box(&desired), black_box(&observed)));
}

#[divan::bench]
fn plan_when_all_is_to_be_started(bencher: Bencher) {
    let desired = read(&entries());
    let observed = observed(&desired, NOW);
    bencher.bench_local(|| plan(black_box(&desired), black_box(&observed)));
}

#[divan::bench]
fn routes_of_all(bencher: Bencher) {
    let (desired, observed) = settled();
    bencher.bench_local(|| routes(black_box(&desired), black_box(&observed)));
}

#[divan::bench]
fn check_of_all(bencher: Bencher) {
    let (desired, observed) = settled();
    bencher.bench_local(|| check(black_box(&desired), black_box(&observed)));
}

#[divan::bench]
fn reading_a_snapshot(bencher: Bencher) {
    let (desired, _) = settled();
    let mut entries = entries();
    for (id, app) in &desired.apps {
        entries.insert(key::app(id), write(&app.app));
        for (n, replica) in &app.replicas {
            entries.insert(key::replica(&ReplicaId::new(id, *n)), write(replica));
        }
    }
    bencher.bench_local(|| read(black_box(&entries)));
}
