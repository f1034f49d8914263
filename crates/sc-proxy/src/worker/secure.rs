//! A client's connection under TLS: the handshake, and the stream that comes of it.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::{
    Open, Worker,
    client::{self, Transport},
    fast, h2,
};
use crate::config::Http1;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Serves one connection until it ends.
pub(super) async fn serve(worker: Rc<Worker>, open: Open, stream: TcpStream, peer: SocketAddr) {
    let Some(acceptor) = worker.tls.clone() else { return };
    let stream = match tokio::time::timeout(HANDSHAKE, Box::pin(acceptor.accept(stream))).await {
        Ok(Ok(stream)) => Secure(stream),
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!(%peer, "a TLS handshake took too long"),
    };
    if stream.0.get_ref().1.alpn_protocol() == Some(b"h2") {
        return Box::pin(h2::serve(worker, open, stream, Bytes::new(), peer)).await;
    }
    match worker.http1 {
        Http1::Fast => Box::pin(fast::serve(worker, open, stream, peer)).await,
        Http1::Hyper => Box::pin(client::serve(worker, open, stream, Bytes::new(), peer)).await,
    }
}

/// A deciphered connection. Reading also sends what is left of earlier writes: a write is done when rustls has taken it, which
/// may be before the socket has.
struct Secure(TlsStream<TcpStream>);

impl Transport for Secure {
    const SECURE: bool = true;
}

impl AsyncRead for Secure {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.0.get_ref().1.wants_write()
            && let Poll::Ready(Err(error)) = Pin::new(&mut self.0).poll_flush(cx)
        {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Secure {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }
}
