//! What happened in a run, in order: its hash tells whether two runs were the same, its lines what went wrong.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use tokio::time::Instant;

/// The latest lines kept for the report of a failure.
const KEPT: usize = 4_000;

/// The trace of one run.
#[derive(Debug)]
pub struct Trace {
    origin: Instant,
    verbose: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    hash: u64,
    lines: VecDeque<String>,
    violations: Vec<String>,
}

impl Trace {
    /// An empty one that begins now. `verbose` prints each line.
    pub fn new(verbose: bool) -> Self {
        let state = State { hash: 0xcbf2_9ce4_8422_2325, lines: VecDeque::new(), violations: Vec::new() };
        Self { origin: Instant::now(), verbose, state: Mutex::new(state) }
    }

    /// Adds a line.
    pub fn note(&self, text: &str) {
        let line = format!("{:>9.3} {text}", self.origin.elapsed().as_secs_f64());
        if self.verbose {
            eprintln!("{line}");
        }
        let mut state = self.lock();
        for byte in line.bytes() {
            state.hash = (state.hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        if state.lines.len() == KEPT {
            state.lines.pop_front();
        }
        state.lines.push_back(line);
    }

    /// Adds something that must never happen; each only once.
    pub fn violation(&self, text: &str) {
        if self.lock().violations.iter().any(|v| v == text) {
            return;
        }
        self.note(&format!("VIOLATION {text}"));
        self.lock().violations.push(text.to_owned());
    }

    /// What must never have happened, and did.
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// The hash of all lines.
    pub fn hash(&self) -> u64 {
        self.lock().hash
    }

    /// The latest lines.
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.iter().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
