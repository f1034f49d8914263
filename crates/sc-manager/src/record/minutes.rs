//! A fortnight of minutes of each app: one file of a fixed size an app, in which each minute takes the place of the one 14
//! days before. 64 bytes each, 1.3 MB an app. A file that nobody has written to for as long goes.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use sc_core::AppId;
use sc_scale::minutes::{BYTES, MINUTE_MS, MINUTES, Minute};

/// The file of an app. The names of apps have no dots.
fn path(folder: &Path, app: &AppId) -> PathBuf {
    folder.join(format!("{}.{}.ring", app.project, app.name))
}

/// Keeps a minute.
pub(super) fn write(folder: &Path, app: &AppId, minute: &Minute) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let file = File::options().create(true).truncate(false).write(true).open(path(folder, app))?;
    file.write_all_at(&minute.to_bytes(), Minute::place(minute.at_ms) * BYTES as u64)
}

/// The minutes of an app from `from_ms` (whole minutes are looked for) to before `to_ms`, oldest first. Those that were not
/// kept, or are older than a fortnight at `now_ms`, are left out.
pub fn read(folder: &Path, app: &AppId, from_ms: u64, to_ms: u64, now_ms: u64) -> Vec<Minute> {
    let Ok(file) = File::open(path(folder, app)) else { return Vec::new() };
    let oldest = (now_ms / MINUTE_MS).saturating_sub(MINUTES);
    let (from, to) = ((from_ms / MINUTE_MS).max(oldest), to_ms.min(now_ms).div_ceil(MINUTE_MS));
    let one = |number: u64| {
        let mut bytes = [0; BYTES];
        file.read_exact_at(&mut bytes, Minute::place(number * MINUTE_MS) * BYTES as u64).ok()?;
        Minute::from_bytes(&bytes).filter(|minute| minute.at_ms == number * MINUTE_MS)
    };
    (from..to).filter_map(one).collect()
}

/// Removes the files of apps of which nothing was heard for a fortnight.
pub(super) fn prune(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let ours = entry.path().extension().is_some_and(|end| end == "ring");
        let written = entry.metadata().and_then(|metadata| metadata.modified());
        let age = written.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
        if ours && age > Duration::from_millis(MINUTES * MINUTE_MS) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fortnight_is_kept_in_a_file_that_does_not_grow() {
        let folder = tempfile::tempdir().unwrap();
        let web = AppId::in_default("web").unwrap();
        let begin = 1_700_000_040_000;
        let minute =
            |n: u64| Minute { at_ms: begin + n * MINUTE_MS, seconds: 60, arrivals: n as f32, ..Minute::default() };
        // Every seventh minute of three weeks.
        let all: Vec<u64> = (0..MINUTES * 3 / 2).step_by(7).collect();
        all.iter().for_each(|n| write(folder.path(), &web, &minute(*n)).unwrap());
        let now = begin + MINUTES * 3 / 2 * MINUTE_MS;
        let kept = read(folder.path(), &web, 0, now, now);
        let expected: Vec<Minute> = all.iter().filter(|n| **n >= MINUTES / 2).map(|n| minute(*n)).collect();
        assert_eq!(kept, expected);
        let size = fs::metadata(path(folder.path(), &web)).unwrap().len();
        assert!(size <= MINUTES * BYTES as u64, "{size}");
        let last = *all.last().unwrap();
        let at = begin + last * MINUTE_MS + 30_000;
        assert_eq!(read(folder.path(), &web, at, at + 1, now), [minute(last)]);
        assert!(read(folder.path(), &AppId::in_default("shop").unwrap(), 0, now, now).is_empty());
        prune(folder.path());
        assert_eq!(read(folder.path(), &web, 0, now, now).len(), kept.len(), "written just now");
    }
}
