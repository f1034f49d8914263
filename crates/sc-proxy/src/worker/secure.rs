//! HTTP under TLS: the handshake, then whoever speaks what was agreed on in it.

use std::{future::poll_fn, net::SocketAddr, rc::Rc, time::Duration};

use bytes::Bytes;
use tokio::{net::TcpStream, time::timeout};

use super::{Open, Worker, client, deciphered::Deciphered, fast, h2};
use crate::config::Http1;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Serves one connection until it ends.
pub(super) async fn serve(worker: Rc<Worker>, open: Open, stream: TcpStream, peer: SocketAddr) {
    let Some(config) = worker.tls.clone() else { return };
    let mut stream = match Deciphered::new(stream, config) {
        Ok(stream) => stream,
        Err(error) => return tracing::error!(%error, "no TLS can be spoken"),
    };
    match timeout(HANDSHAKE, poll_fn(|cx| stream.poll_handshake(cx))).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!(%peer, "a TLS handshake took too long"),
    }
    if stream.protocol() == Some(b"h2") {
        return Box::pin(h2::serve(worker, open, stream, Bytes::new(), peer)).await;
    }
    match worker.http1 {
        Http1::Fast => Box::pin(fast::serve(worker, open, stream, peer)).await,
        Http1::Hyper => Box::pin(client::serve(worker, open, stream, (Bytes::new(), false), peer)).await,
    }
}
