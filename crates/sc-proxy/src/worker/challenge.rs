//! What an authority looks for to see that a host is ours (RFC 8555 section 8.3): answered on plain HTTP before any route, for
//! every host, as long as the store has the token.

use bytes::Bytes;
use hyper::{
    Method, Request, Response,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};

use super::{Worker, body::ToClient, client::Client};

const PREFIX: &str = "/.well-known/acme-challenge/";

/// Whether this may be the path of a challenge; others cost no more than this.
pub(super) fn is_path(path: &str) -> bool {
    path.len() > PREFIX.len() && path.starts_with(PREFIX)
}

/// The answer to an authority; none where this is a request like any other.
pub(super) fn answer<B>(worker: &Worker, client: &Client, request: &Request<B>) -> Option<Response<ToClient>> {
    let path = request.uri().path();
    if !is_path(path) || client.secure || !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let challenges = worker.shared.challenges.load();
    let text = challenges.as_ref()?.get(&path[PREFIX.len()..])?;
    let body = if request.method() == Method::HEAD { Bytes::new() } else { Bytes::from(text.clone()) };
    let mut response = Response::new(ToClient::own(body, &client.phase, worker.limits.idle_timeout));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(response)
}
