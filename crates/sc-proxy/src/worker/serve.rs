//! One request that hyper has read: whose it is, what goes on of its head, what comes back. Interim answers (1xx) do not: hyper's
//! server sends none but the 100 that it answers `Expect` with.

use std::{
    convert::Infallible,
    rc::Rc,
    sync::atomic::Ordering::*,
    time::{Duration, Instant},
};

use hyper::{
    HeaderMap, Request, Response, StatusCode, Version,
    body::{Body, Incoming},
    header::{CONNECTION, CONTENT_LENGTH, HeaderValue, SET_COOKIE, UPGRADE},
    upgrade::OnUpgrade,
};
use sc_core::spec::{Bounds, DrainSpec};
use tokio::time::timeout_at;

use super::{
    LocalApp, Worker,
    answer::{self, Refusal},
    attempt::Attempts,
    body::{FromBackend, ToClient},
    bounded::Pause,
    challenge,
    client::Client,
    grpc,
    h2::Under,
    log::{Logged, note_refusal, note_story},
    route::{Routed, route},
    squeezed::Place,
    stream::{self, Beneath, Terms},
    tunnel,
};
use crate::{
    compress::{Asked, Coder, Compressor},
    headers::{self, Peer},
    live::{AppSlot, class_of},
    rate::Origin,
};

/// Statuses of requests whose sender is not to be believed about where the next one begins.
const AMISS: [StatusCode; 4] = [
    StatusCode::BAD_REQUEST,
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::EXPECTATION_FAILED,
];

/// Answers one request of a client.
pub(super) async fn serve(
    worker: Rc<Worker>,
    client: Rc<Client>,
    mut request: Request<Incoming>,
) -> Result<Response<ToClient>, Infallible> {
    client.phase.busy();
    client.phase.take_received();
    let started = Instant::now();
    let is_grpc = grpc::is_grpc(&request);
    let mut line = worker.log_rich(&client, &request, started);
    if let Some(mut response) = challenge::answer(&worker, &client, &request) {
        if let Some(mut line) = line {
            line.entry.status = response.status().as_u16();
            response.body_mut().log(line);
        }
        return Ok(response);
    }
    let tunnels = tunnel::unfold(&mut request, || worker.roll());
    let routed = tunnels.and_then(|tunnels| Ok(Routed { tunnels, ..route(&worker, &mut request)? }));
    let mut response = match routed {
        Ok(mut routed) => {
            if is_grpc {
                let asked = grpc::timeout_ms(request.headers());
                routed.bounds.total_ms = [asked, routed.bounds.total_ms].into_iter().flatten().min();
            }
            let app = routed.app.clone();
            if let Some(line) = &mut line {
                line.entry.app = app.live.id.to_string();
            }
            let answer = answer(&worker, &client, request, routed, started, &mut line).await;
            let mut response = answer.unwrap_or_else(|refusal| {
                note_refusal(&mut line, refusal);
                reject(&worker, &client, &app, refusal)
            });
            count(&worker, &app, &response, started);
            response.body_mut().count_for(app.live.clone(), worker.thread);
            response
        }
        Err(refusal) => {
            let unrouted = &worker.shared.unrouted[worker.thread].0;
            unrouted.store(unrouted.load(Relaxed) + 1, Relaxed);
            note_refusal(&mut line, refusal);
            refusal.response(&client, worker.limits.idle_timeout)
        }
    };
    let amiss = AMISS.contains(&response.status());
    if amiss && response.headers().contains_key(headers::REASON) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if worker.stopping.get() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if is_grpc {
        grpc::translate(&mut response);
    }
    if let Some(mut line) = line {
        line.entry.status = response.status().as_u16();
        response.body_mut().log(line);
    }
    Ok(response)
}

/// What an app's request is answered with: a refusal, a redirect, or what a backend says.
async fn answer(
    worker: &Rc<Worker>,
    client: &Client,
    request: Request<Incoming>,
    mut routed: Routed,
    started: Instant,
    line: &mut Logged,
) -> Result<Response<ToClient>, Refusal> {
    limit(worker, client, &request, &routed)?;
    if routed.bounds.max_body.is_some_and(|most| length(&request).is_some_and(|bytes| bytes > most)) {
        return Err(Refusal::BodyTooLarge);
    }
    let elsewhere = routed.elsewhere.take().or_else(|| redirect(client, &request, &routed));
    match elsewhere {
        Some((status, to)) => Ok(answer::redirect(status, to, client, worker.limits.idle_timeout)),
        None => relay(worker, client, request, routed, started, line).await,
    }
}

/// Counts a request with its client's others.
fn limit(worker: &Worker, client: &Client, request: &Request<Incoming>, routed: &Routed) -> Result<(), Refusal> {
    let Some(limiter) = &routed.limiter else { return Ok(()) };
    let origin = Origin { address: client.address, trusted: client.trusted, trust: &worker.trust };
    limiter.pass(request.headers(), origin, worker.shared.nanos(Instant::now())).map_err(|wait| {
        routed.app.live.count(worker.thread, AppSlot::LIMITED);
        Refusal::too_many(wait)
    })
}

/// How long a request says that its body is.
fn length(request: &Request<Incoming>) -> Option<u64> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Where a request is sent that has to come under TLS.
fn redirect(client: &Client, request: &Request<Incoming>, routed: &Routed) -> Option<(StatusCode, HeaderValue)> {
    let rules = routed.rules.as_ref()?;
    rules.redirect(request.method(), request.uri(), routed.host.as_ref(), request.headers(), peer(client))
}

fn peer(client: &Client) -> Peer<'_> {
    Peer { text: &client.text, trusted: client.trusted, secure: client.secure }
}

async fn relay(
    worker: &Rc<Worker>,
    client: &Client,
    mut request: Request<Incoming>,
    routed: Routed,
    started: Instant,
    line: &mut Logged,
) -> Result<Response<ToClient>, Refusal> {
    let Routed { app, host, target, prefix, rules, sticky, compress, bounds, tunnels, .. } = routed;
    if tunnels && app.of(&worker.table()).is_some_and(|app| app.hop.protocol.is_multiplexed()) {
        return Err(Refusal::NoTunnel);
    }
    app.live.count(worker.thread, AppSlot::ARRIVALS);
    let peer = peer(client);
    // Before rules may take the cookie off.
    let preferred = sticky.as_ref().and_then(|sticky| sticky.named(request.headers()));
    let wanted = compress.as_ref().map(|compress| compress.asked(&request));
    let given = rules.as_ref().and_then(|rules| rules.given_id(request.headers(), peer));
    let chunked = !request.body().is_end_stream() && !request.headers().contains_key(CONTENT_LENGTH);
    let upgrade = headers::forward_request(request.headers_mut(), host.clone(), peer, chunked);
    if let Some(prefix) = prefix {
        request.headers_mut().append(headers::PREFIX, prefix);
    }
    let id = rules
        .as_ref()
        .and_then(|rules| rules.on_request(request.headers_mut(), host.as_ref(), peer, given, || worker.roll()));
    let upgrade = upgrade.map(|asked| (asked, hyper::upgrade::on(&mut request)));
    if let Some(target) = target {
        *request.uri_mut() = target;
    }
    *request.version_mut() = Version::HTTP_11;
    let body_limit = bounds.body_idle_ms.map_or(worker.limits.body_timeout, Duration::from_millis);
    client.phase.body_within(body_limit);
    let secure = sticky.is_some() && headers::came_secure(request.headers());
    let mut attempts = Attempts::new(worker, client, &app, started).preferring(preferred).within(bounds);
    let end = bounds.total_ms.map(|ms| (started + Duration::from_millis(ms)).into());
    let answer = match end {
        None => attempts.run(request).await,
        Some(end) => timeout_at(end, attempts.run(request)).await.unwrap_or(Err(Refusal::Overtime)),
    };
    let story = attempts.story();
    let (queue, upstream) = (story.queue, story.upstream);
    note_story(line, story);
    let (response, exchange) = answer?;
    // A stream of gRPC may be silent for as long as a WebSocket may; others have come to a standstill when nothing passes either way.
    if client.streams.is_some() && grpc::has_grpc_type(response.headers()) {
        client.phase.body_within(bounds.stream_idle_ms.map_or(Duration::MAX, Duration::from_millis));
    }
    let cookie = sticky.and_then(|sticky| sticky.cookie(attempts.moved_to(&exchange)?, secure));
    let upgrade = upgrade.map(|(asked, upgrade)| (asked, upgrade, line));
    let mut response = respond(worker, client, (&app, bounds, tunnels), response, exchange, upgrade)?;
    if let (Some(compress), Some(wanted)) = (compress, wanted) {
        squeeze(worker, &compress, &wanted, &mut response);
    }
    response.body_mut().bound(Pause::new(bounds.body_idle_ms.map(Duration::from_millis), end));
    if let Some(rules) = rules {
        rules.on_response(response.headers_mut(), id, queue, upstream);
    }
    if let Some(cookie) = cookie {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Compresses an answer where that is asked for and there is a coder for it.
fn squeeze(worker: &Rc<Worker>, compress: &Compressor, wanted: &Asked, response: &mut Response<ToClient>) {
    let place = (!response.body().is_end_stream()).then(|| Place::take(worker)).flatten();
    let (status, has_room) = (response.status(), place.is_some());
    let mut headers = response.headers().clone();
    let plan = compress.plan(wanted, status, &mut headers, has_room);
    // Without a coder nothing of the head may say that there is one.
    match (place, plan.map(Coder::new)) {
        (Some(place), Some(Ok(coder))) => response.body_mut().squeeze(coder, place),
        (_, Some(Err(error))) => return tracing::warn!(%error, "an answer is not compressed"),
        _ => {}
    }
    *response.headers_mut() = headers;
}

fn respond(
    worker: &Rc<Worker>,
    client: &Client,
    (app, bounds, tunnels): (&LocalApp, Bounds, bool),
    mut response: Response<FromBackend>,
    exchange: super::exchange::Exchange,
    upgrade: Option<(HeaderValue, OnUpgrade, &mut Logged)>,
) -> Result<Response<ToClient>, Refusal> {
    let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    // Nothing but what was asked for.
    let upgrade = upgrade.filter(|(asked, ..)| headers::agrees(asked, response.headers()));
    headers::forward_response(response.headers_mut(), switching);
    *response.version_mut() = Version::HTTP_11;
    let idle = worker.limits.idle_timeout;
    if !switching {
        // To a client's CONNECT any 2xx would say that the tunnel stands.
        if tunnels && response.status().is_success() {
            return Err(Refusal::Broken);
        }
        return Ok(response.map(|body| ToClient::relay(body, exchange, &client.phase, idle)));
    }
    let Some((_, upgrade, line)) = upgrade else { return Err(Refusal::Broken) };
    client.phase.upgraded();
    let both = (upgrade, hyper::upgrade::on(&mut response));
    let drain =
        || app.of(&worker.table()).map_or(Duration::from_millis(DrainSpec::default().timeout_ms), |app| app.drain);
    let drain = is_websocket(response.headers()).then(drain);
    let terms = Terms { silence: bounds.stream_idle_ms.map(Duration::from_millis), drain };
    let beneath = match &client.streams {
        None => Beneath::Connection(client.address),
        Some(streams) => Beneath::Among(Under::begin(streams.clone())),
    };
    stream::start(worker, both, (beneath, terms), (exchange, line.take()));
    if tunnels {
        *response.status_mut() = StatusCode::OK;
        tunnel::fold(response.headers_mut());
    }
    Ok(response.map(|_| ToClient::own(Default::default(), &client.phase, idle)))
}

fn is_websocket(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn reject(worker: &Worker, client: &Client, app: &LocalApp, refusal: Refusal) -> Response<ToClient> {
    if refusal.is_rejection() {
        app.live.count(worker.thread, AppSlot::REJECTED);
    }
    refusal.response(client, worker.limits.idle_timeout)
}

fn count(worker: &Worker, app: &LocalApp, response: &Response<ToClient>, started: Instant) {
    let shard = app.live.shard(worker.thread);
    shard.counts.write(|w| w.add(AppSlot::ANSWERS + class_of(response.status().as_u16()), 1));
    shard.duration.record(started.elapsed().as_nanos() as u64);
}
