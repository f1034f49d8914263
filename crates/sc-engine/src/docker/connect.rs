//! The connection: made when it is needed, dropped when it fails, and what to tell people when it cannot be had.

use std::sync::PoisonError;

use bollard::{API_DEFAULT_VERSION, errors::Error};

use super::{Failure, Inner};
use crate::EngineError;

/// The oldest API: Docker 20.10, the first with one-shot samples.
const OLDEST: (usize, usize) = (1, 41);

/// Why Docker cannot be reached, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{hint}")]
struct Unreachable {
    hint: String,
    #[source]
    source: Error,
}

impl Inner {
    /// What and where, for messages.
    pub(super) fn name(&self) -> String {
        let version = self.version.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let space = if version.is_empty() { "" } else { " " };
        format!("Docker{space}{version} at {}", self.host)
    }

    /// The client, its version agreed with Docker.
    pub(super) async fn docker(&self) -> Result<bollard::Docker, EngineError> {
        let mut link = self.link.lock().await;
        if let Some(docker) = &*link {
            return Ok(docker.clone());
        }
        let docker = self.open().map_err(|error| self.unreachable(error))?;
        let version = docker.version().await.map_err(|error| self.unreachable(error))?;
        let api = version.api_version.unwrap_or_default();
        let parsed = api.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        if parsed.is_none_or(|api: (usize, usize)| api < OLDEST) {
            let what = format!("{} speaks API version {api}; sc needs 1.41 or newer", self.name());
            return Err(EngineError::refused(what, "Install Docker 20.10 or newer"));
        }
        let docker = docker.negotiate_version().await.map_err(|error| self.unreachable(error))?;
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = version.version.unwrap_or_default();
        *link = Some(docker.clone());
        Ok(docker)
    }

    /// A client that has not asked anything yet. The first question (`/version`) is put in every version's words.
    fn open(&self) -> Result<bollard::Docker, Error> {
        // The calls have deadlines of their own; this one is only the last resort.
        let seconds = super::LONG.as_secs();
        if let Some(path) = self.host.strip_prefix("unix://") {
            return bollard::Docker::connect_with_unix(path, seconds, API_DEFAULT_VERSION);
        }
        if self.host.starts_with("tcp://") || self.host.starts_with("http://") {
            return bollard::Docker::connect_with_http(&self.host, seconds, API_DEFAULT_VERSION);
        }
        Err(Error::UnsupportedURISchemeError { uri: self.host.clone() })
    }

    fn unreachable(&self, source: Error) -> EngineError {
        let words = chain(&source);
        let hint = if words.contains("ermission denied") {
            "permission denied: run as root or as a member of the group docker"
        } else if matches!(source, Error::UnsupportedURISchemeError { .. }) {
            "name it as unix:///PATH or tcp://HOST:PORT with --docker-host"
        } else {
            "is it running? Start it (systemctl start docker), or name another with --docker-host"
        };
        EngineError::Unavailable { engine: self.name(), source: Unreachable { hint: hint.to_owned(), source }.into() }
    }

    /// Tells an answer of Docker's from a failure to ask; after the latter the connection is made anew.
    pub(super) fn sort(&self, error: Error, what: &str) -> Failure {
        match error {
            Error::DockerResponseServerError { .. } | Error::DockerStreamError { .. } => Failure::Docker(error),
            Error::RequestTimeoutError => Failure::Engine(self.timed_out(what, super::LONG)),
            Error::JsonDataError { .. } | Error::JsonSerdeError { .. } | Error::HttpHeaderNotFoundError(_) => {
                Failure::Docker(error)
            }
            other => {
                if let Ok(mut link) = self.link.try_lock() {
                    *link = None;
                }
                Failure::Engine(self.unreachable(other))
            }
        }
    }
}

/// An error and all that caused it, in words.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
