//! One attempt at one backend, counted from its choice to the last byte of its answer.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use super::{
    LocalApp, Worker,
    answer::Refusal,
    body::FromBackend,
    client::Late,
    upstream::{ConnectError, Sender, Upstream},
};
use crate::live::{App, BackendSlot as Slot, class_of};

/// Where attempts end in [`sc_core::stats::BackendStats::completions`] that got no answer.
const NO_ANSWER: usize = 5;

/// One attempt. Dropping it ends it: the place with the backend is free again, and whoever waits for one is woken.
pub(super) struct Exchange {
    pub(super) worker: Rc<Worker>,
    pub(super) app: Rc<LocalApp>,
    pub(super) upstream: Rc<Upstream>,
    sender: Option<Sender>,
    class: usize,
    trial: bool,
    /// When it ended, if that has been read.
    end: Option<Instant>,
}

impl Exchange {
    /// The place was taken by [`App::choose`]; from here on it is counted.
    pub(super) fn begin(
        worker: &Rc<Worker>,
        app: &Rc<LocalApp>,
        upstream: Rc<Upstream>,
        trial: bool,
        now: Instant,
    ) -> Self {
        let now = worker.shared.micros(now);
        upstream.backend.shard(worker.thread).counts.write(|w| {
            w.add(Slot::REQUESTS, 1);
            w.add(Slot::AREA, 0u64.wrapping_sub(now));
        });
        Self { worker: worker.clone(), app: app.clone(), upstream, sender: None, class: NO_ANSWER, trial, end: None }
    }

    /// The head of the answer has come now, so long after the last of the request was sent. None: it was not sent in full, so
    /// nobody knows how much of the time was the client's, and how long the backend takes is not learned from it.
    pub(super) fn answered(&mut self, status: u16, after: Option<Duration>, now: Instant) {
        let backend = &self.upstream.backend;
        if let Some(after) = after {
            backend.shard(self.worker.thread).latency.record(after.as_nanos() as u64);
            // One that fails fast is not to be preferred for it.
            if status < 500 {
                backend.ewma.record(after.as_micros() as u64, self.worker.millis(now));
            }
        }
        backend.succeeded();
        self.class = class_of(status);
        self.trial = false;
    }

    /// A connection that is the client's alone was made, within `after`. How long that takes says nothing of the backend's load.
    pub(super) fn connected(&mut self, after: Duration) {
        let backend = &self.upstream.backend;
        backend.shard(self.worker.thread).latency.record(after.as_nanos() as u64);
        backend.succeeded();
        self.class = class_of(200);
        self.trial = false;
    }

    /// Keeps hyper's side of the connection until the body has come too.
    pub(super) fn hold(&mut self, sender: Sender) {
        self.sender = Some(sender);
    }

    /// No connection could be made.
    pub(super) fn connect_failed(&mut self, error: &ConnectError) {
        let backend = &self.upstream.backend;
        tracing::debug!(replica = %backend.replica, addr = %backend.addr, %error, "no connection to a backend");
        backend.shard(self.worker.thread).counts.write(|w| w.add(Slot::CONNECT_ERRORS, 1));
        self.failed();
    }

    /// The backend did not do its part.
    pub(super) fn failed(&mut self) {
        let table = self.worker.table();
        let may_eject = table.app(&self.app.live.id).is_some_and(|app| App::may_eject(&table.apps[app]));
        self.upstream.backend.failed(self.worker.millis(Instant::now()), may_eject);
        self.trial = false;
    }

    /// No head of an answer came in time. A client that keeps back its body is no fault of the backend's.
    pub(super) fn late(&mut self, whom: Late) -> Refusal {
        match whom {
            Late::Client => Refusal::BodyStalled,
            Late::Backend => {
                self.failed();
                Refusal::Late
            }
        }
    }

    /// It ends, now.
    pub(super) fn end(mut self, now: Instant) {
        self.end = Some(now);
    }

    /// The answer has come whole: its connection can serve again.
    pub(super) fn finish(mut self, body: FromBackend) {
        let most = self.worker.limits.upstream_idle_max;
        if let Some(sender) = self.sender.take() {
            self.upstream.give_back(sender, most);
        } else if let Some(socket) = body.into_socket() {
            let now = Instant::now();
            self.end = Some(now);
            self.upstream.keep(socket, now, most);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let backend = &self.upstream.backend;
        let now = self.worker.shared.micros(self.end.unwrap_or_else(Instant::now));
        backend.shard(self.worker.thread).counts.write(|w| {
            w.add(Slot::ANSWERS + self.class, 1);
            w.add(Slot::AREA, now);
        });
        if self.trial {
            backend.abandon_trial();
        }
        backend.leave();
        if self.app.live.has_waiting() {
            self.app.live.wake();
        }
    }
}
