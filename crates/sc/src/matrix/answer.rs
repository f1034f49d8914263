//! What is answered to which request.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;

use super::{
    Args, Who,
    multiply::{SIDE_MAX, multiply, side},
};

/// A body of an answer.
pub(super) type Body = BoxBody<Bytes, hyper::Error>;

/// What all requests share.
pub(super) struct App {
    args: Args,
    who: Who,
    slots: Semaphore,
    /// Requests with a slot or waiting for one.
    places: Semaphore,
}

impl App {
    pub(super) fn new(args: &Args, who: Who) -> Arc<Self> {
        let (slots, queue) = (args.slots as usize, args.queue as usize);
        Arc::new(Self {
            args: args.clone(),
            who,
            slots: Semaphore::new(slots),
            places: Semaphore::new(slots.saturating_add(queue)),
        })
    }

    /// Answers a request. Whatever stands before the last segment of its path is of no matter.
    pub(super) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let last = path.rsplit('/').next().unwrap_or_default();
        let mut response = match (request.method(), last) {
            (&Method::GET | &Method::HEAD, "healthz") => text(StatusCode::OK, "ok\n"),
            (&Method::GET, "crash") if self.args.test_endpoints => crash(request.uri().query()),
            (&Method::GET, "tunnel") if self.args.test_endpoints => tunnel(request),
            _ => self.in_a_slot(request, last).await,
        };
        let fields = [("x-replica", &self.who.replica), ("x-version", &self.who.version)];
        for (name, value) in fields {
            if let Ok(value) = HeaderValue::from_str(value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }

    /// Waits for a slot, and works in it.
    async fn in_a_slot(&self, request: Request<Incoming>, last: &str) -> Response<Body> {
        let Ok(_place) = self.places.try_acquire() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "too many requests are waiting\n");
        };
        let Ok(_slot) = self.slots.acquire().await else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "ending\n");
        };
        if self.args.wait > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(self.args.wait)).await;
        }
        match (request.method(), last) {
            (&Method::GET, "") => html(&form(&self.who)),
            (&Method::GET, "whoami") => self.whoami(),
            (&Method::GET, "multiply") => self.multiplied(&request).await,
            (&Method::POST, "echo") => echo(request),
            _ => text(StatusCode::NOT_FOUND, "there is: / /multiply?n=100 /whoami /healthz, and POST /echo\n"),
        }
    }

    fn whoami(&self) -> Response<Body> {
        let Who { replica, app, version } = &self.who;
        json(&serde_json::json!({ "replica": replica, "app": app, "version": version, "pid": std::process::id() }))
    }

    async fn multiplied(&self, request: &Request<Incoming>) -> Response<Body> {
        let n = match side(request.uri().query()) {
            Ok(n) => n,
            Err(what) => return text(StatusCode::BAD_REQUEST, format!("{what}\n")),
        };
        let began = Instant::now();
        let Ok(trace) = tokio::task::spawn_blocking(move || multiply(n)).await else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the multiplication failed\n");
        };
        let ms = began.elapsed().as_secs_f64() * 1e3;
        let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if accepts.contains("text/html") {
            return html(&format!("<p>{n} × {n}: {ms:.3} ms, by {}</p>{}", self.who.replica, form(&self.who)));
        }
        json(&serde_json::json!({ "n": n, "ms": ms, "trace": trace, "replica": self.who.replica }))
    }
}

/// Sends the body back as it comes.
fn echo(request: Request<Incoming>) -> Response<Body> {
    let kind = request.headers().get(header::CONTENT_TYPE).cloned();
    let mut response = Response::new(request.into_body().boxed());
    if let Some(kind) = kind {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

/// Becomes whatever protocol is asked for, and sends back what comes.
fn tunnel(mut request: Request<Incoming>) -> Response<Body> {
    let Some(protocol) = request.headers().get(header::UPGRADE).cloned() else {
        return text(StatusCode::UPGRADE_REQUIRED, "ask for an upgrade\n");
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgraded.await {
            let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
            let _ = tokio::io::copy(&mut from, &mut to).await;
        }
    });
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, protocol);
    response
}

fn crash(query: Option<&str>) -> Response<Body> {
    let code = query.and_then(|query| query.strip_prefix("code=")).and_then(|code| code.parse().ok()).unwrap_or(1);
    eprintln!("sc-matrix: told to end with status {code}");
    std::process::exit(code)
}

fn form(who: &Who) -> String {
    format!(
        "<form action=\"multiply\"><label>Size of two random matrices <input name=\"n\" type=\"number\" min=\"1\" \
         max=\"{SIDE_MAX}\" value=\"100\"></label> <button>Multiply</button></form><p><small>{} version {}</small></p>",
        who.replica, who.version
    )
}

fn html(body: &str) -> Response<Body> {
    let page = format!("<!doctype html><meta charset=\"utf-8\"><title>Matrices</title><h1>Matrices</h1>{body}\n");
    typed(StatusCode::OK, "text/html; charset=utf-8", page)
}

fn json(value: &serde_json::Value) -> Response<Body> {
    typed(StatusCode::OK, "application/json", format!("{value}\n"))
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    typed(status, "text/plain; charset=utf-8", text)
}

fn typed(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
