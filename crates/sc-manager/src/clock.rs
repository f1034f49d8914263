//! Where `now` comes from, so that a test can say what time it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sc_core::records::UnixMs;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Unix time in milliseconds.
    fn now_ms(&self) -> UnixMs;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> UnixMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A clock that goes with tokio's timers: under paused time it stands still until they advance.
#[derive(Debug, Clone, Copy)]
pub struct TimerClock {
    start: tokio::time::Instant,
    start_ms: UnixMs,
}

impl TimerClock {
    /// A clock that shows `start_ms` now.
    pub fn starting_at(start_ms: UnixMs) -> Self {
        Self { start: tokio::time::Instant::now(), start_ms }
    }
}

impl Clock for TimerClock {
    fn now_ms(&self) -> UnixMs {
        self.start_ms + u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX / 2)
    }
}
