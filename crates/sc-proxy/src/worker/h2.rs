//! HTTP/2 with clients: many requests at once on one connection, each with a [`Phase`] of its own; the connection's is idle
//! when there is none.
//!
//! What floods could hold is bounded: streams at once, the size of a head (HPACK and CONTINUATION included), streams reset by
//! the client before we took them (rapid reset) and by us for its errors (MadeYouReset), buffers and windows. A client that
//! takes nothing of an answer for as long as a connection may be idle loses that stream, and its backend is free again.
//!
//! What h2 answers by itself, PING and SETTINGS, and other frames that carry nothing: h2 keeps at most one answer of each, and
//! gives none while the client reads none; how many may come in all is bounded by what the rest is worth
//! ([`crate::http2`]). Heads are judged by [`super::judge`], and interim answers (103) of backends are not passed on: hyper's server has no way to send them, though its client can tell of
//! them (`hyper::ext::on_informational`).

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    Request,
    body::Incoming,
    header::{COOKIE, HeaderMap, HeaderValue},
    rt::Executor,
    server::conn::http2,
    service::service_fn,
};

use super::{
    Open, Worker,
    client::{Client, Phase, Registered, Transport, until_over},
    serve,
    watched::Io,
};

/// Streams that a client may have reset and we have not yet looked at.
const RESETS: usize = 32;
/// Streams that a client may make us reset by its errors, or by beginning more than it may before it was told how many that are
/// (RFC 9113 section 6.5.2: until then there is no limit).
const FAULTS: usize = 256;
/// Bytes a client may send ahead, per stream and per connection.
const WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes that we keep for a stream whose client does not read.
const SEND_BUFFER: usize = 64 * 1024;
/// How long a connection that was told to go may take when nothing is under way.
const LEAVE: Duration = Duration::from_secs(5);

/// Spawns on this thread.
#[derive(Clone, Copy)]
pub(super) struct Here;

impl<F: Future<Output = ()> + 'static> Executor<F> for Here {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

tokio::task_local! {
    /// The phase of the stream whose task runs.
    static STREAM: Rc<RefCell<Option<Arc<Phase>>>>;
}

/// Spawns the tasks of a client's streams, and ends one when its time is over: its stream is reset.
#[derive(Clone)]
struct PerStream(Rc<Worker>);

impl<F: Future<Output = ()> + 'static> Executor<F> for PerStream {
    fn execute(&self, future: F) {
        let (worker, stream) = (self.0.clone(), Rc::<RefCell<Option<Arc<Phase>>>>::default());
        tokio::task::spawn_local(async move {
            let mut future = pin!(STREAM.scope(stream.clone(), future));
            let mut registered = None;
            let ended = poll_fn(|cx| {
                if stream.borrow().as_ref().is_some_and(|phase| phase.is_over()) {
                    return Poll::Ready(());
                }
                let ended = future.as_mut().poll(cx);
                if let (None, Some(phase)) = (&registered, &*stream.borrow()) {
                    registered = Some(Registered::new(&worker, phase, cx));
                }
                ended
            });
            ended.await;
        });
    }
}

/// Serves one connection until it ends. `read`: what was read from it already.
pub(super) async fn serve<T: Transport>(worker: Rc<Worker>, open: Open, stream: T, read: Bytes, peer: SocketAddr) {
    let client = Rc::new(Client::new(&worker, peer, T::SECURE));
    let phase = client.phase.clone();
    let streams = Rc::new(Streams { open: Cell::new(0), phase: phase.clone(), idle: worker.limits.idle_timeout });
    let io = Io::of_frames(stream, read, phase.clone(), worker.limits.head_timeout);
    let service = {
        let worker = worker.clone();
        service_fn(move |request| answer(worker.clone(), client.clone(), streams.clone(), request))
    };
    let connection = builder(&worker).serve_connection(io, service);
    drive(&worker, &phase, connection, peer).await;
    drop(open);
}

fn builder(worker: &Rc<Worker>) -> http2::Builder<PerStream> {
    let limits = &worker.limits;
    let mut builder = http2::Builder::new(PerStream(worker.clone()));
    builder
        .enable_connect_protocol() // RFC 8441
        .max_concurrent_streams(limits.h2_streams)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(FAULTS)
        .max_header_list_size(limits.head_bytes.try_into().unwrap_or(u32::MAX))
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    builder
}

/// Drives a connection to its end. When it has been idle for too long, or the proxy stops, the client is told to go (GOAWAY):
/// what runs is finished, nothing new is taken.
async fn drive<S>(
    worker: &Rc<Worker>,
    phase: &Arc<Phase>,
    connection: http2::Connection<impl hyper::rt::Read + hyper::rt::Write + Unpin, S, PerStream>,
    peer: SocketAddr,
) where
    S: hyper::service::HttpService<Incoming, ResBody = super::body::ToClient>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: 'static,
{
    let mut connection = pin!(connection);
    let mut leaving = pin!(worker.leaving.notified());
    let mut told = false;
    loop {
        let ended = poll_fn(|cx| {
            let stopping = leaving.as_mut().poll(cx).is_ready() || worker.stopping.get();
            if !told && stopping {
                return Poll::Ready(None);
            }
            connection.as_mut().poll(cx).map(Some)
        });
        match until_over(worker, phase, ended).await {
            Some(Some(Ok(()))) => return,
            Some(Some(Err(error))) => return tracing::debug!(%peer, %error, "a client's connection ended early"),
            None if told => return,
            Some(None) | None => {
                told = true;
                connection.as_mut().graceful_shutdown();
                if phase.is_over() || phase.is_idle() {
                    phase.ends(LEAVE);
                }
            }
        }
    }
}

/// The requests under way on a connection.
pub(super) struct Streams {
    open: Cell<usize>,
    phase: Arc<Phase>,
    idle: Duration,
}

/// One of them, until its answer has gone or will never go.
pub(super) struct Under(Rc<Streams>);

impl Under {
    pub(super) fn begin(streams: Rc<Streams>) -> Self {
        streams.open.set(streams.open.get() + 1);
        streams.phase.busy();
        Self(streams)
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        if self.0.open.get() == 0 {
            self.0.phase.idle(self.0.idle);
        }
    }
}

async fn answer(
    worker: Rc<Worker>,
    connection: Rc<Client>,
    streams: Rc<Streams>,
    mut request: Request<Incoming>,
) -> Result<hyper::Response<super::body::ToClient>, Infallible> {
    let client = Rc::new(connection.another(&streams));
    let under = Under::begin(streams);
    join_cookies(request.headers_mut());
    let phase = client.phase.clone();
    phase.busy();
    let _ = STREAM.try_with(|stream| stream.replace(Some(phase)));
    let Ok(mut response) = serve::serve(worker, client, request).await;
    response.body_mut().hold(under);
    Ok(response)
}

/// A client may send its cookies in several fields; HTTP/1.1 wants one (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_become_one_field() {
        let mut headers = HeaderMap::new();
        for cookie in ["a=1", "b=2"] {
            headers.append(COOKIE, HeaderValue::from_static(cookie));
        }
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }
}
