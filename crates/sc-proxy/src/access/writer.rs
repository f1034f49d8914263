//! The thread that writes lines: to standard output, or to a file that others may rotate.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::Duration,
};

use super::{BUFFERS, Batch, Target};
use crate::live::Shared;

/// How often it looks whether the file is still there when there is nothing to write.
const LOOK: Duration = Duration::from_secs(1);

/// The writer, before it runs.
pub(crate) struct Writer {
    target: Target,
    file: Option<File>,
    batches: Receiver<Batch>,
    shared: Arc<Shared>,
    /// The last writing failed, and that was said.
    failing: bool,
}

impl Writer {
    /// Opens what is to be written to.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn open(target: &Target, shared: Arc<Shared>) -> io::Result<(Self, SyncSender<Batch>)> {
        let file = match target {
            Target::Stdout => None,
            Target::File(path) => Some(append(path)?),
        };
        let (sender, batches) = sync_channel(BUFFERS);
        Ok((Self { target: target.clone(), file, batches, shared, failing: false }, sender))
    }

    /// Writes until all worker threads have ended.
    pub(crate) fn run(mut self) -> io::Result<()> {
        loop {
            let batch = self.batches.recv_timeout(LOOK);
            self.follow_rotation();
            match batch {
                Ok(batch) => self.write(&batch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn write(&mut self, batch: &Batch) {
        let written = match &mut self.file {
            Some(file) => file.write_all(&batch.text),
            None => {
                let mut out = io::stdout().lock();
                out.write_all(&batch.text).and_then(|()| out.flush())
            }
        };
        let counts = &self.shared.access;
        match written {
            Ok(()) => {
                counts.written.fetch_add(batch.lines, Relaxed);
                self.failing = false;
            }
            Err(error) => {
                counts.dropped.fetch_add(batch.lines, Relaxed);
                self.complain(&error);
            }
        }
    }

    /// Opens the file anew if it was asked to, or if its name now stands for another file or for none.
    fn follow_rotation(&mut self) {
        let asked = self.shared.access.reopen.swap(false, Relaxed);
        let (Target::File(path), Some(file)) = (&self.target, &self.file) else { return };
        if !asked && is_at(file, path) {
            return;
        }
        match append(path) {
            Ok(file) => self.file = Some(file),
            Err(error) => self.complain(&error), // the old one takes the lines meanwhile
        }
    }

    fn complain(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(%error, target = ?self.target, "the access log cannot be written");
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(file), Ok(path)) = (file.metadata(), path.metadata()) else { return false };
    (file.dev(), file.ino()) == (path.dev(), path.ino())
}
