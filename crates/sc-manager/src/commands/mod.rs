//! What users ask for. A command is only a compare-and-set commit to the store, by whichever manager was asked; it is
//! answered once that is made, and the reconciler does the rest. So an accepted command survives any crash.

mod canary;
mod certs;
mod claims;
mod deploy;
mod lifecycle;
mod scale;

pub use canary::{promote, set_canary};
pub use certs::{put_cert, remove_cert};
pub use deploy::deploy;
pub use lifecycle::{remove, restart, restart_replica, rollback, start, stop, stop_replica};
use sc_api::{Problem, types::Accepted};
use sc_core::{
    AppId,
    plan::{Desired, DesiredApp, Effects},
    records::{self, Event, Level, UnixMs},
};
use sc_store::{Expect, Revision, Snapshot, StoreError, Write};
pub use scale::set_scale;
use serde::Serialize;

use crate::{problem, world::World};

/// How often a command is decided anew because something else changed the same records.
const TRIES: u32 = 6;

/// What a command comes to, decided on one state of the store.
struct Draft {
    app: AppId,
    version: u64,
    expects: Vec<Expect>,
    writes: Vec<Write>,
    /// Kind and text of the event.
    told: Option<(&'static str, String)>,
}

impl Draft {
    fn new(app: &AppId, version: u64) -> Self {
        Self { app: app.clone(), version, expects: Vec::new(), writes: Vec::new(), told: None }
    }

    /// Writes a record, if nobody else has since.
    fn put<T: Serialize>(&mut self, desired: &Desired, key: String, record: &T) {
        self.expect(desired, &key);
        self.writes.push(Write::Put { key, value: records::write(record), lease: None });
    }

    /// Takes over a change of records that the core decided.
    fn take(&mut self, effects: Effects) {
        let expects = effects.expects.into_iter().map(|e| Expect { key: e.key, revision: e.revision });
        self.expects.extend(expects);
        self.writes.extend(effects.changes.into_iter().map(|change| match change.put {
            Some(value) => Write::Put { key: change.key, value, lease: None },
            None => Write::Delete { key: change.key },
        }));
    }

    /// What its command is answered.
    fn accepted(&self, revision: Revision, changed: bool) -> Accepted {
        Accepted { app: self.app.clone(), version: self.version, revision, changed, warnings: Vec::new() }
    }

    /// Demands that nobody else has changed a key since.
    fn expect(&mut self, desired: &Desired, key: &str) {
        if !self.expects.iter().any(|expect| expect.key == key) {
            let revision = desired.revisions.get(key).copied().unwrap_or(0);
            self.expects.push(Expect { key: key.to_owned(), revision });
        }
    }
}

/// Decides and commits, anew when something else came first.
async fn command(
    world: &World,
    decide: impl Fn(&Desired, UnixMs) -> Result<Draft, Problem>,
) -> Result<Accepted, Problem> {
    let mut desired = world.desired().ok_or_else(|| problem::no_store(world.waiting.text()))?;
    let mut last = StoreError::Conflict;
    for _ in 0..TRIES {
        let unknown = matches!(last, StoreError::Unknown { .. });
        let draft = match decide(&desired, world.now_ms()) {
            Ok(draft) => draft,
            // What stands in the way now may be what the try without an answer has done.
            Err(_) if unknown => return Err(problem::of_store(&last)),
            Err(refused) => return Err(refused),
        };
        let accepted = |revision, changed| draft.accepted(revision, changed);
        if draft.writes.is_empty() {
            return Ok(accepted(desired.revision, false));
        }
        match world.mirror.commit(None, draft.expects.clone(), draft.writes.clone()).await {
            Ok(revision) => {
                finish(world, &draft, revision).await;
                return Ok(accepted(revision, true));
            }
            Err(error @ (StoreError::Conflict | StoreError::Unknown { .. })) => {
                let unknown = matches!(error, StoreError::Unknown { .. });
                world.mirror.note(&error);
                let now = world.mirror.reload().await.map_err(|_| problem::of_store(&error))?;
                if unknown && let Some(revision) = made(&now, &draft.writes) {
                    finish(world, &draft, revision).await;
                    return Ok(accepted(revision, true));
                }
                desired = world.parse(&now);
                // Once in doubt, in doubt until it is seen to be done.
                last = if matches!(last, StoreError::Unknown { .. }) { last } else { error };
            }
            Err(error) => {
                world.mirror.note(&error);
                return Err(problem::of_store(&error));
            }
        }
    }
    Err(problem::of_store(&last))
}

/// Makes the change seen here before it is answered, and tells of it.
async fn finish(world: &World, draft: &Draft, revision: u64) {
    drop(world.mirror.reach(revision).await);
    if let Some((kind, text)) = &draft.told {
        let event: Event = world.events.event(Level::Info, kind, Some(&draft.app), text.clone());
        world.events.add(event);
    }
}

/// After a commit without an answer: the revision that made it, if all of it is there.
fn made(now: &Snapshot, writes: &[Write]) -> Option<u64> {
    let mut revision = 0;
    for write in writes {
        match write {
            Write::Put { key, value, .. } => {
                let entry = now.entries.get(key).filter(|entry| entry.value[..] == value[..])?;
                revision = entry.revision;
            }
            Write::Delete { key } if now.entries.contains_key(key) => return None,
            Write::Delete { .. } => {}
        }
    }
    Some(revision)
}

/// An app that can be changed.
fn app<'a>(desired: &'a Desired, id: &AppId) -> Result<&'a DesiredApp, Problem> {
    let app = desired.apps.get(id).ok_or_else(|| problem::no_app(desired, id))?;
    if app.app.deleting {
        let left = app.replicas.len();
        let detail = format!("{id} is being removed ({left} replicas are still leaving)");
        return Err(problem::conflict("deleting", detail, "wait until it is gone, then run it again"));
    }
    Ok(app)
}
