//! A client's connection as hyper sees it: a guard looks at what comes in, and the phase hears when a request begins.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::rt;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::client::{Phase, Transport};
use crate::{config::Limits, http1::Guard};

/// How much the guard looks at at once.
const WATCHED: usize = 16 * 1024;

/// A transport that remembers how much the last reading gave.
struct Counted<T> {
    inner: T,
    last: usize,
}

impl<T: Transport> AsyncRead for Counted<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.last = buf.filled().len() - before;
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> AsyncWrite for Counted<T> {
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

/// A client's socket that tells when a request begins to come in.
pub(super) struct Io<T> {
    inner: TokioIo<Counted<T>>,
    /// Bytes that come before those of the socket.
    read: Bytes,
    phase: Arc<Phase>,
    head: Duration,
    guard: Guard,
}

impl<T: Transport> Io<T> {
    /// `read`: what was read from it already; `limits`: of a head.
    pub(super) fn new(stream: T, read: Bytes, phase: Arc<Phase>, limits: &Limits) -> Self {
        let guard = Guard::new(limits.head_bytes, limits.head_fields);
        Self { inner: TokioIo::new(Counted { inner: stream, last: 0 }), read, phase, head: limits.head_timeout, guard }
    }

    /// Reads what the guard wants to see. Where it finds a bad request, hyper gets a byte that no request has instead, and
    /// then the end: so it answers 400 and closes.
    fn poll_watched(&mut self, cx: &mut Context<'_>, mut buf: rt::ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let most = buf.remaining().min(WATCHED);
        if self.guard.is_shut() || most == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut room = [MaybeUninit::uninit(); WATCHED];
        let mut bytes = ReadBuf::uninit(&mut room[..most]);
        if self.read.is_empty() {
            ready!(Pin::new(self.inner.inner_mut()).poll_read(cx, &mut bytes))?;
        } else {
            bytes.put_slice(&self.read.split_to(most.min(self.read.len())));
        }
        let good = self.guard.watch(bytes.filled());
        buf.put_slice(&bytes.filled()[..good]);
        if good < bytes.filled().len() {
            buf.put_slice(b"\0");
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what the guard is indifferent to.
    fn poll_plain(&mut self, cx: &mut Context<'_>, buf: rt::ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        ready!(rt::Read::poll_read(Pin::new(&mut self.inner), cx, buf))?;
        self.guard.skip(self.inner.inner().last);
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> rt::Read for Io<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buf.remaining();
        let plain = self.phase.is_upgraded() || self.guard.indifferent() >= room as u64;
        let result = if !plain {
            self.poll_watched(cx, buf)
        } else if self.read.is_empty() {
            self.poll_plain(cx, buf)
        } else {
            let most = self.read.len().min(room);
            buf.put_slice(&self.read.split_to(most));
            self.guard.skip(most);
            Poll::Ready(Ok(()))
        };
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
