//! From the bytes of a request to what is asked for: read, routed, and its head written as it goes on. Nothing waits here.

use std::{borrow::Cow, rc::Rc, time::Instant};

use super::{buffer::Buf, upload::Upload};
use crate::{
    headers::PREFIX,
    http1::{Encoding, Framing, From, Request, Verdict, add_field, fields, forward_request, judge},
    live::{App, AppSlot},
    table::{Then, normal_host, normal_path, strip_prefix},
    worker::{LocalApp, Worker, answer::Refusal, challenge, client::Client, log::Logged},
};

/// A request that is served here.
pub(super) struct Ask {
    pub(super) app: Rc<LocalApp>,
    pub(super) upload: Upload,
    /// Its method is HEAD.
    pub(super) is_head: bool,
    /// It may be sent again when its fate is unknown.
    pub(super) is_idempotent: bool,
    /// The connection ends after it.
    pub(super) close: bool,
    pub(super) takes_trailers: bool,
    /// Its line in the access log.
    pub(super) line: Logged,
}

/// What is to be done with the bytes that were read.
pub(super) enum Next {
    /// Read more.
    Read,
    /// Serve this.
    Serve(Ask),
    /// Refuse this.
    TurnAway(Ask, Refusal),
    /// Leave it to hyper.
    HandOver,
    /// Refuse it and close.
    Refuse,
}

/// Reads the request at the start of `input`.
pub(super) fn read(worker: &Worker, client: &Client, input: &mut Buf) -> Next {
    let mut room = fields();
    let (next, len) = match judge(input.filled(), worker.limits.head_fields, &mut room) {
        Verdict::Partial if input.is_full() => return Next::HandOver,
        Verdict::Partial => return Next::Read,
        Verdict::Odd => return Next::HandOver,
        Verdict::Bad => return Next::Refuse,
        Verdict::Plain(request) => match route(worker, client, &request) {
            Some(next) => (next, request.len),
            None => return Next::HandOver,
        },
    };
    input.consume(len);
    // Many requests are read before the first of them is sent on: they all pass through the same few buffers, which stay in the cache.
    input.rest(&worker.buffers);
    next
}

fn route(worker: &Worker, client: &Client, request: &Request<'_, '_>) -> Option<Next> {
    let is_large = request.target.len() > worker.limits.uri_bytes || request.len > worker.limits.head_bytes;
    // hyper's side says what is wrong with such a head.
    if is_large || challenge::is_path(request.path()) {
        return None;
    }
    let host = normal_host(request.host)?;
    let path = if request.is_normal { Cow::Borrowed(request.path()) } else { normal_path(request.path()) };
    let table = worker.table();
    let found = table.routes.find(&host, &path)?;
    let app = &table.apps[found.app];
    if app.needs_rich {
        let here = !client.trusted && !matches!(found.then, Then::Redirect(_));
        let limiter = app.fast_limiter.as_ref().filter(|_| here)?;
        if let Err(wait) = limiter.pass_address(client.address, worker.shared.nanos(Instant::now())) {
            app.live.count(worker.thread, AppSlot::LIMITED);
            return Some(Next::TurnAway(ask(worker, client, request, app, Vec::new()), Refusal::too_many(wait)));
        }
    }
    let mut head = worker.buffers.text();
    let from = From { address: client.text.as_bytes(), trusted: client.trusted, secure: client.secure };
    match found.then {
        Then::Forward => forward_request(request, request.target, from, &mut head),
        Then::Strip(strip) => {
            let rest = strip_prefix(&path, strip);
            let target = request.query().map_or_else(|| rest.to_string(), |query| format!("{rest}?{query}"));
            forward_request(request, &target, from, &mut head);
            add_field(&mut head, &PREFIX, &path[..strip]);
        }
        Then::Redirect(_) => {
            worker.buffers.give_back_text(head);
            return None;
        }
    }
    Some(Next::Serve(ask(worker, client, request, app, head)))
}

fn ask(worker: &Worker, client: &Client, request: &Request<'_, '_>, app: &App, head: Vec<u8>) -> Ask {
    let encoding = match request.body {
        Framing::Chunked => Encoding::Chunked { trailers: request.has_trailers },
        _ => Encoding::Plain,
    };
    let mut line = worker.log_plain(client, request);
    if let Some(line) = &mut line {
        line.entry.app = app.id.to_string();
    }
    let is_idempotent = request.is_idempotent();
    let keep = if is_idempotent { worker.limits.replay_bytes } else { 0 };
    Ask {
        app: worker.local(app),
        upload: Upload::new(head, request.body, encoding, keep, request.expects),
        is_head: request.method == "HEAD",
        is_idempotent,
        close: request.close,
        takes_trailers: request.takes_trailers,
        line,
    }
}
