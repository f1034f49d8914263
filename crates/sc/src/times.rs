//! Points in time and spans, as people write and read them.

use std::time::Duration;

use jiff::{Timestamp, civil, tz::TimeZone};
use sc_core::{
    records::UnixMs,
    units::{format_duration, parse_duration},
};

/// Now.
pub(crate) fn now_ms() -> UnixMs {
    Timestamp::now().as_millisecond().try_into().unwrap_or(0)
}

/// Reads a duration: `250ms`, `5m`, `1h30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map(Duration::from_millis).map_err(|error| error.to_string())
}

/// Reads milliseconds from a duration.
pub(crate) fn millis(text: &str) -> Result<u64, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// Reads a point in time: so long ago (`5m`), a time of today (`14:30`), or a date and time (RFC 3339, zone optional).
pub(crate) fn moment(text: &str) -> Result<UnixMs, String> {
    moment_at(text, now_ms(), &TimeZone::system())
}

fn moment_at(text: &str, now_ms: UnixMs, zone: &TimeZone) -> Result<UnixMs, String> {
    if let Ok(ago) = parse_duration(text) {
        return Ok(now_ms.saturating_sub(ago));
    }
    let now = Timestamp::from_millisecond(now_ms.try_into().unwrap_or(0)).unwrap_or_default();
    let today = || now.to_zoned(zone.clone()).date();
    let local = |at: civil::DateTime| at.to_zoned(zone.clone()).ok().map(|at| at.timestamp());
    let at = text.parse::<Timestamp>().ok();
    // A bare date or time must not be read as the other.
    let at = at.or_else(|| text.contains('-').then(|| text.parse::<civil::DateTime>().ok().and_then(local)).flatten());
    let at = at.or_else(|| text.parse::<civil::Time>().ok().and_then(|time| local(today().to_datetime(time))));
    let at = at.and_then(|at| u64::try_from(at.as_millisecond()).ok());
    at.ok_or_else(|| format!("{text:?} is no time: write how long ago (5m), a time (14:30) or 2026-01-31T14:30:00Z"))
}

/// How long ago, in one or two units: `3s`, `5m10s`, `2d4h`.
pub(crate) fn age(since_ms: UnixMs, now_ms: UnixMs) -> String {
    let ms = now_ms.saturating_sub(since_ms);
    let coarse = match ms {
        0..60_000 => 1_000,
        60_000..3_600_000 => 1_000,
        3_600_000..86_400_000 => 60_000,
        _ => 3_600_000,
    };
    format_duration(ms / coarse * coarse)
}

/// Local date and time, to the second.
pub(crate) fn stamp(at_ms: UnixMs) -> String {
    format_at(at_ms, "%Y-%m-%d %H:%M:%S")
}

fn format_at(at_ms: UnixMs, format: &str) -> String {
    let at = i64::try_from(at_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    at.to_zoned(TimeZone::system()).strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000; // 2023-11-14T22:13:20Z

    #[test]
    fn moments() {
        let read = |text: &str| moment_at(text, NOW, &TimeZone::UTC);
        assert_eq!(read("5m"), Ok(NOW - 300_000));
        assert_eq!(read("22:13:19"), Ok(NOW - 1_000));
        assert_eq!(read("2023-11-14T22:13:20Z"), Ok(NOW));
        assert_eq!(read("2023-11-14T23:13:20+01:00"), Ok(NOW));
        assert_eq!(read("2023-11-14 22:13"), Ok(NOW - 20_000));
        for bad in ["", "yesterday", "25:00", "5", "2023-13-01"] {
            assert!(read(bad).is_err(), "{bad}: {:?}", read(bad));
        }
    }

    #[test]
    fn ages() {
        for (ms, text) in
            [(0, "0s"), (3_900, "3s"), (310_000, "5m10s"), (7_260_500, "2h1m"), (2 * 86_400_000 + 14_500_000, "2d4h")]
        {
            assert_eq!(age(NOW - ms, NOW), text);
        }
        assert_eq!(age(NOW + 5, NOW), "0s");
    }
}
