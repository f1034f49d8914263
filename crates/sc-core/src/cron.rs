//! Times of the week in five fields, as in crontab(5): minute, hour, day of month, month, day of week. In UTC.

/// A minute in milliseconds.
const MINUTE_MS: u64 = 60_000;

/// A day in milliseconds.
const DAY_MS: u64 = 86_400_000;

/// How far back a start is looked for, in days: no window is longer.
pub const DAYS_MAX: u64 = 31;

/// When something begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Day of month and day of week are both limited: then either is enough (crontab(5)).
    either: bool,
}

/// A text that is no such time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no cron time: {what}; write minute, hour, day, month and weekday, like \"0 8 * * 1-5\"")]
pub struct CronError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub what: String,
}

impl Cron {
    /// Reads five fields of `*`, numbers, ranges `a-b`, lists `a,b` and steps `*/n`, `a-b/n`. Sunday is 0 or 7.
    ///
    /// # Errors
    /// When it is not of that form, a number is out of its range, or no day of any year fits (30 February).
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let error = |what: String| CronError { text: text.to_owned(), what };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(error(format!("it has {} fields, not five", fields.len())));
        };
        let read = |field: &str, name: &str, from: u64, to: u64| {
            bits(field, from, to).ok_or_else(|| error(format!("{field:?} is no {name} from {from} to {to}")))
        };
        let weekdays = read(weekday, "weekday", 0, 7)?;
        let cron = Self {
            minutes: read(minute, "minute", 0, 59)?,
            hours: read(hour, "hour", 0, 23)?,
            days: read(day, "day", 1, 31)?,
            months: read(month, "month", 1, 12)?,
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            either: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        let longest = |month: u64| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let exists = (1..=12).any(|m| cron.months >> m & 1 == 1 && (1..=longest(m)).any(|d| cron.days >> d & 1 == 1));
        if exists || cron.either { Ok(cron) } else { Err(error("no month has such a day".to_owned())) }
    }

    /// The last start at or before `at_ms` (Unix, milliseconds), if there is one within `back_ms` (at most
    /// [`DAYS_MAX`] days).
    pub fn last_start(&self, at_ms: u64, back_ms: u64) -> Option<u64> {
        let back_ms = back_ms.min(DAYS_MAX * DAY_MS);
        let today = at_ms / DAY_MS;
        let first = at_ms.saturating_sub(back_ms) / DAY_MS;
        let start = (first..=today).rev().filter(|day| self.on(*day)).find_map(|day| {
            let last = if day == today { at_ms % DAY_MS / MINUTE_MS } else { 24 * 60 - 1 };
            self.before(last).map(|minute| day * DAY_MS + minute * MINUTE_MS)
        })?;
        (at_ms - start < back_ms).then_some(start)
    }

    /// The last minute of a day that fits, at or before `last`.
    fn before(&self, last: u64) -> Option<u64> {
        (0..=last / 60).rev().filter(|hour| self.hours >> hour & 1 == 1).find_map(|hour| {
            let to = if hour == last / 60 { last % 60 } else { 59 };
            (0..=to).rev().find(|minute| self.minutes >> minute & 1 == 1).map(|minute| hour * 60 + minute)
        })
    }

    fn on(&self, day: u64) -> bool {
        let (month, date) = month_and_day(day);
        let weekday = (day + 4) % 7; // 1 January 1970 was a Thursday.
        let (date, weekday) = (self.days >> date & 1 == 1, self.weekdays >> weekday & 1 == 1);
        self.months >> month & 1 == 1 && if self.either { date || weekday } else { date && weekday }
    }
}

/// The bits of one field. None: it is not of that form, or out of range.
fn bits(field: &str, from: u64, to: u64) -> Option<u64> {
    field.split(',').try_fold(0, |all, part| {
        let (range, step) = part.split_once('/').map_or((part, "1"), |(range, step)| (range, step));
        let step: u64 = step.parse().ok().filter(|step| *step > 0)?;
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (from, to),
            Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
            None if part.contains('/') => (range.parse().ok()?, to),
            None => (range.parse().ok()?, range.parse().ok()?),
        };
        let sound = from <= first && first <= last && last <= to;
        sound.then(|| (first..=last).step_by(step as usize).fold(all, |all, n| all | 1 << n))
    })
}

/// Month and day of month of a day since 1970 (Howard Hinnant, chrono-compatible low-level date algorithms).
fn month_and_day(day: u64) -> (u64, u64) {
    let day = day + 719_468;
    let of_era = day % 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    (if month < 10 { month + 3 } else { month - 9 }, of_year - (153 * month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday, 2 November 2026, 08:30 UTC.
    const MONDAY: u64 = 1_793_608_200_000;

    #[test]
    fn office_hours_begin_at_eight() {
        let cron = Cron::parse("0 8 * * 1-5").unwrap();
        assert_eq!(cron.last_start(MONDAY, 10 * 3_600_000), Some(MONDAY - 30 * MINUTE_MS));
        assert_eq!(cron.last_start(MONDAY, 20 * MINUTE_MS), None);
        assert_eq!(cron.last_start(MONDAY - 31 * MINUTE_MS, 10 * 3_600_000), None, "the weekend before");
    }

    #[test]
    fn lists_steps_days_and_months() {
        let at = |text: &str| Cron::parse(text).unwrap().last_start(MONDAY, DAYS_MAX * DAY_MS);
        assert_eq!(at("*/15 * * * *"), Some(MONDAY));
        assert_eq!(at("5,25 * * * *"), Some(MONDAY - 5 * MINUTE_MS));
        assert_eq!(at("30 8 1 * *"), Some(MONDAY - DAY_MS), "the first was a Sunday");
        assert_eq!(at("30 8 1 * 7"), Some(MONDAY - DAY_MS));
        assert_eq!(at("30 8 * 11 0"), Some(MONDAY - DAY_MS));
        assert_eq!(at("30 8 * 12 *"), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "0 0 30 2 *",
            "a * * * *",
        ] {
            assert!(Cron::parse(text).is_err(), "{text}");
        }
    }
}
