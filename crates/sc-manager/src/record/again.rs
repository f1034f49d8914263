//! Deciding again what was recorded.

use std::{io, path::Path};

use sc_core::{AppId, records::UnixMs};
use sc_scale::{
    Decision,
    replay::{DECIDER, Replay, digest},
};

use super::files;

/// Why there is nothing to decide again.
#[derive(Debug, thiserror::Error)]
pub enum NotRecorded {
    /// No decision from before that time.
    #[error("no decision on {0} is recorded from then: recordings go back a day, and are kept by the manager that led")]
    Never(AppId),
    /// The files are damaged or gone.
    #[error("the recording of {app} cannot be read")]
    Unreadable {
        /// The app.
        app: AppId,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A decision, decided again from its recorded inputs, and all those before it in its segment.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// As it comes out now.
    pub decision: Decision,
    /// How many decisions were decided again.
    pub decisions: u64,
    /// How many of them came out with other bytes than were recorded.
    pub differing: u64,
    /// The decider that decided then.
    pub decider: u32,
}

impl Replayed {
    /// The decider that decided again.
    pub const DECIDER: u32 = DECIDER;
}

/// Decides the latest decision at or before a time again. Reads at most two files.
///
/// # Errors
/// When there is none, or its recording cannot be read.
pub fn replay(folder: &Path, app: &AppId, at_ms: UnixMs) -> Result<Replayed, NotRecorded> {
    let unreadable = |source| NotRecorded::Unreadable { app: app.clone(), source };
    let segments = files::segments(folder, app).map_err(unreadable)?;
    let upto = segments.partition_point(|segment| segment.began_ms <= at_ms);
    let segment = segments[..upto].last().ok_or_else(|| NotRecorded::Never(app.clone()))?;
    let (start, rows) = files::read(segment).map_err(unreadable)?;
    let decider = start.decider;
    let before = match start.window {
        Some(_) => None,
        None => segments[..upto - 1].last().map(files::read).transpose().map_err(unreadable)?,
    };
    let before = before.as_ref().map(|(start, rows)| (start.window.clone().unwrap_or_default(), &rows[..]));
    let mut replay = Replay::begin(start, before);
    let mut replayed: Option<Replayed> = None;
    for row in rows.iter().take_while(|row| row.now.at_ms <= at_ms) {
        let decision = replay.step(row);
        let differs = u64::from(digest(&decision) != row.digest);
        let (decisions, differing) = replayed.map_or((0, 0), |last| (last.decisions, last.differing));
        replayed = Some(Replayed { decision, decisions: decisions + 1, differing: differing + differs, decider });
    }
    replayed.ok_or_else(|| NotRecorded::Never(app.clone()))
}
