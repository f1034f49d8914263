//! Clients' connections that move to the next process between two of their requests.
//!
//! To close a kept connection is to race its client: a request that is on its way when it closes fails, and the client cannot
//! know whether it was served. So in an upgrade such connections are not closed. The old process gives them to the new one
//! as it gave the listening sockets (SCM_RIGHTS); what has arrived on them stays in the kernel, and the new process reads it.
//!
//! Only plain HTTP/1.1 on the fast path moves: all of its state is then in the socket. Under TLS some is in this process; HTTP/2
//! says goodbye itself (GOAWAY). A process of a release that knows nothing of this gets none, and its predecessor closes them.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::*},
        mpsc,
    },
};

use tokio::sync::Notify;

use super::wire::{self, Use};
use crate::live::Shared;

/// Connections in one message.
const AT_ONCE: usize = 64;

/// A connection between two requests, of which nothing is in this process but its descriptor.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) stream: TcpStream,
    /// Its client, as a proxy in front has told it if there is one.
    pub(crate) peer: SocketAddr,
}

/// Both ends: where connections of this process go, and where those of the process before arrive. The locks are taken once for
/// each connection that moves.
#[derive(Debug)]
pub struct Moves {
    open: AtomicBool,
    /// None: there is nowhere to go. Not bounded: it holds no more than there are connections.
    way: Mutex<Option<mpsc::Sender<Moved>>>,
    /// By thread.
    arrived: Vec<Arrived>,
}

#[derive(Debug, Default)]
struct Arrived {
    connections: Mutex<Vec<Moved>>,
    some: Notify,
}

impl Moves {
    /// For so many threads; there is nowhere to go yet.
    pub(crate) fn new(threads: usize) -> Self {
        let arrived = (0..threads).map(|_| Arrived::default()).collect();
        Self { open: AtomicBool::new(false), way: Mutex::default(), arrived }
    }

    /// Whether connections can go.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }

    /// Sends one to the next process. It is closed if that has gone away meanwhile.
    pub(crate) fn send(&self, moved: Moved) {
        if let Some(way) = &*lock(&self.way) {
            let _ = way.send(moved);
        }
    }

    /// Opens the way. What is sent comes out of this until it is closed.
    pub(crate) fn open(&self) -> mpsc::Receiver<Moved> {
        let (sender, receiver) = mpsc::channel();
        *lock(&self.way) = Some(sender);
        self.open.store(true, Relaxed);
        receiver
    }

    /// Nothing goes any more. What has arrived and no thread has taken goes on first.
    pub(crate) fn close(&self) {
        for arrived in &self.arrived {
            std::mem::take(&mut *lock(&arrived.connections)).into_iter().for_each(|moved| self.send(moved));
        }
        self.open.store(false, Relaxed);
        *lock(&self.way) = None;
    }

    /// Waits for connections that are this thread's now.
    pub(crate) async fn arrivals(&self, thread: usize) -> Vec<Moved> {
        let arrived = &self.arrived[thread];
        loop {
            let some = std::mem::take(&mut *lock(&arrived.connections));
            if !some.is_empty() {
                return some;
            }
            arrived.some.notified().await;
        }
    }

    fn arrive(&self, thread: usize, moved: Moved) {
        let arrived = &self.arrived[thread];
        lock(&arrived.connections).push(moved);
        arrived.some.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes what comes out of the way until it is closed, or the next process is gone.
pub(crate) fn give(stream: &UnixStream, moved: &mpsc::Receiver<Moved>) -> io::Result<()> {
    while let Ok(first) = moved.recv() {
        let more = moved.try_iter().take(AT_ONCE - 1);
        let sockets = std::iter::once(first).chain(more).map(|moved| (Use::Client(moved.peer), moved.stream.into()));
        wire::send(stream, &sockets.collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Takes in what the process before gives until it ends: each goes to the thread that has the fewest.
pub(crate) fn take(stream: &UnixStream, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(None)?; // for as long as its grace is
    let mut given = vec![0; shared.connections.len()];
    loop {
        let sockets = match wire::receive(stream) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        };
        for (what, fd) in sockets {
            let Use::Client(peer) = what else { continue };
            // Those on their way are not counted as open yet.
            let load = |thread: &usize| shared.connections[*thread].0.load(Relaxed).max(given[*thread]);
            let thread = (0..given.len()).min_by_key(load).unwrap_or(0);
            given[thread] += 1;
            shared.moves.arrive(thread, Moved { stream: fd.into(), peer });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[tokio::test]
    async fn connections_arrive_with_what_was_sent_on_them() {
        let (here, there) = UnixStream::pair().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (old, new) = (Moves::new(1), Shared::new(2));
        old.send(Moved {
            stream: TcpStream::connect(listener.local_addr().unwrap()).unwrap(),
            peer: ([1; 4], 1).into(),
        });
        let closed = listener.accept().unwrap().0.read(&mut [0]).unwrap();
        assert_eq!(closed, 0, "there is nowhere to go");
        let way = old.open();
        let clients: Vec<_> = (0..100).map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap()).collect();
        for (n, mut client) in clients.iter().enumerate() {
            let (stream, _) = listener.accept().unwrap();
            client.write_all(&[n as u8]).unwrap();
            old.send(Moved { stream, peer: ([10, 0, 0, n as u8], 80).into() });
        }
        old.close();
        let giving = std::thread::spawn(move || give(&here, &way));
        take(&there, &new).unwrap();
        giving.join().unwrap().unwrap();
        let mut all = [new.moves.arrivals(0).await, new.moves.arrivals(1).await];
        assert_eq!((all[0].len(), all[1].len()), (50, 50));
        for moved in all.iter_mut().flatten() {
            let mut byte = [0];
            moved.stream.read_exact(&mut byte).unwrap();
            assert_eq!(moved.peer, ([10, 0, 0, byte[0]], 80).into());
        }
    }
}
