//! Plain HTTP to the manager, over TCP or a unix socket: one connection per request.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response,
    body::Incoming,
    client::conn::http1,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};

/// How long the manager may take to begin its answer.
const ANSWER: Duration = Duration::from_secs(5);
/// The longest error text that is read.
const ERROR_BYTES: usize = 16 * 1024;

/// How the manager is reached.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    to: To,
    token: Option<String>,
}

#[derive(Debug, Clone)]
enum To {
    Tcp(String),
    Unix(PathBuf),
}

/// Why the manager gave no answer to use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("it did not answer within {ANSWER:?}")]
    Late,
    #[error("it cannot be reached: {0}")]
    Io(#[from] std::io::Error),
    #[error("the connection broke: {0}")]
    Http(#[from] hyper::Error),
    #[error("it answered {0}: {1}")]
    Status(u16, String),
    #[error("its answer makes no sense: {0}")]
    Nonsense(String),
}

impl Link {
    /// Reads `http://HOST:PORT` or `unix:PATH`.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub(crate) fn new(url: &str, token: Option<String>) -> Result<Self, String> {
        let to = match (url.strip_prefix("unix:"), url.strip_prefix("http://")) {
            (Some(path), _) => To::Unix(path.into()),
            (_, Some(host)) if !host.trim_end_matches('/').is_empty() => {
                let host = host.trim_end_matches('/');
                let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
                To::Tcp(if has_port { host.to_owned() } else { format!("{host}:80") })
            }
            _ => return Err(format!("{url:?} is neither http://HOST:PORT nor unix:PATH")),
        };
        Ok(Self { to, token })
    }

    /// Sends one request. An answer other than 2xx is an error.
    pub(crate) async fn send(&self, method: Method, path: &str, json: Bytes) -> Result<Response<Incoming>, LinkError> {
        let answer = tokio::time::timeout(ANSWER, self.exchange(method, path, json)).await;
        let response = answer.map_err(|_| LinkError::Late)??;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let text = tokio::time::timeout(ANSWER, Limited::new(response.into_body(), ERROR_BYTES).collect()).await;
        let text = text.ok().and_then(Result::ok).map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
        Err(LinkError::Status(status, text.unwrap_or_default()))
    }

    async fn exchange(&self, method: Method, path: &str, json: Bytes) -> Result<Response<Incoming>, LinkError> {
        let mut request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, "application/json");
        request = match &self.to {
            To::Tcp(host) => request.header(HOST, host),
            To::Unix(_) => request.header(HOST, "manager"),
        };
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(json)).map_err(|error| LinkError::Nonsense(error.to_string()))?;
        let mut sender = match &self.to {
            To::Tcp(host) => connected(TokioIo::new(TcpStream::connect(host).await?)).await?,
            To::Unix(path) => connected(TokioIo::new(UnixStream::connect(path).await?)).await?,
        };
        Ok(sender.send_request(request).await?)
    }
}

async fn connected<T>(io: T) -> Result<http1::SendRequest<Full<Bytes>>, hyper::Error>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(io).await?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_manager() {
        for good in ["http://127.0.0.1:7700", "http://manager/", "unix:/run/sc.sock"] {
            assert!(Link::new(good, None).is_ok(), "{good}");
        }
        for bad in ["https://x", "127.0.0.1:7700", "http://", ""] {
            assert!(Link::new(bad, None).unwrap_err().contains("neither"), "{bad}");
        }
    }
}
