//! Routes from the manager's stream, for a store that only the manager opens.

use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::{Method, body::Incoming};
use sc_api::types::{CertsUpdate, RoutesUpdate};
use sc_vault::Secret;
use tokio::time::{Instant, timeout_at};

use super::{
    BackOff, CertSource, Opened, RELIST, RouteSource, Stored, Update,
    link::{Link, LinkError},
    scattered,
};

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
        let lines = Lines::open(&self.link, "/v1/routes").await?;
        let update = self.stream.insert(lines).next().await?;
        update.ok_or_else(|| LinkError::Nonsense("the stream ended before it began".to_owned()))
    }
}

#[async_trait(?Send)]
impl RouteSource for ManagerSource {
    fn relist(&mut self) {
        self.stream = None;
    }

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
    /// A stream of lines at this path.
    async fn open(link: &Link, path: &str) -> Result<Self, LinkError> {
        let response = link.send(Method::GET, path, Bytes::new()).await?;
        // A new stream begins with all there is.
        let until = Instant::now() + scattered(RELIST);
        Ok(Self { body: response.into_body(), buffer: BytesMut::new(), until })
    }

    /// The next update; none when the stream has ended or is to be opened anew.
    async fn next(&mut self) -> Result<Option<Update>, LinkError> {
        self.line().await?.as_deref().map(parse).transpose()
    }

    async fn line(&mut self) -> Result<Option<Bytes>, LinkError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(end).freeze();
                self.buffer.advance(1);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return Ok(Some(line));
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

/// How long to wait where the manager is of a release that hands over no certificates.
const NONE_THERE: Duration = Duration::from_secs(20);

/// Follows `GET /v1/certs/opened`: certificates with their keys, which the manager opens for proxies that have its token.
pub(crate) struct ManagerCerts {
    link: Link,
    stream: Option<Lines>,
    back_off: BackOff,
    known: Stored,
    down: bool,
}

impl ManagerCerts {
    pub(crate) fn new(link: Link) -> Self {
        Self { link, stream: None, back_off: BackOff::default(), known: Stored::default(), down: false }
    }

    async fn update(&mut self) -> Result<Option<CertsUpdate>, LinkError> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert(Lines::open(&self.link, "/v1/certs/opened").await?),
        };
        let line = stream.line().await?;
        let read = |line: Bytes| serde_json::from_slice(&line).map_err(|error| LinkError::Nonsense(error.to_string()));
        line.map(read).transpose()
    }

    /// What is the same as before is the same value: it is not read again.
    fn take(&mut self, update: CertsUpdate) {
        self.known.revision = update.revision;
        let Some(all) = update.all else { return };
        let before = std::mem::take(&mut self.known.certs);
        let opened = |(name, pair): (String, sc_api::types::OpenedCert)| {
            let opened = Opened { chain: pair.chain, key: Secret(pair.key) };
            let same = before.get(&name).filter(|old| ***old == opened).cloned();
            (name, same.unwrap_or_else(|| std::sync::Arc::new(opened)))
        };
        self.known.certs = all.certs.into_iter().map(opened).collect();
        (self.known.broken, self.known.challenges) = (all.broken, all.challenges);
    }
}

#[async_trait(?Send)]
impl CertSource for ManagerCerts {
    async fn next(&mut self) -> Stored {
        loop {
            match self.update().await {
                Ok(Some(update)) => {
                    self.down = false;
                    self.back_off.reset();
                    self.take(update);
                    return self.known.clone();
                }
                Ok(None) => self.stream = None,
                Err(error) => {
                    self.stream = None;
                    if !std::mem::replace(&mut self.down, true) {
                        tracing::debug!(%error, "no news of certificates; the last ones serve on");
                    }
                    match error {
                        LinkError::Status(404 | 405, _) => tokio::time::sleep(NONE_THERE).await,
                        _ => self.back_off.wait().await,
                    }
                }
            }
        }
    }
}
