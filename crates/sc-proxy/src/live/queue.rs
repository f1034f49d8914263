//! Requests that wait for a backend: one line per app, across the threads, bounded, first come first served.
//!
//! Whoever makes room (a request that ended, a new table) wakes the first in line; that one looks, takes what there is, and on
//! leaving the line wakes the next. So room is handed out one by one and a fresh replica is not stampeded. A wake that is
//! lost on the way (its request was cancelled) is passed on by [`Ticket`]'s drop.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::*},
    },
    time::Instant,
};

use tokio::sync::Notify;

use super::AppLive;

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The length of `line`, to be read without its lock.
    waiting: AtomicUsize,
    line: Mutex<VecDeque<Arc<Notify>>>,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.load(SeqCst) == 0
    }

    pub(super) fn wake_one(&self) {
        if self.is_empty() {
            return;
        }
        let first = self.change(VecDeque::pop_front);
        if let Some(first) = first {
            first.notify_one();
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut VecDeque<Arc<Notify>>) -> T) -> T {
        let mut line = self.line();
        let result = change(&mut line);
        self.waiting.store(line.len(), SeqCst);
        result
    }

    fn line(&self) -> MutexGuard<'_, VecDeque<Arc<Notify>>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the line. Dropping it leaves the line and wakes the next.
pub struct Ticket {
    live: Arc<AppLive>,
    place: Arc<Notify>,
    alone: bool,
}

impl Ticket {
    /// Joins the end of the line, unless `max` wait already.
    pub fn join(live: &Arc<AppLive>, max: u32) -> Option<Self> {
        let before = live.held.fetch_add(1, SeqCst);
        if before >= u64::from(max) {
            live.held.fetch_sub(1, SeqCst);
            return None;
        }
        let place = Arc::new(Notify::new());
        live.queue.change(|line| line.push_back(place.clone()));
        Some(Self { live: live.clone(), place, alone: before == 0 })
    }

    /// Whether nobody waited when it joined, on whatever thread: of all that join at once one was alone.
    pub fn was_alone(&self) -> bool {
        self.alone
    }

    /// Whether it stands first. After joining, the first must look once more before it waits: room made in between woke
    /// nobody.
    pub fn is_first(&self) -> bool {
        self.live.queue.line().front().is_some_and(|first| Arc::ptr_eq(first, &self.place))
    }

    /// Waits until it is woken or `until` comes; then it is out of the line if it was woken.
    pub async fn wait(&self, until: Instant) {
        let _ = tokio::time::timeout_at(until.into(), self.place.notified()).await;
    }

    /// If it was woken (and found nothing), back to the front. Whether it was: then it must look once more before it waits.
    pub fn back_to_front(&self) -> bool {
        self.live.queue.change(|line| {
            let out = !line.iter().any(|place| Arc::ptr_eq(place, &self.place));
            if out {
                line.push_front(self.place.clone());
            }
            out
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.live.queue.change(|line| line.retain(|place| !Arc::ptr_eq(place, &self.place)));
        self.live.held.fetch_sub(1, SeqCst);
        self.live.queue.wake_one();
    }
}

#[cfg(test)]
mod tests {
    use sc_core::AppId;
    use std::time::Duration;

    use super::*;

    fn live() -> Arc<AppLive> {
        Arc::new(AppLive::new(1, AppId::in_default("web").unwrap(), 1))
    }

    #[tokio::test(start_paused = true)]
    async fn first_come_first_served_and_a_lost_wake_is_passed_on() {
        let live = live();
        let soon = || Instant::now() + Duration::from_secs(1);
        let woken = async |ticket: &Ticket| {
            let start = tokio::time::Instant::now();
            ticket.wait(soon()).await;
            start.elapsed() < Duration::from_millis(500)
        };
        let [a, b, c] = [(); 3].map(|()| Ticket::join(&live, 3).unwrap());
        assert!(Ticket::join(&live, 3).is_none(), "the line is full");
        assert_eq!([&a, &b, &c].map(Ticket::was_alone), [true, false, false], "also when asked after all have joined");
        assert!(a.is_first() && !b.is_first());
        live.wake();
        assert!(b.is_first());
        assert!(a.back_to_front() && !a.back_to_front());
        assert!(a.is_first() && live.held() == 3);
        live.wake();
        drop(a); // woken, but cancelled before it looked
        assert!(woken(&b).await);
        assert!(!woken(&c).await);
        drop(b);
        assert!(woken(&c).await);
        drop(c);
        assert!(live.held() == 0 && !live.has_waiting());
    }
}
