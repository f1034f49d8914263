//! The transport that HTTP/2 runs on.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::rt;
use hyper_util::rt::TokioIo;

use super::client::{Phase, Transport};

/// A client's connection, with what was read from it already before the rest.
pub(super) struct Rewound<T> {
    inner: TokioIo<T>,
    /// Bytes that come before those of the socket.
    read: Bytes,
    phase: Arc<Phase>,
    /// How long a connection may take from its first byte to a request.
    head: Duration,
}

impl<T: Transport> Rewound<T> {
    /// `head`: how long a connection may take from its first byte to a request.
    pub(super) fn new(stream: T, read: Bytes, phase: Arc<Phase>, head: Duration) -> Self {
        Self { inner: TokioIo::new(stream), read, phase, head }
    }
}

impl<T: Transport> rt::Read for Rewound<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let result = if self.read.is_empty() {
            Pin::new(&mut self.inner).poll_read(cx, buf)
        } else {
            let most = self.read.len().min(buf.remaining());
            buf.put_slice(&self.read.split_to(most));
            Poll::Ready(Ok(()))
        };
        if result.is_ready() {
            self.phase.begins(self.head);
        }
        result
    }
}

impl<T: Transport> rt::Write for Rewound<T> {
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
