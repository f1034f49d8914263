//! Connections that one thread has accepted and another is to serve: see [`crate::balance::share`]. Nothing was read of them yet.

use std::{
    net::{SocketAddr, TcpStream},
    pin::pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use tokio::{
    net,
    sync::{mpsc, watch},
};

use super::{Door, Worker, accept};
use crate::balance::share;

/// Connections on their way to a thread at most; beyond that whoever accepts one serves it.
const ON_THE_WAY: usize = 1024;

/// A connection that was accepted.
struct Accepted {
    socket: TcpStream,
    peer: SocketAddr,
    door: Door,
}

/// What connections for a thread come out of.
pub struct Inbox(mpsc::Receiver<Accepted>);

/// What connections for each thread are put into.
#[derive(Clone)]
pub struct Outboxes(Arc<[mpsc::Sender<Accepted>]>);

/// For so many threads.
pub fn boxes(threads: usize) -> (Vec<Inbox>, Outboxes) {
    let (senders, inboxes): (Vec<_>, _) =
        (0..threads).map(|_| mpsc::channel(ON_THE_WAY)).map(|(sender, receiver)| (sender, Inbox(receiver))).unzip();
    (inboxes, Outboxes(senders.into()))
}

impl Worker {
    /// Hands a connection over if another thread is to serve it. Gives back what this thread is to serve.
    pub(super) fn hand_over(
        &self,
        stream: net::TcpStream,
        peer: SocketAddr,
        door: Door,
    ) -> std::io::Result<Option<net::TcpStream>> {
        let thread = self.place();
        if thread == self.thread || self.stopping.get() {
            return Ok(Some(stream));
        }
        let accepted = Accepted { socket: stream.into_std()?, peer, door };
        match self.outboxes.0[thread].try_send(accepted) {
            Ok(()) => Ok(None),
            // It stops, or has more on the way than it can take.
            Err(mpsc::error::TrySendError::Full(mine) | mpsc::error::TrySendError::Closed(mine)) => {
                net::TcpStream::from_std(mine.socket).map(Some)
            }
        }
    }

    /// The thread that is to serve a connection which this one has accepted.
    fn place(&self) -> usize {
        if self.open.get() as u64 <= share::SLACK || self.outboxes.0.len() == 1 {
            return self.thread;
        }
        let mut open = self.places.borrow_mut();
        open.clear();
        let on_the_way = |outbox: &mpsc::Sender<Accepted>| (outbox.max_capacity() - outbox.capacity()) as u64;
        let threads = self.shared.connections.iter().zip(&*self.outboxes.0);
        open.extend(threads.map(|(open, outbox)| open.0.load(Relaxed) + on_the_way(outbox)));
        share::place(self.thread, &open)
    }
}

/// Serves what other threads hand over, until it is told to stop; and then what is already on its way.
pub(super) async fn receive(worker: Rc<Worker>, inbox: Inbox, mut stopped: watch::Receiver<bool>) {
    let mut inbox = inbox.0;
    let mut stop = pin!(stopped.wait_for(|stop| *stop));
    loop {
        let accepted = tokio::select! {
            accepted = inbox.recv() => accepted,
            _ = &mut stop => break,
        };
        let Some(accepted) = accepted else { return };
        serve(&worker, accepted);
    }
    inbox.close();
    while let Some(accepted) = inbox.recv().await {
        serve(&worker, accepted);
    }
}

fn serve(worker: &Rc<Worker>, Accepted { socket, peer, door }: Accepted) {
    match net::TcpStream::from_std(socket) {
        Ok(stream) => accept::begin(worker, door, stream, peer),
        Err(error) => tracing::warn!(%error, "a connection that was handed over is lost"),
    }
}
