//! What etcd's refusals mean.

use std::{io, time::Duration};

use etcd_client::Error;

use crate::StoreError;

/// Why an attempt failed, and what may have become of it.
#[derive(Debug)]
pub(super) struct Failure {
    kind: Kind,
    sent: bool,
    source: Box<dyn std::error::Error + Send + Sync>,
}

#[derive(Debug, PartialEq)]
enum Kind {
    /// No answer, a broken connection, no quorum, a change of leader: it may have happened.
    InDoubt,
    /// etcd refused it unseen: another attempt may fare better.
    Refused,
    Denied,
    Full,
    LeaseGone,
    Compacted,
    Wrong,
}

impl Failure {
    /// No answer within this time.
    pub(super) fn silent(after: Duration) -> Self {
        let text = format!("no answer within {} ms", after.as_millis());
        Self { kind: Kind::InDoubt, sent: true, source: text.into() }
    }

    /// It could not be connected to, or a file is missing.
    pub(super) fn io(error: io::Error) -> Self {
        Self { kind: Kind::InDoubt, sent: false, source: error.into() }
    }

    /// The same, with the place where it happened.
    pub(super) fn at(self, place: &str) -> Self {
        Self { source: format!("{place}: {}", self.source).into(), ..self }
    }

    /// The same, worth another attempt: the revision that was read at is gone, a new one can be read.
    pub(super) fn or_again(self) -> Self {
        if self.kind == Kind::Compacted { Self { kind: Kind::Refused, ..self } } else { self }
    }

    /// The same, when it is known that the call itself was not sent.
    pub(super) fn unsent(self) -> Self {
        Self { sent: false, ..self }
    }

    /// The watch was cancelled.
    pub(super) fn cancelled(reason: &str, compacted: bool) -> Self {
        let kind = if compacted { Kind::Compacted } else { Kind::InDoubt };
        Self { kind, sent: true, source: reason.to_owned().into() }
    }

    /// Whether etcd has spoken its last word on it.
    pub(super) fn is_answer(&self) -> bool {
        !matches!(self.kind, Kind::InDoubt | Kind::Refused)
    }

    pub(super) fn may_have_happened(&self) -> bool {
        self.sent && self.kind == Kind::InDoubt
    }

    pub(super) fn into_unknown(self, store: &str) -> StoreError {
        StoreError::Unknown { store: store.to_owned(), source: self.source }
    }

    pub(super) fn into_error(self, store: &str) -> StoreError {
        let store = store.to_owned();
        match self.kind {
            Kind::InDoubt | Kind::Refused => StoreError::Unavailable { store, source: self.source },
            Kind::Denied => StoreError::Denied { store, why: self.source.to_string() },
            Kind::Full => StoreError::Full { store, hint: FULL.to_owned() },
            Kind::LeaseGone => StoreError::LeaseGone,
            Kind::Compacted => StoreError::WatchLost,
            Kind::Wrong => StoreError::Broken { store, what: self.source.to_string() },
        }
    }
}

/// What to do when the quota is used up (etcd's operations guide, "Space quota").
pub(super) const MAKE_ROOM: &str = "make room: `etcdctl compact REVISION`, `etcdctl defrag`, then `etcdctl alarm disarm`; or raise \
                    --quota-backend-bytes";

/// The same as the reason of an error.
pub(super) const FULL: &str = "its space quota is used up. Make room: `etcdctl compact REVISION`, `etcdctl defrag`, then `etcdctl alarm \
                    disarm`; or raise --quota-backend-bytes. Traffic is served meanwhile";

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::GRpcStatus(status) => classify(&format!("{:?}", status.code()), status.message()),
            Error::LeaseKeepAliveError(text) if text.contains("not found") => Kind::LeaseGone,
            Error::WatchError(_) | Error::LeaseKeepAliveError(_) | Error::TransportError(_) | Error::IoError(_) => {
                Kind::InDoubt
            }
            _ => Kind::Wrong,
        };
        let text = match &error {
            Error::GRpcStatus(status) => chain(status.message(), status),
            other => other.to_string(),
        };
        Self { kind, sent: true, source: text.into() }
    }
}

/// A message and what is behind it: the transport says little by itself.
fn chain(message: &str, error: &dyn std::error::Error) -> String {
    let mut text = message.to_owned();
    let mut source = error.source();
    // Bounded, whatever the chain.
    for _ in 0..8 {
        let Some(error) = source else { break };
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// etcd's errors by gRPC code and text (`api/v3rpc/rpctypes/error.go`).
fn classify(code: &str, text: &str) -> Kind {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    match code {
        _ if says(&["lease not found"]) => Kind::LeaseGone,
        _ if says(&["database space exceeded"]) => Kind::Full,
        _ if says(&["has been compacted"]) => Kind::Compacted,
        // A token that ran out: the next connection gets a fresh one.
        _ if says(&["invalid auth token", "auth: revision in header is old"]) => Kind::Refused,
        _ if says(&["too many requests", "etcdserver: not capable"]) => Kind::Refused,
        _ if says(&["authentication failed", "user name is empty", "permission denied", "user name not found"]) => {
            Kind::Denied
        }
        "PermissionDenied" | "Unauthenticated" => Kind::Denied,
        "Unavailable" | "DeadlineExceeded" | "Cancelled" | "Unknown" | "Internal" | "Aborted" | "ResourceExhausted" => {
            Kind::InDoubt
        }
        _ => Kind::Wrong,
    }
}
