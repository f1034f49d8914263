//! Log lines as they are stored: one JSON object a line.

use serde::{Deserialize, Serialize};

use crate::{LogLine, LogQuery};

#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(rename = "t")]
    at_ms: u64,
    #[serde(rename = "e", default)]
    stderr: bool,
    #[serde(rename = "m")]
    text: String,
}

/// A line with its newline.
pub(crate) fn write(line: &LogLine) -> Vec<u8> {
    let stored = Stored { at_ms: line.at_ms, stderr: line.stderr, text: line.text.clone() };
    let mut bytes = serde_json::to_vec(&stored).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// All lines that can be read.
pub(crate) fn read(bytes: &[u8]) -> Vec<LogLine> {
    bytes.split(|b| *b == b'\n').filter_map(parse).collect()
}

fn parse(line: &[u8]) -> Option<LogLine> {
    let Stored { at_ms, stderr, text } = serde_json::from_slice(line).ok()?;
    Some(LogLine { at_ms, stderr, text })
}

/// Those of the lines that are asked for.
pub(crate) fn select(lines: Vec<LogLine>, query: &LogQuery) -> Vec<LogLine> {
    let mut lines: Vec<_> = lines.into_iter().filter(|l| query.since_ms.is_none_or(|since| l.at_ms >= since)).collect();
    if let Some(tail) = query.tail {
        lines.drain(..lines.len().saturating_sub(tail));
    }
    lines
}
