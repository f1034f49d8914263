//! The HTTP interface: listeners, connections, and for each request who may, what it is, and its answer.

mod apps;
mod auth;
mod body;
mod certs;
mod conn;
mod doctor;
mod events;
mod exec;
mod files;
mod listen;
mod logs;
mod proxies;
mod query;
mod replicas;
mod route;
mod routes;
mod system;
mod uploads;

use std::{collections::BTreeMap, sync::Arc};

pub use auth::Token;
pub use body::Body;
pub use conn::serve;
use hyper::{Request, Response, StatusCode, body::Incoming, header};
pub use listen::{Bound, ListenError, Listener};
use query::Query;
use route::Op;
pub use route::{ROUTES, Route};
use sc_api::Problem;
use sc_core::{AppId, ReplicaId, plan::Desired};
use tokio::sync::{Mutex, Semaphore};

use crate::{blobs::Blobs, problem, world::World};

/// The largest request body, uploads aside, in bytes.
pub const BODY_MAX: usize = 1 << 20;
/// Streams (logs, events, routes) open at once.
const STREAMS: usize = 256;

/// The interface.
pub struct Api {
    world: Arc<World>,
    blobs: Blobs,
    token: Token,
    streams: Arc<Semaphore>,
    leases: Mutex<BTreeMap<String, proxies::Registered>>,
}

/// An answer.
pub type Answer = Result<Response<Body>, Problem>;

/// A request on its way: what it is, with the parts of its path.
struct Call {
    request: Request<Incoming>,
    op: Op,
    params: BTreeMap<&'static str, String>,
    query: Query,
}

impl Api {
    /// The interface to `world`.
    pub fn new(world: Arc<World>, blobs: Blobs, token: Token) -> Self {
        Self { world, blobs, token, streams: Arc::new(Semaphore::new(STREAMS)), leases: Mutex::default() }
    }

    /// Answers one request. `trusted`: the peer needs no token.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>, trusted: bool) -> Response<Body> {
        let method = request.method().clone();
        let found = route::find(&method, request.uri().path());
        let name = found.as_ref().map_or("none", |(route, _)| route.pattern);
        let response = match found {
            Ok((route, params)) => self.clone().admitted(request, route, params, trusted).await,
            // Who may not come in learns nothing of what there is.
            Err(problem) => match self.token.admits(&request, trusted) {
                Ok(()) => refuse(problem, request),
                Err(problem) => refuse(problem, request),
            },
        };
        let (method, status) = (method.as_str(), response.status());
        self.world.metrics.requests.with_label_values(&[method, name, status.as_str()]).inc();
        response
    }

    async fn admitted(
        self: Arc<Self>,
        request: Request<Incoming>,
        route: &Route,
        params: BTreeMap<&'static str, String>,
        trusted: bool,
    ) -> Response<Body> {
        if !route.open
            && let Err(problem) = self.token.admits(&request, trusted)
        {
            return refuse(problem, request);
        }
        let limit = if route.upload { u64::MAX } else { BODY_MAX as u64 };
        if body::length(&request).is_some_and(|length| length > limit) {
            return refuse(body::too_large(BODY_MAX as u64), request);
        }
        let query = match Query::parse(request.uri().query().unwrap_or_default()) {
            Ok(query) => query,
            Err(problem) => return refuse(problem, request),
        };
        let call = Call { request, op: route.op, params, query };
        self.dispatch(call).await.unwrap_or_else(body::problem)
    }

    async fn dispatch(self: Arc<Self>, call: Call) -> Answer {
        match call.op {
            Op::Version => self.version(),
            Op::OpenApi => Ok(body::text(StatusCode::OK, "application/json", OPENAPI)),
            Op::Apps => self.apps(),
            Op::App => self.app(&call),
            Op::Deploy => self.deploy(call).await,
            Op::Remove => self.remove(&call).await,
            Op::Scale => self.scale(call).await,
            Op::StopApp | Op::StartApp | Op::RestartApp => self.lifecycle(&call).await,
            Op::Rollback => self.rollback(call).await,
            Op::Canary => self.canary(call).await,
            Op::Promote => self.promote(&call).await,
            Op::Versions => self.versions(&call),
            Op::Why => self.why(&call).await,
            Op::Logs => self.logs(&call).await,
            Op::Replicas => self.replicas(&call),
            Op::StopReplica | Op::RestartReplica => self.replica_lifecycle(&call).await,
            Op::Exec => self.exec(call).await,
            Op::CopyOut => self.copy_out(&call).await,
            Op::CopyIn => self.copy_in(call).await,
            Op::Events => self.events(&call),
            Op::HasBlob => self.has_blob(&call).await,
            Op::PutBlob => self.put_blob(call).await,
            Op::Proxies => self.proxies(),
            Op::PutProxy => self.put_proxy(call).await,
            Op::Routes => self.routes(&call),
            Op::Certs => self.certs(),
            Op::PutCert => self.put_cert(call).await,
            Op::RemoveCert => self.remove_cert(&call).await,
            Op::OpenedCerts => self.opened_certs(),
            Op::Doctor => self.doctor().await,
            Op::Healthz => Ok(body::text(StatusCode::OK, "text/plain", "ok\n")),
            Op::Readyz => Ok(self.readyz()),
            Op::Metrics => Ok(body::text(StatusCode::OK, "text/plain; version=0.0.4", self.world.metrics.text())),
        }
    }

    fn desired(&self) -> Result<Arc<Desired>, Problem> {
        self.world.desired().ok_or_else(|| problem::no_store(self.world.waiting.text()))
    }

    /// Room for one more stream, held as long as it lasts.
    fn stream(&self) -> Result<tokio::sync::OwnedSemaphorePermit, Problem> {
        self.streams.clone().try_acquire_owned().map_err(|_| {
            let detail = format!("{STREAMS} streams are open already");
            problem::hinted(503, "too-many-streams", "Too many streams", detail, "close some, then try again")
        })
    }
}

impl Call {
    fn app(&self) -> Result<AppId, Problem> {
        self.param("app").parse().map_err(|e: sc_core::NameError| problem::malformed(e.to_string()))
    }

    fn replica(&self) -> Result<ReplicaId, Problem> {
        self.param("replica").parse().map_err(|e: sc_core::NameError| problem::malformed(e.to_string()))
    }

    fn param(&self, name: &str) -> &str {
        self.params.get(name).map_or("", String::as_str)
    }
}

/// Answers with a problem and takes in, for a moment, what the peer is still sending: otherwise the connection's end
/// would reach it before the answer.
fn refuse(problem: Problem, request: Request<Incoming>) -> Response<Body> {
    let body = request.into_body();
    if !hyper::body::Body::is_end_stream(&body) {
        tokio::spawn(body::discard(body));
    }
    let mut response = body::problem(problem);
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}

/// The OpenAPI document.
pub const OPENAPI: &str = include_str!("openapi.json");
