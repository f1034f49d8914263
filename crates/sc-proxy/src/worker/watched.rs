//! A client's connection as hyper sees it: the phase hears when a request begins, for HTTP/1.1 a guard looks at what
//! comes in, and for HTTP/2 another at what its frames are worth.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::rt;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::client::{Phase, Transport};
use crate::{http1::Guard, http2::Frames};

/// How much the guard looks at at once.
const WATCHED: usize = 16 * 1024;

/// A transport that remembers how much the last reading gave, and ends where frames flood it.
struct Counted<T> {
    inner: T,
    last: usize,
    /// The frames of HTTP/2.
    frames: Option<Frames>,
}

impl<T> Counted<T> {
    fn sent(&mut self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Some(frames), Poll::Ready(Ok(n))) = (&mut self.frames, &result) {
            frames.sent(*n);
        }
        result
    }
}

/// The client sends frames that carry nothing, and no end of them.
fn flooded(frames: &mut Frames, came: &[u8]) -> io::Result<()> {
    if frames.came(came, Instant::now) {
        return Ok(());
    }
    tracing::debug!("a flood of HTTP/2 frames that carry nothing: its connection ends");
    Err(io::Error::other("too many HTTP/2 frames that carry nothing"))
}

impl<T: Transport> AsyncRead for Counted<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.last = buf.filled().len() - before;
        match &mut self.frames {
            Some(frames) => Poll::Ready(flooded(frames, &buf.filled()[before..])),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl<T: Transport> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.sent(sent)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.sent(sent)
    }
}

/// A client's socket that tells when a request begins to come in.
pub(super) struct Io<T> {
    inner: TokioIo<Counted<T>>,
    /// Bytes that come before those of the socket.
    read: Bytes,
    phase: Arc<Phase>,
    /// How long a connection may take from its first byte to a request.
    head: Duration,
    /// What looks at requests; nothing for HTTP/2.
    guard: Option<Guard>,
}

impl<T: Transport> Io<T> {
    /// With HTTP/1.1. `read`: what was read from it already; `head`: how long it may take from its first byte to a request.
    pub(super) fn of_requests(stream: T, read: Bytes, phase: Arc<Phase>, head: Duration, guard: Guard) -> Self {
        Self {
            inner: TokioIo::new(Counted { inner: stream, last: 0, frames: None }),
            read,
            phase,
            head,
            guard: Some(guard),
        }
    }

    /// With HTTP/2, from its preface on.
    pub(super) fn of_frames(stream: T, read: Bytes, phase: Arc<Phase>, head: Duration) -> Self {
        let mut frames = Frames::new(Instant::now());
        frames.came(&read, Instant::now); // Far less than may come at once.
        Self {
            inner: TokioIo::new(Counted { inner: stream, last: 0, frames: Some(frames) }),
            read,
            phase,
            head,
            guard: None,
        }
    }

    /// Whether the next `room` bytes are nothing that the guard must see before hyper does.
    fn is_plain(&self, room: usize) -> bool {
        self.phase.is_upgraded() || self.guard.as_ref().is_none_or(|guard| guard.indifferent() >= room as u64)
    }

    /// Reads what the guard wants to see. Where it finds a bad request, hyper gets a byte that no request has instead, and
    /// then the end: so it answers 400 and closes.
    fn poll_watched(&mut self, cx: &mut Context<'_>, mut buf: rt::ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let most = buf.remaining().min(WATCHED);
        let Some(guard) = self.guard.as_mut().filter(|guard| !guard.is_shut() && most > 0) else {
            return Poll::Ready(Ok(()));
        };
        let mut room = [MaybeUninit::uninit(); WATCHED];
        let mut bytes = ReadBuf::uninit(&mut room[..most]);
        if self.read.is_empty() {
            ready!(Pin::new(self.inner.inner_mut()).poll_read(cx, &mut bytes))?;
        } else {
            bytes.put_slice(&self.read.split_to(most.min(self.read.len())));
        }
        let good = guard.watch(bytes.filled());
        buf.put_slice(&bytes.filled()[..good]);
        if good < bytes.filled().len() {
            buf.put_slice(b"\0");
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what the guard is indifferent to.
    fn poll_plain(&mut self, cx: &mut Context<'_>, mut buf: rt::ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let given = if self.read.is_empty() {
            ready!(rt::Read::poll_read(Pin::new(&mut self.inner), cx, buf))?;
            self.inner.inner().last
        } else {
            let most = self.read.len().min(buf.remaining());
            buf.put_slice(&self.read.split_to(most));
            most
        };
        if let Some(guard) = &mut self.guard {
            guard.skip(given);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> rt::Read for Io<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: rt::ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let plain = self.is_plain(buf.remaining());
        let result = if plain { self.poll_plain(cx, buf) } else { self.poll_watched(cx, buf) };
        if result.is_ready() {
            self.phase.begins(self.head);
        }
        result
    }
}

impl<T: Transport> rt::Write for Io<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }
}
