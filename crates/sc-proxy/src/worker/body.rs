//! Bodies on their way: a client's to a backend ([`ToBackend`]) and a backend's to a client ([`ToClient`]). Both stream, with
//! the other side's pace; only a small request body that may have to be sent again is kept while it passes.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    HeaderMap,
    body::{Body, Frame, Incoming, SizeHint},
};
use tokio::net::TcpStream;

use super::{
    bodyless::Arrival,
    bounded::{FromClient, Pause, poll_full},
    client::Phase,
    exchange::Exchange,
    h2::Under,
    squeezed::{Cut, Place, Squeezed},
};
use crate::{access::Line, compress::Coder, live::AppLive};

/// A request's body on its way to a backend.
pub(super) enum ToBackend {
    /// None.
    Empty,
    /// Passed on as it comes.
    Stream(FromClient),
    /// Kept while it passes.
    Replay(Replay),
}

/// Why a request's body broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the client's request body broke off")]
    Client(#[from] hyper::Error),
    #[error("the request was sent again elsewhere")]
    Superseded,
    #[error("the client's request body is beyond its app's bounds")]
    Unbearable,
}

impl Body for ToBackend {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Stream(body) => {
                let frame = ready!(body.poll_full(cx));
                body.goes_on(frame.as_ref(), true);
                Poll::Ready(frame)
            }
            Self::Replay(replay) => replay.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(body) => body.is_end_stream(),
            Self::Replay(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream(body) => body.size_hint(),
            Self::Replay(replay) => replay.recording.borrow().hint,
        }
    }
}

/// A request body that is kept, up to a bound, while it passes.
pub(super) struct Recording {
    body: FromClient,
    hint: SizeHint,
    kept: Vec<Bytes>,
    size: usize,
    most: usize,
    trailers: Option<HeaderMap>,
    state: State,
    /// Counts the sendings; only the latest may read on.
    sending: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// More may come.
    Open,
    /// All has been read and is kept.
    Whole,
    /// Too large to keep, or broken: it cannot be sent again.
    Lost,
}

/// One sending of a recorded body.
pub(super) struct Replay {
    recording: Rc<RefCell<Recording>>,
    at: usize,
    sending: u32,
    trailers_sent: bool,
}

impl Recording {
    pub(super) fn new(body: FromClient, most: usize) -> Rc<RefCell<Self>> {
        let hint = body.size_hint();
        let (kept, trailers) = (Vec::new(), None);
        let recording = Self { body, hint, kept, size: 0, most, trailers, state: State::Open, sending: 0 };
        Rc::new(RefCell::new(recording))
    }

    /// Begins a sending from the start, if all that was read is still there.
    pub(super) fn send(recording: &Rc<RefCell<Self>>) -> Option<ToBackend> {
        let mut inner = recording.borrow_mut();
        if inner.state == State::Lost {
            return None;
        }
        inner.sending += 1;
        let replay = Replay { recording: recording.clone(), at: 0, sending: inner.sending, trailers_sent: false };
        Some(ToBackend::Replay(replay))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.body.poll_full(cx));
        match &frame {
            None if self.state == State::Open => self.state = State::Whole,
            None => {}
            Some(Err(_)) => self.state = State::Lost,
            Some(Ok(frame)) => match (frame.data_ref(), frame.trailers_ref()) {
                (Some(data), _) => self.keep(data.clone()),
                (_, Some(trailers)) => self.trailers = Some(trailers.clone()),
                _ => {}
            },
        }
        Poll::Ready(frame)
    }

    fn keep(&mut self, data: Bytes) {
        self.size += data.len();
        if self.size > self.most {
            self.state = State::Lost;
            self.kept = Vec::new();
        } else if self.state == State::Open {
            self.kept.push(data);
        }
    }
}

impl Replay {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.recording.borrow().sending != self.sending {
            return Poll::Ready(Some(Err(BodyError::Superseded)));
        }
        let frame = ready!(self.poll_next(cx));
        let recording = self.recording.borrow();
        recording.body.goes_on(frame.as_ref(), self.at == recording.kept.len());
        Poll::Ready(frame)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut recording = self.recording.borrow_mut();
        if let Some(data) = recording.kept.get(self.at) {
            self.at += 1;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        if recording.state == State::Whole {
            let trailers = recording.trailers.clone().filter(|_| !self.trailers_sent);
            self.trailers_sent = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let frame = recording.poll_next(cx);
        self.at = recording.kept.len();
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            self.trailers_sent |= frame.is_trailers();
        }
        frame
    }
}

/// A backend's body as it comes in.
pub(super) enum FromBackend {
    /// From a connection that hyper drives.
    Hyper(Incoming),
    /// The answer to a request that had none.
    Bodyless(Arrival),
}

impl FromBackend {
    /// The next frame that says anything.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self {
            Self::Hyper(body) => poll_full(body, cx).map_err(Cut::from),
            Self::Bodyless(arrival) => arrival.poll_frame(cx).map_err(Cut::from),
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        match self {
            Self::Hyper(body) => body.is_end_stream(),
            Self::Bodyless(arrival) => arrival.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Hyper(body) => body.size_hint(),
            Self::Bodyless(arrival) => arrival.size_hint(),
        }
    }

    /// The connection that it came on, if that is the thread's own and can serve again.
    pub(super) fn into_socket(self) -> Option<TcpStream> {
        match self {
            Self::Hyper(_) => None,
            Self::Bodyless(arrival) => arrival.into_socket(),
        }
    }
}

/// A response's body on its way to a client. When it is dropped the client's connection is idle again.
pub(super) struct ToClient {
    content: Content,
    phase: Arc<Phase>,
    idle: Duration,
    /// On HTTP/2: its place among the connection's requests.
    under: Option<Under>,
    /// Its request's line in the access log, written when the answer has gone.
    line: Option<Box<Line>>,
    /// How long it may take to come.
    pause: Option<Box<Pause>>,
    /// Bytes that have gone.
    sent: u64,
    /// The app that they are counted for, and the thread.
    tally: Option<(Arc<AppLive>, usize)>,
}

enum Content {
    /// The proxy's own, or what is left of it.
    Own(Option<Bytes>),
    /// A backend's, with the exchange that ends when the body does.
    Relay(FromBackend, Exchange),
    /// A backend's, compressed on its way.
    Squeezed(Box<Squeezed>),
}

impl ToClient {
    /// The proxy's own; it may be empty.
    pub(super) fn own(content: Bytes, phase: &Arc<Phase>, idle: Duration) -> Self {
        let content = Some(content).filter(|content| !content.is_empty());
        Self::new(Content::Own(content), phase, idle)
    }

    /// A backend's.
    pub(super) fn relay(body: FromBackend, exchange: Exchange, phase: &Arc<Phase>, idle: Duration) -> Self {
        if body.is_end_stream() {
            exchange.finish(body);
            return Self::own(Bytes::new(), phase, idle);
        }
        Self::new(Content::Relay(body, exchange), phase, idle)
    }

    fn new(content: Content, phase: &Arc<Phase>, idle: Duration) -> Self {
        let (under, line, pause, tally) = (None, None, None, None);
        Self { content, phase: phase.clone(), idle, under, line, pause, sent: 0, tally }
    }

    /// A backend's, which has something in it, is compressed from here on.
    pub(super) fn squeeze(&mut self, coder: Coder, place: Place) {
        self.content = match std::mem::replace(&mut self.content, Content::Own(None)) {
            Content::Relay(body, exchange) => Content::Squeezed(Box::new(Squeezed::new(coder, place, body, exchange))),
            own => own,
        };
    }

    /// Whose traffic its bytes are.
    pub(super) fn count_for(&mut self, app: Arc<AppLive>, thread: usize) {
        self.tally = Some((app, thread));
    }

    /// Whether it is the proxy's own, not a backend's.
    pub(super) fn is_own(&self) -> bool {
        matches!(self.content, Content::Own(_))
    }

    /// Takes the proxy's own text out.
    pub(super) fn take_own(&mut self) -> Bytes {
        match &mut self.content {
            Content::Own(content) => content.take().unwrap_or_default(),
            Content::Relay(..) | Content::Squeezed(_) => Bytes::new(),
        }
    }

    /// Keeps a request's place among those of its connection until the answer has gone.
    pub(super) fn hold(&mut self, under: Under) {
        self.under = Some(under);
    }

    /// Bounds the time that it may take to come.
    pub(super) fn bound(&mut self, pause: Option<Pause>) {
        self.pause = pause.map(Box::new);
    }

    /// Keeps its request's line in the access log until the answer has gone.
    pub(super) fn log(&mut self, line: Box<Line>) {
        self.line = Some(line);
    }

    fn count(&mut self, data: Option<&Bytes>) {
        self.sent += data.map_or(0, |data| data.len() as u64);
    }

    fn finish(&mut self) {
        if let Content::Relay(body, exchange) = std::mem::replace(&mut self.content, Content::Own(None)) {
            exchange.finish(body);
        }
    }
}

impl Body for ToClient {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        this.phase.sends(false, this.idle);
        let frame = match &mut this.content {
            Content::Own(content) => {
                let data = content.take();
                this.count(data.as_ref());
                return Poll::Ready(data.map(|data| Ok(Frame::data(data))));
            }
            Content::Relay(body, _) => body.poll_frame(cx),
            Content::Squeezed(squeezed) => squeezed.poll_frame(cx),
        };
        if let Some(pause) = &mut this.pause
            && (pause.is_late() || (frame.is_pending() && pause.is_over(cx)))
        {
            this.phase.cut();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let frame = ready!(frame);
        if let Some(pause) = &mut this.pause {
            pause.ends();
        }
        if frame.is_none() || this.is_end_stream() {
            this.finish();
        }
        this.count(frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()));
        // Until this is polled again it is the client that is waited for.
        this.phase.sends(true, this.idle);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Own(content) => content.is_none(),
            Content::Relay(body, _) => body.is_end_stream(),
            Content::Squeezed(squeezed) => squeezed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Own(content) => SizeHint::with_exact(content.as_ref().map_or(0, |data| data.len() as u64)),
            Content::Relay(body, _) => body.size_hint(),
            Content::Squeezed(_) => SizeHint::default(),
        }
    }
}

impl Drop for ToClient {
    fn drop(&mut self) {
        let received = self.phase.take_received();
        if let Some(line) = &mut self.line {
            (line.entry.bytes_in, line.entry.bytes_out) = (received, line.entry.bytes_out + self.sent);
        }
        if let Some((app, thread)) = &self.tally {
            app.count_bytes(*thread, received, self.sent);
        }
        self.phase.idle(self.idle);
    }
}
