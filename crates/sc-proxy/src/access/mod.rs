//! The access log: one line per request, written by a thread of its own.
//!
//! ```text
//!  worker thread: request ends ─▶ line formatted into the thread's buffer ─(full, or a tick)─▶ bounded channel ─▶ writer thread
//! ```
//!
//! No request waits for the log: a buffer that finds the channel full is thrown away and its lines are counted in
//! [`Counts::dropped`]. With the log off a request pays for one look at an empty option.

mod line;
mod writer;

use std::{
    cell::{Cell, RefCell},
    path::PathBuf,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{SyncSender, TrySendError},
    },
    time::Duration,
};

pub use self::line::{Entry, combined, json};
pub(crate) use self::{
    line::{Line, forwarded_for},
    writer::Writer,
};
use crate::live::Shared;

/// Bytes of lines that a thread collects before it hands them on.
const BUFFER: usize = 16 * 1024;
/// Buffers on their way to the writer: about a megabyte.
const BUFFERS: usize = 64;

/// What is logged of requests, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLog {
    /// Where the lines go.
    pub target: Target,
    /// What a line looks like.
    pub format: Format,
    /// The share of requests that is logged, from 0 to 1. Answers of class 5xx and slow requests are logged always.
    pub sample: f64,
    /// Requests that took at least so long are slow; none: no request is.
    pub slow: Option<Duration>,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, appended to. It is opened anew when it was renamed or removed (log rotation), or on demand.
    File(PathBuf),
}

impl FromStr for Target {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("say stdout or a file".to_owned()),
            "stdout" | "-" => Ok(Self::Stdout),
            path => Ok(Self::File(path.into())),
        }
    }
}

/// What a line looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object, with everything that is known.
    #[default]
    Json,
    /// The Combined Log Format of Apache and nginx.
    Combined,
}

impl FromStr for Format {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "combined" => Ok(Self::Combined),
            _ => Err(format!("{text:?} is neither json nor combined")),
        }
    }
}

/// What became of lines.
#[derive(Debug, Default)]
pub struct Counts {
    /// Written.
    pub written: AtomicU64,
    /// Lost, since the writer was behind or could not write.
    pub dropped: AtomicU64,
    /// The file is to be opened anew.
    pub(crate) reopen: AtomicBool,
}

/// Some lines.
pub(crate) struct Batch {
    text: Vec<u8>,
    lines: u64,
}

/// What the worker threads get their logs from.
#[derive(Clone)]
pub struct Source {
    config: AccessLog,
    shared: Arc<Shared>,
    batches: SyncSender<Batch>,
}

impl Source {
    pub(crate) fn new(config: AccessLog, shared: Arc<Shared>, batches: SyncSender<Batch>) -> Self {
        Self { config, shared, batches }
    }
}

/// A worker thread's part of the log. Dropping it hands on what it still has.
pub(crate) struct Log {
    source: Source,
    text: RefCell<Vec<u8>>,
    lines: Cell<u64>,
}

impl Log {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, text: RefCell::default(), lines: Cell::new(0) }
    }

    /// Takes a finished request in. `dice`: 32 random bits.
    fn put(&self, entry: &Entry, dice: u32) {
        let config = &self.source.config;
        let slow = config.slow.is_some_and(|slow| entry.duration >= slow);
        if !(slow || entry.status >= 500 || sampled(config.sample, dice)) {
            return;
        }
        let full = {
            let text = &mut *self.text.borrow_mut();
            match config.format {
                Format::Json => json(entry, text),
                Format::Combined => combined(entry, text),
            }
            text.len() >= BUFFER
        };
        self.lines.set(self.lines.get() + 1);
        if full {
            self.flush();
        }
    }

    /// Hands on what there is.
    pub(crate) fn flush(&self) {
        let lines = self.lines.take();
        if lines == 0 {
            return;
        }
        let batch = Batch { text: self.text.take(), lines };
        if let Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) = self.source.batches.try_send(batch)
        {
            self.source.shared.access.dropped.fetch_add(lines, Relaxed);
            let mut text = batch.text;
            text.clear();
            self.text.replace(text);
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Whether a share of all dice has this one.
fn sampled(share: f64, dice: u32) -> bool {
    f64::from(dice) < share * 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::sync_channel, time::SystemTime};

    use super::*;

    fn log(
        sample: f64,
        slow: Option<Duration>,
        buffers: usize,
    ) -> (Log, std::sync::mpsc::Receiver<Batch>, Arc<Shared>) {
        let shared = Arc::new(Shared::new(1));
        let (sender, receiver) = sync_channel(buffers);
        let config = AccessLog { target: Target::Stdout, format: Format::Combined, sample, slow };
        (Log::new(Source::new(config, shared.clone(), sender)), receiver, shared)
    }

    fn entry(status: u16, millis: u64) -> Entry {
        Entry { status, duration: Duration::from_millis(millis), at: SystemTime::UNIX_EPOCH, ..Entry::default() }
    }

    #[test]
    fn a_share_is_logged_and_all_that_is_slow_or_wrong() {
        let (log, receiver, _) = log(0.25, Some(Duration::from_millis(500)), 8);
        (0..1_000u32).for_each(|i| log.put(&entry(200, 1), i * (u32::MAX / 1_000)));
        assert!((249..=251).contains(&log.lines.get()), "{}", log.lines.get());
        let before = log.lines.get();
        log.put(&entry(200, 500), u32::MAX);
        log.put(&entry(503, 1), u32::MAX);
        log.put(&entry(404, 499), u32::MAX);
        assert_eq!(log.lines.get(), before + 2);
        drop(log);
        let lines: u64 = receiver.iter().map(|batch| batch.lines).sum();
        assert_eq!(lines, before + 2, "what is left is handed on at the end");
        assert!(sampled(1.0, u32::MAX) && !sampled(0.0, 0));
    }

    #[test]
    fn a_writer_that_is_behind_costs_lines_and_no_wait() {
        let (log, receiver, shared) = log(1.0, None, 1);
        log.put(&entry(200, 1), 0);
        log.flush();
        log.put(&entry(200, 1), 0);
        log.put(&entry(200, 1), 0);
        log.flush();
        assert_eq!(shared.access.dropped.load(Relaxed), 2);
        assert_eq!(receiver.recv().unwrap().lines, 1);
        log.put(&entry(200, 1), 0);
        log.flush();
        let batch = receiver.recv().unwrap();
        assert_eq!((batch.lines, batch.text.iter().filter(|b| **b == b'\n').count()), (1, 1));
    }
}
