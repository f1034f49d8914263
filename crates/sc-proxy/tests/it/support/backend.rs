//! An app with one behaviour per path.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::*},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, channel::Channel, combinators::UnsyncBoxBody};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use super::{digest, pattern};

type Broken = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Broken>;

/// A running backend. Dropping it ends it like a crash.
pub struct Backend {
    pub addr: SocketAddr,
    pub seen: Arc<Seen>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
pub struct Seen {
    pub requests: AtomicU64,
    pub running: AtomicU64,
    /// The most that ever ran at once.
    pub peak: AtomicU64,
    pub connections: AtomicU64,
    pub cancelled: AtomicU64,
    /// Close the connection without an answer.
    pub hang_up: AtomicBool,
}

impl Backend {
    pub async fn start(name: &'static str) -> Self {
        Self::start_at(name, ([127, 0, 0, 1], 0).into()).await
    }

    pub async fn start_at(name: &'static str, addr: SocketAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(addr).unwrap();
        let listener = socket.listen(1024).unwrap();
        let (stop, stopped) = oneshot::channel();
        let seen = Arc::<Seen>::default();
        let addr = listener.local_addr().unwrap();
        let task = tokio::spawn(run(name, listener, seen.clone(), stopped));
        Self { addr, seen, stop: Some(stop), task }
    }

    /// Ends as an app does on SIGTERM: closes idle connections and the listener at once, finishes what runs.
    pub async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        let _ = (&mut self.task).await;
    }

    pub fn requests(&self) -> u64 {
        self.seen.requests.load(SeqCst)
    }

    pub fn running(&self) -> u64 {
        self.seen.running.load(SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(name: &'static str, listener: TcpListener, seen: Arc<Seen>, mut stopped: oneshot::Receiver<()>) {
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            _ = &mut stopped => break,
        };
        stream.set_nodelay(true).unwrap();
        seen.connections.fetch_add(1, SeqCst);
        let seen = seen.clone();
        let service = service_fn(move |request| answer(name, request, seen.clone()));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
        let mut stopping = stopping.clone();
        connections.spawn(async move {
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = stopping.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
    }
    drop(listener);
    stop.send_replace(true);
    while connections.join_next().await.is_some() {}
}

struct Running(Arc<Seen>, bool);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
        self.0.cancelled.fetch_add(u64::from(!self.1), SeqCst);
    }
}

async fn answer(
    name: &'static str,
    request: Request<Incoming>,
    seen: Arc<Seen>,
) -> Result<Response<Body>, std::io::Error> {
    seen.requests.fetch_add(1, SeqCst);
    let running = seen.running.fetch_add(1, SeqCst) + 1;
    seen.peak.fetch_max(running, SeqCst);
    let mut running = Running(seen.clone(), false);
    if seen.hang_up.load(SeqCst) {
        return Err(std::io::Error::other("hang up"));
    }
    let kind = request.headers().get("x-type").cloned();
    let mut response = respond(name, request).await;
    // What a proxy may compress, if its type says so.
    if let Some(kind) = kind {
        response.headers_mut().insert("content-type", kind);
        response.headers_mut().insert("etag", "\"v1\"".parse().unwrap());
    }
    response.headers_mut().insert("x-backend", name.parse().unwrap());
    running.1 = true;
    Ok(response)
}

async fn respond(name: &'static str, mut request: Request<Incoming>) -> Response<Body> {
    let number = || -> u64 { request.uri().query().and_then(|query| query.parse().ok()).unwrap_or_default() };
    match request.uri().path() {
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(number())).await;
            full(name)
        }
        "/status" => {
            let mut response = full(name);
            *response.status_mut() = StatusCode::from_u16(number() as u16).unwrap();
            response
        }
        "/text" => full("a line of text\n".repeat(number() as usize)),
        "/large" => full(pattern(number() as usize)),
        "/echo" => Response::new(request.into_body().map_err(Broken::from).boxed_unsync()),
        "/digest" => {
            let collected = request.into_body().collect().await;
            full(collected.map_or("broken".to_owned(), |body| digest(body.to_bytes()).to_string()))
        }
        "/head" => {
            let fields: Vec<_> =
                request.headers().iter().map(|(n, v)| format!("{n}: {}\n", v.to_str().unwrap())).collect();
            full(format!("{} {} {:?}\n{}", request.method(), request.uri(), request.version(), fields.concat()))
        }
        "/hop" => {
            let mut response = full(name);
            let fields = response.headers_mut();
            fields.insert("connection", "x-mine".parse().unwrap());
            fields.insert("x-mine", "1".parse().unwrap());
            fields.insert("keep-alive", "timeout=5".parse().unwrap());
            fields.insert("x-other", "2".parse().unwrap());
            response
        }
        "/trailers" => trailers(),
        "/early" => Response::builder().status(413).body(full("no").into_body()).unwrap(),
        "/drip" => drip(),
        "/upgrade" => upgrade(&mut request),
        "/break" => broken(),
        "/stall" => stalled(),
        _ => full(name),
    }
}

fn full(content: impl Into<Bytes>) -> Response<Body> {
    Response::new(Full::new(content.into()).map_err(|never: Infallible| match never {}).boxed_unsync())
}

fn trailers() -> Response<Body> {
    let mut fields = HeaderMap::new();
    fields.insert("x-sum", "3".parse().unwrap());
    let frames = [Frame::data(Bytes::from("one ")), Frame::data(Bytes::from("two")), Frame::trailers(fields)];
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok::<_, Broken>)));
    Response::builder().header("trailer", "x-sum").body(body.boxed_unsync()).unwrap()
}

/// A line each 50 ms, without end.
fn drip() -> Response<Body> {
    let (mut sender, body) = Channel::<Bytes, Broken>::new(1);
    tokio::spawn(async move {
        while sender.send_data(Bytes::from("drop\n")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    Response::new(body.boxed_unsync())
}

/// Promises ten bytes, sends five, and breaks off.
fn broken() -> Response<Body> {
    let (mut sender, body) = Channel::<Bytes, Broken>::new(1);
    tokio::spawn(async move {
        let _ = sender.send_data(Bytes::from("five!")).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        sender.abort("broken".into());
    });
    Response::builder().header("content-length", "10").body(body.boxed_unsync()).unwrap()
}

/// Promises ten bytes, sends five, and then nothing.
fn stalled() -> Response<Body> {
    let (mut sender, body) = Channel::<Bytes, Broken>::new(1);
    tokio::spawn(async move {
        let _ = sender.send_data(Bytes::from("five!")).await;
        std::future::pending::<()>().await;
    });
    Response::builder().header("content-length", "10").body(body.boxed_unsync()).unwrap()
}

/// Echoes whatever comes after the change of protocol.
fn upgrade(request: &mut Request<Incoming>) -> Response<Body> {
    let protocol = request.headers()["upgrade"].clone();
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let Ok(stream) = upgrade.await else { return };
        let (mut read, mut write) = tokio::io::split(TokioIo::new(stream));
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut write).await;
    });
    let mut response = full("");
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert("connection", "upgrade".parse().unwrap());
    response.headers_mut().insert("upgrade", protocol);
    response
}
