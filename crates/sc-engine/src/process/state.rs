//! A replica's folder: what it is (`meta.json`, written once by the engine) and how it fares (`state.json`, written by
//! its shim). Files are replaced whole, so a reader never sees half of one.
//!
//! ```text
//! replicas/default.web.7/   meta.json state.json before.json lock stop log log.1 error shim.err root/
//! gone/default.web.6/       meta.json state.json log log.1
//! ```

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use sc_core::{ReplicaId, observed::Exit};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::identity::Identity;

/// What a replica is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// Layout version, 1.
    pub v: u32,
    pub replica: ReplicaId,
    /// The store it belongs to.
    pub store: String,
    pub version: u64,
    pub restart: u64,
    pub addr: SocketAddr,
    /// Program (a path on this host) and its arguments.
    pub program: PathBuf,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// Memory limit in bytes, kept by the shim.
    pub memory: Option<u64>,
    /// CPUs asked for; not enforced.
    pub cpus: Option<f64>,
}

/// How a replica fares.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    pub shim: Option<Identity>,
    pub child: Option<Identity>,
    pub started_ms: u64,
    pub exit: Option<Exit>,
}

/// The folder's name. Dots cannot be part of names, so it is unique.
pub(super) fn folder_name(replica: &ReplicaId) -> String {
    format!("{}.{}.{}", replica.app.project, replica.app.name, replica.incarnation)
}

/// Replaces a file whole.
pub(super) fn write(folder: &Path, name: &str, value: &impl Serialize) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.persist(folder.join(name))?;
    Ok(())
}

/// Reads a file; none when there is none.
pub(super) fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> io::Result<Option<T>> {
    match fs::read(folder.join(name)) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn meta(folder: &Path) -> io::Result<Option<Meta>> {
    read(folder, "meta.json")
}

pub(super) fn state(folder: &Path) -> io::Result<Option<State>> {
    read(folder, "state.json")
}

pub(super) fn write_state(folder: &Path, state: &State) -> io::Result<()> {
    write(folder, "state.json", state)
}

/// Forgets how a replica ended, so that it can be started again. One step, whatever crashes: [`restarts`] is another number,
/// and the replica counts as made and not started.
pub(super) fn begin_anew(folder: &Path) -> io::Result<()> {
    for name in ["stop", "error"] {
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(folder.join("state.json"), folder.join("before.json"))
}

/// When its previous start was, 0 for none: another number after each further start.
pub(super) fn restarts(folder: &Path) -> u64 {
    read::<State>(folder, "before.json").ok().flatten().map_or(0, |before| before.started_ms)
}

/// The lock that a shim holds as long as it lives; none when another holds it.
pub(super) fn lock(folder: &Path) -> io::Result<Option<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(folder.join("lock"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
