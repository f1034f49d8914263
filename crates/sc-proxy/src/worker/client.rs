//! A client's connection: what phase it is in, and how long it may be in it.
//!
//! There is no timer per connection: a connection carries the ticks it has spent in its phase and how many it may, and one
//! task per thread counts them all on.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::*},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use hyper::{body::Incoming, header::HeaderValue, server::conn::http1, service::service_fn};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpStream,
};

use super::{Open, TICK, Worker, h2, serial::BySerial, serve, watched::Io};
use crate::{config::Limits, http1::Guard, http2};

/// A connection's phase and time. Atomic only because hyper wants its transport to be `Send`; one thread uses it.
#[derive(Debug, Default)]
pub(crate) struct Phase {
    phase: AtomicU8,
    ticks: AtomicU32,
    limit: AtomicU32,
    over: AtomicBool,
    /// More of a request's body is waited for.
    awaits_body: AtomicBool,
    /// How many ticks nothing of it may come.
    body_limit: AtomicU32,
    /// Bytes that were read of the request's body, for the access log.
    received: AtomicU64,
    /// The connection speaks another protocol now.
    upgraded: AtomicBool,
}

const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;
const WAITING: u8 = 3;
const SENDING: u8 = 4;

/// How many fields hyper takes unless told otherwise.
const HYPER_FIELDS: usize = 100;
/// Whom a request waited for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    /// The client, for more of the request's body.
    Client,
    /// The backend, for the head of its answer.
    Backend,
}

/// Ticks that an idle connection is kept after a stop, so that a request on its way to us is not lost.
const LINGER: u32 = 4;

impl Phase {
    fn enter(&self, phase: u8, limit: u32) {
        self.phase.store(phase, Relaxed);
        self.limit.store(limit, Relaxed);
        self.ticks.store(0, Relaxed);
        self.over.store(false, Relaxed);
    }

    /// Between requests.
    pub(super) fn idle(&self, limit: Duration) {
        self.enter(IDLE, ticks(limit));
    }

    /// A request's first byte has come, unless it came before.
    pub(super) fn begins(&self, limit: Duration) {
        if self.phase.load(Relaxed) == IDLE {
            self.enter(HEAD, ticks(limit));
        }
    }

    /// The connection is being closed.
    pub(super) fn ends(&self, limit: Duration) {
        self.enter(HEAD, ticks(limit));
    }

    /// Bytes pass both ways, for as long as there is one within `limit`.
    pub(super) fn streams(&self, limit: Duration) {
        self.enter(HEAD, ticks(limit));
    }

    pub(super) fn is_idle(&self) -> bool {
        self.phase.load(Relaxed) == IDLE
    }

    /// A request is being worked on; no limit of ours but that of its body.
    pub(super) fn busy(&self) {
        self.awaits_body(false);
        self.works();
    }

    fn works(&self) {
        self.enter(BUSY, u32::MAX);
    }

    /// How long nothing may come of a request's body that is waited for. Once its answer has begun, nothing either way.
    pub(super) fn body_within(&self, limit: Duration) {
        self.body_limit.store(ticks(limit), Relaxed);
    }

    /// Whether more of a request's body is what is waited for. That is the client's time, not the backend's.
    pub(super) fn awaits_body(&self, awaits: bool) {
        self.awaits_body.store(awaits, Relaxed);
    }

    /// Waits for what the backend sends, `limit` at most while the client keeps nothing back; [`Self::progress`] begins the wait
    /// anew. The future comes pinned: moved in here it would take its room twice in every connection's task.
    pub(super) async fn wait<T>(
        &self,
        limit: Duration,
        mut future: impl Future<Output = T> + Unpin,
    ) -> Result<T, Late> {
        self.awaits_body(false);
        self.enter(WAITING, ticks(limit));
        let result = poll_fn(|cx| match Pin::new(&mut future).poll(cx) {
            Poll::Pending if self.over.swap(false, Relaxed) => {
                Poll::Ready(Err(if self.awaits_body.load(Relaxed) { Late::Client } else { Late::Backend }))
            }
            other => other.map(Ok),
        });
        let result = result.await;
        self.works();
        result
    }

    /// From here on the connection speaks another protocol.
    pub(super) fn upgraded(&self) {
        self.upgraded.store(true, Relaxed);
    }

    pub(super) fn is_upgraded(&self) -> bool {
        self.upgraded.load(Relaxed)
    }

    /// An answer is being passed on: `blocked` as long as the client takes nothing of it, for no longer than `limit`.
    pub(super) fn sends(&self, blocked: bool, limit: Duration) {
        match (self.phase.load(Relaxed), blocked) {
            (BUSY, true) => self.enter(SENDING, ticks(limit)),
            (SENDING, false) => self.works(),
            _ => {}
        }
    }

    /// The connection is to end at once, in the midst of an answer: whoever drives it must be woken.
    pub(super) fn cut(&self) {
        self.enter(SENDING, 0);
        self.over.store(true, Relaxed);
    }

    /// Something moved.
    pub(super) fn progress(&self) {
        self.ticks.store(0, Relaxed);
    }

    /// So much of a request's body has come.
    pub(super) fn received(&self, bytes: usize) {
        self.received.store(self.received.load(Relaxed) + bytes as u64, Relaxed);
        self.progress();
    }

    /// How much of its body has come since this was last asked.
    pub(super) fn take_received(&self) -> u64 {
        self.received.swap(0, Relaxed)
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase.load(Relaxed), IDLE | HEAD | BUSY | SENDING) && self.over.load(Relaxed)
    }

    /// One tick has passed. Whether the time is over.
    fn tick(&self, stopping: bool) -> bool {
        let ticks = self.ticks.load(Relaxed).saturating_add(1);
        self.ticks.store(ticks, Relaxed);
        let phase = self.phase.load(Relaxed);
        let idle = phase == IDLE;
        let for_body = matches!(phase, BUSY | WAITING) && self.awaits_body.load(Relaxed);
        let limit = if for_body { &self.body_limit } else { &self.limit };
        let over = ticks > limit.load(Relaxed) || (stopping && idle && ticks > LINGER);
        if over {
            self.over.store(true, Relaxed);
        }
        over
    }
}

fn ticks(span: Duration) -> u32 {
    span.as_millis().div_ceil(TICK.as_millis()).try_into().unwrap_or(u32::MAX)
}

/// The client connections of a thread.
#[derive(Default)]
pub(super) struct Clients {
    next: Cell<u64>,
    open: RefCell<BySerial<(Arc<Phase>, Waker)>>,
}

/// Counts all connections' time on, until it is aborted.
pub(super) async fn tick(worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let stopping = worker.stopping.get();
        for (phase, waker) in worker.clients.open.borrow().values() {
            if phase.tick(stopping) {
                waker.wake_by_ref();
            }
        }
        worker.close_idle_upstreams();
        worker.set_date();
        worker.flush_log();
    }
}

/// Who is on the other side of a connection.
pub(super) struct Client {
    /// Its address.
    pub(super) address: IpAddr,
    /// Its address as a field's value.
    pub(super) text: HeaderValue,
    /// Its `X-Forwarded-*` are believed.
    pub(super) trusted: bool,
    /// It speaks to us under TLS.
    pub(super) secure: bool,
    /// Its connection's phase.
    pub(super) phase: Arc<Phase>,
    /// On HTTP/2: the requests of its connection.
    pub(super) streams: Option<Rc<h2::Streams>>,
}

impl Client {
    /// A client whose connection is new.
    pub(super) fn new(worker: &Worker, peer: SocketAddr, secure: bool) -> Self {
        let phase = Arc::new(Phase::default());
        phase.idle(worker.limits.idle_timeout);
        phase.body_within(worker.limits.body_timeout);
        let ip = peer.ip().to_canonical();
        let text = HeaderValue::try_from(ip.to_string()).expect("an address is made of visible characters");
        Self { address: ip, text, trusted: worker.trusts(ip), secure, phase, streams: None }
    }

    /// The same client, for a request among others, with a phase of its own.
    pub(super) fn another(&self, streams: &Rc<h2::Streams>) -> Self {
        Self {
            address: self.address,
            text: self.text.clone(),
            trusted: self.trusted,
            secure: self.secure,
            phase: Arc::default(),
            streams: Some(streams.clone()),
        }
    }
}

/// A client's connection: bytes both ways, plain or deciphered.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// It is under TLS.
    const SECURE: bool = false;
    /// Between two requests all of its state is in the socket: another process can go on with it.
    const MOVES: bool = false;

    /// That socket.
    fn into_socket(self) -> Option<std::net::TcpStream>
    where
        Self: Sized,
    {
        None
    }

    /// Ready when reading is worth a try. To ask this costs less than a reading that finds nothing.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// The end of what is written next is the end of all: what ends the protocol beneath may go with it.
    fn ends_with_next(&mut self) {}

    /// Ends the protocol beneath, if that has an end. After it, dropping is an orderly end.
    fn poll_farewell(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

impl Transport for TcpStream {
    const MOVES: bool = true;

    fn into_socket(self) -> Option<std::net::TcpStream> {
        self.into_std().ok()
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_read_ready(cx).map(drop)
    }
}

/// Serves one connection with hyper until it ends. `read`: what was read from it already, and whether it is the first that came, without
/// TLS: only that can be HTTP/2 (RFC 9113 section 3.3; under TLS it is agreed on before).
pub(super) async fn serve<T: Transport>(
    worker: Rc<Worker>,
    open: Open,
    mut stream: T,
    (read, first): (Bytes, bool),
    peer: SocketAddr,
) {
    let client = Rc::new(Client::new(&worker, peer, T::SECURE));
    let phase = client.phase.clone();
    let mut read = read;
    if first {
        let begun = {
            let begin = pin!(begin(&mut stream, read, &phase, worker.limits.head_timeout));
            until_over(&worker, &phase, begin).await
        };
        let Some(Ok(begun)) = begun else { return };
        if begun.starts_with(http2::PREFACE) {
            return Box::pin(h2::serve(worker, open, stream, begun, peer)).await;
        }
        read = begun;
    }
    let limits = &worker.limits;
    let guard = Guard::new(limits.head_bytes, limits.head_fields);
    let io = Io::of_requests(stream, read, phase.clone(), limits.head_timeout, guard);
    let service = {
        let worker = worker.clone();
        service_fn(move |request: hyper::Request<Incoming>| serve::serve(worker.clone(), client.clone(), request))
    };
    let _open = open;
    let builder = builder(&worker.limits);
    let connection = pin!(builder.serve_connection(io, service).with_upgrades());
    if let Some(Err(error)) = until_over(&worker, &phase, connection).await {
        tracing::debug!(%peer, %error, "a client's connection ended early");
    }
}

/// How much is read at first: a request's head in one piece.
const FIRST: usize = 4 * 1024;

/// Reads on for as long as what was read could be the start of HTTP/2.
async fn begin(stream: &mut impl Transport, read: Bytes, phase: &Phase, limit: Duration) -> std::io::Result<Bytes> {
    let may_be = |read: &[u8]| read.len() < http2::PREFACE.len() && http2::PREFACE.starts_with(read);
    if !may_be(&read) {
        return Ok(read);
    }
    let mut read = BytesMut::from(read);
    while may_be(&read) {
        read.reserve(FIRST);
        if stream.read_buf(&mut read).await? == 0 {
            break;
        }
        phase.begins(limit);
    }
    Ok(read.freeze())
}

/// Runs a connection (which comes pinned, see [`Phase::wait`]) until it ends, or its time is over.
pub(super) async fn until_over<F: Future + Unpin>(
    worker: &Rc<Worker>,
    phase: &Arc<Phase>,
    mut connection: F,
) -> Option<F::Output> {
    let mut registered = None;
    poll_fn(|cx| {
        registered.get_or_insert_with(|| Registered::new(worker, phase, cx));
        if phase.is_over() {
            return Poll::Ready(None);
        }
        Pin::new(&mut connection).poll(cx).map(Some)
    })
    .await
}

/// hyper's part of a connection. Its own timer stays off: [`Phase`] does that.
fn builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_header_size(limits.head_bytes).header_read_timeout(None);
    if limits.head_fields != HYPER_FIELDS {
        builder.max_headers(limits.head_fields); // costs an allocation per request
    }
    builder
}

/// A connection's entry among the thread's connections.
pub(super) struct Registered {
    worker: Rc<Worker>,
    key: u64,
}

impl Registered {
    pub(super) fn new(worker: &Rc<Worker>, phase: &Arc<Phase>, cx: &Context<'_>) -> Self {
        let key = worker.clients.next.get();
        worker.clients.next.set(key + 1);
        worker.clients.open.borrow_mut().insert(key, (phase.clone(), cx.waker().clone()));
        Self { worker: worker.clone(), key }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.worker.clients.open.borrow_mut().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_over_after_its_ticks() {
        let phase = Phase::default();
        phase.idle(TICK * 2);
        assert!(!phase.tick(false) && !phase.tick(false) && phase.tick(false) && phase.is_over());
        let phase = Phase::default();
        phase.enter(WAITING, 1);
        assert!(!phase.tick(false));
        phase.progress();
        assert!(!phase.tick(false) && phase.tick(false) && !phase.is_over());
        let phase = Phase::default();
        phase.busy();
        assert!((0..1_000).all(|_| !phase.tick(true)));
        phase.body_within(TICK * 2);
        phase.awaits_body(true);
        assert!(phase.tick(false) && phase.is_over());
        phase.progress();
        assert!(!phase.tick(false) && !phase.tick(false) && phase.tick(false) && phase.is_over());
        phase.busy();
        assert!((0..1_000).all(|_| !phase.tick(false)));
        phase.idle(Duration::MAX);
        assert_eq!((0..100).position(|_| phase.tick(true)), Some(LINGER as usize));
    }
}
