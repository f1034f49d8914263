//! Steps that no commit takes. Trying them again and again would hold up every other app, so their app is left alone
//! until somebody changes it.

use std::collections::BTreeMap;

use sc_core::{
    AppId,
    plan::{Desired, Effects},
    records::key,
};
use sc_store::{COMMIT_BYTES_MAX, COMMIT_MAX, StoreError};

use crate::{waiting::chain, world::World};

/// Apps that are left alone, with the revision of their record at that time.
#[derive(Debug, Default)]
pub(super) struct TooLarge(BTreeMap<AppId, u64>);

impl TooLarge {
    /// Takes those apps out of what is planned for; their published routes stay.
    pub(super) fn leave_alone(&mut self, desired: &mut Desired) {
        self.0.retain(|id, revision| desired.revisions.get(&key::app(id)) == Some(revision));
        for id in self.0.keys() {
            desired.apps.remove(id);
            desired.left_alone.insert(id.clone(), "its next step is too large for one commit".to_owned());
        }
    }

    /// Refuses a step that no commit takes, once and for all.
    pub(super) fn check(&mut self, world: &World, desired: &Desired, effects: &Effects) -> Result<(), StoreError> {
        let (operations, bytes) = (effects.operations(), effects.bytes());
        let error = match () {
            () if operations > COMMIT_MAX => StoreError::TooLarge { operations },
            () if bytes > COMMIT_BYTES_MAX => StoreError::TooManyBytes { bytes },
            () => return Ok(()),
        };
        let owner = |id: &&AppId| effects.expects.iter().any(|e| e.key == key::app(id) || e.key == key::routes(id));
        if let Some(id) = desired.apps.keys().find(owner) {
            self.0.insert(id.clone(), desired.revisions.get(&key::app(id)).copied().unwrap_or(0));
            let text = format!("{id} is left alone until it is changed: its next step is too large: {}", chain(&error));
            world.events.warn("too_large", Some(id), text);
            world.wake.notify_one();
        }
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sc_core::plan::{Change, Expected};
    use sc_engine::fake::{Fake, FakeConfig};
    use sc_store::Memory;

    use super::*;
    use crate::{clock::SystemClock, settings::Settings};

    fn desired(version: u64) -> (AppId, Desired) {
        let id = AppId::in_default("web").unwrap();
        let app = format!(r#"{{"v":1,"version":1,"next":1,"created_ms":0,"restart":{version}}}"#);
        let entries = [
            (key::app(&id), app, version),
            (key::scale(&id), r#"{"v":1,"want":1}"#.to_owned(), 1),
            (key::version(&id, 1), r#"{"v":1,"created_ms":0,"spec":{"source":{"image":"a"}}}"#.to_owned(), 1),
        ];
        let entries = entries.iter().map(|(key, value, revision)| (key.as_str(), value.as_bytes(), *revision));
        let (desired, errors) = Desired::from_snapshot(Default::default(), version, entries);
        assert!(errors.is_empty(), "{errors:?}");
        (id, desired)
    }

    #[test]
    fn an_app_whose_step_is_too_large_is_left_alone_until_it_changes() {
        let engine = Arc::new(Fake::new(FakeConfig::default()));
        let world = World::new(Settings::new("m", "."), Arc::new(Memory::new()), engine, Arc::new(SystemClock));
        let (id, mut now) = desired(5);
        let effects = Effects {
            expects: vec![Expected { key: key::app(&id), revision: 5 }],
            changes: vec![Change { key: key::app(&id), put: Some(vec![b' '; COMMIT_BYTES_MAX]) }],
        };
        let mut too_large = TooLarge::default();
        too_large.leave_alone(&mut now);
        assert!(now.apps.contains_key(&id));
        assert!(matches!(too_large.check(&world, &now, &effects), Err(StoreError::TooManyBytes { .. })));
        too_large.leave_alone(&mut now);
        assert!(!now.apps.contains_key(&id) && now.left_alone.contains_key(&id));
        let (_, mut changed) = desired(6);
        too_large.leave_alone(&mut changed);
        assert!(changed.apps.contains_key(&id));
    }
}
