//! One connection for one call.

use std::io;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

use super::Target;

/// The body of a request.
pub(super) type Body = UnsyncBoxBody<Bytes, super::upload::Unreadable>;

/// Connects; the connection lives as long as its request and answer do.
pub(super) async fn connect(target: &Target) -> io::Result<SendRequest<Body>> {
    match target {
        Target::Tcp(authority) => {
            let stream = TcpStream::connect(authority.as_str()).await?;
            stream.set_nodelay(true)?;
            over(stream).await
        }
        Target::Unix(path) => over(UnixStream::connect(path).await?).await,
    }
}

async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> io::Result<SendRequest<Body>> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Its errors also reach the request or the body that it carries.
    tokio::spawn(connection.with_upgrades());
    Ok(sender)
}
