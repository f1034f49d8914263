//! A connection to a backend under TLS.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::upstream::ConnectError;
use crate::live::Hop;

/// Shakes hands with a backend.
pub(super) async fn secure(
    stream: TcpStream,
    hop: &Hop,
    timeout: Duration,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let tls = hop.tls.as_ref().ok_or(ConnectError::NoTls)?;
    let name = tls.name(stream.peer_addr()?.ip());
    let shaking = TlsConnector::from(tls.config.clone()).connect(name, stream);
    Ok(tokio::time::timeout(timeout, shaking).await.map_err(|_| ConnectError::Late(timeout))??)
}
