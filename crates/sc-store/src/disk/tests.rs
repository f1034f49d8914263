use std::sync::atomic::{AtomicBool, Ordering};

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

/// A disk that is full while `full` is set; clones are the same disk.
#[derive(Debug, Clone)]
struct Disky {
    inner: Arc<InMemoryBackend>,
    full: Arc<AtomicBool>,
}

impl Disky {
    fn room(&self) -> Result<(), io::Error> {
        match self.full.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
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
        self.room()?;
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        self.room()?;
        self.inner.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.room()?;
        self.inner.write(offset, data)
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_serves_reads_and_recovers() {
    let full = Arc::new(AtomicBool::new(false));
    let disk = Disky { inner: Arc::new(InMemoryBackend::new()), full: full.clone() };
    let open = move || Ok(Database::builder().create_with_backend(disk.clone())?);
    let store = Disk::open_with("full.redb".into(), Box::new(open)).unwrap();
    store.commit(None, vec![], put("a", "1")).await.unwrap();

    full.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let error = store.commit(None, vec![], put("b", "2")).await.unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    }
    assert_eq!(store.load("").await.unwrap().entries.len(), 1, "reads go on, and show nothing of what was refused");

    full.store(false, Ordering::SeqCst);
    assert_eq!(store.commit(None, vec![], put("b", "2")).await.unwrap(), 2);
    assert_eq!(store.load("").await.unwrap().entries.len(), 2);
}
