//! etcd hung, without quorum, and full while many write.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::process::Signal;
use sc_store::{Etcd, EtcdConfig, Store, StoreError};
use tokio::time::timeout;

use super::{
    cases::{expect, put},
    etcd::{AT_MOST, eventually},
    etcd_server::Server,
};

fn store_of(servers: &[Server]) -> Etcd {
    let endpoints = servers.iter().map(|server| server.url.clone()).collect();
    Etcd::new(EtcdConfig { endpoints, ..EtcdConfig::default() }).expect("a sound configuration")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_on_a_hung_etcd_is_lost_and_a_quiet_one_is_not() {
    let server = Server::new("http", &[]);
    let silence = Duration::from_millis(1_500);
    let store = Etcd::new(EtcdConfig { watch_silence: silence, ..server.config() }).expect("a sound configuration");
    let first = eventually("the first commit", async || store.commit(None, vec![], vec![put("a", "1")]).await).await;
    let mut watch = store.watch("", first).await.unwrap();
    // Longer than a watch may be silent: etcd is asked whether it still watches.
    let quiet = timeout(3 * silence, watch.next()).await;
    assert!(quiet.is_err(), "nothing happened: {quiet:?}");
    let second = store.commit(None, vec![], vec![put("a", "2")]).await.unwrap();
    assert_eq!(watch.next().await.expect("it still watches").revision, second);
    server.signal(Signal::STOP);
    let lost = timeout(2 * AT_MOST, watch.next()).await;
    server.signal(Signal::CONT);
    assert!(matches!(lost.expect("noticed"), Err(StoreError::WatchLost)));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_hung_only_delays_calls() {
    let servers = Server::cluster();
    let store = store_of(&servers);
    eventually("all three up", async || store.commit(None, vec![], vec![put("up", "x")]).await).await;
    for hung in &servers {
        hung.signal(Signal::STOP);
        let read = timeout(AT_MOST, eventually("the others elect", async || store.load("").await)).await;
        let written = eventually("two of three", async || store.commit(None, vec![], vec![put("n", "x")]).await);
        let written = timeout(2 * AT_MOST, written).await;
        hung.signal(Signal::CONT);
        read.expect("in time");
        written.expect("in time");
        eventually("all three again", async || store_of(std::slice::from_ref(hung)).load("").await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_nothing_is_promised() {
    let mut servers = Server::cluster();
    let store = store_of(&servers);
    let first = eventually("all three up", async || store.commit(None, vec![], vec![put("a", "1")]).await).await;
    let mut watch = store.watch("", first).await.unwrap();
    servers[0].kill();
    servers[1].kill();
    let load = timeout(AT_MOST, store.load("")).await.expect("a deadline");
    assert!(matches!(load, Err(StoreError::Unavailable { .. })), "{load:?}");
    let commit = timeout(AT_MOST, store.commit(None, vec![expect("a", first)], vec![put("a", "2")])).await;
    let commit = commit.expect("a deadline");
    assert!(matches!(commit, Err(StoreError::Unknown { .. } | StoreError::Unavailable { .. })), "{commit:?}");
    let lost = timeout(2 * AT_MOST, watch.next()).await.expect("noticed");
    assert!(matches!(lost, Err(StoreError::WatchLost)), "{lost:?}");
    servers[0].start();
    servers[1].start();
    let snapshot = eventually("a quorum again", async || store.load("").await).await;
    let unknown = matches!(commit, Err(StoreError::Unknown { .. }));
    let happened = &*snapshot.entries["a"].value == b"2";
    assert!(unknown || !happened, "what is said not to have happened has not");
}

/// etcd does the commit that crosses the quota and says at once that there was no space for it: that is in doubt, not
/// undone.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_etcd_refused_is_not_there() {
    for round in 0..3 {
        let quota = (4 << 20) + round * 100_000;
        let server = Server::new("http", &["--quota-backend-bytes".into(), quota.to_string()]);
        let up = server.store();
        eventually("etcd is up", async || up.load("").await).await;
        let full = Arc::new(AtomicBool::new(false));
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..16 {
            let (store, full) = (server.store(), full.clone());
            clients.spawn(async move {
                let (mut there, mut absent) = (Vec::new(), Vec::new());
                for n in 0..100 {
                    let key = format!("{client}/{n}");
                    let absent_before = vec![expect(&key, 0)];
                    match store.commit(None, absent_before, vec![put(&key, vec![b'x'; 60_000])]).await {
                        Ok(_) => there.push(key),
                        Err(StoreError::Full { .. }) => {
                            full.store(true, Ordering::Relaxed);
                            absent.push(key);
                        }
                        Err(StoreError::Unknown { .. }) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                    if full.load(Ordering::Relaxed) {
                        break;
                    }
                }
                (there, absent)
            });
        }
        let results = timeout(4 * AT_MOST, clients.join_all()).await.expect("they end");
        let snapshot = eventually("reads go on", async || up.load("").await).await;
        assert!(full.load(Ordering::Relaxed), "the quota was reached");
        for (there, absent) in results {
            assert!(there.iter().all(|key| snapshot.entries.contains_key(key)), "acknowledged, but missing");
            for key in absent {
                assert!(!snapshot.entries.contains_key(&key), "{key} was refused, but is there");
            }
        }
    }
}
