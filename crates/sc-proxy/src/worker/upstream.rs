//! One backend as one thread has it: its idle connections, newest first.

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Worker, body::ToBackend};
use crate::live::{Backend, BackendSlot};

/// A connection to a backend, ready for a request.
pub(super) type Sender = SendRequest<ToBackend>;

/// One backend and this thread's idle connections to it. Kept by the backend's serial number, so a connection never serves
/// another replica that got the same address.
pub(crate) struct Upstream {
    pub(super) backend: Arc<Backend>,
    idle: RefCell<Vec<Idle>>,
}

struct Idle {
    sender: Sender,
    since: Instant,
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
}

impl Upstream {
    pub(super) fn is_listed(&self) -> bool {
        self.backend.is_listed()
    }

    /// Closes all idle connections; false, since it is not to be kept.
    pub(super) fn close(&self) -> bool {
        self.idle.borrow_mut().clear();
        false
    }

    /// The connection used last, if it has been idle for no longer than `longest`.
    pub(super) fn take(&self, longest: Duration) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        while let Some(last) = idle.pop() {
            if last.sender.is_closed() {
                continue;
            }
            if last.since.elapsed() > longest {
                idle.push(last);
                return None;
            }
            return Some(last.sender);
        }
        None
    }

    /// Keeps a connection for later. One that is not through with its last request is waited for.
    pub(super) fn give_back(self: &Rc<Self>, sender: Sender, most: usize) {
        if sender.is_closed() || !self.is_listed() {
            return;
        }
        if sender.is_ready() {
            return self.keep(sender, most);
        }
        let (upstream, mut sender) = (self.clone(), sender);
        tokio::task::spawn_local(async move {
            if sender.ready().await.is_ok() && upstream.is_listed() {
                upstream.keep(sender, most);
            }
        });
    }

    fn keep(&self, sender: Sender, most: usize) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < most {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }

    fn close_idle(&self, longest: Duration, now: Instant) {
        let fresh = |idle: &Idle| !idle.sender.is_closed() && now.saturating_duration_since(idle.since) < longest;
        self.idle.borrow_mut().retain(fresh);
    }
}

impl Worker {
    /// This thread's side of a backend.
    pub(super) fn upstream(&self, backend: &Arc<Backend>) -> Rc<Upstream> {
        let new = || Rc::new(Upstream { backend: backend.clone(), idle: RefCell::default() });
        self.upstreams.borrow_mut().entry(backend.serial).or_insert_with(new).clone()
    }

    /// Opens a connection; a task of its own drives it until it closes.
    pub(super) async fn connect(&self, upstream: &Upstream, timeout: Duration) -> Result<Sender, ConnectError> {
        let backend = &upstream.backend;
        let connecting = tokio::time::timeout(timeout, TcpStream::connect(backend.addr));
        let stream = connecting.await.map_err(|_| ConnectError::Late(timeout))??;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        backend.shard(self.thread).counts.write(|w| w.add(BackendSlot::CONNECTS, 1));
        tokio::task::spawn_local(connection.with_upgrades());
        Ok(sender)
    }

    /// Closes what has been idle for too long.
    pub(super) fn close_idle_upstreams(&self) {
        let now = Instant::now();
        for upstream in self.upstreams.borrow().values() {
            upstream.close_idle(self.limits.upstream_idle, now);
        }
    }
}
