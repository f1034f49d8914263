//! From a request to an answer: wait for a backend if need be, try it, and try another where that is safe.
//!
//! - No connection, or a request that was certainly not sent: always tried again, elsewhere if there is an elsewhere, until
//!   the app's queue deadline. So an app whose last backend has just died is waited for like one that has none.
//! - Sent, and no byte of an answer: only if the method is idempotent, the body is still at hand and the budget allows.
//! - Sent on HTTP/2, and the backend says that it did nothing with it (GOAWAY, REFUSED_STREAM): tried again, whatever it is,
//!   as long as its body is still at hand and the budget allows.
//! - Any byte of an answer: never.

use std::{
    cell::RefCell,
    pin::pin,
    rc::Rc,
    time::{Duration, Instant},
};

use hyper::{
    HeaderMap, Method, Request, Response, Uri,
    body::{Body, Incoming},
    client::conn::TrySendError,
};
use sc_core::spec::Bounds;
use tokio::net::TcpStream;

use super::{
    LocalApp, Worker,
    answer::Refusal,
    body::{FromBackend, Recording, ToBackend},
    bodyless::{self, Arrival, Failure},
    bounded::{Course, FromClient, Guard, Pause},
    client::Client,
    exchange::Exchange,
    fast::HEAD_MAX,
    log::Story,
    multiplex::Fate,
    upstream::{ConnectError, Sender, shake_hands},
};
use crate::{
    headers::{ensure_host, is_idempotent},
    live::{App, AppSlot, Ask, Choice, Hop, Ticket},
    sticky::Stay,
};

/// How often one request is sent at most.
const SENDINGS: u32 = 3;
/// How long an idle connection may have been idle to be used for a request that must not be sent twice: backends that close
/// idle connections do so later than this, so that request and close do not cross.
const FRESH: Duration = Duration::from_secs(1);
/// The first wait before backends that refused a connection are tried again; it doubles.
const PAUSE: Duration = Duration::from_millis(25);
/// The longest such wait, and the longest that the first in line waits without looking.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// One request's attempts.
pub(super) struct Attempts<'a> {
    worker: &'a Rc<Worker>,
    client: &'a Client,
    app: &'a Rc<LocalApp>,
    started: Instant,
    /// The time as last read: a request that waits for nothing reads the clock when it comes and when it is answered.
    now: Instant,
    ticket: Option<Ticket>,
    /// The backend that the client stays with if that may be.
    preferred: Option<Stay>,
    /// What the request's body may not exceed.
    bounds: Bounds,
    /// How its body fares.
    course: Rc<Course>,
    /// Serial numbers of the backends that could not be reached in this round.
    tried: Vec<u64>,
    pause: Duration,
    story: Story,
    sendings: u32,
    /// A used connection has failed this request: no other one is trusted.
    fresh: bool,
}

/// What became of a request with no body.
enum Bodyless {
    Answered(Response<Arrival>, Exchange),
    /// Not with the chosen backend, or not now.
    Other(Exchange, Timeouts),
}

/// What is needed to send a request again.
struct Spare {
    /// It may be sent again when its fate is unknown.
    is_idempotent: bool,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Option<Rc<RefCell<Recording>>>,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(worker: &'a Rc<Worker>, client: &'a Client, app: &'a Rc<LocalApp>, started: Instant) -> Self {
        let (ticket, tried, pause) = (None, Vec::new(), PAUSE);
        Self {
            worker,
            client,
            app,
            started,
            now: started,
            ticket,
            preferred: None,
            bounds: Bounds::default(),
            course: Rc::default(),
            tried,
            pause,
            story: Story::default(),
            sendings: 0,
            fresh: false,
        }
    }

    /// The same for a client that stays with a backend.
    pub(super) fn preferring(self, preferred: Option<Stay>) -> Self {
        Self { preferred, ..self }
    }

    /// The same for a request whose body is bounded.
    pub(super) fn within(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// Whom the client stays with from now on, if that is another than before.
    pub(super) fn moved_to(&self, exchange: &Exchange) -> Option<Stay> {
        let (replica, table) = (exchange.upstream.backend.tag, self.worker.table());
        let app = self.app.of(&table);
        let stay = Stay { replica, version: app.and_then(|app| app.mark_of(replica)) };
        let only_full = |app: &App| app.preferred(self.ask(false), self.worker.millis(self.now)).is_some();
        let keeps = self.preferred.is_some_and(|before| match before.replica == replica {
            // A cookie from a time when versions had no shares gets its version.
            true => stay.version.is_none() || before.version == stay.version,
            false => app.is_some_and(|app| only_full(app)),
        });
        (!keeps).then_some(stay)
    }

    /// Sends the request until there is an answer, or a reason why there is none.
    pub(super) async fn run(
        &mut self,
        request: Request<Incoming>,
    ) -> Result<(Response<FromBackend>, Exchange), Refusal> {
        let repeatable = is_idempotent(request.method());
        let mut place = None;
        if bodyless::fits(&request) {
            match self.run_bodyless(&request, repeatable).await? {
                Bodyless::Answered(response, exchange) => return Ok((response.map(FromBackend::Bodyless), exchange)),
                Bodyless::Other(exchange, limits) => place = Some((exchange, limits)),
            }
        }
        let (mut request, spare) = self.prepare(request);
        loop {
            let (mut exchange, limits) = match place.take() {
                Some(place) => place,
                None => self.acquire(repeatable).await?,
            };
            self.count_attempt();
            let (mut sender, reused) = match self.connection(&exchange, repeatable, &limits).await {
                Ok(connection) => connection,
                Err(error) => {
                    self.not_connected(&mut exchange, &error);
                    continue;
                }
            };
            self.count_sending();
            let sent = self.read_clock();
            self.course.sent.set(request.body().is_end_stream().then_some(sent));
            let answer = {
                ensure_host(request.headers_mut(), exchange.upstream.backend.addr);
                let answer = pin!(sender.try_send(request));
                self.client.phase.wait(limits.response, answer).await
            };
            match answer.map_err(|whom| exchange.late(whom))? {
                Ok(response) => {
                    if head_bytes(response.headers()) > HEAD_MAX {
                        return Err(Refusal::LongAnswer);
                    }
                    self.answered(&mut exchange, response.status().as_u16(), self.course.sent.get());
                    exchange.hold(sender);
                    return Ok((response.map(FromBackend::Hyper), exchange));
                }
                Err(error) => request = self.again(error, &mut exchange, spare.as_ref(), reused)?,
            }
        }
    }

    /// The same for a request with no body, as long as backends are spoken to in plain HTTP/1.1 and hyper has no idle connection.
    async fn run_bodyless(&mut self, request: &Request<Incoming>, repeatable: bool) -> Result<Bodyless, Refusal> {
        loop {
            let (mut exchange, limits) = self.acquire(repeatable).await?;
            let (upstream, protocol) = (&exchange.upstream, limits.hop.protocol);
            upstream.speak(&limits.hop);
            // What is idle goes before what would be new: a backend may serve no more than a few connections.
            let at_hyper = upstream.sockets.is_empty() && !upstream.senders.is_empty();
            if protocol.is_multiplexed() || protocol.is_secure() || at_hyper {
                return Ok(Bodyless::Other(exchange, limits));
            }
            self.count_attempt();
            let (socket, reused) = match self.socket(&exchange, repeatable, limits.connect).await {
                Ok(socket) => socket,
                Err(error) => {
                    self.not_connected(&mut exchange, &error);
                    continue;
                }
            };
            self.count_sending();
            let sent = self.read_clock();
            let answer = {
                let answer = pin!(bodyless::send(self.worker, request, socket));
                self.client.phase.wait(limits.response, answer).await
            };
            match answer.map_err(|whom| exchange.late(whom))? {
                Ok(response) => {
                    self.answered(&mut exchange, response.status().as_u16(), Some(sent));
                    return Ok(Bodyless::Answered(response, exchange));
                }
                Err(Failure::TooLong) => return Err(Refusal::LongAnswer),
                Err(failure) => {
                    let replica = &exchange.upstream.backend.replica;
                    tracing::debug!(%replica, ?failure, reused, "a request failed");
                    let again = repeatable && failure == Failure::Silent;
                    self.broke(&mut exchange, reused, failure == Failure::Unsent, again)?;
                }
            }
        }
    }

    /// A connection of the thread's own to the chosen backend, and whether it has served before.
    async fn socket(
        &self,
        exchange: &Exchange,
        repeatable: bool,
        timeout: Duration,
    ) -> Result<(TcpStream, bool), ConnectError> {
        let upstream = &exchange.upstream;
        let idle = self.longest_idle(repeatable).and_then(|longest| upstream.sockets.take(longest, self.now));
        match idle {
            Some(socket) => Ok((socket, true)),
            None => self.worker.dial(upstream, timeout).await.map(|socket| (socket, false)),
        }
    }

    fn prepare(&self, request: Request<Incoming>) -> (Request<ToBackend>, Option<Spare>) {
        let (parts, body) = request.into_parts();
        let empty = body.is_end_stream();
        let body = FromClient::new(body, self.guard(), &self.client.phase, &self.course);
        let is_idempotent = is_idempotent(&parts.method);
        if !is_idempotent && !self.is_multiplexed() {
            let body = if empty { ToBackend::Empty } else { ToBackend::Stream(body) };
            return (Request::from_parts(parts, body), None);
        }
        let body = (!empty).then(|| Recording::new(body, self.worker.limits.replay_bytes));
        let (method, uri, headers) = (parts.method.clone(), parts.uri.clone(), parts.headers.clone());
        let first = body.as_ref().and_then(Recording::send).unwrap_or(ToBackend::Empty);
        (Request::from_parts(parts, first), Some(Spare { is_idempotent, method, uri, headers, body }))
    }

    fn guard(&self) -> Option<Guard> {
        let pause = Pause::new(self.bounds.body_idle_ms.map(Duration::from_millis), None);
        let bounded = pause.is_some() || self.bounds.max_body.is_some();
        let left = self.bounds.max_body.unwrap_or(u64::MAX);
        bounded.then_some(Guard { left, pause })
    }

    fn is_multiplexed(&self) -> bool {
        self.app.of(&self.worker.table()).is_some_and(|app| app.hop.protocol.is_multiplexed())
    }

    /// The head of an answer has come; `sent`: when the last of the request had gone on, if it has.
    pub(super) fn answered(&mut self, exchange: &mut Exchange, status: u16, sent: Option<Instant>) {
        let now = self.read_clock();
        let after = sent.map(|sent| now.saturating_duration_since(sent));
        self.story.upstream = after;
        exchange.answered(status, after, now);
    }

    /// The time as last read.
    pub(super) fn now(&self) -> Instant {
        self.now
    }

    /// The time, after something was waited for.
    pub(super) fn read_clock(&mut self) -> Instant {
        self.now = Instant::now();
        self.now
    }

    /// How it went.
    pub(super) fn story(&mut self) -> Story {
        std::mem::take(&mut self.story)
    }

    pub(super) fn count_attempt(&mut self) {
        self.story.attempts += 1;
        if self.story.attempts > 1 {
            self.app.live.count(self.worker.thread, AppSlot::RETRIES);
        }
    }

    /// A connection to the chosen backend, and whether it has served before.
    async fn connection(
        &self,
        exchange: &Exchange,
        repeatable: bool,
        limits: &Timeouts,
    ) -> Result<(Sender, bool), ConnectError> {
        let (upstream, hop) = (&exchange.upstream, &limits.hop);
        upstream.speak(hop);
        if hop.protocol.is_multiplexed() {
            let (stream, reused) = self.worker.stream(upstream, hop, limits.connect).await?;
            return Ok((Sender::Among(stream, hop.protocol.is_secure()), reused));
        }
        if let Some(longest) = self.longest_idle(repeatable) {
            if let Some(sender) = upstream.senders.take(longest, self.now) {
                return Ok((Sender::Alone(sender), true));
            }
            // There are none of these but under plain HTTP/1.1.
            if let Some(socket) = upstream.sockets.take(longest, self.now) {
                return Ok((shake_hands(socket).await?, true));
            }
        }
        self.worker.connect(upstream, hop, limits.connect).await.map(|sender| (sender, false))
    }

    /// The sending failed: the request for the next one, or why there is none.
    fn again(
        &mut self,
        mut error: TrySendError<Request<ToBackend>>,
        exchange: &mut Exchange,
        spare: Option<&Spare>,
        reused: bool,
    ) -> Result<Request<ToBackend>, Refusal> {
        let backend = &exchange.upstream.backend;
        tracing::debug!(replica = %backend.replica, error = %error.error(), reused, "a request failed");
        let unsent = error.take_message();
        let bad_body = self.course.fault.get().unwrap_or(Refusal::BadBody);
        if error.error().is_user() {
            return Err(bad_body);
        }
        if error.error().is_parse_too_large() {
            return Err(Refusal::LongAnswer);
        }
        let fate = Fate::of(error.error()).filter(|_| unsent.is_none());
        if fate == Some(Fate::Ours) {
            return Err(bad_body);
        }
        let untouched = matches!(fate, Some(Fate::LeftOut | Fate::Refused));
        let again = |spare: &&Spare| spare.is_idempotent || untouched;
        let copy = spare.filter(|_| unsent.is_none() && !error.error().is_parse()).filter(again);
        let copy = copy.and_then(Spare::request);
        match fate {
            Some(Fate::LeftOut | Fate::Refused) => self.refused(exchange, copy.is_some())?,
            Some(Fate::Reset) => self.broke(exchange, false, false, copy.is_some())?,
            _ => self.broke(exchange, reused, unsent.is_some(), copy.is_some())?,
        }
        unsent.or(copy).ok_or(Refusal::Broken)
    }

    /// How long a connection may have been idle to be used again; none: only a new one will do.
    pub(super) fn longest_idle(&self, repeatable: bool) -> Option<Duration> {
        let longest = if repeatable { self.worker.limits.upstream_idle } else { FRESH };
        (!self.fresh).then_some(longest)
    }

    pub(super) fn not_connected(&mut self, exchange: &mut Exchange, error: &ConnectError) {
        exchange.connect_failed(error);
        self.tried.push(exchange.upstream.backend.serial);
    }

    pub(super) fn count_sending(&mut self) {
        self.sendings += 1;
    }

    /// A sending broke off with no byte of an answer. `unsent`: certainly nothing of the request arrived; `repeatable`: it is
    /// idempotent and still at hand. Whether it may be sent again.
    pub(super) fn broke(
        &mut self,
        exchange: &mut Exchange,
        reused: bool,
        unsent: bool,
        repeatable: bool,
    ) -> Result<(), Refusal> {
        if reused {
            self.fresh = true;
        } else {
            self.tried.push(exchange.upstream.backend.serial);
            exchange.failed();
        }
        if unsent {
            self.sendings -= 1;
            return Ok(());
        }
        let again = repeatable && self.sendings < SENDINGS && self.within_budget();
        if again { Ok(()) } else { Err(Refusal::Broken) }
    }

    /// The backend is well, and said that it did nothing with the request: it goes elsewhere, if it is still at hand.
    fn refused(&mut self, exchange: &Exchange, at_hand: bool) -> Result<(), Refusal> {
        self.tried.push(exchange.upstream.backend.serial);
        let again = at_hand && self.sendings < SENDINGS && self.within_budget();
        if again { Ok(()) } else { Err(Refusal::Broken) }
    }

    fn within_budget(&self) -> bool {
        let arrivals = self.app.live.shard(self.worker.thread).counts.read()[AppSlot::ARRIVALS];
        self.app.budget.borrow_mut().spend(arrivals, self.now)
    }

    /// Takes a place with a backend, waiting in line where there is none.
    pub(super) async fn acquire(&mut self, repeatable: bool) -> Result<(Exchange, Timeouts), Refusal> {
        // Between two sendings nothing is wanted of the client.
        self.client.phase.awaits_body(false);
        loop {
            let table = self.worker.table();
            let app = self.app.of(&table).ok_or(Refusal::NoRoute)?;
            if app.stopped {
                return Err(Refusal::Stopped);
            }
            let others_first = app.traffic.max_in_flight.is_some() && self.ticket.is_none() && app.live.has_waiting();
            let choice = if others_first { Choice::Full } else { self.choose(app, repeatable) };
            if let Choice::Member { at, trial } = choice {
                let upstream = self.worker.upstream(&app.members[at].backend);
                if self.worker.access.is_some() {
                    self.story.last = Some(upstream.clone());
                }
                let exchange = Exchange::begin(self.worker, self.app, upstream, trial, self.now);
                self.leave_line();
                return Ok((exchange, Timeouts::of(app)));
            }
            let deadline = self.started + Duration::from_millis(app.traffic.queue_timeout_ms);
            let looked = self.stand_in_line(app)?;
            drop(table);
            if looked {
                self.wait(choice, deadline).await?;
            }
        }
    }

    fn choose(&self, app: &App, repeatable: bool) -> Choice {
        app.choose(self.ask(repeatable), || self.worker.roll(), || self.worker.millis(self.now))
    }

    fn ask(&self, repeatable: bool) -> Ask<'_> {
        Ask { tried: &self.tried, repeatable, preferred: self.preferred }
    }

    /// Joins the line, or steps back to its front after a wake that gave nothing. Whether this request has looked for a
    /// backend since; if not it must look again before it waits.
    fn stand_in_line(&mut self, app: &App) -> Result<bool, Refusal> {
        if let Some(ticket) = &self.ticket {
            return if ticket.is_lost() { Err(Refusal::QueueFull) } else { Ok(!ticket.back_to_front()) };
        }
        let joined = Ticket::join(&app.live, app.traffic.queue_max, self.client.address);
        let ticket = joined.ok_or(Refusal::QueueFull)?;
        app.live.count(self.worker.thread, AppSlot::HELD);
        if app.members.is_empty() && ticket.was_alone() {
            self.worker.shared.urgent.notify_one();
        }
        let first = ticket.is_first();
        self.ticket = Some(ticket);
        Ok(!first)
    }

    async fn wait(&mut self, choice: Choice, deadline: Instant) -> Result<(), Refusal> {
        let now = self.read_clock();
        if now >= deadline {
            self.story.queue = self.started.elapsed();
            return Err(if choice == Choice::Tried { Refusal::Unreachable } else { Refusal::QueueTimeout });
        }
        let Some(ticket) = &self.ticket else { return Ok(()) };
        let until = match choice {
            Choice::Tried => now + self.pause,
            _ if ticket.is_first() => now + PAUSE_MAX,
            _ => deadline,
        };
        ticket.wait(until.min(deadline)).await;
        self.now = Instant::now();
        if choice == Choice::Tried {
            self.pause = (self.pause * 2).min(PAUSE_MAX);
            self.tried.clear();
        }
        Ok(())
    }

    /// A backend was found: the next in line may look.
    fn leave_line(&mut self) {
        if self.ticket.take().is_some() {
            self.story.queue = self.started.elapsed();
            let waited = self.story.queue.as_nanos() as u64;
            self.app.live.shard(self.worker.thread).queue.record(waited);
        }
    }
}

/// How large a head is in HTTP/1.1, its first line aside: hyper's bounds are no more than near.
fn head_bytes(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum()
}

impl Spare {
    fn request(&self) -> Option<Request<ToBackend>> {
        let body = match &self.body {
            None => ToBackend::Empty,
            Some(recording) => Recording::send(recording)?,
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        Some(request)
    }
}

/// An app's bounds of time for one attempt, and how its backends are spoken to.
pub(super) struct Timeouts {
    pub(super) connect: Duration,
    pub(super) response: Duration,
    hop: Hop,
}

impl Timeouts {
    fn of(app: &App) -> Self {
        let millis = Duration::from_millis;
        let traffic = &app.traffic;
        let (connect, response) = (millis(traffic.connect_timeout_ms), millis(traffic.response_timeout_ms));
        Self { connect, response, hop: app.hop.clone() }
    }
}
