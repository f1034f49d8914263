//! A proxy's admin API over HTTP, on TCP or a unix socket: the stats stream, and the order to read routes anew.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use sc_core::stats::Frame;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};
use tokio_util::task::AbortOnDropHandle;

use super::{Frames, StatsSource};

/// The longest line: a thousand backends with full histograms are well below.
const LINE: usize = 16 << 20;

/// Reads `GET /stats` of real proxies.
#[derive(Debug, Clone, Copy, Default)]
pub struct HttpStats;

#[async_trait]
impl StatsSource for HttpStats {
    async fn open(&self, _id: &str, stats: &str) -> Result<Frames, String> {
        let (body, driver) = ask(stats, Method::GET, "/stats").await?;
        let lines = Lines { body, rest: BytesMut::new(), _driver: driver };
        Ok(stream::unfold(Some(lines), next).boxed())
    }

    async fn relist(&self, stats: &str) -> Result<(), String> {
        ask(stats, Method::POST, "/routes/relist").await.map(drop)
    }
}

/// One request over a connection of its own: the body of a good answer, and what drives the connection.
async fn ask(stats: &str, method: Method, path: &str) -> Result<(Incoming, AbortOnDropHandle<()>), String> {
    let asked = async {
        if let Some(socket) = stats.strip_prefix("unix:") {
            return over(UnixStream::connect(socket).await?, "proxy", method, path).await;
        }
        let host = stats.strip_prefix("http://").unwrap_or(stats).trim_end_matches('/');
        over(TcpStream::connect(host).await?, host, method, path).await
    };
    asked.await.map_err(|error: Box<dyn std::error::Error + Send + Sync>| format!("{stats}: {error}"))
}

async fn over<T>(
    io: T,
    host: &str,
    method: Method,
    path: &str,
) -> Result<(Incoming, AbortOnDropHandle<()>), Box<dyn std::error::Error + Send + Sync>>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
    let driver = AbortOnDropHandle::new(tokio::spawn(async move {
        let _ = connection.await;
    }));
    let request = Request::builder().method(method).uri(path).header(header::HOST, host);
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    if !response.status().is_success() {
        return Err(format!("status {}", response.status()).into());
    }
    Ok((response.into_body(), driver))
}

struct Lines {
    body: Incoming,
    rest: BytesMut,
    _driver: AbortOnDropHandle<()>,
}

/// The next frame; after an error the stream ends.
async fn next(lines: Option<Lines>) -> Option<(Result<Frame, String>, Option<Lines>)> {
    let mut lines = lines?;
    loop {
        if let Some(end) = lines.rest.iter().position(|b| *b == b'\n') {
            let line = lines.rest.split_to(end + 1);
            return match serde_json::from_slice(&line) {
                Ok(frame) => Some((Ok(frame), Some(lines))),
                Err(error) => Some((Err(format!("a report is not readable: {error}")), None)),
            };
        }
        if lines.rest.len() > LINE {
            return Some((Err(format!("a report is longer than {LINE} bytes")), None));
        }
        match lines.body.frame().await? {
            Ok(part) => {
                if let Ok(data) = part.into_data() {
                    lines.rest.extend_from_slice(&data);
                }
            }
            Err(error) => return Some((Err(error.to_string()), None)),
        }
    }
}
