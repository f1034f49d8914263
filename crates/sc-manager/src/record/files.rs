//! The recordings' files: where they are, which are too many, what is in them.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use sc_core::{AppId, Name, records::UnixMs};
use sc_scale::{
    Window,
    replay::{Row, Start},
};

use super::SEGMENT_MS;

/// How long a recording is kept.
const KEPT_MS: u64 = 24 * 3_600 * 1_000;
/// The most that one app's recordings take, in bytes: a busy day fits.
const APP_MAX: u64 = 64 << 20;
/// The most that all take together.
const ALL_MAX: u64 = 1 << 30;

/// One segment's file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    /// When it begins.
    pub began_ms: UnixMs,
    pub path: PathBuf,
}

/// The file of a segment that begins now.
pub(super) fn path(folder: &Path, app: &AppId, began_ms: UnixMs) -> PathBuf {
    place(folder, app).join(format!("{began_ms:013}.jsonl"))
}

fn place(folder: &Path, app: &AppId) -> PathBuf {
    folder.join(app.project.as_str()).join(app.name.as_str())
}

/// An app's segments, oldest first. None where nothing was recorded.
pub(super) fn segments(folder: &Path, app: &AppId) -> io::Result<Vec<Segment>> {
    in_place(&place(folder, app))
}

fn in_place(place: &Path) -> io::Result<Vec<Segment>> {
    let entries = match fs::read_dir(place) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if let Some(began_ms) = number.filter(|_| path.extension().is_some_and(|end| end == "jsonl")) {
            found.push(Segment { began_ms, path });
        }
    }
    found.sort();
    Ok(found)
}

/// Every app's folder.
fn places(folder: &Path) -> Vec<(AppId, PathBuf)> {
    let under = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let name = |path: &Path| Name::new(path.file_name()?.to_str()?).ok();
    let apps = |project: PathBuf| {
        let of = name(&project);
        under(&project).filter_map(move |app| Some((AppId { project: of.clone()?, name: name(&app)? }, app)))
    };
    under(folder).flat_map(apps).collect()
}

/// Reads a segment. A last line that was not written to its end is left out.
pub(super) fn read(segment: &Segment) -> io::Result<(Start, Vec<Row>)> {
    let mut lines = BufReader::new(fs::File::open(&segment.path)?).lines();
    let first = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    let start = serde_json::from_str(&first).map_err(io::Error::from)?;
    let mut rows = Vec::new();
    for line in lines {
        match serde_json::from_str(&line?) {
            Ok(row) => rows.push(row),
            Err(_) => break,
        }
    }
    Ok((start, rows))
}

/// Removes what is too old or too much, the oldest first.
pub(super) fn prune(folder: &Path, now_ms: UnixMs) {
    let mut all = Vec::new();
    for (_, place) in places(folder) {
        let sized = |segment: Segment| Some((fs::metadata(&segment.path).ok()?.len(), segment));
        let mut found: Vec<_> = in_place(&place).unwrap_or_default().into_iter().filter_map(sized).collect();
        remove_beyond(&mut found, APP_MAX, now_ms);
        // Gone when it is empty.
        let _ = fs::remove_dir(&place);
        all.extend(found);
    }
    all.sort_by(|(_, one), (_, other)| one.cmp(other));
    remove_beyond(&mut all, ALL_MAX, now_ms);
}

fn remove_beyond(segments: &mut Vec<(u64, Segment)>, most: u64, now_ms: UnixMs) {
    let mut sum: u64 = segments.iter().map(|(bytes, _)| bytes).sum();
    segments.retain(|(bytes, segment)| {
        let old = segment.began_ms + KEPT_MS < now_ms;
        let gone = (old || sum > most) && fs::remove_file(&segment.path).is_ok();
        sum -= if gone { *bytes } else { 0 };
        !gone
    });
}

/// What was measured lately of each app, by its recording: for a manager that starts. What cannot be read is left out.
pub fn windows(folder: &Path, now_ms: UnixMs) -> Vec<(AppId, Window)> {
    let recent = |(app, place): (AppId, PathBuf)| {
        let segments = in_place(&place).ok()?;
        let last = segments.iter().rev().take(2).rev().filter(|s| s.began_ms + 2 * SEGMENT_MS > now_ms);
        let mut window = Window::default();
        for (start, rows) in last.filter_map(|segment| read(segment).ok()) {
            let before = start.window.into_iter().flat_map(|window| window.seconds);
            let samples = before.chain(rows.into_iter().flat_map(|row| row.samples));
            samples.filter(|sample| sample.at_ms <= now_ms).for_each(|sample| window.push(sample));
        }
        (!window.seconds.is_empty()).then_some((app, window))
    };
    places(folder).into_iter().filter_map(recent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_or_too_much_goes_and_empty_folders_too() {
        let folder = tempfile::tempdir().unwrap();
        let (web, gone) = (AppId::in_default("web").unwrap(), AppId::in_default("gone").unwrap());
        let write = |app: &AppId, began_ms: u64, bytes: u64| {
            let path = path(folder.path(), app, began_ms);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::File::create(path).unwrap().set_len(bytes).unwrap();
        };
        let day = KEPT_MS;
        write(&gone, 1_000, 10);
        for (began, bytes) in [(2_000, 10), (day, 40 << 20), (day + 1, 30 << 20), (day + 2, 20 << 20)] {
            write(&web, began, bytes);
        }
        prune(folder.path(), day + 5_000);
        let left: Vec<u64> = segments(folder.path(), &web).unwrap().iter().map(|s| s.began_ms).collect();
        assert_eq!(left, [day + 1, day + 2]);
        assert!(!place(folder.path(), &gone).exists());
        assert_eq!(segments(folder.path(), &gone).unwrap(), []);
    }
}
