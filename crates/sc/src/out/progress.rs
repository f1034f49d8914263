//! What is going on, on standard error: one line that changes on a terminal, elsewhere a line per change.

use std::io::{IsTerminal, Write, stderr};

use sc_api::types::Accepted;

use super::{Paint, printable};

const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/// What is going on.
pub(crate) struct Progress {
    terminal: bool,
    paint: Paint,
    turn: usize,
    shown: String,
}

impl Progress {
    /// Nothing yet.
    pub fn new() -> Self {
        let terminal = stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { terminal, paint: Paint::of(terminal), turn: 0, shown: String::new() }
    }

    /// Shows how things stand. Call it often: it only prints what is new, and turns the spinner.
    pub fn now(&mut self, text: &str) {
        let text = printable(&text.replace('\n', " "));
        if self.terminal {
            self.turn += 1;
            let columns = rustix::termios::tcgetwinsize(stderr()).map_or(80, |size| usize::from(size.ws_col).max(20));
            let line: String = text.chars().take(columns - 3).collect();
            let spinner = self.paint.busy(&SPINNER[self.turn % SPINNER.len()].to_string());
            let _ = write!(stderr(), "\r\x1b[2K{spinner} {line}");
            let _ = stderr().flush();
        } else if text != self.shown {
            let _ = writeln!(stderr(), "{text}");
        }
        self.shown = text;
    }

    /// Takes away the changing line, so that something else can be printed.
    pub fn clear(&mut self) {
        if self.terminal && !std::mem::take(&mut self.shown).is_empty() {
            let _ = write!(stderr(), "\r\x1b[2K");
            let _ = stderr().flush();
        }
    }

    /// Says something that stays.
    pub fn say(&mut self, text: &str) {
        self.clear();
        let _ = writeln!(stderr(), "{text}");
    }

    /// Says what of a command will not be kept.
    pub fn warn(&mut self, accepted: &Accepted) {
        for warning in &accepted.warnings {
            let mark = if self.terminal { self.paint.busy("!") } else { "warning:".to_owned() };
            self.say(&format!("{mark} {}: {}", accepted.app, printable(warning)));
        }
    }

    /// Says that something is done.
    pub fn done(&mut self, text: &str) {
        let tick = self.paint.good("✓");
        if self.terminal { self.say(&format!("{tick} {text}")) } else { self.say(text) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
