//! The stats stream over HTTP, on TCP or a unix socket.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Incoming, client::conn::http1, header};
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
        if let Some(path) = stats.strip_prefix("unix:") {
            let stream = UnixStream::connect(path).await.map_err(|e| format!("{stats}: {e}"))?;
            return frames(stream, "proxy", stats).await;
        }
        let host = stats.strip_prefix("http://").unwrap_or(stats).trim_end_matches('/');
        let stream = TcpStream::connect(host).await.map_err(|e| format!("{stats}: {e}"))?;
        frames(stream, host, stats).await
    }
}

async fn frames<T>(io: T, host: &str, stats: &str) -> Result<Frames, String>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let wrong = |e: &dyn std::fmt::Display| format!("{stats}: {e}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(|e| wrong(&e))?;
    let driver = AbortOnDropHandle::new(tokio::spawn(async move {
        let _ = connection.await;
    }));
    let request = Request::get("/stats").header(header::HOST, host).body(Empty::<Bytes>::new());
    let request = request.map_err(|e| wrong(&e))?;
    let response = sender.send_request(request).await.map_err(|e| wrong(&e))?;
    if !response.status().is_success() {
        return Err(format!("{stats}: status {}", response.status()));
    }
    let lines = Lines { body: response.into_body(), rest: BytesMut::new(), _driver: driver };
    Ok(stream::unfold(Some(lines), next).boxed())
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
