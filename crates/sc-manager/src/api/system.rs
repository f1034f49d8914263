//! The manager itself.

use hyper::{Response, StatusCode};
use sc_api::types::Release;

use super::{Answer, Api, Body, body};
use crate::problem;

impl Api {
    pub(super) fn version(&self) -> Answer {
        let world = &self.world;
        let release = Release {
            release: env!("CARGO_PKG_VERSION").to_owned(),
            manager: world.settings.id.clone(),
            leads: world.fence().is_some(),
            store: world.store.describe(),
            engine: world.engine.describe(),
            waiting_for: world.waiting.text(),
        };
        Ok(body::json(StatusCode::OK, &release))
    }

    /// Ready: the store was read, and store and engine answer.
    pub(super) fn readyz(&self) -> Response<Body> {
        let waits = self.world.waiting.text();
        let loaded = self.world.mirror.snapshot().is_some();
        if loaded && waits.is_none() {
            return body::text(StatusCode::OK, "text/plain", "ready\n");
        }
        let detail = waits.unwrap_or_else(|| "the store has not been read yet".to_owned());
        let hint = "apps and their traffic go on; the manager goes on by itself";
        body::problem(problem::hinted(503, "not-ready", "The manager is waiting", detail, hint))
    }
}
