//! One process's life: it can be killed at any moment, or at the n-th of its calls to the outside (before it, or after
//! its effect and before its answer), and it can stand still for a while.

use std::{
    future::pending,
    sync::{Mutex, PoisonError},
};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// One life.
#[derive(Debug, Default)]
pub struct Life {
    state: Mutex<State>,
    died: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    /// Points left to live.
    left: Option<u64>,
    frozen_until: Option<Instant>,
}

impl Life {
    /// A life that ends at the n-th point, or only when it is killed.
    pub fn new(points: Option<u64>) -> Self {
        let state = State { left: points, frozen_until: None };
        Self { state: Mutex::new(state), died: CancellationToken::new() }
    }

    /// Ends it now.
    pub fn kill(&self) {
        self.died.cancel();
    }

    /// Lets it end at the n-th point from now.
    pub fn doom(&self, points: u64) {
        self.lock().left = Some(points);
    }

    /// Lets it stand still at its next point, until then.
    pub fn freeze(&self, until: Instant) {
        self.lock().frozen_until = Some(until);
    }

    /// Undoes [`Life::doom`] and [`Life::freeze`].
    pub fn spare(&self) {
        *self.lock() = State::default();
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.died.is_cancelled()
    }

    /// Waits for its end.
    pub async fn over(&self) {
        self.died.cancelled().await;
    }

    /// A point at which it may end: a dead process does not come back from here.
    pub async fn point(&self) {
        if self.step() {
            self.died.cancel();
        }
        if self.died.is_cancelled() {
            pending::<()>().await;
        }
        let frozen = self.lock().frozen_until;
        if let Some(until) = frozen.filter(|until| *until > Instant::now()) {
            sleep_until(until).await;
            if self.died.is_cancelled() {
                pending::<()>().await;
            }
        }
    }

    /// Counts one point; true at the last.
    fn step(&self) -> bool {
        let mut state = self.lock();
        let Some(left) = &mut state.left else { return false };
        *left = left.saturating_sub(1);
        *left == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
