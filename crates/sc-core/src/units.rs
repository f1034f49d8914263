//! Durations and sizes as people write them: `250ms`, `1h30m`, `64MiB`.

/// Units of time, in milliseconds.
const TIME: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Units of size, in bytes: decimal and binary (IEC 80000-13); a single letter is binary, as Docker has it.
const SIZE: [(&str, u64); 11] = [
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
];

/// A text that is no duration or no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: write it like {example}")]
pub struct UnitError {
    /// What was given.
    pub text: String,
    /// `duration` or `size`.
    pub what: &'static str,
    /// How one looks.
    pub example: &'static str,
}

/// A duration in milliseconds: numbers with `ms`, `s`, `m`, `h` or `d`, added up (`1h30m`), fractions allowed (`0.5s`).
///
/// # Errors
/// When the text is no duration, or one over a thousand years.
pub fn parse_duration(text: &str) -> Result<u64, UnitError> {
    let error = || UnitError { text: text.to_owned(), what: "duration", example: "250ms, 2s, 5m or 1h30m" };
    let mut rest = text.trim();
    let mut total = 0_u64;
    if rest == "0" {
        return Ok(0);
    }
    loop {
        let (number, after) = split_number(rest).ok_or_else(error)?;
        let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let ms = TIME.iter().find(|(name, _)| *name == unit).ok_or_else(error)?.1;
        total = scaled(number, ms).and_then(|ms| total.checked_add(ms)).ok_or_else(error)?;
        if total > 1_000 * 366 * 86_400_000 {
            return Err(error());
        }
        if after.is_empty() {
            return Ok(total);
        }
        rest = after;
    }
}

/// A size in bytes: a number with `B`, `kB`/`KB`, `MB`, `GB`, `TB` (powers of 1000), `KiB`, `MiB`, `GiB` or `k`, `m`, `g`
/// (powers of 1024); case does not matter. A bare number is bytes.
///
/// # Errors
/// When the text is no size.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let error = || UnitError { text: text.to_owned(), what: "size", example: "64MiB, 512m or 1GB" };
    let (number, unit) = split_number(text.trim()).ok_or_else(error)?;
    let unit = match unit.trim() {
        "" => "b".to_owned(),
        unit => unit.to_ascii_lowercase(),
    };
    let bytes = SIZE.iter().find(|(name, _)| *name == unit).ok_or_else(error)?.1;
    scaled(number, bytes).ok_or_else(error)
}

/// Writes milliseconds as [`parse_duration`] reads them, exactly: `1h30m`, `2s`, `1s500ms`.
pub fn format_duration(ms: u64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut rest = ms;
    let mut text = String::new();
    for (unit, size) in TIME.iter().rev() {
        if rest / size > 0 {
            text += &format!("{}{unit}", rest / size);
        }
        rest %= size;
    }
    text
}

/// Writes bytes as [`parse_size`] reads them, exactly: the largest binary unit that divides them.
pub fn format_size(bytes: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let fits = units.iter().find(|(_, size)| bytes > 0 && bytes.is_multiple_of(*size));
    fits.map_or(format!("{bytes}B"), |(unit, size)| format!("{}{unit}", bytes / size))
}

/// A leading decimal number and what follows it.
fn split_number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let plain = number.starts_with(|c: char| c.is_ascii_digit()) && !number.ends_with('.');
    number.parse().ok().filter(|_| plain).map(|number| (number, rest))
}

/// `number × unit`, rounded; none beyond what a float holds exactly.
fn scaled(number: f64, unit: u64) -> Option<u64> {
    let value = number * unit as f64;
    (value < 9e15).then_some(value.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        let good = [("250ms", 250), ("2s", 2_000), ("1h30m", 5_400_000), ("0.5s", 500), ("0", 0), (" 1d ", 86_400_000)];
        for (text, ms) in good {
            assert_eq!(parse_duration(text), Ok(ms), "{text}");
        }
        for text in ["", "5", "s", "1.s", ".5s", "-1s", "1 s", "5 minutes", "1e3s", "9999999999d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        let good = [("64MiB", 64 << 20), ("512m", 512 << 20), ("1GB", 1_000_000_000), ("100", 100), ("1.5 KiB", 1536)];
        for (text, bytes) in good {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "1XB", "-1", "1..5k", "99999999TB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(n in 0_u64..9_000_000_000_000) {
            prop_assert_eq!(parse_duration(&format_duration(n)), Ok(n));
            prop_assert_eq!(parse_size(&format_size(n)), Ok(n));
        }

        #[test]
        fn nothing_panics(text in ".{0,20}") {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
