//! The inputs of every scaling decision, kept for a day: so that one can be decided again and looked into, and so that a
//! manager that starts anew knows the last quarter of an hour.
//!
//! ```text
//!  scaler ──rows──▶ bounded queue ──▶ one thread ──▶ recorded/{project}/{app}/{began}.jsonl
//! ```
//!
//! The scaler never waits for the disk: where the queue is full, or the disk is, rows are lost and a new recording begins. Files are
//! the manager's own and are not in the store: they are an account of what happened, nothing is decided by their being there.
//! Beside them stands what each minute of a fortnight was like ([`minutes`]).

mod again;
mod files;
pub mod minutes;
mod writer;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::mpsc::{SyncSender, sync_channel},
};

use sc_core::{AppId, records::UnixMs};
use sc_scale::{
    Memory, Now, Policy, Window,
    minutes::Minute,
    replay::{Row, Start, Taker},
    window::SECONDS,
};

pub use again::{NotRecorded, Replayed, replay};
pub use files::windows;

/// Rows that may wait to be written.
const QUEUE: usize = 4_096;
/// A segment's length. One that goes on from it reads its rows only, so it has to hold a whole window, and a little more for
/// seconds that were closed before their decision.
const SEGMENT_MS: u64 = SECONDS as u64 * 1_000 + 10_000;

/// The folder of minutes, in that of the recordings.
const MINUTES: &str = ".minutes";

/// What the writer is given.
enum Line {
    Start(Box<Start>),
    Row(Box<Row>),
    Minute(Box<Minute>),
}

struct Job {
    app: AppId,
    at_ms: UnixMs,
    line: Line,
}

/// Where rows go. Without a folder nothing is recorded.
#[derive(Default)]
pub struct Recorder {
    to: Option<(PathBuf, SyncSender<Job>)>,
}

impl Recorder {
    /// Records into this folder from now on; none: nowhere.
    pub fn start(folder: Option<PathBuf>) -> Self {
        let Some(folder) = folder else { return Self::default() };
        let (sender, jobs) = sync_channel(QUEUE);
        let place = folder.clone();
        let thread = std::thread::Builder::new().name("recorder".to_owned());
        match thread.spawn(move || writer::run(&place, &jobs)) {
            Ok(_) => Self { to: Some((folder, sender)) },
            Err(error) => {
                tracing::warn!(%error, "scaling decisions are not recorded: no thread can be started");
                Self::default()
            }
        }
    }

    /// Where it records.
    pub fn folder(&self) -> Option<&Path> {
        self.to.as_ref().map(|(folder, _)| folder.as_path())
    }

    /// Where the minutes are kept. It cannot be a project's name.
    pub fn minutes(&self) -> Option<PathBuf> {
        self.folder().map(|folder| folder.join(MINUTES))
    }

    /// Keeps a minute. One for which there is no room is lost.
    pub(crate) fn keep(&self, app: &AppId, minute: Minute) {
        self.put(app, minute.at_ms, Line::Minute(Box::new(minute)));
    }

    fn put(&self, app: &AppId, at_ms: UnixMs, line: Line) -> bool {
        let Some((_, sender)) = &self.to else { return false };
        sender.try_send(Job { app: app.clone(), at_ms, line }).is_ok()
    }
}

/// The recordings that go on, in one epoch.
#[derive(Default)]
pub(crate) struct Recordings {
    apps: BTreeMap<AppId, (Taker, UnixMs)>,
}

impl Recordings {
    /// What is new before a decision. None: it is not recorded.
    pub fn take(
        &mut self,
        recorder: &Recorder,
        app: &AppId,
        policy: &Policy,
        now: &Now,
        window: &Window,
        memory: &Memory,
    ) -> Option<Row> {
        recorder.folder()?;
        if let Some((taker, began_ms)) = self.apps.get_mut(app) {
            let full = now.at_ms >= *began_ms + SEGMENT_MS;
            let start = full.then(|| taker.go_on(memory));
            if let Some(row) = taker.take(policy, now, window) {
                if let Some(start) = start {
                    *began_ms = now.at_ms;
                    recorder.put(app, now.at_ms, Line::Start(Box::new(start)));
                }
                return Some(row);
            }
        }
        let (mut taker, start) = Taker::begin(policy, window, memory);
        recorder.put(app, now.at_ms, Line::Start(Box::new(start)));
        let row = taker.take(policy, now, window);
        self.apps.insert(app.clone(), (taker, now.at_ms));
        row
    }

    /// Records a decision. Where that cannot be, the next one begins a new recording.
    pub fn put(&mut self, recorder: &Recorder, app: &AppId, row: Row) {
        if !recorder.put(app, row.now.at_ms, Line::Row(Box::new(row))) {
            self.apps.remove(app);
        }
    }

    /// Forgets all others.
    pub fn keep(&mut self, keep: impl Fn(&AppId) -> bool) {
        self.apps.retain(|app, _| keep(app));
    }
}
