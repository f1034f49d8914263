//! A replica's log: lines as JSON in a file of at most 5 MiB and its predecessor.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::{LogLine, now_ms, stored};

/// Longest line; longer ones are cut into several.
pub(super) const LINE_MAX: usize = 16 << 10;
/// Bytes after which a new file is begun.
const FILE_MAX: u64 = 5 << 20;

/// Cuts what comes in pieces into lines.
#[derive(Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes a piece and gives the lines it completes.
    pub fn feed(&mut self, piece: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for part in piece.split_inclusive(|b| *b == b'\n') {
            let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            self.partial.extend_from_slice(text);
            while self.partial.len() > LINE_MAX {
                let rest = self.partial.split_off(LINE_MAX);
                lines.push(take(&mut self.partial));
                self.partial = rest;
            }
            if ends {
                lines.push(take(&mut self.partial));
            }
        }
        lines
    }

    /// What is left at the end, if anything.
    pub fn finish(mut self) -> Option<String> {
        (!self.partial.is_empty()).then(|| take(&mut self.partial))
    }
}

fn take(bytes: &mut Vec<u8>) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    if text.ends_with('\r') {
        text.pop();
    }
    bytes.clear();
    text
}

/// Writes a log. A full disk loses lines and stops nobody.
pub(super) struct Writer {
    folder: PathBuf,
    file: Option<File>,
    written: u64,
}

impl Writer {
    pub fn open(folder: &Path) -> Self {
        let mut writer = Self { folder: folder.to_owned(), file: None, written: 0 };
        writer.reopen();
        writer
    }

    fn reopen(&mut self) {
        self.file = File::options().create(true).append(true).open(self.folder.join("log")).ok();
        self.written = self.file.as_ref().and_then(|f| f.metadata().ok()).map_or(0, |m| m.len());
    }

    pub fn write(&mut self, stderr: bool, lines: Vec<String>) {
        let at_ms = now_ms();
        let bytes = lines.into_iter().map(|text| stored::write(&LogLine { at_ms, stderr, text }));
        let bytes = bytes.collect::<Vec<_>>().concat();
        if self.file.is_none() {
            self.reopen();
        }
        if let Some(file) = &mut self.file
            && file.write_all(&bytes).is_ok()
        {
            self.written += bytes.len() as u64;
        }
        if self.written >= FILE_MAX && fs::rename(self.folder.join("log"), self.folder.join("log.1")).is_ok() {
            self.reopen();
        }
    }
}

/// Copies a stream of the child into the log until it ends.
pub(super) fn pump(mut from: impl Read, stderr: bool, log: &Mutex<Writer>) {
    let mut lines = Lines::default();
    let mut piece = vec![0; 64 << 10];
    let write = |new: Vec<String>| log.lock().unwrap_or_else(PoisonError::into_inner).write(stderr, new);
    loop {
        match from.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => {
                let new = lines.feed(&piece[..n]);
                if !new.is_empty() {
                    write(new);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    write(lines.finish().into_iter().collect());
}

/// Reads a log from its beginning on, over rotations.
pub(super) struct Tail {
    path: PathBuf,
    files: VecDeque<File>,
    partial: Vec<u8>,
}

impl Tail {
    pub fn open(folder: &Path) -> Self {
        let path = folder.join("log");
        let current = File::open(&path).ok();
        let earlier = File::open(folder.join("log.1")).ok().filter(|f| inode(f) != current.as_ref().and_then(inode));
        Self { path, files: earlier.into_iter().chain(current).collect(), partial: Vec::new() }
    }

    /// The lines that came since the last call.
    pub fn read(&mut self) -> io::Result<Vec<LogLine>> {
        let mut bytes = std::mem::take(&mut self.partial);
        loop {
            if let Some(file) = self.files.front_mut() {
                file.read_to_end(&mut bytes)?;
            }
            if self.files.len() > 1 {
                self.files.pop_front();
                continue;
            }
            let Some(new) = File::open(&self.path).ok().filter(|f| inode(f) != self.files.front().and_then(inode))
            else {
                break;
            };
            // What was written between the read above and the rotation comes with one more read of the old file.
            self.files.push_back(new);
        }
        let end = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        self.partial = bytes.split_off(end);
        Ok(stored::read(&bytes))
    }
}

fn inode(file: &File) -> Option<u64> {
    file.metadata().ok().map(|m| m.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_lines() {
        let mut lines = Lines::default();
        assert_eq!(lines.feed(b"one\ntw"), ["one"]);
        assert_eq!(lines.feed(b"o\r\n\n"), ["two", ""]);
        let long = lines.feed(&vec![b'x'; 2 * LINE_MAX + 1]);
        assert_eq!(long.iter().map(String::len).collect::<Vec<_>>(), [LINE_MAX, LINE_MAX]);
        assert_eq!(lines.finish().as_deref(), Some("x"));
        assert_eq!(Lines::default().finish(), None);
    }

    #[test]
    fn reads_over_rotations_and_keeps_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(folder.path());
        let mut tail = Tail::open(folder.path());
        let (mut written, mut read) = (0, Vec::new());
        let size = |name: &str| fs::metadata(folder.path().join(name)).map_or(0, |m| m.len());
        while size("log.1") == 0 || size("log") < FILE_MAX / 2 {
            writer.write(false, (0..100).map(|i| format!("{} {}", written + i, "x".repeat(1000))).collect());
            written += 100;
            read.extend(tail.read().unwrap());
        }
        let numbers: Vec<usize> = read.iter().map(|l| l.text.split_once(' ').unwrap().0.parse().unwrap()).collect();
        assert_eq!(numbers, (0..written).collect::<Vec<_>>());
        for _ in 0..100 {
            writer.write(true, vec!["y".repeat(LINE_MAX); 10]);
        }
        assert!(size("log") + size("log.1") < 2 * FILE_MAX + (1 << 20));
        let all = Tail::open(folder.path()).read().unwrap();
        let two = stored::select(all, &crate::LogQuery { tail: Some(2), ..crate::LogQuery::default() });
        assert!(two.len() == 2 && two.iter().all(|l| l.stderr));
    }
}
