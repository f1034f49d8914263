//! Colours, where they are wanted.

/// Paints texts, or leaves them as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint {
    on: bool,
}

/// Colours for names of replicas, all readable on dark and light.
const NAMES: [u8; 6] = [36, 33, 35, 32, 34, 91];

impl Paint {
    /// For a terminal or something else. `NO_COLOR` (no-color.org) and a dumb terminal turn colours off.
    pub fn of(terminal: bool) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { on: terminal && !set("NO_COLOR") && !dumb }
    }

    /// With no colours.
    #[cfg(test)]
    pub const PLAIN: Self = Self { on: false };

    fn sgr(self, code: u8, text: &str) -> String {
        if self.on && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// As it should be.
    pub fn good(self, text: &str) -> String {
        self.sgr(32, text)
    }

    /// On its way.
    pub fn busy(self, text: &str) -> String {
        self.sgr(33, text)
    }

    /// Failed.
    pub fn bad(self, text: &str) -> String {
        self.sgr(31, text)
    }

    /// A heading.
    pub fn strong(self, text: &str) -> String {
        self.sgr(1, text)
    }

    /// Of less weight.
    pub fn faint(self, text: &str) -> String {
        self.sgr(2, text)
    }

    /// The name of the `n`-th replica: neighbours differ.
    pub fn name(self, n: u64, text: &str) -> String {
        self.sgr(NAMES[(n % NAMES.len() as u64) as usize], text)
    }

    /// A replica's state.
    pub fn state(self, state: &str) -> String {
        match state {
            "ready" | "ok" | "converged" => self.good(state),
            "exited" | "unknown" | "error" | "failed" => self.bad(state),
            "stopped" | "paused" => self.faint(state),
            _ => self.busy(state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_painted_without_a_terminal() {
        assert_eq!(Paint::of(false).bad("x"), "x");
        assert_eq!(Paint { on: true }.bad("x"), "\x1b[31mx\x1b[0m");
        assert_eq!(Paint { on: true }.bad(""), "");
    }
}
