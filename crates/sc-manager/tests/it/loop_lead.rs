//! One leads; another takes over; one that has lost does nothing more.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sc_core::records::key;
use sc_engine::fake::Call;
use sc_manager::{Parts, lead};
use sc_store::{Expect, Fence, LeaseId, Memory, Revision, Snapshot, Store, StoreError, Watch, Write};
use tokio::time::{Instant, sleep};

use crate::{
    cluster::{Cluster, always, eventually, replica},
    odd_store::OddStore,
};

#[tokio::test(start_paused = true)]
async fn another_manager_adopts_everything() {
    let cluster = Cluster::new().await;
    let first = cluster.leader("a").await;
    let web = first.run_app("web", 3).await;
    cluster.has(&web, 3).await;
    let before = cluster.engine.containers();
    drop(first);
    cluster.engine.crash(&replica("web-2"), 9);
    let second = cluster.manager("b");
    eventually("it takes over", || second.world.fence().is_some()).await;
    cluster.has(&web, 3).await;
    let kept = cluster.engine.containers();
    for name in ["web-1", "web-3"] {
        assert_eq!(kept.get(&replica(name)), before.get(&replica(name)), "{name} was left alone");
        assert_eq!(cluster.engine.count(&Call::Start(replica(name))), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn only_one_of_three_leads() {
    let cluster = Cluster::new().await;
    let managers = ["a", "b", "c"].map(|id| cluster.manager(id));
    let leaders = || managers.iter().filter(|m| m.world.fence().is_some()).count();
    eventually("one leads", || leaders() == 1).await;
    always("no other", Duration::from_secs(30), || leaders() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_graceful_end_hands_over_at_once_and_stops_nothing() {
    let cluster = Cluster::new().await;
    let first = cluster.leader("a").await;
    let web = first.run_app("web", 2).await;
    cluster.has(&web, 2).await;
    let second = cluster.manager("b");
    sleep(Duration::from_secs(3)).await;
    first.stop.cancel();
    let begun = Instant::now();
    eventually("the other leads", || second.world.fence().is_some()).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(cluster.settled(&web, 2));
}

#[tokio::test(start_paused = true)]
async fn the_same_place_is_not_waited_for() {
    let cluster = Cluster::new().await;
    let candidate = |id: &str| lead::Candidate { id: id.to_owned(), place: "here".to_owned(), api: String::new() };
    let start = |id: &str| {
        let settings = sc_manager::Settings { place: candidate(id).place, ..sc_manager::Settings::new(id, "unused") };
        let reconciler = sc_manager::Reconciler::new(cluster.parts(), settings);
        let world = reconciler.world();
        let stop = tokio_util::sync::CancellationToken::new();
        (world, tokio_util::task::AbortOnDropHandle::new(tokio::spawn(reconciler.run(stop))))
    };
    let (first, task) = start("here:1:1");
    eventually("it leads", || first.fence().is_some()).await;
    drop(task); // As by SIGKILL: the lease runs on.
    let begun = Instant::now();
    let (second, _task) = start("here:2:2");
    eventually("the next leads", || second.fence().is_some()).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_lost_campaign_leaves_no_lease_behind() {
    use std::sync::atomic::Ordering::SeqCst;
    let cluster = Cluster::new().await;
    let store = Arc::new(OddStore::new());
    store.loses_campaign.store(true, SeqCst);
    let manager = cluster.manager_with(Parts { store: store.clone(), ..cluster.parts() }, "a");
    eventually("it leads", || manager.world.fence().is_some()).await;
    assert_eq!((store.granted.load(SeqCst), store.revoked.load(SeqCst)), (2, 1));
}

/// A store that somebody else's leadership comes to in the middle of a pass: just before a commit that asks for a stop.
struct Usurped {
    inner: Memory,
    armed: std::sync::atomic::AtomicBool,
}

#[async_trait]
impl Store for Usurped {
    async fn load(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        self.inner.load(prefix).await
    }
    async fn commit(
        &self,
        fence: Option<Fence>,
        expects: Vec<Expect>,
        writes: Vec<Write>,
    ) -> Result<Revision, StoreError> {
        let stops = |write: &Write| matches!(write, Write::Put { value, .. } if String::from_utf8_lossy(value).contains("\"do\":\"stop\""));
        let armed = &self.armed;
        // The commit itself is made; what follows it, the engine call, must not be.
        let result = self.inner.commit(fence, expects, writes.clone()).await;
        if writes.iter().any(stops) && armed.swap(false, std::sync::atomic::Ordering::SeqCst) {
            let value = br#"{"v":1,"holder":"other:1:1","api":"","since_ms":1}"#.to_vec();
            let put = Write::Put { key: key::LEADER.to_owned(), value, lease: None };
            self.inner.commit(None, Vec::new(), vec![put]).await?;
        }
        result
    }
    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.inner.watch(prefix, after).await
    }
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.inner.grant(ttl).await
    }
    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.keep_alive(lease).await
    }
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.revoke(lease).await
    }
    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_loses_in_the_middle_of_a_pass_acts_no_more() {
    let cluster = Cluster::new().await;
    let usurped = Arc::new(Usurped { inner: cluster.store.clone(), armed: false.into() });
    let manager = cluster.manager_with(Parts { store: usurped.clone(), ..cluster.parts() }, "a");
    eventually("it leads", || manager.world.fence().is_some() && manager.world.desired().is_some()).await;
    let web = manager.run_app("web", 2).await;
    cluster.has(&web, 2).await;
    usurped.armed.store(true, std::sync::atomic::Ordering::SeqCst);
    manager.scale(&web, 1).await;
    eventually("it was usurped", || !usurped.armed.load(std::sync::atomic::Ordering::SeqCst)).await;
    always("nothing is stopped", Duration::from_secs(20), || cluster.running(&web).len() == 2).await;
    assert!(manager.world.fence().is_none());
}
