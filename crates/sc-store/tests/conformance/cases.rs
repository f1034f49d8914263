//! The suite. Each case gets an empty store of its own (or an empty prefix of one).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sc_store::{COMMIT_BYTES_MAX, COMMIT_MAX, Expect, Fence, LEADER, LeaseId, Revision, Store, StoreError, Write};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

pub fn put(key: &str, value: impl Into<Vec<u8>>) -> Write {
    Write::Put { key: key.to_owned(), value: value.into(), lease: None }
}

fn leased(key: &str, lease: LeaseId) -> Write {
    Write::Put { key: key.to_owned(), value: key.into(), lease: Some(lease) }
}

fn delete(key: &str) -> Write {
    Write::Delete { key: key.to_owned() }
}

pub fn expect(key: &str, revision: Revision) -> Expect {
    Expect { key: key.to_owned(), revision }
}

async fn keys(store: &Arc<dyn Store>, prefix: &str) -> Vec<String> {
    store.load(prefix).await.unwrap().entries.into_keys().collect()
}

pub async fn a_commit_happens_whole_or_not_at_all(store: Arc<dyn Store>) {
    let writes = vec![put("a", "1"), put("b", "2")];
    let revision = store.commit(None, vec![expect("a", 0)], writes).await.unwrap();
    let snapshot = store.load("").await.unwrap();
    assert_eq!(snapshot.revision, revision);
    assert!(snapshot.entries.values().all(|entry| entry.revision == revision));
    let result = store.commit(None, vec![expect("a", 0)], vec![put("b", "3"), delete("a")]).await;
    assert!(matches!(result, Err(StoreError::Conflict)), "{result:?}");
    assert_eq!(&*store.load("").await.unwrap().entries["b"].value, b"2");
    assert_eq!(keys(&store, "").await, ["a", "b"]);
}

pub async fn expectations_of_presence_and_absence(store: Arc<dyn Store>) {
    let first = store.commit(None, vec![], vec![put("a", "1")]).await.unwrap();
    let second = store.commit(None, vec![expect("a", first), expect("x", 0)], vec![put("a", "2")]).await.unwrap();
    for stale in [first, 0, second + 1] {
        let result = store.commit(None, vec![expect("a", stale)], vec![put("a", "3")]).await;
        assert!(matches!(result, Err(StoreError::Conflict)), "{stale}: {result:?}");
    }
    store.commit(None, vec![expect("a", second)], vec![delete("a")]).await.unwrap();
    store.commit(None, vec![expect("a", 0)], vec![put("a", "4")]).await.expect("absent after its deletion");
}

pub async fn revisions_only_grow(store: Arc<dyn Store>) {
    let mut last = store.load("").await.unwrap().revision;
    for n in 0..20 {
        let write = if n % 3 == 2 { delete("a") } else { put("a", n.to_string()) };
        let revision = store.commit(None, vec![], vec![write]).await.unwrap();
        assert!(revision > last, "{revision} after {last}");
        last = revision;
    }
    assert!(store.load("").await.unwrap().revision >= last);
}

pub async fn a_fence_holds_while_the_leader_is_the_same(store: Arc<dyn Store>) {
    let result = store.commit(Some(Fence { epoch: 7 }), vec![], vec![put("a", "0")]).await;
    assert!(matches!(result, Err(StoreError::Fenced)), "nobody leads: {result:?}");
    let epoch = store.commit(None, vec![expect(LEADER, 0)], vec![put(LEADER, "one")]).await.unwrap();
    let fence = Some(Fence { epoch });
    let a = store.commit(fence, vec![expect("a", 0)], vec![put("a", "1")]).await.unwrap();
    let result = store.commit(fence, vec![expect("a", 0)], vec![put("a", "2")]).await;
    assert!(matches!(result, Err(StoreError::Conflict)), "leads, but came late: {result:?}");
    let next = store.commit(None, vec![expect(LEADER, epoch)], vec![put(LEADER, "two")]).await.unwrap();
    let result = store.commit(fence, vec![expect("a", a)], vec![put("a", "3")]).await;
    assert!(matches!(result, Err(StoreError::Fenced)), "{result:?}");
    store.commit(Some(Fence { epoch: next }), vec![expect("a", a)], vec![put("a", "4")]).await.unwrap();
    assert_eq!(&*store.load("").await.unwrap().entries["a"].value, b"4");
}

pub async fn a_commit_without_writes_only_checks(store: Arc<dyn Store>) {
    let epoch = store.commit(None, vec![], vec![put(LEADER, "me")]).await.unwrap();
    let fence = Some(Fence { epoch });
    let revision = store.commit(fence, vec![expect("x", 0)], vec![]).await.unwrap();
    assert!(revision >= epoch);
    assert!(matches!(store.commit(fence, vec![expect("x", 9)], vec![]).await, Err(StoreError::Conflict)));
    let stale = Some(Fence { epoch: epoch + 1 });
    assert!(matches!(store.commit(stale, vec![expect("x", 0)], vec![]).await, Err(StoreError::Fenced)));
}

pub async fn deleting_what_is_not_there_is_no_error(store: Arc<dyn Store>) {
    let before = store.commit(None, vec![], vec![put("b", "1")]).await.unwrap();
    let same = store.commit(None, vec![], vec![delete("nothing")]).await.unwrap();
    assert_eq!(same, before, "nothing changed");
    store.commit(None, vec![], vec![delete("b")]).await.unwrap();
    store.commit(None, vec![], vec![delete("nothing"), put("a", "1")]).await.unwrap();
    assert_eq!(keys(&store, "").await, ["a"]);
}

pub async fn too_many_operations_are_refused(store: Arc<dyn Store>) {
    let writes = |n: usize| (0..n).map(|i| put(&format!("k{i}"), "x")).collect::<Vec<_>>();
    let result = store.commit(None, vec![expect("a", 0)], writes(COMMIT_MAX)).await;
    assert!(matches!(result, Err(StoreError::TooLarge { operations }) if operations == COMMIT_MAX + 1), "{result:?}");
    assert!(keys(&store, "").await.is_empty());
    store.commit(None, vec![], writes(COMMIT_MAX)).await.expect("just at the limit");
}

pub async fn too_many_bytes_are_refused(store: Arc<dyn Store>) {
    let half = vec![7; COMMIT_BYTES_MAX / 2];
    let result = store.commit(None, vec![], vec![put("a", half.clone()), put("b", half.clone())]).await;
    assert!(matches!(result, Err(StoreError::TooManyBytes { bytes }) if bytes == COMMIT_BYTES_MAX + 2), "{result:?}");
    assert!(keys(&store, "").await.is_empty());
    store.commit(None, vec![], vec![put("a", half), put("b", "x")]).await.expect("below the limit");
}

pub async fn one_commit_writes_a_key_once(store: Arc<dyn Store>) {
    for twice in [put("a", "2"), delete("a")] {
        let result = store.commit(None, vec![], vec![put("a", "1"), twice]).await;
        assert!(matches!(result, Err(StoreError::Broken { .. })), "{result:?}");
    }
    let result = store.commit(None, vec![], vec![put("", "1")]).await;
    assert!(matches!(result, Err(StoreError::Broken { .. })), "an empty key: {result:?}");
    assert!(keys(&store, "").await.is_empty());
}

pub async fn a_large_state_is_loaded_whole(store: Arc<dyn Store>) {
    for n in 0..24 {
        store.commit(None, vec![], vec![put(&format!("large/{n:02}"), vec![n; 500_000])]).await.unwrap();
    }
    let snapshot = store.load("large/").await.unwrap();
    assert_eq!(snapshot.entries.len(), 24);
    assert!(snapshot.entries.values().enumerate().all(|(n, entry)| *entry.value == *vec![n as u8; 500_000]));
}

pub async fn values_are_bytes_and_may_be_large(store: Arc<dyn Store>) {
    let large: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    store.commit(None, vec![], vec![put("odd", vec![0, 255, 10, 0]), put("large", large.clone())]).await.unwrap();
    let snapshot = store.load("").await.unwrap();
    assert_eq!(&*snapshot.entries["odd"].value, [0, 255, 10, 0]);
    assert!(&*snapshot.entries["large"].value == large.as_slice());
}

pub async fn prefixes_are_kept_apart(store: Arc<dyn Store>) {
    let writes = ["p/apps/a", "p/apps/b", "p/app", "q/apps/a", "p/apps0"].map(|key| put(key, "x")).to_vec();
    store.commit(None, vec![], writes).await.unwrap();
    assert_eq!(keys(&store, "p/apps/").await, ["p/apps/a", "p/apps/b"]);
    assert_eq!(keys(&store, "none/").await, [""; 0]);
    assert_eq!(keys(&store, "").await.len(), 5);
}

pub async fn many_keys_are_loaded_whole(store: Arc<dyn Store>) {
    for block in 0..25 {
        let writes = (0..COMMIT_MAX).map(|n| put(&format!("many/{block:02}-{n:03}"), "x")).collect();
        store.commit(None, vec![], writes).await.unwrap();
    }
    assert_eq!(keys(&store, "many/").await.len(), 25 * COMMIT_MAX);
}

pub async fn concurrent_increments_lose_nothing(store: Arc<dyn Store>) {
    let (tasks, each) = (8_u64, 15_u64);
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let store = store.clone();
        running.spawn(async move {
            for _ in 0..each {
                while !increment(&store).await.expect("no failure here") {}
            }
        });
    }
    timeout(Duration::from_secs(60), running.join_all()).await.expect("done in time");
    let value = store.load("").await.unwrap().entries["counter"].value.to_vec();
    assert_eq!(String::from_utf8(value).unwrap(), (tasks * each).to_string());
}

/// Adds one to `counter` if nobody else does meanwhile.
pub async fn increment(store: &Arc<dyn Store>) -> Result<bool, StoreError> {
    let snapshot = store.load("counter").await?;
    let (now, revision) = match snapshot.entries.get("counter") {
        Some(entry) => (std::str::from_utf8(&entry.value).unwrap().parse::<u64>().unwrap(), entry.revision),
        None => (0, 0),
    };
    let next = put("counter", (now + 1).to_string());
    match store.commit(None, vec![expect("counter", revision)], vec![next]).await {
        Ok(_) => Ok(true),
        Err(StoreError::Conflict) => Ok(false),
        Err(error) => Err(error),
    }
}

pub async fn a_watch_sees_every_commit_in_order(store: Arc<dyn Store>) {
    let start = store.load("").await.unwrap().revision;
    let mut watch = store.watch("w/", start).await.unwrap();
    let mut last = 0;
    for n in 0..30 {
        let other = put(&format!("other/{n}"), "x");
        let write = if n % 5 == 4 { delete("w/a") } else { put("w/a", n.to_string()) };
        last = store.commit(None, vec![], vec![write, put("w/n", n.to_string()), other]).await.unwrap();
    }
    let (mut seen, mut values, mut model) = (start, Vec::new(), BTreeMap::new());
    while seen < last {
        let changes = timeout(SOON, watch.next()).await.expect("in time").expect("no loss");
        assert!(changes.revision > seen, "{} after {seen}", changes.revision);
        seen = changes.revision;
        for (key, entry) in changes.keys {
            assert!(key.starts_with("w/"), "{key}");
            if key == "w/n" {
                values.push(String::from_utf8(entry.as_ref().unwrap().value.to_vec()).unwrap());
            }
            _ = match entry {
                Some(entry) => model.insert(key, entry),
                None => model.remove(&key),
            };
        }
    }
    assert_eq!(values, (0..30).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(model, store.load("w/").await.unwrap().entries, "what the watch says adds up to what is there");
}

pub async fn watches_share_nothing(store: Arc<dyn Store>) {
    let start = store.load("").await.unwrap().revision;
    let mut watches = Vec::new();
    for prefix in ["", "w/", "w/a"] {
        watches.push(store.watch(prefix, start).await.unwrap());
    }
    let last = store.commit(None, vec![], vec![put("w/a", "1"), put("w/b", "2"), put("x", "3")]).await.unwrap();
    for (watch, count) in watches.iter_mut().zip([3, 2, 1]) {
        let changes = timeout(SOON, watch.next()).await.expect("in time").unwrap();
        assert_eq!((changes.keys.len(), changes.revision), (count, last));
    }
    drop(watches.remove(0));
    store.commit(None, vec![], vec![put("w/a", "4")]).await.unwrap();
    for mut watch in watches {
        assert_eq!(timeout(SOON, watch.next()).await.expect("in time").unwrap().keys.len(), 1);
    }
}

pub async fn a_watch_begins_where_it_is_told(store: Arc<dyn Store>) {
    store.commit(None, vec![], vec![put("w/a", "1")]).await.unwrap();
    let second = store.commit(None, vec![], vec![put("w/a", "2")]).await.unwrap();
    let third = store.commit(None, vec![], vec![put("w/a", "3")]).await.unwrap();
    let mut watch = store.watch("w/", second).await.unwrap();
    let changes = timeout(SOON, watch.next()).await.expect("in time").unwrap();
    assert_eq!(changes.revision, third);
    assert_eq!(changes.keys.len(), 1);
}

pub async fn a_watch_can_be_left_and_taken_up(store: Arc<dyn Store>) {
    let start = store.load("").await.unwrap().revision;
    let mut watch = store.watch("w/", start).await.unwrap();
    for n in 0..20 {
        // Waits that are given up at odd moments must lose nothing.
        let _ = timeout(Duration::from_micros(n * 50), watch.next()).await.map(|changes| changes.unwrap());
        store.commit(None, vec![], vec![put("w/last", n.to_string())]).await.unwrap();
        let changes = timeout(SOON, watch.next()).await.expect("a commit is seen").unwrap();
        assert_eq!(&*changes.keys.last().unwrap().1.as_ref().unwrap().value, n.to_string().as_bytes());
    }
}

pub async fn a_lease_takes_its_keys_with_it(store: Arc<dyn Store>) {
    let lease = store.grant(Duration::from_secs(1)).await.unwrap();
    let revision = store.commit(None, vec![], vec![leased("l/a", lease), put("l/b", "stays")]).await.unwrap();
    let mut watch = store.watch("l/", revision).await.unwrap();
    let changes = timeout(SOON, watch.next()).await.expect("it runs out").unwrap();
    assert_eq!(changes.keys, [("l/a".to_owned(), None)]);
    assert_eq!(keys(&store, "l/").await, ["l/b"]);
    // etcd deletes the keys a moment before it forgets the lease.
    let forgotten = async { while store.keep_alive(lease).await.is_ok() {} };
    timeout(SOON, forgotten).await.expect("the lease is gone");
    assert!(matches!(store.keep_alive(lease).await, Err(StoreError::LeaseGone)));
    let late = store.commit(None, vec![], vec![leased("l/c", lease)]).await;
    assert!(matches!(late, Err(StoreError::LeaseGone)), "{late:?}");
}

pub async fn a_renewed_lease_lives_on(store: Arc<dyn Store>) {
    let lease = store.grant(Duration::from_secs(2)).await.unwrap();
    store.commit(None, vec![], vec![leased("l/a", lease)]).await.unwrap();
    let end = tokio::time::Instant::now() + Duration::from_secs(4);
    let mut turn = tokio::time::interval(Duration::from_millis(300));
    while tokio::time::Instant::now() < end {
        turn.tick().await;
        store.keep_alive(lease).await.expect("still alive");
    }
    assert_eq!(keys(&store, "l/").await, ["l/a"]);
}

pub async fn a_revoked_lease_is_gone(store: Arc<dyn Store>) {
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    store.commit(None, vec![], vec![leased("l/a", lease)]).await.unwrap();
    store.revoke(lease).await.unwrap();
    assert!(keys(&store, "l/").await.is_empty());
    assert!(matches!(store.keep_alive(lease).await, Err(StoreError::LeaseGone)));
    store.revoke(lease).await.expect("revoking twice is fine");
}
