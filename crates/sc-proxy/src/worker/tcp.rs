//! Connections of TCP routes: a backend is chosen, and bytes pass both ways until both sides have ended.
//!
//! A connection is counted as one request that is answered when a backend takes it (2xx; 5xx when none does), as one in flight
//! at the backend until it ends, and as an open stream.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use sc_core::spec::ProxyProtocol;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt, Interest},
    net::TcpStream,
};

use super::{
    LocalApp, Open, Worker,
    answer::Refusal,
    attempt::Attempts,
    client::{Client, Phase, until_over},
    exchange::Exchange,
    fast::{Buf, Buffers},
    stream::Stream,
};
use crate::{
    live::{AppSlot, class_of},
    proxy_protocol::{Ends, Header},
};

/// Serves one connection that came in at `port` until it ends. `server`: where the client says it connected to.
pub(super) async fn serve(
    worker: Rc<Worker>,
    open: Open,
    mut stream: TcpStream,
    peer: SocketAddr,
    server: Option<SocketAddr>,
    port: u16,
) {
    let (table, started) = (worker.table(), Instant::now());
    let Some(app) = table.routes.at_port(port).map(|at| table.apps[at].clone()) else { return };
    drop(table);
    let (local, tcp) = (worker.local(&app), app.traffic.tcp.clone());
    drop(app);
    let client = Client::new(&worker, peer, false);
    client.phase.busy();
    local.live.count(worker.thread, AppSlot::ARRIVALS);
    let served = connect(&worker, &client, &local, &stream, started).await;
    let status = served.as_ref().map_or_else(|refusal| refusal.map_or(499, Refusal::status), |_| 200);
    count(&worker, &local, status, started);
    let (exchange, mut backend) = match served {
        Ok(served) => served,
        Err(refusal) => {
            if refusal.is_some_and(Refusal::is_rejection) {
                local.live.count(worker.thread, AppSlot::REJECTED);
            }
            return tracing::debug!(%peer, port, "a TCP connection found no backend");
        }
    };
    let counted = Stream::new(local.live.clone(), worker.thread);
    client.phase.streams(Duration::from_millis(tcp.idle_timeout_ms));
    let server = server.or_else(|| stream.local_addr().ok());
    let (mut up, mut down) = (Flow::default(), Flow::default());
    let passed = {
        let passing = pin!(async {
            introduce(&mut backend, tcp.proxy_protocol, peer, server).await?;
            pass((&mut stream, &mut up), (&mut backend, &mut down), &worker.buffers, &client.phase).await
        });
        until_over(&worker, &client.phase, passing).await
    };
    match passed {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(%peer, port, %error, "a TCP connection ended early"),
        None => tracing::debug!(%peer, port, "a TCP connection was idle for too long"),
    }
    local.live.count_bytes(worker.thread, up.bytes, down.bytes);
    drop((counted, exchange, open));
}

/// A connection to a backend. Fails with nothing when the client has left.
async fn connect(
    worker: &Rc<Worker>,
    client: &Client,
    app: &Rc<LocalApp>,
    stream: &TcpStream,
    started: Instant,
) -> Result<(Exchange, TcpStream), Option<Refusal>> {
    let mut attempts = Attempts::new(worker, client, app, started);
    let trying = async {
        loop {
            let (mut exchange, limits) = attempts.acquire(true).await?;
            attempts.count_attempt();
            let began = Instant::now();
            match worker.dial(&exchange.upstream, limits.connect).await {
                Ok(backend) => {
                    exchange.connected(began.elapsed());
                    return Ok((exchange, backend));
                }
                Err(error) => attempts.not_connected(&mut exchange, &error),
            }
        }
    };
    tokio::select! {
        biased;
        served = trying => served.map_err(Some),
        _ = stream.ready(Interest::ERROR) => Err(None),
    }
}

/// Tells the backend who the client is, if it wants to know.
async fn introduce(
    backend: &mut TcpStream,
    version: Option<ProxyProtocol>,
    client: SocketAddr,
    server: Option<SocketAddr>,
) -> io::Result<()> {
    let Some(version) = version else { return Ok(()) };
    let header = server.map_or(Header::Unknown, |server| Header::Proxied(Ends { client, server }));
    backend.write_all(&header.write(version)).await
}

fn count(worker: &Worker, app: &LocalApp, status: u16, started: Instant) {
    let shard = app.live.shard(worker.thread);
    shard.counts.write(|w| w.add(AppSlot::ANSWERS + class_of(status), 1));
    shard.duration.record(started.elapsed().as_nanos() as u64);
}

/// Bytes both ways until both sides have ended; the end of the one is passed on while the other may still send.
async fn pass(
    (client, up): (&mut TcpStream, &mut Flow),
    (backend, down): (&mut TcpStream, &mut Flow),
    buffers: &Buffers,
    phase: &Phase,
) -> io::Result<()> {
    poll_fn(|cx| {
        let sent = up.poll(cx, client, backend, buffers, phase)?;
        let received = down.poll(cx, backend, client, buffers, phase)?;
        if sent.is_ready() && received.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// One direction. It owns a buffer only while there is something in it.
#[derive(Default)]
struct Flow {
    buf: Buf,
    /// The sender has ended.
    ended: bool,
    /// The receiver knows.
    told: bool,
    /// Bytes that were passed on.
    bytes: u64,
}

impl Flow {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut TcpStream,
        to: &mut TcpStream,
        buffers: &Buffers,
        phase: &Phase,
    ) -> Poll<io::Result<()>> {
        while !self.told {
            if !self.buf.is_empty() {
                match ready!(Pin::new(&mut *to).poll_write(cx, self.buf.filled()))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    n => {
                        self.buf.consume(n);
                        self.bytes += n as u64;
                    }
                }
                phase.progress();
            } else if self.ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.told = true;
            } else {
                self.ended = ready!(self.buf.poll_fill(buffers, true, cx, from))? == 0;
                phase.progress();
            }
        }
        Poll::Ready(Ok(()))
    }
}
