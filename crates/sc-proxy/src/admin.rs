//! The admin API: plain HTTP on its own socket, served by the control thread.
//!
//! | path | answer |
//! |---|---|
//! | `GET /stats` | lines of JSON [`sc_core::stats::Frame`], without end |
//! | `GET /metrics` | for Prometheus |
//! | `GET /routes` | the routes in force, with each backend's live state |
//! | `POST /routes/relist` | reads all routes anew; the manager asks for it when a change of theirs does not arrive |
//! | `GET /config` | flags, limits and timeouts in force, the revision of the routes, the names of the certificates; no secrets |
//! | `GET /log`, `PUT /log` | what is logged, as `info` or `info,sc_proxy::worker=debug` |
//! | `POST /backends/REPLICA/drain?seconds=N` | gives the backend no new request for so long; without `seconds` until it is undone |
//! | `POST /backends/REPLICA/undrain` | undoes that |
//! | `GET /healthz` | 200 |
//! | `GET /readyz` | 200 when it has routes and is not stopping, else 503 |

mod drain;
mod log;
pub(crate) mod settings;

use std::{
    convert::Infallible,
    future::Future,
    io,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, channel::Channel, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue, ORIGIN},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
pub use log::LogFilter;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore, broadcast},
    task::spawn_local,
};

use crate::{
    control::Control,
    live::{App, Member},
    metrics,
};

/// How long a reader of frames may take to read one before it is dropped.
const SLOW: Duration = Duration::from_secs(10);
/// Admin connections at once; further ones wait in the listen queue.
const CONNECTIONS: usize = 256;

/// A bound admin socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Socket {
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(socket) => Self::Tcp(socket.try_clone()?),
            Self::Unix(socket) => Self::Unix(socket.try_clone()?),
        })
    }
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Serves until it is aborted.
pub(crate) fn serve(control: Rc<Control>, socket: Socket) -> io::Result<impl Future<Output = ()>> {
    let listener = match socket {
        Socket::Tcp(socket) => Listener::Tcp(TcpListener::from_std(socket)?),
        Socket::Unix(socket) => Listener::Unix(UnixListener::from_std(socket)?),
    };
    Ok(async move {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        while let Ok(place) = places.clone().acquire_owned().await {
            match listener.accept().await {
                Ok(stream) => drop(spawn_local(connection(control.clone(), stream, place))),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    })
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

async fn connection(control: Rc<Control>, stream: Box<dyn Stream>, place: OwnedSemaphorePermit) {
    let service = service_fn(|request: Request<Incoming>| {
        let control = control.clone();
        async move {
            let is_log = request.uri().path() == "/log" && [Method::GET, Method::PUT].contains(request.method());
            Ok::<_, Infallible>(match is_log {
                true => log::answer(control.settings.log.clone(), request).await,
                false => answer(&control, &request),
            })
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(30));
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    drop(place);
}

fn answer(control: &Rc<Control>, request: &Request<Incoming>) -> Response<Body> {
    if request.method() == Method::POST {
        return change(control, request);
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and POST are served here, and PUT /log\n");
    }
    match request.uri().path() {
        "/stats" => stats(control),
        "/metrics" => {
            let text = metrics::text(&control.state.borrow(), &control.shared);
            respond(StatusCode::OK, "text/plain; version=0.0.4", text)
        }
        "/routes" => respond(StatusCode::OK, "application/json", format!("{:#}\n", routes(control))),
        "/config" => respond(StatusCode::OK, "application/json", format!("{:#}\n", settings::now(control))),
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" if control.is_ready() => text(StatusCode::OK, "ready\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "no routes yet, or stopping\n"),
        _ => text(StatusCode::NOT_FOUND, "try /stats, /metrics, /routes, /config, /log, /healthz or /readyz\n"),
    }
}

/// Answers a POST.
fn change(control: &Rc<Control>, request: &Request<Incoming>) -> Response<Body> {
    if request.headers().contains_key(ORIGIN) {
        return text(StatusCode::FORBIDDEN, "web pages may change nothing here\n");
    }
    if request.uri().path() == "/routes/relist" {
        control.relist.notify_one();
        return text(StatusCode::OK, "ok\n");
    }
    drain::answer(control, request)
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    respond(status, "text/plain; charset=utf-8", text)
}

fn respond(status: StatusCode, kind: &'static str, content: impl Into<Bytes>) -> Response<Body> {
    with_type(status, kind, Full::new(content.into()).map_err(|never| match never {}).boxed_unsync())
}

fn with_type(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Frames without end. A reader that falls behind is dropped: it may come again.
fn stats(control: &Control) -> Response<Body> {
    let (mut sender, channel) = Channel::<Bytes, io::Error>::new(1);
    let mut frames = control.subscribe();
    spawn_local(async move {
        loop {
            match frames.recv().await {
                Ok(frame) => match tokio::time::timeout(SLOW, sender.send_data(frame)).await {
                    Ok(Ok(())) => {}
                    _ => return,
                },
                Err(broadcast::error::RecvError::Closed) => return,
                Err(broadcast::error::RecvError::Lagged(_)) => break,
            }
        }
        sender.abort(io::Error::other("too slow"));
    });
    with_type(StatusCode::OK, "application/jsonl", channel.boxed_unsync())
}

fn routes(control: &Control) -> Value {
    let table = control.shared.table.load_full();
    let now = control.shared.micros(Instant::now()) / 1_000;
    let backend = |member: &Member| {
        json!({
            "replica": member.backend.replica, "addr": member.backend.addr, "weight": member.weight,
            "version": member.version, "in_flight": member.backend.in_flight(), "ejected": member.backend.is_ejected(),
            "healthy": !member.backend.is_down(), "drained": member.backend.is_drained(now),
            "ewma_seconds": member.backend.ewma.micros(now).map(|micros| f64::from(micros) * 1e-6),
        })
    };
    let app = |app: &Arc<App>| {
        json!({
            "app": app.id, "routes": app.routes, "stopped": app.stopped, "traffic": app.traffic, "held": app.live.held(),
            "backends": app.members.iter().map(backend).collect::<Vec<_>>(),
        })
    };
    let state = control.state.borrow();
    let ((_, revision, _), source) = (state.routes(), state.source());
    let source = json!({ "errors": source.errors, "broken": source.broken });
    let tcp = json!({ "faults": control.shared.ports.faults() });
    json!({ "revision": revision, "source": source, "tcp": tcp, "apps": table.apps.iter().map(app).collect::<Vec<_>>() })
}
