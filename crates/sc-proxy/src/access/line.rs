//! One request in the log: what is known of it, and how that is written.
//!
//! All that comes from outside is escaped: nothing a client sends can end a line, begin a field or reach a terminal as a
//! control sequence.

use std::{
    fmt::Write as _,
    net::IpAddr,
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};

use super::Log;

/// The status of a request whose client left before there was an answer (nginx's).
const CLIENT_GONE: u16 = 499;

/// What is known of a request. Text is as it came, empty where there is none.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When its head had come.
    pub at: SystemTime,
    /// Who sent it; told by the peer if that is trusted.
    pub client: String,
    /// The app it is for; empty: none.
    pub app: String,
    /// The replica that was asked last; empty: none.
    pub replica: String,
    /// Its method.
    pub method: String,
    /// Its host.
    pub host: Vec<u8>,
    /// Its path and query.
    pub target: String,
    /// `HTTP/1.1` and the like.
    pub protocol: &'static str,
    /// What it was answered with.
    pub status: u16,
    /// Bytes of its body that were read.
    pub bytes_in: u64,
    /// Bytes of the answer's body that were passed on.
    pub bytes_out: u64,
    /// From its head to the last byte of the answer.
    pub duration: Duration,
    /// How long it waited for a backend; zero: it did not.
    pub queue: Duration,
    /// From sending it to the head of the answer; none: no backend answered.
    pub upstream: Option<Duration>,
    /// Attempts beyond the first.
    pub retries: u32,
    /// Why the proxy answered itself; empty: it did not.
    pub reason: &'static str,
    /// `User-Agent`.
    pub agent: Vec<u8>,
    /// `Referer`.
    pub referer: Vec<u8>,
    /// `X-Request-Id`.
    pub request_id: Vec<u8>,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            at: SystemTime::UNIX_EPOCH,
            client: String::new(),
            app: String::new(),
            replica: String::new(),
            method: String::new(),
            host: Vec::new(),
            target: String::new(),
            protocol: "HTTP/1.1",
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            duration: Duration::ZERO,
            queue: Duration::ZERO,
            upstream: None,
            retries: 0,
            reason: "",
            agent: Vec::new(),
            referer: Vec::new(),
            request_id: Vec::new(),
        }
    }
}

/// Appends the entry as a line with one JSON object. Times are in seconds; what is empty is left out.
pub fn json(entry: &Entry, out: &mut Vec<u8>) {
    let (date, millis) = (date(entry.at), millis(entry.at));
    let month = MONTHS.iter().position(|name| *name == &date[8..11]).unwrap_or(0) + 1;
    let mut text = String::with_capacity(320);
    let (year, day, time) = (&date[12..16], &date[5..7], &date[17..25]);
    let _ = write!(text, "{{\"time\":\"{year}-{month:02}-{day}T{time}.{millis:03}Z\"");
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = write!(text, ",\"{name}\":\"");
            escape_json(value, &mut text);
            text.push('"');
        }
    };
    field("client", &entry.client);
    field("app", &entry.app);
    field("replica", &entry.replica);
    field("method", &entry.method);
    field("host", &String::from_utf8_lossy(&entry.host));
    field("path", &entry.target);
    field("protocol", entry.protocol);
    field("reason", entry.reason);
    field("user_agent", &String::from_utf8_lossy(&entry.agent));
    field("referer", &String::from_utf8_lossy(&entry.referer));
    field("request_id", &String::from_utf8_lossy(&entry.request_id));
    let Entry { status, bytes_in, bytes_out, retries, .. } = entry;
    let _ = write!(text, ",\"status\":{status},\"bytes_in\":{bytes_in},\"bytes_out\":{bytes_out}");
    let _ = write!(text, ",\"duration_seconds\":{:.6}", entry.duration.as_secs_f64());
    let _ = write!(text, ",\"queue_seconds\":{:.6}", entry.queue.as_secs_f64());
    if let Some(upstream) = entry.upstream {
        let _ = write!(text, ",\"upstream_seconds\":{:.6}", upstream.as_secs_f64());
    }
    let _ = writeln!(text, ",\"retries\":{retries}}}");
    out.extend_from_slice(text.as_bytes());
}

/// Appends the entry as a line of the Combined Log Format.
pub fn combined(entry: &Entry, out: &mut Vec<u8>) {
    let date = date(entry.at);
    let (day, month, year, time) = (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
    let mut text = String::with_capacity(200);
    let client = if entry.client.is_empty() { "-" } else { &entry.client };
    let _ = write!(text, "{client} - - [{day}/{month}/{year}:{time} +0000] \"");
    escape_combined(entry.method.as_bytes(), &mut text);
    text.push(' ');
    escape_combined(entry.target.as_bytes(), &mut text);
    let _ = write!(text, " {}\" {} {} \"", entry.protocol, entry.status, entry.bytes_out);
    escape_combined(or_dash(&entry.referer), &mut text);
    text.push_str("\" \"");
    escape_combined(or_dash(&entry.agent), &mut text);
    text.push_str("\"\n");
    out.extend_from_slice(text.as_bytes());
}

fn or_dash(value: &[u8]) -> &[u8] {
    if value.is_empty() { b"-" } else { value }
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// As a `Date` field has it: `Mon, 23 Nov 2026 09:23:25 GMT`.
fn date(at: SystemTime) -> String {
    httpdate::fmt_http_date(at)
}

fn millis(at: SystemTime) -> u32 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_millis())
}

/// RFC 8259 section 7, and all that a terminal or a reader of lines may take for more than text.
fn escape_json(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

/// As nginx and Apache do: what is not visible ASCII becomes `\xHH`.
fn escape_combined(value: &[u8], out: &mut String) {
    for b in value {
        match b {
            b'"' | b'\\' | 0..0x20 | 0x7f.. => {
                let _ = write!(out, "\\x{b:02X}");
            }
            _ => out.push(char::from(*b)),
        }
    }
}

/// A request that is being served. Dropping it writes its line; if it has no status by then its client has left.
pub(crate) struct Line {
    pub(crate) entry: Entry,
    started: Instant,
    log: Rc<Log>,
    dice: u32,
}

impl Line {
    /// A request whose head has come.
    pub(crate) fn new(log: &Rc<Log>, dice: u32, started: Instant, entry: Entry) -> Box<Self> {
        Box::new(Self { entry, started, log: log.clone(), dice })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let entry = &mut self.entry;
        entry.duration = self.started.elapsed();
        if entry.status == 0 {
            (entry.status, entry.reason) = (CLIENT_GONE, "client-gone");
        }
        self.log.put(entry, self.dice);
    }
}

/// Whom a trusted peer says it speaks for: the last address of its `X-Forwarded-For`.
pub(crate) fn forwarded_for(field: &[u8]) -> Option<String> {
    let last = field.rsplit(|b| *b == b',').next()?;
    let addr: IpAddr = std::str::from_utf8(last).ok()?.trim().parse().ok()?;
    Some(addr.to_canonical().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_425_805_042),
            client: "192.0.2.7".into(),
            app: "web".into(),
            replica: "web-3".into(),
            method: "GET".into(),
            host: b"web.localhost".into(),
            target: "/a?b=c".into(),
            status: 200,
            bytes_in: 3,
            bytes_out: 12,
            duration: Duration::from_micros(1_234),
            upstream: Some(Duration::from_micros(1_000)),
            retries: 1,
            agent: b"curl/8".into(),
            ..Entry::default()
        }
    }

    fn written(entry: &Entry, format: fn(&Entry, &mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        format(entry, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines() {
        assert_eq!(
            written(&entry(), json),
            "{\"time\":\"2026-11-23T09:23:25.042Z\",\"client\":\"192.0.2.7\",\"app\":\"web\",\"replica\":\"web-3\",\
             \"method\":\"GET\",\"host\":\"web.localhost\",\"path\":\"/a?b=c\",\"protocol\":\"HTTP/1.1\",\
             \"user_agent\":\"curl/8\",\"status\":200,\"bytes_in\":3,\"bytes_out\":12,\"duration_seconds\":0.001234,\
             \"queue_seconds\":0.000000,\"upstream_seconds\":0.001000,\"retries\":1}\n"
        );
        assert_eq!(
            written(&entry(), combined),
            "192.0.2.7 - - [23/Nov/2026:09:23:25 +0000] \"GET /a?b=c HTTP/1.1\" 200 12 \"-\" \"curl/8\"\n"
        );
    }

    #[test]
    fn the_last_address_is_whom_a_trusted_peer_speaks_for() {
        assert_eq!(forwarded_for(b"10.0.0.1, 192.0.2.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(forwarded_for(b"::ffff:192.0.2.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(forwarded_for(b"192.0.2.1, \x1b[2J"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_ends_a_line_or_a_field(bytes: Vec<u8>) {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let entry = Entry {
                method: text.clone(), target: text.clone(), app: text.clone(), host: bytes.clone(), agent: bytes.clone(),
                referer: bytes.clone(), request_id: bytes.clone(), ..entry()
            };
            let line = written(&entry, json);
            proptest::prop_assert!(!line.trim_end_matches('\n').chars().any(char::is_control));
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            proptest::prop_assert_eq!(value["path"].as_str().unwrap_or(""), &text);
            let line = written(&entry, combined);
            proptest::prop_assert!(line[..line.len() - 1].bytes().all(|b| (0x20..0x7f).contains(&b)));
            proptest::prop_assert_eq!(line.matches('"').count(), 6);
        }
    }
}
