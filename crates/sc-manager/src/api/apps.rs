//! Apps.

use std::{path::Path, sync::Arc};

use hyper::StatusCode;
use sc_api::types::Accepted;
use sc_core::AppId;
use sc_scale::minutes::Minute;

use super::{Answer, Api, Call, body, route::Op};
use crate::{commands, problem, record, view};

impl Api {
    pub(super) fn apps(&self) -> Answer {
        let desired = self.desired()?;
        let views = desired.apps.iter().filter_map(|(id, app)| view::app_view(&self.world, &desired, id, app));
        Ok(body::json(StatusCode::OK, &views.collect::<Vec<_>>()))
    }

    pub(super) fn app(&self, call: &Call) -> Answer {
        let (id, desired) = (call.app()?, self.desired()?);
        let app = desired.apps.get(&id).ok_or_else(|| problem::no_app(&desired, &id))?;
        let view = view::app_view(&self.world, &desired, &id, app);
        let view = view.ok_or_else(|| problem::no_app(&desired, &id))?;
        Ok(body::json(StatusCode::OK, &view))
    }

    pub(super) fn versions(&self, call: &Call) -> Answer {
        let (id, desired) = (call.app()?, self.desired()?);
        let app = desired.apps.get(&id).ok_or_else(|| problem::no_app(&desired, &id))?;
        Ok(body::json(StatusCode::OK, &view::versions(app)))
    }

    pub(super) async fn why(&self, call: &Call) -> Answer {
        let (id, desired) = (call.app()?, self.desired()?);
        let app = desired.apps.get(&id).ok_or_else(|| problem::no_app(&desired, &id))?;
        let at = call.query.number("at")?;
        if !call.query.flag("replay")? {
            let why = view::why(&self.world, &id, app, at);
            let minute = self.minute(&id, at).await;
            return Ok(body::json(StatusCode::OK, &view::with_minute(why, minute)));
        }
        let folder = self.world.recorder.folder().map(Path::to_owned).ok_or_else(problem::no_recordings)?;
        let (at, of) = (at.unwrap_or_else(|| self.world.now_ms()), id.clone());
        let replayed = tokio::task::spawn_blocking(move || record::replay(&folder, &of, at)).await;
        let replayed = replayed.map_err(|_| problem::no_recordings())?.map_err(problem::not_recorded)?;
        Ok(body::json(StatusCode::OK, &view::why_again(&id, replayed)))
    }

    /// What an earlier minute was like.
    async fn minute(&self, id: &AppId, at: Option<u64>) -> Option<Minute> {
        let (at, folder) = at.zip(self.world.recorder.minutes())?;
        let (id, now) = (id.clone(), self.world.now_ms());
        let read = move || record::minutes::read(&folder, &id, at, at.saturating_add(1), now).pop();
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }

    pub(super) async fn deploy(self: Arc<Self>, call: Call) -> Answer {
        let id = call.app()?;
        let deploy: sc_api::types::Deploy = body::read(call.request.into_body()).await?;
        for file in &deploy.spec.files {
            if !self.blobs.has(&file.sha256).await {
                let detail = format!("the content of {} (sha256 {}) was not uploaded", file.path, file.sha256);
                let hint = format!("PUT /v1/blobs/{} first; `sc` does that by itself", file.sha256);
                return Err(problem::hinted(422, "no-such-blob", "A file's content is missing", detail, hint));
            }
        }
        accepted(commands::deploy(&self.world, &id, &deploy).await?)
    }

    pub(super) async fn remove(&self, call: &Call) -> Answer {
        accepted(commands::remove(&self.world, &call.app()?).await?)
    }

    pub(super) async fn scale(self: Arc<Self>, call: Call) -> Answer {
        let id = call.app()?;
        let request = body::read(call.request.into_body()).await?;
        accepted(commands::set_scale(&self.world, &id, &request).await?)
    }

    pub(super) async fn lifecycle(&self, call: &Call) -> Answer {
        let id = call.app()?;
        accepted(match call.op {
            Op::StopApp => commands::stop(&self.world, &id).await?,
            Op::StartApp => commands::start(&self.world, &id).await?,
            _ => commands::restart(&self.world, &id).await?,
        })
    }

    pub(super) async fn rollback(self: Arc<Self>, call: Call) -> Answer {
        let id = call.app()?;
        let request = body::read(call.request.into_body()).await?;
        accepted(commands::rollback(&self.world, &id, &request).await?)
    }
}

impl Api {
    pub(super) async fn canary(self: Arc<Self>, call: Call) -> Answer {
        let id = call.app()?;
        let request = body::read(call.request.into_body()).await?;
        accepted(commands::set_canary(&self.world, &id, &request).await?)
    }

    pub(super) async fn promote(&self, call: &Call) -> Answer {
        accepted(commands::promote(&self.world, &call.app()?).await?)
    }
}

/// The answer to a command: stored, and to be done (202), or so already (200).
pub(super) fn accepted(accepted: Accepted) -> Answer {
    let status = if accepted.changed { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok(body::json(status, &accepted))
}
