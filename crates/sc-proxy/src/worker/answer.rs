//! What the proxy answers itself.

use bytes::Bytes;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER},
};

use super::{body::ToClient, client::Client};
use crate::headers::REASON;

/// Sends a client elsewhere.
pub(super) fn redirect(
    status: StatusCode,
    to: HeaderValue,
    client: &Client,
    idle: std::time::Duration,
) -> Response<ToClient> {
    let mut response = Response::new(ToClient::own(Bytes::new(), &client.phase, idle));
    *response.status_mut() = status;
    response.headers_mut().insert(LOCATION, to);
    response
}

/// Why a request is not answered by a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The host field is missing, doubled or no host.
    BadHost,
    /// CONNECT is not for us.
    Connect,
    /// No route fits.
    NoRoute,
    /// The app is stopped.
    Stopped,
    /// As many requests as may wait for a backend.
    QueueFull,
    /// No backend was there, or none was free, in time.
    QueueTimeout,
    /// There are backends, but no connection could be made to any, in time.
    Unreachable,
    /// The backend's answer did not come in time.
    Late,
    /// The backend broke off before it answered.
    Broken,
    /// The head of the backend's answer is longer than is taken.
    LongAnswer,
    /// The client's body broke off.
    BadBody,
    /// The client expects what is not known here.
    Expectation,
    /// An OPTIONS that may go no further.
    LastOptions,
    /// TRACE shows whoever can make a browser send one what it sends along (RFC 9110 section 9.3.8): it is not served, as nginx
    /// does not.
    Trace,
    /// The request's head could be read in two ways.
    BadHead,
    /// An extended CONNECT for another protocol than WebSocket (RFC 9220 section 3).
    UnknownProtocol,
    /// The app's replicas speak HTTP/2, where nothing is tunnelled to them.
    NoTunnel,
    /// The request's target is longer than is taken.
    LongTarget,
    /// The request's head has more fields than are taken.
    ManyFields,
    /// The request's body is longer than its app takes.
    BodyTooLarge,
    /// Nothing more came of the request's body.
    BodyStalled,
    /// The request took longer in all than it may.
    Overtime,
    /// More than the client may send; so many seconds later it may.
    TooMany(u32),
}

impl Refusal {
    /// Its status, the reason as a word, and a sentence.
    pub(super) fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadHost => (StatusCode::BAD_REQUEST, "bad-host", "The request needs one valid Host field."),
            Self::Connect => (StatusCode::METHOD_NOT_ALLOWED, "connect", "CONNECT is not served here."),
            Self::Expectation => {
                (StatusCode::EXPECTATION_FAILED, "expectation", "Nothing but 100-continue can be expected here.")
            }
            Self::LastOptions => (StatusCode::OK, "max-forwards", "The request may go no further."),
            Self::Trace => (StatusCode::METHOD_NOT_ALLOWED, "trace", "TRACE is not served here."),
            Self::NoRoute => (StatusCode::NOT_FOUND, "no-route", "No app is routed at this host and path."),
            Self::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "stopped", "The app is stopped."),
            Self::QueueFull => (StatusCode::SERVICE_UNAVAILABLE, "queue-full", "Too many requests wait for the app."),
            Self::QueueTimeout => (StatusCode::SERVICE_UNAVAILABLE, "queue-timeout", "The app had no room in time."),
            Self::Unreachable => {
                (StatusCode::SERVICE_UNAVAILABLE, "unreachable", "The app could not be reached in time.")
            }
            Self::Late => (StatusCode::GATEWAY_TIMEOUT, "response-timeout", "The app did not answer in time."),
            Self::Broken => (StatusCode::BAD_GATEWAY, "broken", "The app broke off before it answered."),
            Self::LongAnswer => {
                let text = "The app's answer has a head of more than 64 KiB or 100 fields.";
                (StatusCode::BAD_GATEWAY, "response-head-too-large", text)
            }
            Self::BadHead => (StatusCode::BAD_REQUEST, "bad-head", "The request's head is malformed."),
            Self::UnknownProtocol => {
                (StatusCode::NOT_IMPLEMENTED, "unknown-protocol", "No protocol but websocket is served on a stream.")
            }
            Self::NoTunnel => {
                (StatusCode::NOT_IMPLEMENTED, "no-tunnel", "The app speaks HTTP/2: no other protocol reaches it.")
            }
            Self::LongTarget => (StatusCode::URI_TOO_LONG, "uri-too-long", "The request's target is too long."),
            Self::ManyFields => {
                let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                (status, "head-too-large", "The request's head has too many fields.")
            }
            Self::BodyTooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The request's body is longer than the app takes.")
            }
            Self::BodyStalled => (StatusCode::REQUEST_TIMEOUT, "body-timeout", "The request's body stopped coming."),
            Self::Overtime => (StatusCode::GATEWAY_TIMEOUT, "total-timeout", "The request took too long."),
            Self::TooMany(_) => {
                (StatusCode::TOO_MANY_REQUESTS, "rate-limit", "More requests than one client may send.")
            }
            Self::BadBody => (StatusCode::BAD_REQUEST, "bad-body", "The request's body broke off."),
        }
    }

    /// Whether it is for want of a backend, room or time.
    pub(super) fn is_rejection(self) -> bool {
        self.parts().0 == StatusCode::SERVICE_UNAVAILABLE
    }

    /// More than the client may send: in so many nanoseconds it may.
    pub(super) fn too_many(wait: u64) -> Self {
        Self::TooMany(wait.div_ceil(1_000_000_000).try_into().unwrap_or(u32::MAX))
    }

    /// In how many seconds the client may try again, where that is known to help.
    pub(super) fn retry_after(self) -> Option<u32> {
        match self {
            Self::TooMany(seconds) => Some(seconds),
            _ => self.is_rejection().then_some(1),
        }
    }

    /// Its status code.
    pub(super) fn status(self) -> u16 {
        self.parts().0.as_u16()
    }

    /// The answer.
    pub(super) fn response(self, client: &Client, idle: std::time::Duration) -> Response<ToClient> {
        let (status, reason, text) = self.parts();
        let body = Bytes::from(format!("{} {text}\n", status.as_u16()));
        let mut response = Response::new(ToClient::own(body, &client.phase, idle));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(REASON, HeaderValue::from_static(reason));
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
