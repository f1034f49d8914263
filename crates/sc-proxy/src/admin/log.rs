//! What the process logs, read and set while it runs.

use std::{fmt, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Limited};
use hyper::{Request, Response, StatusCode, body::Incoming, header::ORIGIN};

use super::{Body, respond, text};

/// The longest filter, in bytes.
const LONGEST: usize = 4 * 1024;
/// How long it may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Puts a filter in place, or says what is wrong with it.
type Set = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// The filter of this process's log. A library does not own its process's log: whoever does gives this.
#[derive(Clone)]
pub struct LogFilter {
    get: Arc<dyn Fn() -> String + Send + Sync>,
    set: Arc<Set>,
}

impl LogFilter {
    /// `get` tells the filter, `set` puts another in its place or says what is wrong with it.
    pub fn new(
        get: impl Fn() -> String + Send + Sync + 'static,
        set: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self { get: Arc::new(get), set: Arc::new(set) }
    }

    /// The filter in force, as `info` or `info,sc_proxy::worker=debug`.
    pub fn current(&self) -> String {
        (self.get)()
    }
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogFilter").field(&self.current()).finish()
    }
}

/// Answers GET and PUT.
pub(super) async fn answer(filter: Option<LogFilter>, request: Request<Incoming>) -> Response<Body> {
    let Some(filter) = filter else {
        return text(StatusCode::NOT_FOUND, "this process's log is not the proxy's own\n");
    };
    if request.method() != hyper::Method::PUT {
        return respond(StatusCode::OK, "text/plain; charset=utf-8", filter.current() + "\n");
    }
    if request.headers().contains_key(ORIGIN) {
        return text(StatusCode::FORBIDDEN, "web pages may change nothing here\n");
    }
    let body = tokio::time::timeout(PATIENCE, Limited::new(request.into_body(), LONGEST).collect()).await;
    let Ok(Ok(body)) = body else {
        return text(StatusCode::BAD_REQUEST, "send a filter of at most 4 KiB\n");
    };
    let asked = String::from_utf8_lossy(&body.to_bytes()).trim().to_owned();
    match (filter.set)(&asked) {
        Ok(()) => {
            tracing::info!(filter = asked, "the log's filter is set by hand");
            respond(StatusCode::OK, "text/plain; charset=utf-8", filter.current() + "\n")
        }
        Err(what) => respond(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", what + "\n"),
    }
}
