//! One backend as one thread has it: its idle connections, newest first, and those that many requests share.

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{self, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Notify,
};

use super::{
    Worker,
    body::ToBackend,
    fast::HEAD_MAX,
    multiplex::{Connections, Stream},
    outgoing,
};
use crate::live::{Backend, BackendSlot, Hop};

/// hyper's side of a connection to a backend, ready for a request.
pub(super) enum Sender {
    /// HTTP/1.1: one request after the other.
    Alone(SendRequest<ToBackend>),
    /// HTTP/2: a place among others; true: under TLS.
    Among(Stream, bool),
}

impl Sender {
    /// Sends a request; an error holds it again if it was certainly not sent.
    pub(super) async fn try_send(
        &mut self,
        request: Request<ToBackend>,
    ) -> Result<Response<Incoming>, TrySendError<Request<ToBackend>>> {
        match self {
            Self::Alone(sender) => sender.try_send_request(request).await,
            Self::Among(stream, secure) => stream.try_send(request, *secure).await,
        }
    }
}

/// One backend and this thread's idle connections to it. Kept by the backend's serial number, so a connection never serves
/// another replica that got the same address.
pub(crate) struct Upstream {
    pub(super) backend: Arc<Backend>,
    /// Those that hyper drives.
    pub(super) senders: Pool<SendRequest<ToBackend>>,
    /// Those of HTTP/2.
    pub(super) connections: Connections,
    /// How the backend is spoken to on all of them.
    hop: RefCell<Hop>,
    /// Those of the proxy's own HTTP/1.1.
    pub(super) sockets: Pool<TcpStream>,
    /// Tells streams that the table lists the backend no more.
    pub(super) left: Notify,
}

/// Idle connections, the one used last at the end.
pub(super) struct Pool<C>(RefCell<Vec<Idle<C>>>);

struct Idle<C> {
    connection: C,
    since: Instant,
}

/// What is kept in a [`Pool`].
pub(super) trait Connection {
    /// The other side has closed it, or spoke when it had nothing to say.
    fn is_over(&self) -> bool;
}

impl Connection for SendRequest<ToBackend> {
    fn is_over(&self) -> bool {
        self.is_closed()
    }
}

impl Connection for TcpStream {
    /// No system call while nothing has come: the runtime knows.
    fn is_over(&self) -> bool {
        !matches!(self.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl<C: Connection> Pool<C> {
    fn new() -> Self {
        Self(RefCell::default())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// The connection used last, if it has been idle for no longer than `longest`.
    pub(super) fn take(&self, longest: Duration, now: Instant) -> Option<C> {
        let mut idle = self.0.borrow_mut();
        while let Some(last) = idle.pop() {
            if last.connection.is_over() {
                continue;
            }
            if now.saturating_duration_since(last.since) > longest {
                idle.push(last);
                return None;
            }
            return Some(last.connection);
        }
        None
    }

    fn keep(&self, connection: C, now: Instant, most: usize) {
        let mut idle = self.0.borrow_mut();
        if idle.len() < most {
            idle.push(Idle { connection, since: now });
        }
    }

    fn close_idle(&self, longest: Duration, now: Instant) {
        let stays = |idle: &Idle<C>| !idle.connection.is_over() && now.saturating_duration_since(idle.since) < longest;
        self.0.borrow_mut().retain(stays);
    }
}

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Handshake(#[from] hyper::Error),
    #[error("TLS towards the app's backends could not be set up")]
    NoTls,
    #[error("the backend does not agree on HTTP/2")]
    NoHttp2,
    #[error(transparent)]
    Shared(Rc<ConnectError>),
}

impl Upstream {
    pub(super) fn is_listed(&self) -> bool {
        self.backend.is_listed()
    }

    /// Closes all idle connections.
    fn close(&self) {
        self.senders.0.borrow_mut().clear();
        self.connections.clear();
        self.sockets.0.borrow_mut().clear();
    }

    /// The table lists the backend no more: closes all idle connections, and tells the streams. False: it is not to be kept.
    pub(super) fn leave(&self) -> bool {
        self.close();
        self.left.notify_waiters();
        false
    }

    /// From here on it is spoken to so; connections of another kind are not used again.
    pub(super) fn speak(&self, hop: &Hop) {
        if !self.hop.borrow().is_same_as(hop) {
            self.close();
            self.hop.replace(hop.clone());
        }
    }

    /// Keeps a connection of the proxy's own for later.
    pub(super) fn keep(&self, socket: TcpStream, now: Instant, most: usize) {
        if self.is_listed() {
            self.sockets.keep(socket, now, most);
        }
    }

    /// Keeps a connection for later. One that is not through with its last request is waited for.
    pub(super) fn give_back(self: &Rc<Self>, sender: Sender, most: usize) {
        let Sender::Alone(sender) = sender else { return };
        if sender.is_closed() || !self.is_listed() {
            return;
        }
        if sender.is_ready() {
            return self.senders.keep(sender, Instant::now(), most);
        }
        let (upstream, mut sender) = (self.clone(), sender);
        tokio::task::spawn_local(async move {
            if sender.ready().await.is_ok() && upstream.is_listed() {
                upstream.senders.keep(sender, Instant::now(), most);
            }
        });
    }
}

impl Worker {
    /// This thread's side of a backend.
    pub(super) fn upstream(&self, backend: &Arc<Backend>) -> Rc<Upstream> {
        let new = || {
            let (senders, sockets, connections) = (Pool::new(), Pool::new(), Connections::default());
            let (hop, left) = (RefCell::default(), Notify::new());
            Rc::new(Upstream { backend: backend.clone(), senders, sockets, connections, hop, left })
        };
        self.upstreams.borrow_mut().entry(backend.serial).or_insert_with(new).clone()
    }

    /// Opens a connection for hyper.
    pub(super) async fn connect(
        &self,
        upstream: &Upstream,
        hop: &Hop,
        timeout: Duration,
    ) -> Result<Sender, ConnectError> {
        let stream = self.dial(upstream, timeout).await?;
        if hop.protocol.is_secure() {
            shake_hands(outgoing::secure(stream, hop, timeout).await?).await
        } else {
            shake_hands(stream).await
        }
    }

    /// Opens a connection.
    pub(super) async fn dial(&self, upstream: &Upstream, timeout: Duration) -> Result<TcpStream, ConnectError> {
        let backend = &upstream.backend;
        let connecting = tokio::time::timeout(timeout, TcpStream::connect(backend.addr));
        let stream = connecting.await.map_err(|_| ConnectError::Late(timeout))??;
        stream.set_nodelay(true)?;
        backend.shard(self.thread).counts.write(|w| w.add(BackendSlot::CONNECTS, 1));
        Ok(stream)
    }

    /// Closes what has been idle for too long.
    pub(super) fn close_idle_upstreams(&self) {
        let now = Instant::now();
        for upstream in self.upstreams.borrow().values() {
            upstream.connections.close_idle(self.limits.upstream_idle, now);
            upstream.senders.close_idle(self.limits.upstream_idle, now);
            upstream.sockets.close_idle(self.limits.upstream_idle, now);
        }
    }
}

/// Gives a connection to hyper; a task of its own drives it until it closes.
pub(super) async fn shake_hands<T>(stream: T) -> Result<Sender, ConnectError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::Builder::new().max_buf_size(HEAD_MAX).handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection.with_upgrades());
    Ok(Sender::Alone(sender))
}
