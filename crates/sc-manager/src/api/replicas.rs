//! Replicas.

use hyper::StatusCode;
use sc_core::{AppId, NameError, ReplicaId};

use super::{Answer, Api, Call, apps::accepted, body, route::Op};
use crate::{commands, problem, view};

impl Api {
    pub(super) fn replicas(&self, call: &Call) -> Answer {
        let desired = self.desired()?;
        let only: Option<AppId> = match call.query.get("app") {
            Some(app) => Some(app.parse().map_err(|e: NameError| problem::malformed(e.to_string()))?),
            None => None,
        };
        if let Some(id) = only.as_ref().filter(|id| !desired.apps.contains_key(id)) {
            return Err(problem::no_app(&desired, id));
        }
        let apps = desired.apps.iter().filter(|(id, _)| only.as_ref().is_none_or(|only| only == *id));
        let views = apps.flat_map(|(id, app)| {
            let world = &self.world;
            app.replicas.iter().map(move |(n, record)| view::replica_view(world, &ReplicaId::new(id, *n), record))
        });
        Ok(body::json(StatusCode::OK, &views.collect::<Vec<_>>()))
    }

    pub(super) async fn replica_lifecycle(&self, call: &Call) -> Answer {
        let id = call.replica()?;
        accepted(match call.op {
            Op::StopReplica => commands::stop_replica(&self.world, &id).await?,
            _ => commands::restart_replica(&self.world, &id).await?,
        })
    }
}
