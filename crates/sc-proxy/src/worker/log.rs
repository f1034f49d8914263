//! What the access log hears of a request: its head when it has come, what became of it when it is answered.

use std::{
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};

use hyper::{
    Request, Version,
    header::{HOST, REFERER, USER_AGENT},
};

use super::{Worker, answer::Refusal, client::Client, upstream::Upstream};
use crate::{
    access::{Entry, Line, forwarded_for},
    http1,
};

const FORWARDED_FOR: &str = "x-forwarded-for";
const REQUEST_ID: &str = "x-request-id";

/// A request's line, or none while the log is off.
pub(super) type Logged = Option<Box<Line>>;

/// How the attempts at a request went.
#[derive(Default)]
pub(super) struct Story {
    /// Attempts in all.
    pub(super) attempts: u32,
    /// How long it waited for a backend.
    pub(super) queue: Duration,
    /// From sending it to the head of the answer.
    pub(super) upstream: Option<Duration>,
    /// Whom it was sent to last; kept only while the log is on.
    pub(super) last: Option<Rc<Upstream>>,
}

impl Worker {
    fn line(&self, started: Instant, entry: impl FnOnce() -> Entry) -> Logged {
        self.access.as_ref().map(|log| Line::new(log, self.roll(), started, entry()))
    }

    /// The line of a request that the proxy's own code serves.
    pub(super) fn log_plain(&self, client: &Client, request: &http1::Request<'_, '_>) -> Logged {
        self.line(Instant::now(), || {
            let mut entry = Entry {
                method: request.method.to_owned(),
                host: request.host.as_bytes().to_vec(),
                target: request.target.to_owned(),
                ..begin(client)
            };
            for field in request.fields {
                take_field(&mut entry, client, field.name, field.value);
            }
            entry
        })
    }

    /// The line of a request that hyper serves.
    pub(super) fn log_rich<B>(&self, client: &Client, request: &Request<B>, started: Instant) -> Logged {
        self.line(started, || {
            let uri = request.uri();
            let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
            let host = authority.or_else(|| request.headers().get(HOST).map(|host| host.as_bytes()));
            let target = uri.path_and_query().map_or_else(|| uri.to_string(), |target| target.as_str().to_owned());
            let mut entry = Entry {
                method: request.method().as_str().to_owned(),
                host: host.unwrap_or_default().to_vec(),
                target,
                protocol: protocol(request.version()),
                ..begin(client)
            };
            for name in [USER_AGENT.as_str(), REFERER.as_str(), REQUEST_ID, FORWARDED_FOR] {
                let last = request.headers().get_all(name).iter().next_back();
                if let Some(value) = last {
                    take_field(&mut entry, client, name, value.as_bytes());
                }
            }
            entry
        })
    }

    /// The line of something that was no request.
    pub(super) fn log_malformed(&self, client: &Client) -> Logged {
        let mut line = self.line(Instant::now(), || begin(client));
        note_refusal(&mut line, Refusal::BadHead);
        line
    }
}

fn begin(client: &Client) -> Entry {
    let client = client.text.to_str().unwrap_or_default().to_owned();
    Entry { at: SystemTime::now(), client, ..Entry::default() }
}

fn take_field(entry: &mut Entry, client: &Client, name: &str, value: &[u8]) {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    if is(USER_AGENT.as_str()) {
        entry.agent = value.to_vec();
    } else if is(REFERER.as_str()) {
        entry.referer = value.to_vec();
    } else if is(REQUEST_ID) {
        entry.request_id = value.to_vec();
    } else if client.trusted
        && is(FORWARDED_FOR)
        && let Some(addr) = forwarded_for(value)
    {
        entry.client = addr;
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

/// A request that the proxy answers itself.
pub(super) fn note_refusal(line: &mut Logged, refusal: Refusal) {
    if let Some(line) = line {
        let (_, reason, _) = refusal.parts();
        (line.entry.status, line.entry.reason) = (refusal.status(), reason);
    }
}

/// How the attempts went.
pub(super) fn note_story(line: &mut Logged, story: Story) {
    if let Some(line) = line {
        let entry = &mut line.entry;
        entry.retries = story.attempts.saturating_sub(1);
        (entry.queue, entry.upstream) = (story.queue, story.upstream);
        entry.replica = story.last.map(|upstream| upstream.backend.replica.to_string()).unwrap_or_default();
    }
}
