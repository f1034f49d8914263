//! What the stores of one process share: a [`State`] under a lock, those who wait for it to change, and their watch.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::Notify,
    time::{sleep, sleep_until},
};

use crate::{Changes, Revision, StoreError, Watch, state::State};

/// After a lease's end could not be written, it is tried again so much later.
const AGAIN: Duration = Duration::from_secs(1);

/// A state, and a bell that rings when it changes.
#[derive(Default)]
pub(crate) struct Live {
    state: Mutex<State>,
    changed: Notify,
}

impl Live {
    pub(crate) fn new(state: State) -> Self {
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// The state. A panic elsewhere left it whole: every change is made in one go.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the state and tells the watchers if its revision changed.
    pub(crate) fn change<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let before = state.revision;
        let result = act(&mut state);
        let changed = state.revision != before;
        drop(state);
        if changed {
            self.changed.notify_waiters();
        }
        result
    }

    /// Puts another state in its place; whoever watches must look anew.
    pub(crate) fn replace(&self, state: State) {
        *self.lock() = state;
        self.changed.notify_waiters();
    }
}

/// A store that holds its whole state in this process.
#[async_trait]
pub(crate) trait Local: Send + Sync + 'static {
    /// Its state.
    fn live(&self) -> &Live;

    /// Takes away what has run out.
    async fn expire(&self) -> Result<(), StoreError>;

    /// Whether changes may be told now; an error ends the watch.
    async fn may_tell(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// The changes of such a store below a prefix, from a revision on.
pub(crate) struct LocalWatch<S> {
    pub(crate) store: S,
    pub(crate) prefix: String,
    pub(crate) after: Revision,
}

#[async_trait]
impl<S: Local> Watch for LocalWatch<S> {
    async fn next(&mut self) -> Result<Changes, StoreError> {
        loop {
            let changed = self.store.live().changed.notified();
            let (changes, next_expiry) = {
                let state = self.store.live().lock();
                (state.changes(&self.prefix, self.after)?, state.next_expiry())
            };
            if let Some(changes) = changes {
                if !changes.keys.is_empty() {
                    self.store.may_tell().await?;
                }
                // Only now, so that a caller who gave up waiting misses nothing.
                self.after = changes.revision;
                if changes.keys.is_empty() {
                    continue;
                }
                return Ok(changes);
            }
            match next_expiry {
                None => changed.await,
                Some(end) => tokio::select! {
                    biased;
                    () = changed => {}
                    () = sleep_until(end) => {
                        if self.store.expire().await.is_err() {
                            // The disk is full: the deletion comes later, when there is room.
                            sleep(AGAIN).await;
                        }
                    }
                },
            }
        }
    }
}
