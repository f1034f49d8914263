//! Where a demo keeps what it needs, and the end of it: also of what a demo that was killed left behind.
//!
//! A small folder at a place that `sc` knows holds the socket, a lock, and the name of the data folder. Everything that runs
//! for a demo names its data folder in its command line or environment, so it can be found and ended.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::{
    fs::{FlockOperation, flock},
    process::{Pid, Signal, getuid, kill_process},
};

use crate::{exit, find};

/// A data folder's name begins with this; nothing else is ever removed.
const PREFIX: &str = "sc-demo-data-";
/// How long processes that were killed may take to be gone.
const GONE: Duration = Duration::from_secs(5);

/// The folders of a demo. Dropping it ends everything that runs in them, and removes them.
pub(super) struct Folder {
    /// The small one.
    pub known: PathBuf,
    /// The data folder.
    pub data: PathBuf,
    _lock: File,
}

impl Folder {
    /// Takes the place for this demo; cleans up after one that was killed.
    ///
    /// # Errors
    /// When a demo of this user runs already, or the folders cannot be made.
    pub fn take() -> anyhow::Result<Self> {
        let known = find::demo_folder()?;
        own_folder(&known).with_context(|| format!("the folder {}", known.display()))?;
        let lock = File::options().create(true).write(true).truncate(false).open(known.join("lock"))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let hint = "use that one (`sc ps`), or end it first";
            return Err(exit::failure(exit::CONFLICT, format!("a demo of yours runs already\n  → {hint}")));
        }
        if let Ok(former) = fs::read_to_string(known.join("data")) {
            clean(Path::new(former.trim()));
        }
        let data = tempfile::Builder::new().prefix(PREFIX).tempdir().context("a temporary folder")?.keep();
        fs::write(known.join("data"), data.display().to_string())?;
        on_abort(data.clone());
        Ok(Self { known, data, _lock: lock })
    }

    /// The manager's socket.
    pub fn socket(&self) -> PathBuf {
        self.known.join("manager.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        clean(&self.data);
        // The lock's file stays: removing it could let two demos hold two locks.
        for name in ["manager.sock", "data"] {
            let _ = fs::remove_file(self.known.join(name));
        }
    }
}

/// Makes a folder that only this user may look into; one that is there must be so already.
fn own_folder(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let data = fs::symlink_metadata(path)?;
    if !data.is_dir() || data.uid() != getuid().as_raw() || data.mode() & 0o077 != 0 {
        return Err(io::Error::other("it belongs to somebody else, or others may write to it: remove it"));
    }
    Ok(())
}

/// Where a panic ends the process at once, nothing is dropped: clean up before.
fn on_abort(data: PathBuf) {
    if cfg!(panic = "abort") {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            clean(&data);
            before(info);
        }));
    }
}

/// Ends everything that runs in a data folder, and removes it.
fn clean(data: &Path) {
    let ours = data.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
    if !ours || !data.is_absolute() {
        return;
    }
    let until = Instant::now() + GONE;
    loop {
        let left = processes(data);
        for pid in &left {
            let _ = kill_process(*pid, Signal::KILL);
        }
        if left.is_empty() || Instant::now() > until {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    if fs::symlink_metadata(data).is_ok_and(|found| found.is_dir() && found.uid() == getuid().as_raw()) {
        let _ = fs::remove_dir_all(data);
    }
}

/// The processes, this one aside, that name the folder in their command line or environment.
fn processes(data: &Path) -> Vec<Pid> {
    let own = std::process::id().cast_signed();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != own && names(*pid, data)).filter_map(Pid::from_raw).collect()
}

fn names(pid: i32, data: &Path) -> bool {
    let text = data.display().to_string();
    ["cmdline", "environ"].iter().any(|file| {
        let content = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        content.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_in_the_folder_is_ended_with_it() {
        let data = tempfile::Builder::new().prefix(PREFIX).tempdir().unwrap().keep();
        let mut child = std::process::Command::new("sleep").arg("1000").env("HOME", data.join("root")).spawn().unwrap();
        let until = Instant::now() + GONE;
        while processes(&data).is_empty() && Instant::now() < until {
            std::thread::yield_now(); // It has no environment of its own yet.
        }
        assert!(!processes(&data).is_empty());
        let waiter = std::thread::spawn(move || child.wait());
        clean(&data);
        assert!(!waiter.join().unwrap().unwrap().success());
        assert!(!data.exists());
    }

    #[test]
    fn nothing_else_is_ever_removed() {
        let other = tempfile::tempdir().unwrap();
        clean(other.path());
        assert!(other.path().exists());
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        own_folder(&path).unwrap();
        own_folder(&path).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert!(own_folder(&path).is_err());
    }
}
