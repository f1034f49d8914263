//! Files out of a replica and into one, as tar streams.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use http_body_util::BodyExt;
use hyper::{Response, StatusCode};
use sc_api::Problem;

use super::{Answer, Api, Body, Call, body};
use crate::problem;

impl Api {
    pub(super) async fn copy_out(&self, call: &Call) -> Answer {
        let (id, path) = (call.replica()?, path(call)?);
        self.known(&id)?;
        let room = self.stream()?;
        let tar = self.world.engine.copy_out(&id, &path).await.map_err(|error| problem::of_engine(&error))?;
        Ok(body::stream(
            "application/x-tar",
            tar.map_err(io::Error::other).map(move |part| {
                let _held = &room;
                part
            }),
        ))
    }

    pub(super) async fn copy_in(self: Arc<Self>, call: Call) -> Answer {
        let (id, path) = (call.replica()?, path(&call)?);
        self.known(&id)?;
        let limit = self.world.settings.blob_max;
        if body::length(&call.request).is_some_and(|length| length > limit) {
            return Err(body::too_large(limit));
        }
        let _room = self.stream()?;
        let parts = call.request.into_body().into_data_stream().map_err(io::Error::other);
        let tar = parts.scan(0u64, move |taken, part| {
            *taken += part.as_ref().map_or(0, |data: &Bytes| data.len() as u64);
            let over = *taken > limit;
            let part = if over { Err(io::Error::other(format!("more than {limit} bytes"))) } else { part };
            std::future::ready(Some(part))
        });
        let result = self.world.engine.copy_in(&id, &path, tar.boxed()).await;
        result.map_err(|error| problem::of_engine(&error))?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    fn known(&self, id: &sc_core::ReplicaId) -> Result<(), Problem> {
        let desired = self.desired()?;
        desired.replica(id).map(drop).ok_or_else(|| problem::no_replica(&desired, id))
    }
}

fn path(call: &Call) -> Result<String, Problem> {
    match call.query.get("path") {
        Some(path) if path.starts_with('/') => Ok(path.to_owned()),
        Some(path) => Err(problem::malformed(format!("path={path}: an absolute path is needed"))),
        None => Err(problem::malformed("path= is missing: the path inside the replica")),
    }
}

/// An answer that says nothing more.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = body::text(status, "text/plain", Bytes::new());
    if status == StatusCode::NO_CONTENT {
        response.headers_mut().remove(hyper::header::CONTENT_TYPE);
    }
    response
}
