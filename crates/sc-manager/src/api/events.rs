//! What happened, also as it happens.

use futures_util::{StreamExt, stream};
use sc_core::NameError;

use super::{Answer, Api, Call, body};
use crate::{events::EventQuery, problem};

impl Api {
    pub(super) fn events(&self, call: &Call) -> Answer {
        let app = call.query.get("app").map(str::parse).transpose();
        let app = app.map_err(|e: NameError| problem::malformed(e.to_string()))?;
        let query = EventQuery { app, since_ms: call.query.number("since")? };
        let (past, number) = self.world.events.since(0, &query);
        if !call.query.flag("follow")? {
            return Ok(body::lines(stream::iter(past.into_iter().map(|event| (*event).clone()))));
        }
        let (room, world) = (self.stream()?, self.world.clone());
        let coming = stream::unfold((number, query, world, room), |(number, query, world, room)| async move {
            world.events.wait(number).await;
            let (events, number) = world.events.since(number, &query);
            Some((events, (number, query, world, room)))
        });
        let all = stream::iter([past]).chain(coming).flat_map(stream::iter);
        Ok(body::lines(all.map(|event| (*event).clone())))
    }
}
