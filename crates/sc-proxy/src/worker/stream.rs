//! Upgraded connections (WebSocket and others): bytes both ways until one side ends. A WebSocket whose replica leaves is closed
//! in time; see [`farewell`](super::farewell).

use std::{
    cell::Cell,
    io,
    net::IpAddr,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{
    Open, Worker,
    exchange::Exchange,
    farewell::{self, PARTING, Parting},
    h2::Under,
    log::Logged,
};
use crate::live::{AppLive, AppSlot};

/// What a stream has of its client's connection.
pub(super) enum Beneath {
    /// All of it; it is of this address.
    Connection(IpAddr),
    /// A place among others, on HTTP/2.
    Among(#[expect(dead_code, reason = "it is held")] Under),
}

/// What bounds a stream.
pub(super) struct Terms {
    /// It ends when nothing came either way for so long.
    pub(super) silence: Option<Duration>,
    /// It is a WebSocket: how long it may go on when its replica has left, unless the table says otherwise by then.
    pub(super) drain: Option<Duration>,
}

/// How long the change of protocol may take on either side.
const UPGRADE: Duration = Duration::from_secs(10);

/// Begins to pass bytes both ways once both sides have changed their protocol, until one ends or both were silent for too long.
/// The exchange counts as in flight until then and until the end.
pub(super) fn start(
    worker: &Rc<Worker>,
    both: (OnUpgrade, OnUpgrade),
    (under, terms): (Beneath, Terms),
    (exchange, mut line): (Exchange, Logged),
) {
    let (open, thread) = (Open::new(worker), worker.thread);
    if let Beneath::Connection(address) = under {
        open.goes_on(address);
    }
    tokio::task::spawn_local(async move {
        let (counted, passed) = (Stream::new(exchange.app.live.clone(), thread), Passed::default());
        if let Some(line) = &mut line {
            line.entry.status = 101;
        }
        if let Err(error) = pass(both, terms, &exchange, &passed).await {
            tracing::debug!(%error, "a stream ended early");
        }
        let (bytes_in, bytes_out) = (passed.up.get(), passed.down.get());
        counted.live.count_bytes(thread, bytes_in, bytes_out);
        if let Some(line) = &mut line {
            (line.entry.bytes_in, line.entry.bytes_out) = (bytes_in, bytes_out);
        }
        drop((counted, exchange, open, line, under));
    });
}

/// Bytes that came from the client, and from the backend.
#[derive(Default)]
struct Passed {
    up: Rc<Cell<u64>>,
    down: Rc<Cell<u64>>,
}

/// Passes bytes both ways.
async fn pass(
    (client, backend): (OnUpgrade, OnUpgrade),
    terms: Terms,
    exchange: &Exchange,
    passed: &Passed,
) -> Result<(), Box<dyn std::error::Error>> {
    let both = async { tokio::try_join!(client, backend) };
    let (client, backend) = tokio::time::timeout(UPGRADE, both).await??;
    let heard = Rc::new(Cell::new(Instant::now()));
    let mut client = Heard::new(TokioIo::new(client), &heard, &passed.up);
    let mut backend = Heard::new(TokioIo::new(backend), &heard, &passed.down);
    let asked = Rc::new(Cell::new(false));
    backend.parting = terms.drain.map(|_| Parting::new(asked.clone()));
    let due = async {
        match terms.drain {
            Some(drain) => farewell::due(&exchange.worker, &exchange.app, &exchange.upstream, drain).await,
            None => std::future::pending().await,
        }
    };
    let mut copied = pin!(tokio::io::copy_bidirectional(&mut client, &mut backend));
    tokio::select! {
        ended = &mut copied => return Ok(ended.map(drop)?),
        () = silent(&heard, terms.silence.unwrap_or(Duration::MAX)), if terms.silence.is_some() => return Ok(()),
        () = due => asked.set(true),
    }
    if let Ok(ended) = tokio::time::timeout(PARTING, copied).await {
        ended?;
    }
    Ok(())
}

/// Waits until nothing was heard for so long.
async fn silent(heard: &Cell<Instant>, silence: Duration) {
    while heard.get().elapsed() < silence {
        tokio::time::sleep_until(heard.get() + silence).await;
    }
}

/// One side of a stream, which tells when something came from it.
struct Heard<T> {
    inner: T,
    last: Rc<Cell<Instant>>,
    bytes: Rc<Cell<u64>>,
    /// It is a WebSocket's backend.
    parting: Option<Parting>,
}

impl<T> Heard<T> {
    fn new(inner: T, last: &Rc<Cell<Instant>>, bytes: &Rc<Cell<u64>>) -> Self {
        Self { inner, last: last.clone(), bytes: bytes.clone(), parting: None }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Heard<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (this, before) = (&mut *self, buf.filled().len());
        let read = match &mut this.parting {
            None => Pin::new(&mut this.inner).poll_read(cx, buf),
            Some(parting) => parting.poll_read(&mut this.inner, cx, buf),
        };
        ready!(read)?;
        self.bytes.set(self.bytes.get() + (buf.filled().len() - before) as u64);
        self.last.set(Instant::now());
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Heard<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Counts a stream while it is open.
pub(super) struct Stream {
    live: Arc<AppLive>,
    thread: usize,
}

impl Stream {
    pub(super) fn new(live: Arc<AppLive>, thread: usize) -> Self {
        live.count(thread, AppSlot::STREAMS_OPENED);
        Self { live, thread }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.live.count(self.thread, AppSlot::STREAMS_CLOSED);
    }
}
