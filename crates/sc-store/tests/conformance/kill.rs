//! SIGKILL in the middle of commits: what was acknowledged is there afterwards.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use sc_store::{Disk, Store, Write};

const FILE: &str = "SC_STORE_TEST_FILE";

/// Not a test by itself: the child that [`acknowledged_commits_survive_a_kill`] kills. Commits and says so, until then.
#[tokio::test]
async fn child_that_commits() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let store = Disk::open(path).expect("a store");
    let first = store.load("").await.unwrap().revision;
    let end = Instant::now() + Duration::from_secs(60);
    let mut n = first;
    while Instant::now() < end {
        n += 1;
        let write = Write::Put { key: format!("k{}", n % 50), value: n.to_string().into(), lease: None };
        let count = Write::Put { key: "count".into(), value: n.to_string().into(), lease: None };
        let revision = store.commit(None, vec![], vec![write, count]).await.unwrap();
        assert_eq!(revision, n);
        println!("acknowledged {revision}");
    }
}

#[tokio::test]
async fn acknowledged_commits_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let mut before = 0;
    for round in 0..8_u32 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child_that_commits", "--nocapture"])
            .env(FILE, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut last = before;
        let acknowledged =
            |line: String| line.split_once("acknowledged ").and_then(|(_, n)| n.trim().parse::<u64>().ok());
        while last < before + 20 + u64::from(round) * 7 {
            let line = lines.next().expect("the child goes on").unwrap();
            last = acknowledged(line).unwrap_or(last);
        }
        child.kill().unwrap();
        // What it still said before it died counts too.
        last = lines.map_while(Result::ok).filter_map(acknowledged).last().unwrap_or(last);
        child.wait().unwrap();
        let store = Disk::open(&path).expect("it opens after a kill");
        let snapshot = store.load("").await.unwrap();
        assert!(snapshot.revision >= last, "acknowledged {last}, found {}", snapshot.revision);
        assert!(snapshot.revision <= last + 1, "one more may have been on its way, not {}", snapshot.revision - last);
        assert_eq!(&*snapshot.entries["count"].value, snapshot.revision.to_string().as_bytes(), "whole commits only");
        before = snapshot.revision;
    }
}
