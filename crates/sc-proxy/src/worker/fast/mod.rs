//! The proxy's own HTTP/1.1, for all that is plain. What is not is handed to hyper with the bytes that were read.
//!
//! ```text
//!  read ─▶ ask: head judged, routed, written as it goes on ─┬─▶ relay: attempts, upload ⇄ download ─▶ read
//!                                                           └─▶ hyper, for the rest of the connection
//! ```
//!
//! One task per connection does everything; where two things can happen at once (a body each way, a client that leaves) they
//! are polled one after the other. A connection that is idle has no buffer, and can move to another process.

mod ask;
mod buffer;
mod download;
mod refuse;
mod relay;
mod upload;

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    sync::atomic::Ordering::Relaxed,
    task::ready,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::io::AsyncWriteExt;

pub(super) use self::buffer::{Buf, Buffers, HEAD_MAX};
use self::{
    ask::Next,
    relay::{After, Relay},
};
use super::{
    Open, Worker,
    answer::Refusal,
    client::{self, Client, Transport, until_over},
};
use crate::upgrade::moves::Moved;

/// How long a client that is still sending may take from one piece to the next, and in all, to see that we have closed (nginx's
/// `lingering_timeout` and `lingering_time`).
const LINGER: Duration = Duration::from_secs(5);
const LINGER_MAX: Duration = Duration::from_secs(30);

/// Serves one connection until it ends.
pub(super) async fn serve<T: Transport>(worker: Rc<Worker>, open: Open, mut stream: T, peer: SocketAddr) {
    let client = Client::new(&worker, peer, T::SECURE);
    let mut input = Buf::default();
    let end = {
        let connection = pin!(connection(&worker, &client, &mut stream, &mut input));
        until_over(&worker, &client.phase, connection).await
    };
    match end {
        Some(End::Odd { first }) => {
            let read = Bytes::copy_from_slice(input.filled());
            drop(input);
            Box::pin(client::serve(worker, open, stream, (read, first), peer)).await;
        }
        Some(End::Moves) => move_on(&worker, stream, peer),
        // Its time was over because of a stop.
        None if input.is_empty() && client.phase.is_idle() && worker.moves::<T>() => move_on(&worker, stream, peer),
        Some(End::Over) | None => {}
    }
}

/// Sends a connection to the process that takes over.
fn move_on<T: Transport>(worker: &Worker, stream: T, peer: SocketAddr) {
    if let Some(stream) = stream.into_socket() {
        worker.shared.moves.send(Moved { stream, peer });
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is over.
    Over,
    /// What comes next is hyper's; whether nothing came before it, TLS neither.
    Odd { first: bool },
    /// What comes next is the next process's.
    Moves,
}

async fn connection<T: Transport>(worker: &Rc<Worker>, client: &Client, stream: &mut T, input: &mut Buf) -> End {
    let mut first = !T::SECURE;
    loop {
        let after = match next(worker, client, stream, input).await {
            None => return End::Over,
            Some(Next::HandOver) => return End::Odd { first },
            Some(Next::Serve(ask)) => {
                client.phase.busy();
                Relay { worker, client, stream, input }.run(ask).await
            }
            Some(Next::TurnAway(ask, refusal)) => {
                client.phase.busy();
                Relay { worker, client, stream, input }.turn_away(ask, refusal).await
            }
            Some(Next::Refuse | Next::Read) => refuse(worker, client, stream, input).await,
        };
        first = false;
        match after {
            After::Keep if input.is_empty() && worker.moves::<T>() => return End::Moves,
            After::Keep => client.phase.idle(worker.limits.idle_timeout),
            After::Close => {
                poll_fn(|cx| stream.poll_farewell(cx)).await;
                return End::Over;
            }
            After::Linger => {
                linger(worker, client, stream).await;
                return End::Over;
            }
            After::Drop => return End::Over,
        }
    }
}

/// Reads until there is a request, or something that is none. Nothing when the connection has ended.
async fn next<T: Transport>(worker: &Worker, client: &Client, stream: &mut T, input: &mut Buf) -> Option<Next> {
    loop {
        if !input.is_empty() {
            match ask::read(worker, client, input) {
                Next::Read => {}
                next => return Some(next),
            }
        }
        let filled = poll_fn(|cx| {
            if input.is_empty() {
                ready!(stream.poll_readable(cx));
            }
            input.poll_fill(&worker.buffers, false, cx, stream)
        });
        match filled.await {
            Ok(1..) => client.phase.begins(worker.limits.head_timeout),
            _ => return None,
        }
    }
}

async fn refuse<T: Transport>(worker: &Rc<Worker>, client: &Client, stream: &mut T, input: &mut Buf) -> After {
    let unrouted = &worker.shared.unrouted[worker.thread].0;
    unrouted.store(unrouted.load(Relaxed) + 1, Relaxed);
    let text = refuse::text(Refusal::BadHead, &worker.date.borrow(), false, true);
    drop(worker.log_malformed(client));
    let written = Relay { worker, client, stream, input }.write(&text).await;
    if written { After::Linger } else { After::Drop }
}

/// Closes, but reads on for a while: bytes that nobody reads would reset the connection, and the answer with it.
async fn linger<T: Transport>(worker: &Worker, client: &Client, stream: &mut T) {
    let began = Instant::now();
    client.phase.ends(LINGER);
    let _ = stream.shutdown().await;
    let mut rest = Buf::default();
    while let Ok(n @ 1..) = poll_fn(|cx| rest.poll_fill(&worker.buffers, false, cx, stream)).await {
        rest.consume(n);
        let left = LINGER_MAX.saturating_sub(began.elapsed());
        client.phase.ends(LINGER.min(left));
    }
}
