//! A backend's answer that is compressed on its way to the client.
//!
//! As soon as the backend pauses, what has come of the answer goes out whole, so that events and long polls arrive at once. What
//! breaks off breaks off for the client too: the end of the coded body is written only after the backend's.

use std::{
    io,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use hyper::{HeaderMap, body::Frame};

use super::{Worker, body::FromBackend, bodyless, exchange::Exchange};
use crate::compress::Coder;

/// Bodies that one thread compresses at once, each with less than a MiB; further ones pass as they are.
const CODERS: usize = 64;
/// How much is taken into a coder before other connections of the thread have their turn.
const SLICE: usize = 32 * 1024;
/// Less than this waits for more, unless the backend pauses.
const LEAST: usize = 4 * 1024;

/// A place among the bodies that a thread compresses.
pub(super) struct Place(Rc<Worker>);

impl Place {
    /// None where all are taken.
    pub(super) fn take(worker: &Rc<Worker>) -> Option<Self> {
        let taken = worker.coders.get();
        (taken < CODERS).then(|| {
            worker.coders.set(taken + 1);
            Self(worker.clone())
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.coders.set(self.0.coders.get() - 1);
    }
}

/// Why an answer's body breaks off.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    #[error(transparent)]
    Backend(#[from] hyper::Error),
    #[error(transparent)]
    Bodyless(#[from] bodyless::Broken),
    #[error("an answer could not be compressed")]
    Coder(#[from] io::Error),
}

/// A body that is being compressed.
pub(super) struct Squeezed {
    /// Where it comes from, until all has come.
    source: Option<(FromBackend, Exchange)>,
    /// What compresses it, until all has gone in; and its place.
    coder: Option<(Coder, Place)>,
    /// What has come and not yet gone in.
    waiting: Bytes,
    trailers: Option<HeaderMap>,
    /// Something is in the coder that the client has not.
    holds: bool,
    /// The others have their turn first.
    yields: bool,
}

impl Squeezed {
    pub(super) fn new(coder: Coder, place: Place, body: FromBackend, exchange: Exchange) -> Self {
        Self {
            source: Some((body, exchange)),
            coder: Some((coder, place)),
            waiting: Bytes::new(),
            trailers: None,
            holds: false,
            yields: false,
        }
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.poll_data(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => {
                // Nothing may make it look whole.
                (self.source, self.coder, self.trailers) = (None, None, None);
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(Ok(Some(data))) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Poll::Ready(Ok(None)) => Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.coder.is_none() && self.trailers.is_none()
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Cut>> {
        loop {
            let Some((coder, _)) = &mut self.coder else { return Poll::Ready(Ok(None)) };
            if std::mem::take(&mut self.yields) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !self.waiting.is_empty() {
                let n = self.waiting.len().min(SLICE);
                coder.write(&self.waiting[..n])?;
                self.waiting.advance(n);
                (self.holds, self.yields) = (true, !self.waiting.is_empty());
                if coder.ready() >= LEAST {
                    return Poll::Ready(Ok(Some(coder.take().into())));
                }
                continue;
            }
            let Some((body, _)) = &mut self.source else {
                let rest = self.coder.take().map(|(coder, _)| coder.finish()).transpose()?;
                return Poll::Ready(Ok(rest.filter(|rest| !rest.is_empty()).map(Bytes::from)));
            };
            match body.poll_frame(cx) {
                Poll::Pending if std::mem::take(&mut self.holds) => {
                    coder.flush()?;
                    let data = coder.take();
                    if !data.is_empty() {
                        return Poll::Ready(Ok(Some(data.into())));
                    }
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(frame)) => match frame?.into_data() {
                    Ok(data) => self.waiting = data,
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
                Poll::Ready(None) => self.all_came(),
            }
            if self.source.as_ref().is_some_and(|(body, _)| body.is_end_stream()) {
                self.all_came();
            }
        }
    }

    /// The backend is free again.
    fn all_came(&mut self) {
        if let Some((body, exchange)) = self.source.take() {
            exchange.finish(body);
        }
    }
}
