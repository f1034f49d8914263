//! The latest changes, for watches: bounded in number and in bytes.

use std::collections::VecDeque;

use crate::{Entry, Revision};

/// How many changes are kept.
pub(crate) const LOG_MAX: usize = 10_000;
/// How many bytes of keys and values are kept: watchers are at most moments behind.
const LOG_BYTES_MAX: usize = 16 << 20;

/// The latest changes, oldest first.
#[derive(Default)]
pub(crate) struct Log {
    changes: VecDeque<(Revision, String, Option<Entry>)>,
    bytes: usize,
    /// Changes up to this revision are no longer here, or not all of them.
    forgotten: Revision,
}

impl Log {
    /// A log that knows nothing of what happened up to this revision.
    pub(crate) fn after(revision: Revision) -> Self {
        Self { forgotten: revision, ..Self::default() }
    }

    pub(crate) fn push(&mut self, revision: Revision, key: String, entry: Option<Entry>) {
        self.bytes += size(&key, entry.as_ref());
        self.changes.push_back((revision, key, entry));
        while self.changes.len() > LOG_MAX || self.bytes > LOG_BYTES_MAX {
            let Some((revision, key, entry)) = self.changes.pop_front() else { return };
            self.bytes -= size(&key, entry.as_ref());
            self.forgotten = revision;
        }
    }

    /// What changed below a prefix after a revision; none when that is no longer known.
    pub(crate) fn since(&self, prefix: &str, after: Revision) -> Option<Vec<(String, Option<Entry>)>> {
        if after < self.forgotten {
            return None;
        }
        let start = self.changes.partition_point(|(revision, ..)| *revision <= after);
        let below = self.changes.range(start..).filter(|(_, key, _)| key.starts_with(prefix));
        Some(below.map(|(_, key, entry)| (key.clone(), entry.clone())).collect())
    }
}

fn size(key: &str, entry: Option<&Entry>) -> usize {
    key.len() + entry.map_or(0, |entry| entry.value.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(revision: Revision, bytes: usize) -> Option<Entry> {
        Some(Entry { value: vec![0; bytes].into(), revision })
    }

    #[test]
    fn who_falls_behind_must_load_anew() {
        let mut log = Log::after(3);
        assert!(log.since("", 2).is_none() && log.since("", 3).is_some());
        for n in 1..=LOG_MAX as u64 + 10 {
            log.push(3 + n, format!("k{n}"), entry(3 + n, 1));
        }
        assert!(log.since("", 12).is_none(), "ten are forgotten");
        assert_eq!(log.since("", 13).unwrap().len(), LOG_MAX);
        assert_eq!(log.since("k1000", 13).unwrap().len(), 1 + 10, "k1000 and k10000 to k10009");
    }

    #[test]
    fn large_values_are_not_kept_for_ever() {
        let mut log = Log::default();
        for n in 1..=100 {
            log.push(n, "k".into(), entry(n, 1 << 20));
        }
        assert!(log.bytes <= LOG_BYTES_MAX);
        assert_eq!(log.since("", 90).unwrap().len(), 10);
        assert!(log.since("", 10).is_none());
    }
}
