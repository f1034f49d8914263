//! What is kept on disk: the proxy's id, and the last table, so that it starts and serves with manager and store dead.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use sc_core::routes::AppRoutes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Control, Phase, state::Routes};

/// Changes within this time are written together.
const GAP: Duration = Duration::from_millis(20);
/// How long to wait after a write that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// Where the last table is kept.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    path: PathBuf,
    /// The kind of source: a table from another kind is not used.
    pub(super) source: &'static str,
}

#[derive(Serialize)]
struct Writing<'a> {
    v: u32,
    source: &'a str,
    revision: u64,
    apps: Vec<&'a AppRoutes>,
}

#[derive(Deserialize)]
struct Reading {
    v: u32,
    source: String,
    apps: Vec<AppRoutes>,
}

impl Disk {
    pub(crate) fn new(folder: &Path, source: &'static str) -> Self {
        Self { path: folder.join("routes.json"), source }
    }

    /// Where the store's certificates are kept, beside it.
    pub(super) fn certs(&self) -> PathBuf {
        self.path.with_file_name("certs.json")
    }

    /// The last table, if there is one to use.
    pub(crate) fn load(&self) -> Option<Vec<AppRoutes>> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the last routes cannot be read");
                return None;
            }
        };
        match serde_json::from_slice::<Reading>(&bytes) {
            Ok(kept) if kept.v == 1 && kept.source == self.source => Some(kept.apps),
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the last routes make no sense; waiting for new ones");
                None
            }
        }
    }

    fn save(&self, revision: u64, routes: &Routes) -> io::Result<()> {
        let apps = routes.values().map(|app| &**app).collect();
        let file = Writing { v: 1, source: self.source, revision, apps };
        write_atomically(&self.path, &serde_json::to_vec(&file)?)
    }
}

/// Writes a file so that whoever reads it sees the old or the new content, also after a crash.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_data()?;
    std::fs::rename(temporary, path)
}

/// The same, for its owner alone to read.
pub(super) fn write_for_owner(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let temporary = path.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_data()?;
    std::fs::rename(temporary, path)
}

/// Keeps the last table on disk, off this thread, until it is aborted. A write that fails is tried again; until it succeeds
/// nothing newer counts as applied.
/// It ends, with no write under way, when the folder is no longer this process's.
pub(super) async fn keep(
    control: Rc<Control>,
    disk: Disk,
    mut changed: watch::Receiver<()>,
    mut phase: watch::Receiver<Phase>,
) {
    let (mut told, mut saved) = (false, 0);
    loop {
        tokio::select! {
            changed = changed.changed() => if changed.is_err() { return },
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => return,
        }
        while *phase.borrow() == Phase::Serving {
            let (generation, revision, routes) = control.state.borrow().routes();
            if generation == saved {
                break;
            }
            match write(disk.clone(), revision, routes).await {
                Ok(()) => {
                    (told, saved) = (false, generation);
                    control.state.borrow_mut().saved(generation);
                    control.applied_moved();
                }
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        let path = disk.path.display();
                        tracing::error!(%path, %error, "the last routes cannot be kept: make room there; drains wait for their deadline meanwhile");
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
        tokio::time::sleep(GAP).await;
    }
}

async fn write(disk: Disk, revision: u64, routes: Arc<Routes>) -> io::Result<()> {
    tokio::task::spawn_blocking(move || disk.save(revision, &routes)).await.map_err(io::Error::other)?
}

/// The id kept in a folder, or the new one, which is then kept there.
pub(crate) fn id(folder: &Path, new: impl FnOnce() -> String) -> io::Result<String> {
    let path = folder.join("id");
    match std::fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => Ok(id.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => {
            let id = new();
            write_atomically(&path, id.as_bytes())?;
            Ok(id)
        }
    }
}
