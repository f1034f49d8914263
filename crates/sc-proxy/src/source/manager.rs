//! Routes from the manager's stream, for a store that only the manager opens.

use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{Method, body::Incoming};
use sc_api::types::RoutesUpdate;
use tokio::time::{Instant, timeout_at};

use super::{
    BackOff, RouteSource, Update,
    link::{Link, LinkError},
    random,
};

/// How long one stream is believed before a new one is opened, which begins with all routes; cut by up to a third at random.
const RELIST: Duration = Duration::from_secs(30);
/// The longest line that is read.
const LINE_MAX: usize = 64 << 20;

/// Follows `GET /v1/routes`.
pub(crate) struct ManagerSource {
    link: Link,
    stream: Option<Lines>,
    back_off: BackOff,
    down: bool,
}

struct Lines {
    body: Incoming,
    buffer: BytesMut,
    until: Instant,
}

impl ManagerSource {
    pub(crate) fn new(link: Link) -> Self {
        Self { link, stream: None, back_off: BackOff::default(), down: false }
    }

    async fn open(&mut self) -> Result<Update, LinkError> {
        let response = self.link.send(Method::GET, "/v1/routes", Bytes::new()).await?;
        let until = Instant::now() + RELIST.mul_f64(1.0 - random() / 3.0);
        let lines = Lines { body: response.into_body(), buffer: BytesMut::new(), until };
        let update = self.stream.insert(lines).next().await?;
        update.ok_or_else(|| LinkError::Nonsense("the stream ended before it began".to_owned()))
    }
}

#[async_trait(?Send)]
impl RouteSource for ManagerSource {
    async fn next(&mut self) -> Update {
        loop {
            let next = match &mut self.stream {
                Some(stream) => stream.next().await,
                None => self.open().await.map(Some),
            };
            match next {
                Ok(Some(update)) => {
                    if std::mem::take(&mut self.down) {
                        tracing::info!("the manager is back");
                    }
                    self.back_off.reset();
                    return update;
                }
                Ok(None) => self.stream = None,
                Err(error) => {
                    self.stream = None;
                    if !std::mem::replace(&mut self.down, true) {
                        tracing::warn!(%error, "waiting for the manager; the last routes serve on");
                    }
                    self.back_off.wait().await;
                }
            }
        }
    }
}

impl Lines {
    /// The next update; none when the stream has ended or is to be opened anew.
    async fn next(&mut self) -> Result<Option<Update>, LinkError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                match line.trim_ascii() {
                    b"" => continue,
                    line => return parse(line).map(Some),
                }
            }
            let frame = match timeout_at(self.until, self.body.frame()).await {
                Err(_) | Ok(None) => return Ok(None),
                Ok(Some(frame)) => frame?,
            };
            self.buffer.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            if self.buffer.len() > LINE_MAX {
                return Err(LinkError::Nonsense(format!("a line is longer than {LINE_MAX} bytes")));
            }
        }
    }
}

fn parse(line: &[u8]) -> Result<Update, LinkError> {
    let update: RoutesUpdate = serde_json::from_slice(line).map_err(|error| LinkError::Nonsense(error.to_string()))?;
    let RoutesUpdate { revision, whole, put, delete } = update;
    Ok(Update { revision, whole, put, delete, ..Update::default() })
}
