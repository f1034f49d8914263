//! An app that speaks HTTP/2, with one behaviour per path; and one that speaks it by hand.

use std::{
    future::poll_fn,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::*},
    },
};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use hyper::{HeaderMap, Request, Response};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use super::{Pair, pattern};

#[derive(Default)]
pub struct Seen2 {
    pub requests: AtomicU64,
    pub connections: AtomicU64,
    pub closed: AtomicU64,
    pub running: AtomicU64,
    /// The most that ever ran at once on one connection.
    pub peak: AtomicU64,
    /// Streams that were taken back.
    pub cancelled: AtomicU64,
    /// Refuse all streams.
    pub refuse: AtomicBool,
    /// Reset all streams for a fault of its own.
    pub fail: AtomicBool,
}

/// A running backend. Dropping it ends it like a crash.
pub struct Backend2 {
    pub addr: SocketAddr,
    pub seen: Arc<Seen2>,
    task: JoinHandle<()>,
}

impl Backend2 {
    pub async fn start(name: &'static str) -> Self {
        Self::start_with(name, 100, None).await
    }

    /// `streams`: how many it allows on a connection; `tls`: its certificate.
    pub async fn start_with(name: &'static str, streams: u32, tls: Option<&Pair>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, seen) = (listener.local_addr().unwrap(), Arc::<Seen2>::default());
        let acceptor = tls.map(|pair| {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
            let mut config = builder.with_no_client_auth().with_single_cert(vec![pair.der()], pair.key()).unwrap();
            config.alpn_protocols = vec![b"h2".to_vec()];
            TlsAcceptor::from(Arc::new(config))
        });
        let shared = seen.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (seen, acceptor) = (shared.clone(), acceptor.clone());
                connections.spawn(async move {
                    match acceptor {
                        None => run(name, stream, streams, seen).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                run(name, stream, streams, seen).await;
                            }
                        }
                    }
                });
            }
        });
        Self { addr, seen, task }
    }

    pub fn count(&self, of: impl Fn(&Seen2) -> &AtomicU64) -> u64 {
        of(&self.seen).load(SeqCst)
    }
}

impl Drop for Backend2 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(name: &'static str, stream: impl AsyncRead + AsyncWrite + Unpin, streams: u32, seen: Arc<Seen2>) {
    seen.connections.fetch_add(1, SeqCst);
    let mut builder = h2::server::Builder::new();
    // h2 gives up on a connection whose small window makes for many small frames.
    builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 24);
    if let Ok(mut connection) = builder.max_concurrent_streams(streams).handshake::<_, Bytes>(stream).await {
        let (mut tasks, here) = (tokio::task::JoinSet::new(), Arc::new(AtomicU64::new(0)));
        while let Some(Ok((request, respond))) = connection.accept().await {
            let (seen, here) = (seen.clone(), here.clone());
            tasks.spawn(async move {
                seen.requests.fetch_add(1, SeqCst);
                seen.running.fetch_add(1, SeqCst);
                seen.peak.fetch_max(here.fetch_add(1, SeqCst) + 1, SeqCst);
                let _ = answer(name, request, respond, &seen).await;
                here.fetch_sub(1, SeqCst);
                seen.running.fetch_sub(1, SeqCst);
            });
        }
    }
    seen.closed.fetch_add(1, SeqCst);
}

async fn answer(
    name: &'static str,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    seen: &Seen2,
) -> Result<(), h2::Error> {
    if seen.refuse.load(SeqCst) {
        respond.send_reset(Reason::REFUSED_STREAM);
        return Ok(());
    }
    if seen.fail.load(SeqCst) {
        respond.send_reset(Reason::INTERNAL_ERROR);
        return Ok(());
    }
    let ok = || Response::builder().header("x-backend", name);
    let (parts, mut body) = request.into_parts();
    match parts.uri.path() {
        // Sends back what comes, as it comes, and then a status.
        "/echo" => {
            let head = ok().header("content-type", "application/grpc").body(()).unwrap();
            let mut out = respond.send_response(head, false)?;
            while let Some(data) = body.data().await {
                let data = data?;
                body.flow_control().release_capacity(data.len())?;
                if !data.is_empty() {
                    out.send_data(data, false)?;
                }
            }
            let mut trailers = body.trailers().await?.unwrap_or_default();
            trailers.insert("grpc-status", "0".parse().unwrap());
            out.send_trailers(trailers)
        }
        "/trailers-only" => {
            let head = ok().header("content-type", "application/grpc").header("grpc-status", "5").body(()).unwrap();
            respond.send_response(head, true).map(drop)
        }
        "/hang" => {
            let reason = poll_fn(|cx| respond.poll_reset(cx)).await?;
            assert_eq!(reason, Reason::CANCEL);
            seen.cancelled.fetch_add(1, SeqCst);
            Ok(())
        }
        // Begins an answer, then never sends more of it.
        "/half" => {
            let mut out = respond.send_response(ok().body(()).unwrap(), false)?;
            out.send_data("half".into(), false)?;
            poll_fn(|cx| out.poll_reset(cx)).await?;
            seen.cancelled.fetch_add(1, SeqCst);
            Ok(())
        }
        "/large" => {
            let size = parts.uri.query().unwrap().parse().unwrap();
            respond.send_response(ok().body(()).unwrap(), false)?.send_data(pattern(size).into(), true)
        }
        // A head of so many bytes.
        "/wide" => {
            let size = parts.uri.query().unwrap().parse().unwrap();
            let head = ok().header("x-wide", "x".repeat(size)).body(()).unwrap();
            respond.send_response(head, false)?.send_data("wide".into(), true)
        }
        "/head" => {
            let text = text(&parts.method, &parts.uri, &parts.headers);
            respond.send_response(ok().body(()).unwrap(), false)?.send_data(text.into(), true)
        }
        _ => {
            while let Some(data) = body.data().await {
                body.flow_control().release_capacity(data?.len())?;
            }
            tokio::task::yield_now().await;
            respond.send_response(ok().body(()).unwrap(), false)?.send_data(name.into(), true)
        }
    }
}

fn text(method: &hyper::Method, uri: &hyper::Uri, headers: &HeaderMap) -> String {
    let mut lines = vec![format!("{method} {uri}")];
    lines.extend(headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())));
    lines.join("\n") + "\n"
}

/// The frames that a backend of one's own making has to do with (RFC 9113 section 6).
pub mod frame {
    pub const HEADERS: u8 = 1;
    pub const SETTINGS: u8 = 4;
    pub const GOAWAY: u8 = 7;

    pub fn bytes(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes()[..], payload].concat()
    }
}

/// Takes a connection, shakes hands, and gives it with what follows after the first HEADERS frame unread.
pub async fn first_request(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    stream.write_all(&frame::bytes(frame::SETTINGS, 0, 0, &[])).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] == frame::HEADERS {
            return stream;
        }
    }
}
