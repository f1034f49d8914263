//! HTTP/2 with backends: few connections of a thread, many requests on each.
//!
//! A connection takes as many streams as the backend allows; when all are full another is opened, up to a bound, beyond which
//! requests wait inside the least loaded one. One that said GOAWAY, or failed, gets nothing new and ends with its streams;
//! so does every one of a backend that has left the table.

use std::{
    cell::{Cell, RefCell},
    error::Error as _,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    time::{Duration, Instant},
};

use futures_util::future::{FutureExt, LocalBoxFuture, Shared};
use hyper::{
    Request, Response, Uri, Version,
    body::Incoming,
    client::conn::{
        TrySendError,
        http2::{Builder, SendRequest},
    },
    header::{CONNECTION, HOST, HeaderValue, TRANSFER_ENCODING, UPGRADE},
    http::uri::{Authority, Scheme},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Worker,
    body::ToBackend,
    fast::HEAD_MAX,
    h2::Here,
    upstream::{ConnectError, Upstream},
};
use crate::{config::Limits, live::Hop};

/// Connections of one thread to one backend.
const CONNECTIONS: usize = 8;
/// Requests at once on one of them, however many more the backend may allow.
const STREAMS: usize = 100;
/// Bytes that a backend may send ahead on one stream.
const WINDOW: u32 = 128 * 1024;
/// The same on a connection: room for all its streams, so that clients that do not read stall only their own.
const CONNECTION_WINDOW: u32 = WINDOW * STREAMS as u32;
/// Bytes that are kept for a stream whose backend does not read.
const SEND_BUFFER: usize = 64 * 1024;
/// Bytes of an answer's head as HTTP/2 counts them (RFC 9113 section 6.5.2): with room beyond what is taken, since of one that
/// is longer than this all that is heard is a broken stream.
const HEAD_LIST: u32 = 2 * HEAD_MAX as u32;
/// How long a backend may take to answer a PING.
const PONG: Duration = Duration::from_secs(20);

/// One thread's HTTP/2 connections to one backend.
#[derive(Default)]
pub(super) struct Connections {
    open: RefCell<Vec<Rc<Connection>>>,
    /// The one that is being made: all that need it wait for the same.
    dialing: RefCell<Option<Dialing>>,
}

type Dialing = Shared<LocalBoxFuture<'static, Result<Rc<Connection>, Rc<ConnectError>>>>;

struct Connection {
    sender: SendRequest<ToBackend>,
    streams: Cell<usize>,
    /// How many the backend allows, as far as it has said.
    most: Rc<Cell<usize>>,
    /// When its last stream ended.
    since: Cell<Instant>,
    used: Cell<bool>,
    /// It takes no new streams.
    leaving: Cell<bool>,
}

impl Connection {
    fn new(sender: SendRequest<ToBackend>, most: Rc<Cell<usize>>) -> Rc<Self> {
        let (streams, since) = (Cell::new(0), Cell::new(Instant::now()));
        Rc::new(Self { sender, streams, most, since, used: Cell::new(false), leaving: Cell::new(false) })
    }

    fn is_over(&self) -> bool {
        self.leaving.get() || self.sender.is_closed()
    }

    fn has_room(&self) -> bool {
        self.streams.get() < self.most.get().clamp(1, STREAMS)
    }
}

/// A place on a connection, until it is dropped.
pub(super) struct Stream(Rc<Connection>);

impl Stream {
    fn new(connection: Rc<Connection>) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        Self(connection)
    }

    /// Sends a request; `secure`: under TLS.
    pub(super) async fn try_send(
        &mut self,
        mut request: Request<ToBackend>,
        secure: bool,
    ) -> Result<Response<Incoming>, TrySendError<Request<ToBackend>>> {
        to_http2(&mut request, secure);
        let result = self.0.sender.clone().try_send_request(request).await;
        if let Err(error) = &result
            && Fate::of(error.error()) != Some(Fate::Reset)
        {
            self.0.leaving.set(true);
        }
        result
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.since.set(Instant::now());
    }
}

impl Connections {
    /// Gives nothing new to any of them: each ends with its streams.
    pub(super) fn clear(&self) {
        self.open.borrow_mut().clear();
    }

    pub(super) fn close_idle(&self, longest: Duration, now: Instant) {
        let idle = |c: &Connection| c.streams.get() == 0 && now.saturating_duration_since(c.since.get()) >= longest;
        self.open.borrow_mut().retain(|c| !c.is_over() && !idle(c));
    }

    /// The least loaded that has room; where none has and no more may be opened, the least loaded.
    fn best(&self) -> Option<Rc<Connection>> {
        let mut open = self.open.borrow_mut();
        open.retain(|c| !c.is_over());
        let best = open.iter().min_by_key(|c| c.streams.get())?;
        (best.has_room() || open.len() >= CONNECTIONS).then(|| best.clone())
    }
}

impl Worker {
    /// A place on a connection to the backend, and whether that has served before.
    pub(super) async fn stream(
        self: &Rc<Self>,
        upstream: &Rc<Upstream>,
        hop: &Hop,
        timeout: Duration,
    ) -> Result<(Stream, bool), ConnectError> {
        let connections = &upstream.connections;
        let connection = match connections.best() {
            Some(connection) => connection,
            None => {
                let dialed = self.dialing(upstream, hop, timeout).await;
                let dialed = dialed.map_err(ConnectError::Shared)?;
                connections.best().unwrap_or(dialed)
            }
        };
        let reused = connection.used.replace(true);
        Ok((Stream::new(connection), reused))
    }

    /// The connection that is being made, by a task of its own: it outlives the request that wanted it first.
    fn dialing(self: &Rc<Self>, upstream: &Rc<Upstream>, hop: &Hop, timeout: Duration) -> Dialing {
        let mut slot = upstream.connections.dialing.borrow_mut();
        if let Some(dialing) = &*slot {
            return dialing.clone();
        }
        let (worker, to, hop) = (self.clone(), upstream.clone(), hop.clone());
        let dial = async move {
            let made = worker.open_http2(&to, &hop, timeout).await.map_err(Rc::new);
            if let Ok(connection) = &made {
                to.connections.open.borrow_mut().push(connection.clone());
            }
            to.connections.dialing.borrow_mut().take();
            made
        };
        let dialing = dial.boxed_local().shared();
        *slot = Some(dialing.clone());
        tokio::task::spawn_local(dialing.clone());
        dialing
    }

    async fn open_http2(
        &self,
        upstream: &Upstream,
        hop: &Hop,
        timeout: Duration,
    ) -> Result<Rc<Connection>, ConnectError> {
        let stream = self.dial(upstream, timeout).await?;
        if !hop.protocol.is_secure() {
            return self.shake_hands(stream).await;
        }
        let stream = super::outgoing::secure(stream, hop, timeout).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(ConnectError::NoHttp2);
        }
        self.shake_hands(stream).await
    }

    async fn shake_hands<T>(&self, stream: T) -> Result<Rc<Connection>, ConnectError>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (sender, connection) = builder(&self.limits).handshake(TokioIo::new(stream)).await?;
        let most = Rc::new(Cell::new(STREAMS));
        let said = most.clone();
        tokio::task::spawn_local(async move {
            let mut connection = pin!(connection);
            let ended = poll_fn(|cx| {
                let ended = connection.as_mut().poll(cx);
                said.set(connection.current_max_send_streams());
                ended
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "a backend's HTTP/2 connection ended early");
            }
        });
        Ok(Connection::new(sender, most))
    }
}

fn builder(limits: &Limits) -> Builder<Here> {
    let mut builder = Builder::new(Here);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(STREAMS)
        .max_header_list_size(HEAD_LIST)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(limits.upstream_ping)
        .keep_alive_timeout(PONG.min(limits.upstream_ping));
    builder
}

/// Makes a request's head one of HTTP/2: the host becomes the authority, fields of an HTTP/1.1 connection go (RFC 9113 section
/// 8.2.2). An upgrade goes with them: the backend answers as to a request that asks for none.
fn to_http2<B>(request: &mut Request<B>, secure: bool) {
    *request.version_mut() = Version::HTTP_2;
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        request.headers_mut().remove(name);
    }
    let host = request.headers_mut().remove(HOST);
    if request.uri().authority().is_some() {
        return;
    }
    let authority = host.as_ref().and_then(authority).unwrap_or(Authority::from_static("localhost"));
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(authority);
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
}

fn authority(host: &HeaderValue) -> Option<Authority> {
    Authority::try_from(host.as_bytes()).ok()
}

/// What HTTP/2 says about a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The backend has certainly not worked on it: GOAWAY left it out (RFC 9113 section 6.8).
    LeftOut,
    /// The backend has certainly not worked on it: it refused the stream (RFC 9113 section 8.7).
    Refused,
    /// The backend ended this stream; its connection lives on.
    Reset,
    /// We ended it, because the client's body broke off.
    Ours,
}

impl Fate {
    /// None: nothing is said, as when the connection broke.
    pub(super) fn of(error: &hyper::Error) -> Option<Self> {
        let error = error.source()?.downcast_ref::<h2::Error>()?;
        match (error.is_reset(), error.is_remote()) {
            (true, true) if error.reason() == Some(h2::Reason::REFUSED_STREAM) => Some(Self::Refused),
            (true, true) => Some(Self::Reset),
            (true, false) if !error.is_library() => Some(Self::Ours),
            (false, true) if error.is_go_away() => Some(Self::LeftOut),
            _ => None,
        }
    }
}
