use std::sync::atomic::{AtomicU64, Ordering};

use redb::{StorageBackend, backends::InMemoryBackend};

use super::*;

fn put(key: &str, value: &str) -> Vec<Write> {
    vec![Write::Put { key: key.into(), value: value.into(), lease: None }]
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/store.redb");
    let store = Disk::open(&path).unwrap();
    let revision = store.commit(None, vec![], put("a", "1")).await.unwrap();
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    let leased = Write::Put { key: "b".into(), value: b"2".to_vec(), lease: Some(lease) };
    store.commit(None, vec![], vec![leased]).await.unwrap();
    drop(store);
    let store = Disk::open(&path).unwrap();
    let snapshot = store.load("").await.unwrap();
    assert_eq!(snapshot.entries["a"].revision, revision);
    assert_eq!((snapshot.entries.len(), snapshot.revision), (2, 2));
    store.keep_alive(lease).await.expect("leases outlive the process");
    assert!(store.grant(Duration::from_secs(1)).await.unwrap() > lease, "a lease's number is not given twice");
    store.revoke(lease).await.unwrap();
    assert!(!store.load("").await.unwrap().entries.contains_key("b"));
}

#[tokio::test]
async fn a_second_opening_is_refused_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let _first = Disk::open(&path).unwrap();
    let error = Disk::open(&path).err().expect("open already").to_string();
    assert!(error.contains("another manager has it open") && error.contains("store.redb"), "{error}");
}

/// A disk that, from a certain operation on, does no more of one kind; clones are the same disk.
#[derive(Debug, Clone)]
struct Disky {
    inner: Arc<InMemoryBackend>,
    trouble: Arc<Trouble>,
}

/// What goes wrong with it.
#[derive(Debug)]
struct Trouble {
    /// Operations that still work.
    left: AtomicU64,
    /// Whether only growing fails afterwards, as on a full disk whose file has its room; else every write and sync.
    growth_only: bool,
}

impl Disky {
    fn new(growth_only: bool) -> Self {
        let trouble = Trouble { left: AtomicU64::new(u64::MAX), growth_only };
        Self { inner: Arc::new(InMemoryBackend::new()), trouble: Arc::new(trouble) }
    }

    fn store(&self) -> Result<Disk, StoreError> {
        let disk = self.clone();
        Disk::open_with("full.redb".into(), Box::new(move || file::database(disk.clone())))
    }

    fn fail_after(&self, operations: u64) {
        self.trouble.left.store(operations, Ordering::SeqCst);
    }

    fn room(&self, grows: bool) -> Result<(), io::Error> {
        if self.trouble.growth_only && !grows {
            return Ok(());
        }
        let left = self.trouble.left.load(Ordering::SeqCst);
        self.trouble.left.store(left.saturating_sub(1), Ordering::SeqCst);
        if left == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Disky {
    fn len(&self) -> Result<u64, io::Error> {
        self.inner.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.inner.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        if len > self.inner.len()? {
            self.room(true)?;
        }
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        self.room(false)?;
        self.inner.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.room(false)?;
        self.inner.write(offset, data)
    }
}

fn block(n: u32) -> Vec<Write> {
    vec![Write::Put { key: format!("k{n}"), value: vec![n as u8; 100_000], lease: None }]
}

#[tokio::test]
async fn a_full_disk_refuses_writes_serves_reads_and_recovers() {
    let disk = Disky::new(true);
    let store = disk.store().unwrap();
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    store.commit(None, vec![], put("a", "1")).await.unwrap();

    disk.fail_after(0);
    let mut there = 1;
    let error = loop {
        assert!(there < 1_000, "it is full at some time");
        match store.commit(None, vec![], block(there)).await {
            Ok(_) => there += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    let again = store.commit(None, vec![], block(there)).await.unwrap_err();
    assert!(matches!(again, StoreError::Full { .. }) && again.to_string().contains("make room"), "{again:?}");
    assert_eq!(store.load("").await.unwrap().entries.len(), there as usize, "reads show nothing of what was refused");
    store.keep_alive(lease).await.expect("leases live on");

    disk.fail_after(u64::MAX);
    let revision = store.load("").await.unwrap().revision;
    assert_eq!(store.commit(None, vec![], block(there)).await.unwrap(), revision + 1);
    drop(store);
    assert_eq!(disk.store().unwrap().load("").await.unwrap().entries.len(), there as usize + 1);
}

/// Lets the disk fail at each operation of a commit in turn: what is then said about the commit is true.
#[tokio::test]
async fn a_disk_that_fails_at_any_moment_leaves_no_doubt_that_is_not_said() {
    let (mut failed, mut operations) = (0, 0);
    loop {
        let disk = Disky::new(false);
        let store = disk.store().unwrap();
        store.commit(None, vec![], put("a", "1")).await.unwrap();
        disk.fail_after(operations);
        let said = store.commit(None, vec![], block(1)).await;
        let seen = store.load("").await.unwrap().entries.contains_key("k1");
        disk.fail_after(u64::MAX);
        match &said {
            Ok(_) => assert!(seen),
            Err(StoreError::Full { .. }) => assert!(!seen),
            Err(StoreError::Unknown { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
        // The same handle goes on, and knows what was kept.
        store.commit(None, vec![], put("b", "2")).await.expect("it recovers");
        let found = store.load("").await.unwrap();
        drop(store);
        assert_eq!(disk.store().unwrap().load("").await.unwrap(), found, "what is seen is what is kept");
        let kept = found.entries.contains_key("k1");
        match said {
            Ok(_) if operations > 0 => break assert!(kept && failed > 3, "{failed} failures"),
            Ok(_) => assert!(kept),
            Err(StoreError::Full { .. }) => assert!(!kept, "refused, but kept (after {operations} operations)"),
            Err(_) => {}
        }
        failed += 1;
        operations += 1;
    }
}

#[tokio::test]
async fn a_lease_ends_at_last_when_the_disk_was_full_at_its_end() {
    let disk = Disky::new(false);
    let store = disk.store().unwrap();
    let lease = store.grant(Duration::from_secs(1)).await.unwrap();
    let leased = Write::Put { key: "l".into(), value: vec![], lease: Some(lease) };
    let revision = store.commit(None, vec![], vec![leased]).await.unwrap();
    disk.fail_after(0);
    let mut watch = store.watch("", revision).await.unwrap();
    // Its key is shown until its deletion can be kept, but nobody can renew it any more.
    let early = tokio::time::timeout(Duration::from_secs(2), watch.next()).await;
    assert!(early.is_err(), "{early:?}");
    assert!(matches!(store.keep_alive(lease).await, Err(StoreError::LeaseGone)));
    disk.fail_after(u64::MAX);
    let end = Instant::now() + Duration::from_secs(20);
    while store.load("").await.unwrap().entries.contains_key("l") {
        assert!(Instant::now() < end, "its key goes");
    }
}

#[test]
fn only_the_owner_may_look_into_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    drop(Disk::open(&path).unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_is_no_store_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    std::fs::write(&path, "these are notes, not a store".repeat(1000)).unwrap();
    let error = Disk::open(&path).err().expect("no store").to_string();
    assert!(error.contains("store.redb"), "{error}");
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("these are notes"));
}
