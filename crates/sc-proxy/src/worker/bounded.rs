//! Bodies within the bounds of their app ([`sc_core::spec::Bounds`]): how long they may be, and how long they may take.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant as Moment},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{answer::Refusal, body::BodyError, client::Phase};

/// How a request's body fares, for whoever waits for the answer to it.
#[derive(Default)]
pub(super) struct Course {
    /// What was wrong with it: who sends it on hears only that it broke off.
    pub(super) fault: Cell<Option<Refusal>>,
    /// When the last of it went on.
    pub(super) sent: Cell<Option<Moment>>,
}

/// A client's body as it comes in.
pub(super) struct FromClient {
    body: Incoming,
    guard: Option<Box<Guard>>,
    phase: Arc<Phase>,
    course: Rc<Course>,
}

/// What a body may not exceed.
pub(super) struct Guard {
    /// Bytes that may still come.
    pub(super) left: u64,
    /// How long nothing may come.
    pub(super) pause: Option<Pause>,
}

impl FromClient {
    pub(super) fn new(body: Incoming, guard: Option<Guard>, phase: &Arc<Phase>, course: &Rc<Course>) -> Self {
        Self { body, guard: guard.map(Box::new), phase: phase.clone(), course: course.clone() }
    }

    /// The next frame that says anything. Empty DATA frames stay here: receivers of HTTP/2 bear only so many of them on a
    /// connection, and a backend's is shared by many clients.
    pub(super) fn poll_full(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = poll_full(&mut self.body, cx);
        self.phase.awaits_body(frame.is_pending());
        if let Poll::Ready(frame) = &frame {
            self.phase.received(data_len(frame));
        }
        let Some(guard) = &mut self.guard else { return frame.map_err(BodyError::from) };
        if let Some(refusal) = guard.check(&frame, cx) {
            self.course.fault.set(Some(refusal));
            return Poll::Ready(Some(Err(BodyError::Unbearable)));
        }
        frame.map_err(BodyError::from)
    }

    /// A part of it goes on now; `is_last`: nothing that came is kept back behind it.
    pub(super) fn goes_on<E>(&self, part: Option<&Result<Frame<Bytes>, E>>, is_last: bool) {
        let ends = match part {
            None => true,
            Some(Ok(frame)) => frame.is_trailers() || (is_last && self.is_end_stream()),
            Some(Err(_)) => false,
        };
        if ends && self.course.sent.get().is_none() {
            self.course.sent.set(Some(Moment::now()));
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn data_len<E>(frame: &Option<Result<Frame<Bytes>, E>>) -> usize {
    frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len)
}

/// The next frame of a body that says anything.
pub(super) fn poll_full(body: &mut Incoming, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    loop {
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        let is_empty = |frame: &Frame<Bytes>| frame.data_ref().is_some_and(Bytes::is_empty);
        if !matches!(&frame, Some(Ok(frame)) if is_empty(frame)) {
            return Poll::Ready(frame);
        }
        if body.is_end_stream() {
            return Poll::Ready(None);
        }
    }
}

impl Guard {
    fn check(
        &mut self,
        frame: &Poll<Option<Result<Frame<Bytes>, hyper::Error>>>,
        cx: &mut Context<'_>,
    ) -> Option<Refusal> {
        let Poll::Ready(frame) = frame else {
            return self.pause.as_mut()?.is_over(cx).then_some(Refusal::BodyStalled);
        };
        if let Some(pause) = &mut self.pause {
            pause.ends();
        }
        match self.left.checked_sub(data_len(frame) as u64) {
            Some(left) => self.left = left,
            None => return Some(Refusal::BodyTooLarge),
        }
        None
    }
}

/// A wait for what comes next of a body, over and over; each may take so long, and none go beyond the end.
pub(super) struct Pause {
    each: Option<Duration>,
    end: Option<Instant>,
    /// Made at the first wait.
    sleep: Option<Pin<Box<Sleep>>>,
    waits: bool,
}

impl Pause {
    /// None where nothing bounds it.
    pub(super) fn new(each: Option<Duration>, end: Option<Instant>) -> Option<Self> {
        (each.is_some() || end.is_some()).then_some(Self { each, end, sleep: None, waits: false })
    }

    /// Something came.
    pub(super) fn ends(&mut self) {
        self.waits = false;
    }

    /// The end has come, whether something is waited for or not.
    pub(super) fn is_late(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// Nothing has come yet: whether that has taken too long. If not, the task is woken when it has.
    pub(super) fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let until = || [self.each.map(|each| Instant::now() + each), self.end].into_iter().flatten().min();
        if !self.waits {
            let Some(until) = until() else { return false };
            self.waits = true;
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(until),
                None => self.sleep = Some(Box::pin(sleep_until(until))),
            }
        }
        self.sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Waits until the pause is over; gives how long that took.
    async fn over(pause: &mut Pause) -> Duration {
        let start = Instant::now();
        poll_fn(|cx| if pause.is_over(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_begins_anew_when_something_comes_and_never_goes_beyond_the_end() {
        let span = Duration::from_secs;
        let near = |found: Duration, want: Duration| found >= want && found < want + span(1) / 10;
        let mut pause = Pause::new(Some(span(2)), Some(Instant::now() + span(5))).unwrap();
        assert!(near(over(&mut pause).await, span(2)) && !pause.is_late());
        pause.ends();
        assert!(near(over(&mut pause).await, span(2)));
        pause.ends();
        assert!(near(over(&mut pause).await, span(1)) && pause.is_late());
        assert!(Pause::new(None, None).is_none());
    }
}
