//! What the manager is waiting for, for people: `/v1/version`, `/readyz`, `sc doctor`.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// The parts that may be missing, each with what is wrong with it.
#[derive(Debug, Default)]
pub struct Waiting(Mutex<BTreeMap<&'static str, String>>);

impl Waiting {
    /// Notes that `part` is missing. True when it was not known to be before.
    pub fn missing(&self, part: &'static str, why: String) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(part, why).is_none()
    }

    /// Notes that `part` is there. True when it was missing before.
    pub fn present(&self, part: &'static str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(part).is_some()
    }

    /// What is wrong with one part.
    pub fn why(&self, part: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(part).cloned()
    }

    /// Everything that is missing, in one line; none when nothing is.
    pub fn text(&self) -> Option<String> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<&str> = parts.values().map(String::as_str).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// An error with everything below it, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Some libraries repeat their source's words.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// A text of at most `max` bytes and an ellipsis.
pub fn shortened(mut text: String, max: usize) -> String {
    if text.len() > max {
        let end = (0..=max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
