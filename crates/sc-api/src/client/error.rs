//! What can go wrong on the way to a manager, and what to do next.

use std::io;

use super::{Client, Target};
use crate::Problem;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("the manager at {target} cannot be reached: {source}\n  → {hint}")]
    Unreachable {
        /// Where.
        target: Target,
        /// What to do next.
        hint: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No answer came in time.
    #[error("the manager at {target} did not answer within {seconds} s\n  → `sc doctor` says what it waits for")]
    TimedOut {
        /// Where.
        target: Target,
        /// How long was waited.
        seconds: u64,
    },
    /// The connection ended in the middle: the manager may have died.
    #[error(
        "the connection to the manager at {target} was cut off: {why}\n  → the command may or may not have been taken: look, then try again"
    )]
    CutOff {
        /// Where.
        target: Target,
        /// How.
        why: String,
    },
    /// It answered with a problem.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// What it said makes no sense.
    #[error(
        "the manager at {target} answered strangely: {what}\n  → is that a manager of this release? `sc version` tells"
    )]
    Broken {
        /// Where.
        target: Target,
        /// What.
        what: String,
    },
    /// What was to be uploaded could not be read.
    #[error("what was to be sent cannot be read")]
    Local(#[source] io::Error),
}

impl ClientError {
    /// Nobody answered, or not in time: the manager is not there, as opposed to having said no.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut { .. } | Self::CutOff { .. })
    }

    /// The HTTP status of a problem.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Problem(problem) => Some(problem.status),
            _ => None,
        }
    }
}

impl Client {
    pub(super) fn unreachable(&self, source: io::Error) -> ClientError {
        let hint = match (source.kind(), &self.target) {
            (io::ErrorKind::PermissionDenied, Target::Unix(path)) => {
                format!("{} is for another user: become that user, or use the manager's TCP address and token", path.display())
            }
            (io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused, _) => {
                "no manager runs there: `sc up` starts one, `sc demo` a trial; --manager or SC_MANAGER name another; `sc doctor` looks closer".to_owned()
            }
            _ => "is the address right (--manager, SC_MANAGER)? `sc doctor` looks closer".to_owned(),
        };
        ClientError::Unreachable { target: self.target.clone(), hint, source }
    }

    pub(super) fn late(&self) -> ClientError {
        ClientError::TimedOut { target: self.target.clone(), seconds: self.deadline.as_secs() }
    }

    pub(super) fn broken(&self, what: String) -> ClientError {
        ClientError::Broken { target: self.target.clone(), what }
    }

    /// A connection's error: cut off, unless what came was no HTTP.
    pub(super) fn cut_off(&self, error: &hyper::Error) -> ClientError {
        let mut why = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            if let Some(local) = cause.downcast_ref::<super::upload::Unreadable>() {
                return ClientError::Local(io::Error::new(local.0.kind(), local.0.to_string()));
            }
            why = format!("{why}: {cause}");
            source = cause.source();
        }
        if error.is_parse() {
            return self.broken(why);
        }
        ClientError::CutOff { target: self.target.clone(), why }
    }
}
