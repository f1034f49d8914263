//! The latest state of something, for many readers who wait for its changes.
//!
//! As tokio's `watch`, but those who wait are woken in the order in which they came, not in a random one: the simulator
//! must get the same run from the same seed.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// The latest state.
pub struct Latest<T>(Arc<Shared<T>>);

struct Shared<T> {
    /// The state, and how often it changed.
    state: Mutex<(u64, T)>,
    changed: Notify,
}

impl<T> Latest<T> {
    /// This is the first state.
    pub fn new(state: T) -> Self {
        Self(Arc::new(Shared { state: Mutex::new((0, state)), changed: Notify::new() }))
    }

    /// Looks at it.
    pub fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.0.lock().1)
    }

    /// Changes it; those who wait are woken when `change` says true.
    pub fn change(&self, change: impl FnOnce(&mut T) -> bool) {
        let mut state = self.0.lock();
        if !change(&mut state.1) {
            return;
        }
        state.0 += 1;
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// Waits until `find` finds something in it. Cancel-safe.
    pub async fn wait<R>(&self, find: impl Fn(&T) -> Option<R>) -> R {
        self.0.wait(|(_, state)| find(state)).await
    }

    /// Tells of every change from now on.
    pub fn changes(&self) -> Changes<T> {
        Changes { shared: self.0.clone(), seen: self.0.lock().0 }
    }
}

impl<T> Shared<T> {
    async fn wait<R>(&self, find: impl Fn(&(u64, T)) -> Option<R>) -> R {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable(); // Before looking, so that no change is missed in between.
            let found = find(&self.lock());
            if let Some(found) = found {
                return found;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, (u64, T)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for changes of a [`Latest`].
pub struct Changes<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

impl<T> Changes<T> {
    /// Waits for the next change. Cancel-safe.
    pub async fn next(&mut self) {
        let seen = self.seen;
        self.seen = self.shared.wait(|(count, _)| (*count > seen).then_some(*count)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_before_the_wait_is_not_missed() {
        let latest = Latest::new(1);
        let mut changes = latest.changes();
        latest.change(|state| {
            *state = 2;
            true
        });
        changes.next().await;
        assert_eq!(latest.wait(|state| (*state == 2).then_some(*state)).await, 2);
    }

    #[tokio::test]
    async fn those_who_wait_are_woken() {
        let latest = Arc::new(Latest::new(1));
        let waiter = tokio::spawn({
            let latest = latest.clone();
            async move { latest.wait(|state| (*state == 3).then_some(())).await }
        });
        tokio::task::yield_now().await;
        for next in [2, 3] {
            latest.change(|state| {
                *state = next;
                true
            });
        }
        tokio::time::timeout(std::time::Duration::from_secs(10), waiter).await.unwrap().unwrap();
    }
}
