//! How things are printed.

mod paint;
mod progress;
mod table;
mod watch;
mod yaml;

use std::io::{self, Write};

pub(crate) use paint::Paint;
pub(crate) use progress::Progress;
use serde::Serialize;
pub(crate) use table::{Cell, Table};
pub(crate) use watch::watch;
pub(crate) use yaml::yaml;

/// How a read is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A table
    #[default]
    Table,
    /// A table with more columns
    Wide,
    /// JSON, as the API gives it
    Json,
    /// The same as YAML
    Yaml,
    /// Only names, one a line
    Name,
}

/// `-o`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Output {
    /// How to print
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
}

/// `--watch`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Watching {
    /// Print again when something changes, until Ctrl-C
    #[arg(long, short = 'w')]
    pub watch: bool,
}

/// A value in a format for programs; none when it is one for people.
pub(crate) fn structured<T: Serialize>(format: Format, value: &T) -> anyhow::Result<Option<String>> {
    match format {
        Format::Json => Ok(Some(serde_json::to_string_pretty(value)? + "\n")),
        Format::Yaml => Ok(Some(yaml(&serde_json::to_value(value)?))),
        Format::Table | Format::Wide | Format::Name => Ok(None),
    }
}

/// Prints data.
///
/// # Errors
/// When standard output does not take it.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Whoever read our output has gone (`| head`): no error of ours.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe))
}

/// A text as it may be shown on a terminal: control characters made visible, so that an app's output commands nothing.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// A rate: `0`, `0.4`, `182`.
pub(crate) fn rate(value: f64) -> String {
    match value {
        v if v < 0.05 => "0".to_owned(),
        v if v < 9.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

/// Milliseconds: `0.8ms`, `12ms`, `1.20s`.
pub(crate) fn latency(ms: f64) -> String {
    match ms {
        v if v < 9.95 => format!("{v:.1}ms"),
        v if v < 999.5 => format!("{v:.0}ms"),
        v => format!("{:.2}s", v / 1e3),
    }
}

/// Bytes in a short form: `12MiB`.
pub(crate) fn bytes(n: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, size)| n >= *size) {
        Some((unit, size)) if n / size < 10 => format!("{:.1}{unit}", n as f64 / *size as f64),
        Some((unit, size)) => format!("{}{unit}", n / size),
        None => format!("{n}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 0.44, 9.96, 182.4].map(rate), ["0", "0.4", "10", "182"]);
        assert_eq!([0.84, 12.4, 1200.0].map(latency), ["0.8ms", "12ms", "1.20s"]);
        assert_eq!([17, 1536, 64 << 20, 3 << 30].map(bytes), ["17B", "1.5KiB", "64MiB", "3.0GiB"]);
    }

    #[test]
    fn an_app_cannot_command_the_terminal() {
        assert_eq!(printable("a\tb\u{1b}[31mred\u{7}"), "a\tb\u{fffd}[31mred\u{fffd}");
    }
}
