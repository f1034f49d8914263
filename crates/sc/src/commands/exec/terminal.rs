//! This side's terminal.

use std::io::{IsTerminal, stdin, stdout};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Whether input and output are a terminal.
pub(super) fn is_one() -> bool {
    stdin().is_terminal() && stdout().is_terminal()
}

/// Columns and rows.
pub(super) fn size() -> (u16, u16) {
    let size = tcgetwinsize(stdout()).ok().map(|size| (size.ws_col, size.ws_row));
    size.filter(|(columns, rows)| *columns > 0 && *rows > 0).unwrap_or((80, 24))
}

/// Raw mode: every key goes to the program as it is. Ends when this is dropped.
pub(super) struct Raw(Termios);

impl Raw {
    /// Begins it.
    pub fn begin() -> std::io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}
