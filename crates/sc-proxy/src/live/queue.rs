//! Requests that wait for a backend: one line per app, across the threads, bounded, first come first served.
//!
//! Whoever makes room (a request that ended, a new table) wakes the first in line; that one looks, takes what there is, and on
//! leaving the line wakes the next. So room is handed out one by one and a fresh replica is not stampeded. A wake that is
//! lost on the way (its request was cancelled) is passed on by [`Ticket`]'s drop.
//!
//! When the line is full, a client that has less of it than another takes the last place of the one that has most (longest
//! queue drop: Suter et al., Buffer management schemes for supporting TCP in gigabit routers, 1999). So a client alone may have
//! all places, and none can keep the others out.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::*},
    },
    time::Instant,
};

use tokio::sync::Notify;

use super::AppLive;
use crate::addresses::network;

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The length of the line, to be read without its lock.
    waiting: AtomicUsize,
    line: Mutex<Line>,
}

/// Who waits, in order, and how many places each client has.
#[derive(Debug, Default)]
struct Line {
    places: VecDeque<Arc<Place>>,
    of_clients: HashMap<u128, usize>,
}

#[derive(Debug)]
struct Place {
    /// Whose it is; see [`network`].
    client: u128,
    wake: Notify,
    /// Another client got it.
    lost: AtomicBool,
}

impl Line {
    fn push(&mut self, place: Arc<Place>, front: bool) {
        *self.of_clients.entry(place.client).or_default() += 1;
        if front { self.places.push_front(place) } else { self.places.push_back(place) }
    }

    fn take(&mut self, at: usize) -> Option<Arc<Place>> {
        let place = self.places.remove(at)?;
        if let Some(has) = self.of_clients.get_mut(&place.client) {
            *has -= 1;
            if *has == 0 {
                self.of_clients.remove(&place.client);
            }
        }
        Some(place)
    }

    fn find(&self, place: &Arc<Place>) -> Option<usize> {
        self.places.iter().position(|other| Arc::ptr_eq(other, place))
    }

    /// The last place of the client that has most, if with it this client would have no more than that one keeps.
    fn take_from_the_greediest(&mut self, client: u128) -> Option<Arc<Place>> {
        let mine = self.of_clients.get(&client).copied().unwrap_or(0);
        let (greediest, has) = self.of_clients.iter().max_by_key(|(other, has)| (**has, **other))?;
        if mine + 1 >= *has {
            return None;
        }
        let greediest = *greediest;
        let last = self.places.iter().rposition(|place| place.client == greediest)?;
        self.take(last)
    }
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.load(SeqCst) == 0
    }

    pub(super) fn wake_one(&self) {
        if self.is_empty() {
            return;
        }
        let first = self.change(|line| line.take(0));
        if let Some(first) = first {
            first.wake.notify_one();
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Line) -> T) -> T {
        let mut line = self.line();
        let result = change(&mut line);
        self.waiting.store(line.places.len(), SeqCst);
        result
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the line. Dropping it leaves the line and wakes the next.
pub struct Ticket {
    live: Arc<AppLive>,
    place: Arc<Place>,
    alone: bool,
}

impl Ticket {
    /// Joins the end of the line. When `max` wait already only in the place of another client that has more of them; none: no
    /// other has.
    pub fn join(live: &Arc<AppLive>, max: u32, client: IpAddr) -> Option<Self> {
        let client = network(client);
        let before = live.held.fetch_add(1, SeqCst);
        if before >= u64::from(max) {
            let Some(loser) = live.queue.change(|line| line.take_from_the_greediest(client)) else {
                live.held.fetch_sub(1, SeqCst);
                return None;
            };
            loser.lost.store(true, SeqCst);
            loser.wake.notify_one();
        }
        let place = Arc::new(Place { client, wake: Notify::new(), lost: AtomicBool::new(false) });
        live.queue.change(|line| line.push(place.clone(), false));
        Some(Self { live: live.clone(), place, alone: before == 0 })
    }

    /// Whether nobody waited when it joined, on whatever thread: of all that join at once one was alone.
    pub fn was_alone(&self) -> bool {
        self.alone
    }

    /// Whether it stands first. After joining, the first must look once more before it waits: room made in between woke
    /// nobody.
    pub fn is_first(&self) -> bool {
        self.live.queue.line().places.front().is_some_and(|first| Arc::ptr_eq(first, &self.place))
    }

    /// Whether another client got its place.
    pub fn is_lost(&self) -> bool {
        self.place.lost.load(SeqCst)
    }

    /// Waits until it is woken or `until` comes; then it is out of the line if it was woken.
    pub async fn wait(&self, until: Instant) {
        let _ = tokio::time::timeout_at(until.into(), self.place.wake.notified()).await;
    }

    /// If it was woken (and found nothing), back to the front. Whether it was: then it must look once more before it waits.
    pub fn back_to_front(&self) -> bool {
        self.live.queue.change(|line| {
            let out = line.find(&self.place).is_none();
            if out {
                line.push(self.place.clone(), true);
            }
            out
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.live.queue.change(|line| line.find(&self.place).and_then(|at| line.take(at)));
        self.live.held.fetch_sub(1, SeqCst);
        // One that lost its place was not woken to take something.
        if !self.is_lost() {
            self.live.queue.wake_one();
        }
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

    fn client(n: u8) -> IpAddr {
        [192, 0, 2, n].into()
    }

    #[test]
    fn a_full_line_has_room_for_whoever_has_less_of_it() {
        let live = live();
        let join = |n| Ticket::join(&live, 4, client(n));
        let mut greedy: Vec<_> = (0..4).map(|_| join(1).unwrap()).collect();
        assert!(join(1).is_none());
        let second = join(2).unwrap();
        assert_eq!(greedy.iter().map(Ticket::is_lost).collect::<Vec<_>>(), [false, false, false, true], "the newest");
        greedy.pop();
        let third = join(2).unwrap();
        assert!(greedy[2].is_lost() && !second.is_lost());
        greedy.pop();
        assert!(join(2).is_none() && join(1).is_none(), "both have half");
        assert!(join(3).is_some_and(|other| !other.is_lost() && live.held() == 5), "until the loser has left");
        assert_eq!([&greedy[0], &greedy[1], &second, &third].into_iter().filter(|ticket| ticket.is_lost()).count(), 1);
        drop((greedy, second, third));
        assert!(live.held() == 0 && live.queue.line().of_clients.is_empty() && live.queue.is_empty());
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
        let [a, b, c] = [(); 3].map(|()| Ticket::join(&live, 3, client(1)).unwrap());
        assert!(Ticket::join(&live, 3, client(1)).is_none(), "the line is full");
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
