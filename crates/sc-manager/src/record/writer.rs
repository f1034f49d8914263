//! The thread that writes recordings.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::Path,
    sync::mpsc::Receiver,
};

use sc_core::{AppId, records::UnixMs};

use super::{Job, Line, MINUTES, SEGMENT_MS, files, minutes};

/// Writes until nobody can send any more.
pub(super) fn run(folder: &Path, jobs: &Receiver<Job>) {
    let mut open: BTreeMap<AppId, File> = BTreeMap::new();
    let mut pruned_ms: UnixMs = 0;
    while let Ok(job) = jobs.recv() {
        if matches!(job.line, Line::Start(_)) && job.at_ms.abs_diff(pruned_ms) >= SEGMENT_MS {
            pruned_ms = job.at_ms;
            files::prune(folder, job.at_ms);
            minutes::prune(&folder.join(MINUTES));
            open.retain(|_, file| file.metadata().is_ok_and(|now| std::os::unix::fs::MetadataExt::nlink(&now) > 0));
        }
        if let Err(error) = write(folder, &mut open, &job) {
            tracing::warn!(app = %job.app, %error, "scaling decisions are not recorded for a while");
            open.remove(&job.app);
        }
    }
}

fn write(folder: &Path, open: &mut BTreeMap<AppId, File>, job: &Job) -> io::Result<()> {
    let mut line = match &job.line {
        Line::Start(start) => {
            let path = files::path(folder, &job.app, job.at_ms);
            if let Some(place) = path.parent() {
                fs::create_dir_all(place)?;
            }
            open.insert(job.app.clone(), File::create(path)?);
            serde_json::to_vec(start)?
        }
        Line::Row(row) => serde_json::to_vec(row)?,
        Line::Minute(minute) => return minutes::write(&folder.join(MINUTES), &job.app, minute),
    };
    line.push(b'\n');
    // After an error there is no file until the next segment begins.
    open.get_mut(&job.app).map_or(Ok(()), |file| file.write_all(&line))
}
