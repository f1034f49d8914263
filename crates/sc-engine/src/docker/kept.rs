//! The ends of the logs of containers that are gone: at most 1 MiB each, for a while and bounded.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use sc_core::{AppId, Name, ReplicaId};

use crate::{LogLine, stored};

/// Bytes of one log.
const BYTES: usize = 1 << 20;
/// Logs of this many gone replicas are kept, of one app and in all, for this long.
const PER_APP: usize = 10;
const IN_ALL: usize = 200;
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

fn path(folder: &Path, replica: &ReplicaId) -> PathBuf {
    folder.join(format!("{}.{}.{}.log", replica.app.project, replica.app.name, replica.incarnation))
}

fn replica_of(path: &Path) -> Option<ReplicaId> {
    let mut parts = path.file_name()?.to_str()?.strip_suffix(".log")?.split('.');
    let app = AppId { project: Name::new(parts.next()?).ok()?, name: Name::new(parts.next()?).ok()? };
    Some(ReplicaId::new(&app, parts.next()?.parse().ok()?))
}

/// Writes the end of a log.
pub(super) fn write(folder: &Path, replica: &ReplicaId, lines: &[LogLine]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let (mut kept, mut bytes) = (Vec::new(), 0);
    for line in lines.iter().rev().map(stored::write) {
        bytes += line.len();
        if bytes > BYTES {
            break;
        }
        kept.push(line);
    }
    kept.reverse();
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    io::Write::write_all(&mut file, &kept.concat())?;
    file.persist(path(folder, replica))?;
    prune(folder)
}

/// A log that was kept.
pub(super) fn read(folder: &Path, replica: &ReplicaId) -> io::Result<Option<Vec<LogLine>>> {
    match fs::read(path(folder, replica)) {
        Ok(bytes) => Ok(Some(stored::read(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The replicas of an app whose logs are kept.
pub(super) fn of_app(folder: &Path, app: &AppId) -> io::Result<Vec<ReplicaId>> {
    let found = files(folder)?.into_iter().filter_map(|(_, path)| replica_of(&path));
    Ok(found.filter(|replica| replica.app == *app).collect())
}

fn files(folder: &Path) -> io::Result<Vec<(SystemTime, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    entries.map(|entry| entry.and_then(|entry| Ok((entry.metadata()?.modified()?, entry.path())))).collect()
}

/// Removes the logs that are too old or too many.
pub(super) fn prune(folder: &Path) -> io::Result<()> {
    let mut found = files(folder)?;
    found.sort_by(|a, b| b.cmp(a));
    let mut of_app: BTreeMap<AppId, usize> = BTreeMap::new();
    for (i, (at, path)) in found.into_iter().enumerate() {
        let Some(replica) = replica_of(&path) else { continue };
        let count = of_app.entry(replica.app).or_default();
        *count += 1;
        let old = at.elapsed().is_ok_and(|age| age > KEPT);
        if old || *count > PER_APP || i >= IN_ALL {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> LogLine {
        LogLine { at_ms: 5, stderr: true, text: text.to_owned() }
    }

    #[test]
    fn keeps_the_end_of_few_logs() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("logs");
        let app = AppId::in_default("web").unwrap();
        assert_eq!(of_app(&folder, &app).unwrap(), []);
        let lines: Vec<_> = (0..200).map(|i| line(&format!("{i} {}", "x".repeat(10_000)))).collect();
        for n in 1..=PER_APP as u64 + 3 {
            write(&folder, &ReplicaId::new(&app, n), &lines).unwrap();
        }
        assert_eq!(of_app(&folder, &app).unwrap().len(), PER_APP);
        let last = ReplicaId::new(&app, PER_APP as u64 + 3);
        let kept = read(&folder, &last).unwrap().unwrap();
        assert!(kept.len() > 90 && kept.len() < 110, "{}", kept.len());
        assert_eq!(kept, lines[lines.len() - kept.len()..]);
        assert_eq!(read(&folder, &ReplicaId::new(&app, 99)).unwrap(), None);
    }
}
