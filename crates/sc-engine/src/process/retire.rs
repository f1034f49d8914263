//! What remains of replicas that are gone: their logs, for a while and bounded.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::replica_of;

/// Logs of this many gone replicas are kept, of one app and in all, for this long.
const PER_APP: usize = 10;
const IN_ALL: usize = 100;
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Moves a replica's folder to the gone ones, its log kept.
pub(super) fn retire(data: &Path, folder: &Path) -> io::Result<()> {
    let Some(name) = folder.file_name() else { return Ok(()) };
    let gone = data.join("gone").join(name);
    if gone.exists() {
        fs::remove_dir_all(&gone)?;
    }
    match fs::rename(folder, &gone) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    strip(&gone)?;
    prune(data)
}

/// Removes all but log and description.
fn strip(gone: &Path) -> io::Result<()> {
    for name in ["root", "lock", "stop", "error", "shim.err", "before.json"] {
        let path = gone.join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Removes the logs that are too old or too many, and what a crash left half made.
pub(super) fn prune(data: &Path) -> io::Result<()> {
    let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(data.join("gone"))? {
        let entry = entry?;
        found.push((entry.metadata()?.modified()?, entry.path()));
    }
    found.sort_by(|a, b| b.cmp(a));
    let mut of_app: BTreeMap<_, usize> = BTreeMap::new();
    for (i, (at, path)) in found.into_iter().enumerate() {
        let app = path.file_name().and_then(|name| replica_of(name.to_str()?)).map(|replica| replica.app);
        let count = of_app.entry(app.clone()).or_default();
        *count += 1;
        let old = at.elapsed().is_ok_and(|age| age > KEPT);
        if old || *count > PER_APP || i >= IN_ALL || app.is_none() {
            fs::remove_dir_all(&path)?;
        } else if path.join("root").exists() {
            strip(&path)?;
        }
    }
    half_made(&data.join("replicas"))
}

fn half_made(replicas: &Path) -> io::Result<()> {
    for entry in fs::read_dir(replicas)? {
        let entry = entry?;
        let ours = entry.file_name().to_string_lossy().starts_with(".new-");
        let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
        if ours && age > Duration::from_secs(3600) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
