//! One request: sent until there is an answer or a reason why there is none, and the answer passed on.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

use super::{
    ask::Ask,
    buffer::Buf,
    download::{Download, Failure, Manner},
    refuse,
};
use crate::{
    live::{AppSlot, class_of},
    worker::{
        LocalApp, Worker,
        answer::Refusal,
        attempt::Attempts,
        client::{Client, Transport},
        exchange::Exchange,
        log::{note_refusal, note_story},
    },
};

/// A client's connection with one request on it.
pub(super) struct Relay<'a, T> {
    pub(super) worker: &'a Rc<Worker>,
    pub(super) client: &'a Client,
    pub(super) stream: &'a mut T,
    pub(super) input: &'a mut Buf,
}

/// What becomes of the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// It can serve another request.
    Keep,
    /// It was promised to end; the client has everything.
    Close,
    /// It ends, and the client may still be sending.
    Linger,
    /// It is dead.
    Drop,
}

/// Why a request has no answer of a backend.
enum Ended {
    Gone,
    Refused(Refusal),
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl<T: Transport> Relay<'_, T> {
    /// Serves one request.
    pub(super) async fn run(&mut self, mut ask: Ask) -> After {
        let started = Instant::now();
        ask.app.live.count(self.worker.thread, AppSlot::ARRIVALS);
        let mut download = Download::new(Vec::new());
        let after = match self.send(&mut ask, &mut download, started).await {
            Ok((status, exchange, backend, now)) => {
                count(self.worker, &ask.app, status, now.saturating_duration_since(started));
                if let Some(line) = &mut ask.line {
                    line.entry.status = status;
                }
                self.pass_on(&mut ask, &mut download, exchange, backend, now).await
            }
            Err(Ended::Gone) => After::Drop,
            Err(Ended::Refused(refusal)) => {
                if refusal.is_rejection() {
                    ask.app.live.count(self.worker.thread, AppSlot::REJECTED);
                }
                self.refuse(&mut ask, refusal, started).await
            }
        };
        let (bytes_in, bytes_out) = (ask.upload.body_bytes(), download.body_bytes());
        ask.app.live.count_bytes(self.worker.thread, bytes_in, bytes_out);
        if let Some(mut line) = ask.line.take() {
            line.entry.bytes_in = bytes_in;
            line.entry.bytes_out += bytes_out;
        }
        ask.upload.free(&self.worker.buffers);
        download.free(&self.worker.buffers);
        after
    }

    /// Answers one request that is not to be sent.
    pub(super) async fn turn_away(&mut self, mut ask: Ask, refusal: Refusal) -> After {
        let after = self.refuse(&mut ask, refusal, Instant::now()).await;
        ask.upload.free(&self.worker.buffers);
        after
    }

    /// Sends the request until the head of an answer has come; the rules are those of [`Attempts`].
    async fn send(
        &mut self,
        ask: &mut Ask,
        download: &mut Download,
        started: Instant,
    ) -> Result<(u16, Exchange, TcpStream, Instant), Ended> {
        let app = ask.app.clone();
        let mut attempts = Attempts::new(self.worker, self.client, &app, started);
        let sent = self.try_all(ask, download, &mut attempts).await;
        note_story(&mut ask.line, attempts.story());
        sent
    }

    async fn try_all(
        &mut self,
        ask: &mut Ask,
        download: &mut Download,
        attempts: &mut Attempts<'_>,
    ) -> Result<(u16, Exchange, TcpStream, Instant), Ended> {
        let (client, worker) = (self.client, self.worker);
        loop {
            let idempotent = ask.is_idempotent;
            let (mut exchange, limits) = self.unless_gone(ask, pin!(attempts.acquire(idempotent))).await??;
            attempts.count_attempt();
            let used = attempts
                .longest_idle(idempotent)
                .and_then(|longest| exchange.upstream.sockets.take(longest, attempts.now()));
            let reused = used.is_some();
            let mut backend = match used {
                Some(socket) => socket,
                None => {
                    let upstream = exchange.upstream.clone();
                    match self.unless_gone(ask, pin!(worker.dial(&upstream, limits.connect))).await? {
                        Ok(socket) => {
                            attempts.read_clock();
                            socket
                        }
                        Err(error) => {
                            attempts.not_connected(&mut exchange, &error);
                            continue;
                        }
                    }
                }
            };
            turn().await;
            let mut sent = attempts.now();
            attempts.count_sending();
            let head = {
                let head = pin!(self.head(ask, download, &mut backend, &mut sent));
                client.phase.wait(limits.response, head).await
            };
            let failure = match head.map_err(|whom| exchange.late(whom))? {
                Ok(status) => {
                    attempts.answered(&mut exchange, status, ask.upload.is_sent().then_some(sent));
                    return Ok((status, exchange, backend, attempts.now()));
                }
                Err(failure) => failure,
            };
            match failure {
                Failure::Gone => return Err(Ended::Gone),
                Failure::BadBody => return Err(Refusal::BadBody.into()),
                Failure::TooLong => return Err(Refusal::LongAnswer.into()),
                Failure::Silent | Failure::Broken => {}
            }
            let again = failure == Failure::Silent && idempotent && ask.upload.is_kept();
            attempts.broke(&mut exchange, reused, ask.upload.is_unsent(), again)?;
            ask.upload.rewind();
            download.forget();
        }
    }

    /// Sends, and waits for the head of the answer. `sent` is set to when the last of the request went, if that is not now.
    async fn head(
        &mut self,
        ask: &mut Ask,
        download: &mut Download,
        backend: &mut TcpStream,
        sent: &mut Instant,
    ) -> Result<u16, Failure> {
        let (worker, phase) = (self.worker, &*self.client.phase);
        let date = worker.date.borrow().clone();
        let (to_head, takes_trailers) = (ask.is_head, ask.takes_trailers);
        let mut waited = false;
        poll_fn(|cx| {
            if !ask.upload.is_sent() {
                if !ask.upload.is_whole() && self.input.is_empty() && ask.upload.takes_100() {
                    download.say(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
                let client = (&mut *self.stream, &mut *self.input);
                let _ = ask.upload.poll(cx, client, backend, (&worker.buffers, phase))?;
                if std::mem::replace(&mut waited, true) && ask.upload.is_sent() {
                    *sent = Instant::now();
                }
            }
            let close = ask.close || worker.closes::<T>();
            let manner = Manner { to_head, takes_trailers, close, date: &date };
            match download.poll_head(cx, self.stream, backend, &worker.buffers, manner) {
                Poll::Pending if ask.upload.is_whole() && self.is_gone(cx) => Poll::Ready(Err(Failure::Gone)),
                other => other,
            }
        })
        .await
    }

    /// Passes the answer on, and the rest of the request meanwhile.
    async fn pass_on(
        &mut self,
        ask: &mut Ask,
        download: &mut Download,
        exchange: Exchange,
        backend: TcpStream,
        now: Instant,
    ) -> After {
        let (worker, phase) = (self.worker, &*self.client.phase);
        let (mut exchange, mut backend) = (Some(exchange), Some(backend));
        let mut release = |download: &Download, sent: bool, backend: &mut Option<TcpStream>, now: Instant| {
            if let (Some(exchange), Some(backend)) = (exchange.take(), backend.take()) {
                let upstream = exchange.upstream.clone();
                exchange.end(now);
                if sent && download.is_reusable() {
                    upstream.keep(backend, now, worker.limits.upstream_idle_max);
                }
            }
        };
        if download.absorb_first(&worker.buffers).is_err() {
            return After::Drop;
        }
        if download.is_whole() {
            release(download, ask.upload.is_sent(), &mut backend, now);
        }
        if download.is_whole() && ask.upload.is_whole() && (ask.close || worker.closes::<T>()) {
            self.stream.ends_with_next();
        }
        turn().await;
        let passed = poll_fn(|cx| {
            if let Some(backend) = backend.as_mut().filter(|_| !ask.upload.is_sent()) {
                let client = (&mut *self.stream, &mut *self.input);
                let _ = ask.upload.poll(cx, client, backend, (&worker.buffers, phase))?;
            }
            let passed = download.poll_body(cx, self.stream, backend.as_mut(), (&worker.buffers, phase));
            if passed.is_pending() {
                phase.sends(download.is_blocked(), worker.limits.idle_timeout);
            }
            match passed {
                Poll::Pending if ask.upload.is_whole() && self.is_gone(cx) => Poll::Ready(Err(Failure::Gone)),
                other => other,
            }
        });
        if passed.await.is_err() {
            return After::Drop;
        }
        if backend.is_some() {
            release(download, ask.upload.is_sent(), &mut backend, Instant::now());
        }
        match (ask.upload.is_whole(), ask.close || worker.closes::<T>()) {
            (false, _) => After::Linger,
            (true, true) => After::Close,
            (true, false) => After::Keep,
        }
    }

    async fn refuse(&mut self, ask: &mut Ask, refusal: Refusal, started: Instant) -> After {
        count(self.worker, &ask.app, refusal.status(), started.elapsed());
        note_refusal(&mut ask.line, refusal);
        let keep = ask.upload.is_whole() && !ask.close && !self.worker.closes::<T>();
        let text = refuse::text(refusal, &self.worker.date.borrow(), ask.is_head, !keep);
        if let Some(line) = &mut ask.line {
            line.entry.bytes_out =
                memchr::memmem::find(&text, b"\r\n\r\n").map_or(0, |end| (text.len() - end - 4) as u64);
        }
        let after = if keep { After::Keep } else { After::Linger };
        if self.write(&text).await { after } else { After::Drop }
    }

    /// Writes something of the proxy's own. False when the client has left.
    pub(super) async fn write(&mut self, text: &[u8]) -> bool {
        let mut download = Download::new(text.to_vec());
        let buffers = (&self.worker.buffers, &*self.client.phase);
        poll_fn(|cx| download.poll_body(cx, self.stream, None, buffers)).await.is_ok()
    }

    /// Waits for something, but not for a client that has left. A client with a body to send is not watched: nothing of it is
    /// read before a backend takes it.
    async fn unless_gone<F: Future + Unpin>(&mut self, ask: &Ask, mut future: F) -> Result<F::Output, Ended> {
        let watched = ask.upload.is_whole();
        poll_fn(|cx| match Pin::new(&mut future).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if watched && self.is_gone(cx) => Poll::Ready(Err(Ended::Gone)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Whether the client has left. What it sends meanwhile is its next request.
    fn is_gone(&mut self, cx: &mut std::task::Context<'_>) -> bool {
        while !self.input.is_full() {
            if self.input.is_empty() && self.stream.poll_readable(cx).is_pending() {
                return false;
            }
            match self.input.poll_fill(&self.worker.buffers, false, cx, self.stream) {
                Poll::Pending => return false,
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return true,
            }
        }
        false
    }
}

/// Lets all go first that are ready. What has been read is sent on after it: so the readings of one wake of the thread come in a
/// row, and the sendings after them. The kernel's code for the one and for the other stays in the cache, and those that are woken by
/// what they are sent do not interrupt the readings.
async fn turn() {
    let mut had = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut had, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn count(worker: &Worker, app: &LocalApp, status: u16, after: Duration) {
    let shard = app.live.shard(worker.thread);
    shard.counts.write(|w| w.add(AppSlot::ANSWERS + class_of(status), 1));
    shard.duration.record(after.as_nanos() as u64);
}
