//! The typed client of the manager's HTTP interface, over TCP or a unix socket. One connection per call; every call ends
//! within a deadline, and a stream (logs, events) ends when its reader drops it.

mod connect;
mod error;
mod target;
mod upload;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Response, body::Incoming, header};
use hyper_util::rt::TokioIo;
use sc_core::{AppId, ReplicaId, records::Event};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncWriteExt, ReadHalf, WriteHalf},
    time::timeout,
};
use tokio_util::codec::{Encoder, FramedRead};

use crate::{Problem, exec, types::*};
use connect::Body;

pub use error::ClientError;
pub use target::{Target, TargetError};

/// The largest answer that is read whole, in bytes.
const ANSWER_MAX: usize = 64 << 20;
/// The longest line of a stream, in bytes.
const LINE_MAX: usize = 1 << 20;

type Io = TokioIo<hyper::upgrade::Upgraded>;

/// A program that runs inside a replica. Dropping both ends hangs up.
pub struct ExecStream {
    /// What goes to it.
    pub input: ExecInput,
    /// What it says: a stream of [`exec::FromReplica`].
    pub output: FramedRead<ReadHalf<Io>, exec::ClientEnd>,
}

/// The way to a program that runs inside a replica.
pub struct ExecInput(WriteHalf<Io>);

impl ExecInput {
    /// Sends a frame.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send(&mut self, frame: exec::ToReplica) -> std::io::Result<()> {
        let mut bytes = BytesMut::new();
        exec::ClientEnd.encode(frame, &mut bytes)?;
        self.0.write_all(&bytes).await?;
        self.0.flush().await
    }
}

/// Lines of a stream as they come.
pub type Lines<T> = BoxStream<'static, Result<T, ClientError>>;

/// Speaks with one manager.
#[derive(Clone)]
pub struct Client {
    target: Target,
    token: Option<String>,
    deadline: Duration,
}

/// The token is not shown.
impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("target", &self.target).field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// Which log lines are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogsQuery {
    /// Go on as lines come.
    pub follow: bool,
    /// Only lines since then, Unix ms.
    pub since_ms: Option<u64>,
    /// Only the last so many, of all replicas together.
    pub tail: Option<usize>,
    /// Only lines that hold this text.
    pub grep: Option<String>,
}

/// Which events are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventsQuery {
    /// Go on as they come.
    pub follow: bool,
    /// Only those since then, Unix ms.
    pub since_ms: Option<u64>,
    /// Only this app's.
    pub app: Option<AppId>,
}

/// What happened to an app by a command without a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// Runs nothing of it any more, keeps everything.
    Stop,
    /// Runs it again.
    Start,
    /// Replaces its replicas.
    Restart,
}

impl Lifecycle {
    fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Restart => "restart",
        }
    }
}

impl Client {
    /// A client of the manager at `target`. The token is needed but on the unix socket of one's own manager.
    pub fn new(target: Target, token: Option<String>) -> Self {
        Self { target, token, deadline: Duration::from_secs(30) }
    }

    /// The same with another deadline for each call (streams: for their beginning).
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Where the manager is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Who the manager is.
    pub async fn version(&self) -> Result<Release, ClientError> {
        self.get("/v1/version").await
    }

    /// All apps.
    pub async fn apps(&self) -> Result<Vec<AppView>, ClientError> {
        self.get("/v1/apps").await
    }

    /// One app.
    pub async fn app(&self, app: &AppId) -> Result<AppView, ClientError> {
        self.get(&app_path(app, "")).await
    }

    /// Makes or changes an app.
    pub async fn deploy(&self, app: &AppId, deploy: &Deploy) -> Result<Accepted, ClientError> {
        self.send(Method::PUT, &app_path(app, ""), deploy).await
    }

    /// Removes an app.
    pub async fn remove(&self, app: &AppId) -> Result<Accepted, ClientError> {
        self.call(Method::DELETE, &app_path(app, ""), Body::default()).await
    }

    /// The certificates.
    pub async fn certs(&self) -> Result<Vec<CertView>, ClientError> {
        self.get("/v1/certs").await
    }

    /// Adds a certificate, or replaces the one of this name.
    pub async fn put_cert(&self, name: &str, cert: &PutCert) -> Result<CertAccepted, ClientError> {
        self.send(Method::PUT, &format!("/v1/certs/{}", target::escaped(name)), cert).await
    }

    /// Removes a certificate.
    pub async fn remove_cert(&self, name: &str) -> Result<CertAccepted, ClientError> {
        self.call(Method::DELETE, &format!("/v1/certs/{}", target::escaped(name)), Body::default()).await
    }

    /// Sets an app's count.
    pub async fn scale(&self, app: &AppId, scale: &SetScale) -> Result<Accepted, ClientError> {
        self.send(Method::POST, &app_path(app, "/scale"), scale).await
    }

    /// Stops, starts or restarts an app.
    pub async fn lifecycle(&self, app: &AppId, what: Lifecycle) -> Result<Accepted, ClientError> {
        self.call(Method::POST, &app_path(app, &format!("/{}", what.word())), Body::default()).await
    }

    /// Stops or restarts a replica.
    pub async fn replica_lifecycle(&self, replica: &ReplicaId, what: Lifecycle) -> Result<Accepted, ClientError> {
        self.call(Method::POST, &replica_path(replica, &format!("/{}", what.word())), Body::default()).await
    }

    /// Back to an earlier version.
    pub async fn rollback(&self, app: &AppId, to: &Rollback) -> Result<Accepted, ClientError> {
        self.send(Method::POST, &app_path(app, "/rollback"), to).await
    }

    /// Another share of the requests for the version that is on trial.
    pub async fn canary(&self, app: &AppId, share: &SetCanary) -> Result<Accepted, ClientError> {
        self.send(Method::POST, &app_path(app, "/canary"), share).await
    }

    /// Makes the version that is on trial the wanted one.
    pub async fn promote(&self, app: &AppId) -> Result<Accepted, ClientError> {
        self.call(Method::POST, &app_path(app, "/promote"), Body::default()).await
    }

    /// An app's stored versions, oldest first.
    pub async fn versions(&self, app: &AppId) -> Result<Vec<VersionView>, ClientError> {
        self.get(&app_path(app, "/versions")).await
    }

    /// Why an app has as many replicas as it has, or had at a time (Unix ms).
    pub async fn why(&self, app: &AppId, at_ms: Option<u64>) -> Result<WhyView, ClientError> {
        self.get(&app_path(app, &query("/why", &[("at", at_ms.map(|at| at.to_string()))]))).await
    }

    /// The decision at that time (none: the latest), decided again from its recorded inputs.
    pub async fn why_again(&self, app: &AppId, at_ms: Option<u64>) -> Result<WhyView, ClientError> {
        let parts = [("at", at_ms.map(|at| at.to_string())), ("replay", Some("1".to_owned()))];
        self.get(&app_path(app, &query("/why", &parts))).await
    }

    /// All replicas, or those of one app.
    pub async fn replicas(&self, app: Option<&AppId>) -> Result<Vec<ReplicaView>, ClientError> {
        self.get(&query("/v1/replicas", &[("app", app.map(ToString::to_string))])).await
    }

    /// Registered proxies.
    pub async fn proxies(&self) -> Result<Vec<ProxyView>, ClientError> {
        self.get("/v1/proxies").await
    }

    /// What the manager finds wrong with itself and its surroundings.
    pub async fn doctor(&self) -> Result<Vec<Finding>, ClientError> {
        self.get("/v1/doctor").await
    }

    /// Whether the manager can do its work; else what it waits for.
    pub async fn ready(&self) -> Result<(), ClientError> {
        self.request(Method::GET, "/readyz", Body::default(), &[]).await.map(drop)
    }

    /// Log lines of an app's replicas, those that are gone included.
    pub async fn logs(&self, app: &AppId, wanted: &LogsQuery) -> Result<Lines<LogRecord>, ClientError> {
        let parts = [
            ("follow", wanted.follow.then(|| "1".to_owned())),
            ("since", wanted.since_ms.map(|ms| ms.to_string())),
            ("tail", wanted.tail.map(|n| n.to_string())),
            ("grep", wanted.grep.clone()),
        ];
        self.lines(&app_path(app, &query("/logs", &parts))).await
    }

    /// What happened.
    pub async fn events(&self, wanted: &EventsQuery) -> Result<Lines<Event>, ClientError> {
        let parts = [
            ("follow", wanted.follow.then(|| "1".to_owned())),
            ("since", wanted.since_ms.map(|ms| ms.to_string())),
            ("app", wanted.app.as_ref().map(ToString::to_string)),
        ];
        self.lines(&query("/v1/events", &parts)).await
    }

    /// Runs a program inside a replica.
    pub async fn exec(&self, replica: &ReplicaId, program: &Exec) -> Result<ExecStream, ClientError> {
        let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, exec::PROTOCOL)];
        let path = replica_path(replica, "/exec");
        let response = self.request(Method::POST, &path, json_body(program), &headers).await?;
        if response.status() != hyper::StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.broken(format!("{} instead of an upgrade", response.status())));
        }
        let upgraded = timeout(self.deadline, hyper::upgrade::on(response)).await.map_err(|_| self.late())?;
        let upgraded = upgraded.map_err(|error| self.broken(error.to_string()))?;
        let (output, input) = tokio::io::split(TokioIo::new(upgraded));
        Ok(ExecStream { input: ExecInput(input), output: FramedRead::new(output, exec::ClientEnd) })
    }

    /// A path out of a replica, as a tar stream.
    pub async fn copy_out(&self, replica: &ReplicaId, path: &str) -> Result<Lines<Bytes>, ClientError> {
        let path = replica_path(replica, &query("/files", &[("path", Some(path.to_owned()))]));
        let response = self.request(Method::GET, &path, Body::default(), &[]).await?;
        let this = self.clone();
        Ok(response.into_data_stream().map_err(move |error| this.broken(error.to_string())).boxed())
    }

    /// A tar stream into a directory of a replica.
    pub async fn copy_in<S>(&self, replica: &ReplicaId, directory: &str, tar: S) -> Result<(), ClientError>
    where
        S: futures_util::Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        let path = replica_path(replica, &query("/files", &[("path", Some(directory.to_owned()))]));
        self.upload(&path, None, tar).await
    }

    /// Whether the manager has this content (SHA-256 in lower-case hex).
    pub async fn has_blob(&self, sha256: &str) -> Result<bool, ClientError> {
        match self.request(Method::HEAD, &blob_path(sha256), Body::default(), &[]).await {
            Ok(_) => Ok(true),
            Err(ClientError::Problem(problem)) if problem.status == 404 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Uploads content of a known length and SHA-256.
    pub async fn put_blob<S>(&self, sha256: &str, length: u64, content: S) -> Result<(), ClientError>
    where
        S: futures_util::Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        self.upload(&blob_path(sha256), Some(length), content).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, Body::default()).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        value: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.call(method, path, json_body(value)).await
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: Body) -> Result<T, ClientError> {
        let response = self.request(method, path, body, &[]).await?;
        let content = timeout(self.deadline, self.whole(response)).await.map_err(|_| self.late())??;
        serde_json::from_slice(&content).map_err(|error| self.broken(format!("its answer to {path}: {error}")))
    }

    /// Sends a request; gives the answer once its head is there, and a problem as an error.
    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Body,
        headers: &[(header::HeaderName, &str)],
    ) -> Result<Response<Incoming>, ClientError> {
        let request = self.head(method, path, headers).body(body).map_err(|error| self.broken(error.to_string()))?;
        let answer = async {
            let mut sender = connect::connect(&self.target).await.map_err(|error| self.unreachable(error))?;
            let response = sender.send_request(request).await.map_err(|error| self.cut_off(&error))?;
            self.sound(response).await
        };
        timeout(self.deadline, answer).await.map_err(|_| self.late())?
    }

    fn head(
        &self,
        method: Method,
        path: &str,
        headers: &[(header::HeaderName, &str)],
    ) -> hyper::http::request::Builder {
        let mut head = Request::builder().method(method).uri(path).header(header::HOST, self.target.host());
        head = head.header(header::USER_AGENT, concat!("sc/", env!("CARGO_PKG_VERSION")));
        head = head.header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            head = head.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        headers.iter().fold(head, |head, (name, value)| head.header(name, *value))
    }

    /// An answer that is no problem.
    async fn sound(&self, response: Response<Incoming>) -> Result<Response<Incoming>, ClientError> {
        let status = response.status();
        if !status.is_client_error() && !status.is_server_error() {
            return Ok(response);
        }
        let content = self.whole(response).await.unwrap_or_default();
        let problem = serde_json::from_slice(&content).unwrap_or_else(|_| Problem {
            kind: "about:blank".to_owned(),
            title: status.to_string(),
            status: status.as_u16(),
            detail: String::from_utf8_lossy(&content[..content.len().min(500)]).trim().to_owned(),
            hint: None,
        });
        Err(ClientError::Problem(problem))
    }

    async fn whole(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        body.map(|body| body.to_bytes()).map_err(|error| self.broken(error.to_string()))
    }

    async fn lines<T: DeserializeOwned + Send + 'static>(&self, path: &str) -> Result<Lines<T>, ClientError> {
        let response = self.request(Method::GET, path, Body::default(), &[]).await?;
        let state = (self.clone(), response.into_body(), BytesMut::new());
        Ok(stream::try_unfold(state, |(client, mut body, mut buffer)| async move {
            let line = client.line(&mut body, &mut buffer).await?;
            let Some(line) = line else { return Ok(None) };
            let value = serde_json::from_slice(&line).map_err(|error| client.broken(error.to_string()))?;
            Ok(Some((value, (client, body, buffer))))
        })
        .boxed())
    }

    /// The next line that is not empty; none at the end.
    async fn line(&self, body: &mut Incoming, buffer: &mut BytesMut) -> Result<Option<Bytes>, ClientError> {
        let mut searched = 0;
        loop {
            if let Some(at) = buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(searched + at + 1).freeze();
                searched = 0;
                if line.len() > 1 {
                    return Ok(Some(line));
                }
                continue;
            }
            searched = buffer.len();
            if searched > LINE_MAX {
                return Err(self.broken("a line without end".to_owned()));
            }
            match body.frame().await {
                None => return Ok((!buffer.is_empty()).then(|| buffer.split().freeze())),
                Some(Ok(frame)) => buffer.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
                Some(Err(error)) => return Err(self.cut_off(&error)),
            }
        }
    }
}

fn json_body(value: &impl Serialize) -> Body {
    let json = serde_json::to_vec(value).expect("requests hold only what JSON can say");
    Full::new(Bytes::from(json)).map_err(|never| match never {}).boxed_unsync()
}

fn app_path(app: &AppId, rest: &str) -> String {
    format!("/v1/apps/{}{rest}", target::escaped(&app.to_string()))
}

fn replica_path(replica: &ReplicaId, rest: &str) -> String {
    format!("/v1/replicas/{}{rest}", target::escaped(&replica.to_string()))
}

fn blob_path(sha256: &str) -> String {
    format!("/v1/blobs/{}", target::escaped(sha256))
}

/// A path with those parts of a query that have a value.
fn query(path: &str, parts: &[(&str, Option<String>)]) -> String {
    let pairs = parts.iter().filter_map(|(name, value)| Some(format!("{name}={}", target::escaped(value.as_ref()?))));
    let pairs: Vec<String> = pairs.collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

#[cfg(test)]
mod tests;
