//! Steps as events for people.

use sc_core::{ReplicaId, plan::Action, records::Level};

use super::cause;
use crate::world::World;

/// Tells of a step that changed a record.
pub fn tell(world: &World, action: &Action, why: &str) {
    let Some((level, kind, text)) = words(action, why) else { return };
    let mut event = world.events.event(level, kind, action.app(), text);
    event.replica = action.replica().cloned();
    world.events.add(event);
}

/// Tells of a replica that failed, with its last lines.
pub async fn failure(world: &World, replica: &ReplicaId, why: &str) {
    let lines = cause::last_words(world, replica).await;
    let mut event = world.events.of_replica(Level::Warning, "failed", replica, format!("{replica} failed: {why}"));
    event.data = serde_json::json!({ "log": lines });
    world.events.add(event);
}

fn words(action: &Action, why: &str) -> Option<(Level, &'static str, String)> {
    use Action as A;
    use Level::{Error, Info, Warning};
    let of = |subject: &dyn std::fmt::Display, does: &str| format!("{subject} {does}: {why}");
    Some(match action {
        A::Start { replica, version, .. } => {
            (Info, "starting", of(replica, &format!("(version {version}) is started")))
        }
        A::MarkReady(replica) => (Info, "ready", of(replica, "is ready")),
        A::MarkUnready { replica, .. } => (Warning, "unready", of(replica, "gets no requests for now")),
        A::Drain { replica, .. } => (Info, "draining", of(replica, "takes leave")),
        A::Stop(replica) => (Info, "stopping", of(replica, "is stopped")),
        A::Pause(replica) => (Info, "paused", of(replica, "is paused")),
        A::Park(replica) => (Info, "parked", of(replica, "is stopped and kept")),
        A::Revive { replica, .. } => (Info, "revived", of(replica, "is started again")),
        A::Wake(replica) => (Info, "woken", of(replica, "is woken")),
        A::Forget(replica) => (Info, "gone", of(replica, "is gone")),
        A::Recovered { app, version } => (Info, "recovered", of(app, &format!("version {version} is well again"))),
        A::CanaryUp(app) => (Info, "canary_up", of(app, "has its canary up")),
        A::Roll(app) => (Info, "rolling", of(app, "is being rolled out")),
        A::Settle { app, version } => (Info, "deployed", of(app, &format!("runs version {version}"))),
        A::RollBack { app, failed, to, cause } => {
            (Error, "rolled_back", format!("{app}: version {failed} failed, back to version {to}: {cause}"))
        }
        A::GiveUp { app, cause } => (Error, "deploy_failed", format!("{app} does not come up: {cause}")),
        A::Delete(app) => (Info, "deleted", of(app, "is deleted")),
        _ => return None,
    })
}
