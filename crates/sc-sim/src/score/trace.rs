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

/// Why a trace cannot be used. Lines count from 1.
#[derive(Debug, Error, PartialEq)]
pub enum TraceError {
    /// No line holds a number.
    #[error("it holds no counts: expected lines `t_seconds,requests`")]
    Empty,
    /// Bytes that are no text.
    #[error("line {line}: it is not UTF-8")]
    Utf8 {
        /// The line.
        line: usize,
    },
    /// A line that is neither a header nor numbers.
    #[error("line {line}: `{text}` is not `t_seconds,requests`")]
    Line {
        /// The line.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// A line with more columns than those before it, or fewer.
    #[error("line {line}: `{text}` has not as many columns as the lines before it")]
    Columns {
        /// The line.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// Times that do not rise.
    #[error("line {line}: the time does not rise")]
    Order {
        /// The line.
        line: usize,
    },
    /// No two times are within a day of each other.
    #[error("line {line}: {seconds} s after the line before it, and no two are closer: a bucket is a day at most")]
    Bucket {
        /// The line after the smallest step.
        line: usize,
        /// That step.
        seconds: f64,
    },
    /// More than can be played.
    #[error("line {line}: more than a year after the first: are these seconds?")]
    Long {
        /// The line.
        line: usize,
    },
}

impl Trace {
    /// Reads `t_seconds,requests` lines, one header line allowed; the bucket is the smallest step between two times, buckets left
    /// out are empty. Further columns are not looked at. Lines with one column are counts of buckets as long as the name says
    /// (`…_1min_…`, `…_5s`), else a minute. Columns are parted by commas, semicolons or tabs; empty lines and those that begin
    /// with `#` are no data.
    ///
    /// # Errors
    /// When a line is neither, a count is below 0 or above [`MOST_COUNT`], times do not rise, or the whole is longer than a year.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, TraceError> {
        let text = std::str::from_utf8(bytes).map_err(|bad| TraceError::Utf8 {
            line: 1 + bytes[..bad.valid_up_to()].iter().filter(|byte| **byte == b'\n').count(),
        })?;
        let rows = rows(text)?;
        let named = bucket_in(name).unwrap_or(60);
        let (bucket, counts) = match rows.iter().map(|row| row.time).collect::<Option<Vec<f64>>>() {
            None => (named, rows.iter().map(|row| row.count).collect()),
            Some(times) => in_buckets(&rows, &times, named)?,
        };
        let most = MOST_SECONDS / bucket as usize;
        if counts.len() > most {
            return Err(TraceError::Long { line: rows[most.min(rows.len() - 1)].line });
        }
        Ok(Self { name: name.to_owned(), bucket, counts })
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

/// More seconds than any trace has: a year.
const MOST_SECONDS: usize = 366 * DAY as usize;

/// Seconds of a day, the longest bucket.
const DAY: u32 = 86_400;

/// The largest count of a bucket: what is larger is no count of requests, and sums of some are still exact.
pub const MOST_COUNT: f64 = 1e12;

/// A line of numbers.
struct Row {
    line: usize,
    columns: usize,
    time: Option<f64>,
    count: f64,
}

/// All lines that hold numbers, at least one, all with as many columns.
fn rows(text: &str) -> Result<Vec<Row>, TraceError> {
    let mut rows: Vec<Row> = Vec::new();
    let lines = (1..).zip(text.trim_start_matches('\u{feff}').lines()).map(|(line, text)| (line, text.trim()));
    let data = lines.filter(|(_, text)| !text.is_empty() && !text.starts_with('#'));
    for (at, (line, text)) in data.enumerate() {
        let columns: Vec<&str> = text.split([',', ';', '\t']).map(str::trim).collect();
        let header = at == 0 && columns.iter().all(|column| column.parse::<f64>().is_err());
        let shown = || text.escape_debug().take(60).collect();
        match numbers(&columns) {
            Some((time, count)) => rows.push(Row { line, columns: columns.len(), time, count }),
            None if header => {}
            None => return Err(TraceError::Line { line, text: shown() }),
        }
        if let [.., before, last] = &rows[..]
            && before.columns != last.columns
        {
            return Err(TraceError::Columns { line, text: shown() });
        }
    }
    if rows.is_empty() { Err(TraceError::Empty) } else { Ok(rows) }
}

/// One or two numbers: time and count, or a count alone.
fn numbers(columns: &[&str]) -> Option<(Option<f64>, f64)> {
    let number = |text: &str| text.parse::<f64>().ok().filter(|n| n.is_finite());
    let first = number(columns.first()?)?;
    let (time, count) = match columns.get(1) {
        None => (None, first),
        Some(second) => (Some(first), number(second)?),
    };
    (0.0..=MOST_COUNT).contains(&count).then_some((time, count))
}

/// The bucket and the counts of rows with these times; `named` is the bucket of one that stands alone.
fn in_buckets(rows: &[Row], times: &[f64], named: u32) -> Result<(u32, Vec<f64>), TraceError> {
    let (first, mut smallest) = (times[0], None);
    for (pair, row) in times.windows(2).zip(&rows[1..]) {
        let step = pair[1] - pair[0];
        if step <= 0.0 {
            return Err(TraceError::Order { line: row.line });
        }
        if pair[1] - first > MOST_SECONDS as f64 {
            return Err(TraceError::Long { line: row.line });
        }
        smallest = smallest.filter(|(least, _)| *least <= step).or(Some((step, row.line)));
    }
    if let Some((seconds, line)) = smallest.filter(|(step, _)| *step > f64::from(DAY)) {
        return Err(TraceError::Bucket { line, seconds });
    }
    let bucket = smallest.map_or(f64::from(named), |(step, _)| step.round().max(1.0));
    let place = |time: f64| ((time - first) / bucket).round() as usize;
    let mut counts = vec![0.0; place(times[times.len() - 1]) + 1];
    for (time, row) in times.iter().zip(rows) {
        counts[place(*time)] += row.count;
    }
    Ok((bucket as u32, counts))
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
        digits.parse::<u32>().ok().map(|n| n.saturating_mul(unit)).filter(|seconds| (1..=DAY).contains(seconds))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_gaps_and_the_bucket_are_understood() {
        let trace = Trace::parse("x", b"t_seconds,requests\n0,60\n60,120\n180,30\n").unwrap();
        assert_eq!((trace.bucket, trace.counts.clone()), (60, vec![60.0, 120.0, 0.0, 30.0]));
        let steps = trace.rates(Shape::Step, 1.0);
        assert_eq!((steps.len(), steps[0], steps[59], steps[60], steps[130]), (240, 1.0, 1.0, 2.0, 0.0));
        let ramps = trace.rates(Shape::Ramp, 1.0);
        assert_eq!((ramps[0], ramps[30], ramps[60], ramps[239]), (1.0, 1.5, 2.0, 0.5));
    }

    #[test]
    fn a_single_column_takes_its_bucket_from_the_name() {
        let trace = Trace::parse("elb_5min_2014", b"requests\n300\n600\n").unwrap();
        assert_eq!((trace.bucket, trace.rates(Shape::Step, 1.0)[300]), (300, 2.0));
    }

    #[test]
    fn days_cut_it_short() {
        let trace = Trace { name: "x".into(), bucket: 3_600, counts: vec![3_600.0; 50] };
        assert_eq!(trace.rates(Shape::Step, 1.0).len(), 86_400);
    }

    /// Why a text is refused.
    fn refused(text: &str) -> String {
        Trace::parse("x", text.as_bytes()).map_or_else(|error| error.to_string(), |trace| format!("{trace:?}"))
    }

    #[test]
    fn nonsense_is_refused_with_its_line() {
        let no_counts = "it holds no counts: expected lines `t_seconds,requests`";
        let no_row = |line: usize, text: &str| format!("line {line}: `{text}` is not `t_seconds,requests`");
        let ragged = |text: &str| format!("line 2: `{text}` has not as many columns as the lines before it");
        let long = "line 2: more than a year after the first: are these seconds?";
        let nines = |n: usize| format!("0,{}", "9".repeat(n));
        let cases: [(&str, String); 21] = [
            ("", no_counts.into()),
            ("\n\r\n", no_counts.into()),
            ("t,n\n", no_counts.into()),
            ("t,n\nt,n\n", no_row(2, "t,n")),
            ("t,n\n0,1\nmany,few\n", no_row(3, "many,few")),
            ("0,-1", no_row(1, "0,-1")),
            ("0,nan", no_row(1, "0,nan")),
            ("t,n\n0,1\n60,inf", no_row(3, "60,inf")),
            (&nines(400), no_row(1, &nines(58))),
            ("0,1e13", no_row(1, "0,1e13")),
            ("0,1\n60", ragged("60")),
            ("0,1\n60,", no_row(2, "60,")),
            ("0,1\n60,2,3", ragged("60,2,3")),
            ("60\n0,1", ragged("0,1")),
            ("0,1\r60,2\r", no_row(1, "0,1\\r60,2")),
            ("0,1\n0,1\n", "line 2: the time does not rise".into()),
            ("60,1\n0,1\n", "line 2: the time does not rise".into()),
            ("0,1\n1e300,1", long.into()),
            ("-1e308,1\n1e308,1", long.into()),
            ("0,1\n1,1\n40000000,1", long.replace('2', "3")),
            (
                "0,1\n90000,1\n180000,1",
                "line 2: 90000 s after the line before it, and no two are closer: a bucket is a day at most".into(),
            ),
        ];
        cases.iter().for_each(|(text, why)| assert_eq!(refused(text), *why, "{text:.40?}"));
        let bytes = Trace::parse("x", b"t,n\n0,1\n60,\xff\n");
        assert_eq!(bytes, Err(TraceError::Utf8 { line: 3 }));
    }

    #[test]
    fn what_can_be_meant_is_read() {
        let read = |text: &str| Trace::parse("x", text.as_bytes()).map(|trace| (trace.bucket, trace.counts)).unwrap();
        let plain = (60, vec![1.0, 2.0]);
        for same in [
            "t,n\r\n0,1\r\n60,2\r\n",
            "\u{feff}t,n\n0,1\n60,2",
            "\n# from\n\nt;n\n 0; 1\n\n60;2\n\n",
            "0\t1e0\n60\t2.0",
            "1700000000,1\n1700000060,2",
            "-60,1\n0,2",
            "t,n,host\n0,1,a\n60,2,b",
            "n\n1\n2",
        ] {
            assert_eq!(read(same), plain, "{same:?}");
        }
        assert_eq!(read("0,5"), (60, vec![5.0]));
        assert_eq!(read("0,1\n0.5,2\n1,4\n"), (1, vec![1.0, 6.0]));
        let zeros = Trace { name: "x".into(), bucket: 60, counts: vec![0.0; 3] };
        assert_eq!(zeros.rates(Shape::Ramp, 1.0), vec![0.0; 180]);
    }

    #[test]
    fn a_year_of_minutes_is_the_most() {
        let text = |lines: usize| "1\n".repeat(lines);
        assert_eq!(
            refused(&text(366 * 1_440 + 1)),
            "line 527041: more than a year after the first: are these seconds?"
        );
        assert!(Trace::parse("x", text(366 * 1_440).as_bytes()).is_ok());
    }
}
