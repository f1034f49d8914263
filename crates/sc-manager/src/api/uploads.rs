//! Uploads of programs and files, by content.

use std::sync::Arc;

use futures_util::TryStreamExt;
use http_body_util::BodyExt;
use hyper::StatusCode;

use super::{Answer, Api, Call, body, files::empty};
use crate::{blobs::BlobError, problem};

impl Api {
    pub(super) async fn has_blob(&self, call: &Call) -> Answer {
        let digest = digest(call)?;
        if self.blobs.has(digest).await {
            return Ok(empty(StatusCode::OK));
        }
        Err(problem::problem(404, "no-such-blob", "No such blob", format!("{digest} was not uploaded")))
    }

    pub(super) async fn put_blob(self: Arc<Self>, call: Call) -> Answer {
        let digest = digest(&call)?.to_owned();
        let length = body::length(&call.request);
        let incoming = call.request.into_body();
        if length.is_some_and(|length| length > self.blobs.max()) {
            tokio::spawn(body::discard(incoming));
            return Err(body::too_large(self.blobs.max()));
        }
        if self.blobs.has(&digest).await {
            tokio::spawn(body::discard(incoming));
            return Ok(empty(StatusCode::OK));
        }
        let _room = self.stream()?;
        let parts = incoming.into_data_stream().map_err(std::io::Error::other);
        match self.blobs.put(&digest, length, parts).await {
            Ok(()) => Ok(empty(StatusCode::CREATED)),
            Err(BlobError::TooLarge(limit)) => Err(body::too_large(limit)),
            Err(error @ BlobError::CutOff(_)) => {
                let hint = "send it again; nothing of it was kept";
                Err(problem::hinted(400, "cut-off", "The upload was cut off", error.to_string(), hint))
            }
            Err(error @ BlobError::WrongDigest { .. }) => {
                let hint = "send it again; nothing of it was kept";
                Err(problem::hinted(
                    422,
                    "wrong-digest",
                    "The content is not what it was named",
                    error.to_string(),
                    hint,
                ))
            }
            Err(error @ BlobError::NoSpace(_)) => {
                let hint = "make room on the manager's disk, or remove apps: unused blobs go after an hour";
                Err(problem::hinted(507, "disk-full", "The disk is full", error.to_string(), hint))
            }
            Err(error @ BlobError::Disk(_)) => {
                Err(problem::problem(500, "disk", "The upload could not be kept", crate::waiting::chain(&error)))
            }
        }
    }
}

fn digest(call: &Call) -> Result<&str, sc_api::Problem> {
    let digest = call.param("sha256");
    let valid = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if valid {
        return Ok(digest);
    }
    Err(problem::malformed(format!("{digest:?} is no SHA-256 in lower-case hex (64 digits)")))
}
