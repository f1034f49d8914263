//! A trace: counts per bucket, read from CSV, and turned into a rate for every second.

use thiserror::Error;

/// How a bucket's count is spread over its seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// From one bucket's rate to the next's in a straight line.
    Ramp,
    /// The whole bucket at its own rate: a hard step between two buckets.
    Step,
}

impl Shape {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Ramp => "ramp",
            Shape::Step => "step",
        }
    }
}

/// Counts in equal buckets.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// The file's name without folder and ending.
    pub name: String,
    /// Seconds in a bucket, at least 1.
    pub bucket: u32,
    /// Requests per bucket.
    pub counts: Vec<f64>,
}

/// Why a trace cannot be used.
#[derive(Debug, Error, PartialEq)]
pub enum TraceError {
    /// No line holds a number.
    #[error("{0} holds no counts: expected lines `t_seconds,requests`")]
    Empty(String),
    /// A line that is neither a header nor numbers.
    #[error("{name}, line {line}: `{text}` is not `t_seconds,requests`")]
    Line {
        /// The trace.
        name: String,
        /// Its line, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// Times that do not rise.
    #[error("{name}, line {line}: the time does not rise")]
    Order {
        /// The trace.
        name: String,
        /// Its line, from 1.
        line: usize,
    },
}

impl Trace {
    /// Reads `t_seconds,requests` lines, a header allowed; the bucket is the smallest step between two times, buckets left out
    /// are empty. Lines with one column are counts of buckets as long as the name says (`…_1min_…`, `…_5s`), else a minute.
    ///
    /// # Errors
    /// When a line is neither, or times do not rise.
    pub fn parse(name: &str, text: &str) -> Result<Self, TraceError> {
        let mut rows: Vec<(usize, Option<f64>, f64)> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line_text = line.trim().trim_start_matches('\u{feff}');
            if line_text.is_empty() || line_text.starts_with('#') {
                continue;
            }
            match numbers(line_text) {
                Some(row) => rows.push((at + 1, row.0, row.1)),
                None if rows.is_empty() && line_text.contains(|c: char| c.is_ascii_alphabetic()) => {} // a header
                None => {
                    return Err(TraceError::Line { name: name.to_owned(), line: at + 1, text: line_text.to_owned() });
                }
            }
        }
        if rows.is_empty() {
            return Err(TraceError::Empty(name.to_owned()));
        }
        let Some(times) = rows.iter().map(|row| row.1).collect::<Option<Vec<f64>>>() else {
            let bucket = bucket_in(name).unwrap_or(60);
            return Ok(Self { name: name.to_owned(), bucket, counts: rows.iter().map(|row| row.2).collect() });
        };
        if let Some(at) = times.windows(2).position(|pair| pair[1] <= pair[0]) {
            return Err(TraceError::Order { name: name.to_owned(), line: rows[at + 1].0 });
        }
        let step = times.windows(2).map(|pair| pair[1] - pair[0]).fold(f64::INFINITY, f64::min);
        let bucket = if step.is_finite() { step.round().max(1.0) } else { f64::from(bucket_in(name).unwrap_or(60)) };
        let slots = ((times[times.len() - 1] - times[0]) / bucket).round() as usize + 1;
        let mut counts = vec![0.0; slots.min(MOST_BUCKETS)];
        for (time, row) in times.iter().zip(&rows) {
            let at = ((time - times[0]) / bucket).round() as usize;
            if let Some(count) = counts.get_mut(at) {
                *count += row.2;
            }
        }
        Ok(Self { name: name.to_owned(), bucket: bucket as u32, counts })
    }

    /// Requests per second for every second of the first `days`.
    pub fn rates(&self, shape: Shape, days: f64) -> Vec<f64> {
        let bucket = f64::from(self.bucket);
        let buckets = ((days * 86_400.0 / bucket).ceil() as usize).clamp(1, self.counts.len());
        let rate = |at: usize| self.counts[at.min(buckets - 1)] / bucket;
        let second = |at: usize, second: u32| match shape {
            Shape::Step => rate(at),
            Shape::Ramp => rate(at) + (rate(at + 1) - rate(at)) * f64::from(second) / bucket,
        };
        (0..buckets).flat_map(|at| (0..self.bucket).map(move |s| second(at, s))).collect()
    }
}

/// More buckets than any trace has: a year by the second.
const MOST_BUCKETS: usize = 366 * 86_400;

/// One or two numbers: time and count, or a count alone.
fn numbers(line: &str) -> Option<(Option<f64>, f64)> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite());
    let mut parts = line.split([',', ';', '\t']).filter(|part| !part.trim().is_empty());
    let first = number(parts.next()?)?;
    match parts.next() {
        None => (first >= 0.0).then_some((None, first)),
        Some(second) => number(second).filter(|count| *count >= 0.0).map(|count| (Some(first), count)),
    }
}

/// A bucket's length in a name such as `wc98_1min_19980626`.
fn bucket_in(name: &str) -> Option<u32> {
    name.split(['_', '-', '.']).find_map(|part| {
        let digits = part.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &part[digits.len()..] {
            "s" | "sec" => 1,
            "m" | "min" => 60,
            "h" => 3_600,
            _ => return None,
        };
        digits.parse::<u32>().ok().filter(|n| *n > 0).map(|n| n.saturating_mul(unit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_gaps_and_the_bucket_are_understood() {
        let trace = Trace::parse("x", "t_seconds,requests\n0,60\n60,120\n180,30\n").unwrap();
        assert_eq!((trace.bucket, trace.counts.clone()), (60, vec![60.0, 120.0, 0.0, 30.0]));
        let steps = trace.rates(Shape::Step, 1.0);
        assert_eq!((steps.len(), steps[0], steps[59], steps[60], steps[130]), (240, 1.0, 1.0, 2.0, 0.0));
        let ramps = trace.rates(Shape::Ramp, 1.0);
        assert_eq!((ramps[0], ramps[30], ramps[60], ramps[239]), (1.0, 1.5, 2.0, 0.5));
    }

    #[test]
    fn a_single_column_takes_its_bucket_from_the_name() {
        let trace = Trace::parse("elb_5min_2014", "requests\n300\n600\n").unwrap();
        assert_eq!((trace.bucket, trace.rates(Shape::Step, 1.0)[300]), (300, 2.0));
    }

    #[test]
    fn days_cut_it_short() {
        let trace = Trace { name: "x".into(), bucket: 3_600, counts: vec![3_600.0; 50] };
        assert_eq!(trace.rates(Shape::Step, 1.0).len(), 86_400);
    }

    #[test]
    fn nonsense_is_refused_with_its_line() {
        let line = TraceError::Line { name: "x".into(), line: 3, text: "many,few".into() };
        assert_eq!(Trace::parse("x", "t,n\n0,1\nmany,few\n"), Err(line));
        assert_eq!(Trace::parse("x", "0,1\n0,1\n"), Err(TraceError::Order { name: "x".into(), line: 2 }));
        assert_eq!(Trace::parse("x", "t,n\n"), Err(TraceError::Empty("x".into())));
    }
}
