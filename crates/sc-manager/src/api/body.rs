//! Bodies of requests and answers.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{self, HeaderValue},
};
use sc_api::{PROBLEM_JSON, Problem};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use super::BODY_MAX;
use crate::problem;

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// How long a request body may take to come.
const COMES: Duration = Duration::from_secs(30);
/// How long, and how much of, a refused body is taken in.
const DISCARDS: (Duration, u64) = (Duration::from_secs(5), 512 << 20);

/// An answer of this type.
pub fn text(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(text.into()).map_err(|never: Infallible| match never {}).boxed_unsync();
    with_type(status, kind, body)
}

/// An answer in JSON.
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(json) => text(status, "application/json", json),
        Err(error) => problem(problem::problem(500, "internal", "The answer could not be written", error.to_string())),
    }
}

/// A problem as an answer.
pub fn problem(problem: Problem) -> Response<Body> {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = text(status, PROBLEM_JSON, json);
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// An answer that goes on: what comes is sent as the peer takes it, never stored up.
pub fn stream(
    kind: &'static str,
    parts: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
) -> Response<Body> {
    let body = StreamBody::new(parts.map_ok(Frame::data)).boxed_unsync();
    with_type(StatusCode::OK, kind, body)
}

/// Values as lines of JSON that go on.
pub fn lines<T: Serialize>(values: impl Stream<Item = T> + Send + 'static) -> Response<Body> {
    let lines = values.map(|value| {
        let mut line = serde_json::to_vec(&value).map_err(std::io::Error::other)?;
        line.push(b'\n');
        Ok(Bytes::from(line))
    });
    stream("application/x-ndjson", lines)
}

fn with_type(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The length a request says its body has.
pub fn length<B>(request: &Request<B>) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads a JSON body within the limit. An empty one is read as `{}`.
pub async fn read<T: DeserializeOwned>(body: Incoming) -> Result<T, Problem> {
    let limited = Limited::new(body, BODY_MAX);
    let bytes = match timeout(COMES, limited.collect()).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large(BODY_MAX as u64)),
        Ok(Err(error)) => return Err(problem::malformed(format!("the body was cut off: {error}"))),
        Err(_late) => {
            let detail = format!("the body did not come within {} s", COMES.as_secs());
            return Err(problem::problem(408, "late", "The request took too long", detail));
        }
    };
    let bytes = if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes };
    serde_json::from_slice(&bytes).map_err(|error| problem::malformed(format!("the body is not as expected: {error}")))
}

/// The body is over the limit.
pub fn too_large(limit: u64) -> Problem {
    let detail = format!("the body is larger than {limit} bytes");
    let hint = "programs and files go to PUT /v1/blobs/{sha256}; `sc run --bin FILE` does that";
    problem::hinted(413, "body-too-large", "The request is too large", detail, hint)
}

/// Takes in and throws away.
pub async fn discard(mut body: Incoming) {
    let all = async {
        let mut taken = 0;
        while let Some(Ok(frame)) = body.frame().await {
            taken += frame.data_ref().map_or(0, Bytes::len) as u64;
            if taken > DISCARDS.1 {
                return;
            }
        }
    };
    let _ = timeout(DISCARDS.0, all).await;
}
