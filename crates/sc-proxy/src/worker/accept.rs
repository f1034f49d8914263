//! Taking connections in.

use std::{io, net::SocketAddr, pin::pin, rc::Rc, time::Duration};

use bytes::Bytes;
use tokio::{net, sync::watch, task::JoinHandle};

use super::{Door, Inbox, Listener, Open, Worker, client, fast, handover, relayed, secure, tcp};
use crate::{config::Http1, upgrade::moves::Moved};

/// How long accepting pauses when the process has no more file descriptors, or as many connections as it may.
const PAUSE: Duration = Duration::from_millis(50);

/// How many connections are still taken in after a stop: as many as the listen queue holds.
const LAST: usize = 4096;

/// The tasks that accept.
pub(super) struct Accepting {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Accepting {
    /// Also takes in what other threads hand over.
    pub(super) fn receive(&mut self, worker: &Rc<Worker>, inbox: Inbox) {
        let stopped = self.stop.subscribe();
        self.tasks.push(tokio::task::spawn_local(handover::receive(worker.clone(), inbox, stopped)));
    }

    /// Takes in what the kernel has already accepted, then closes the listeners.
    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

/// Begins to accept on all listeners.
pub(super) fn listen(worker: &Rc<Worker>, listeners: Vec<Listener>) -> io::Result<Accepting> {
    let (stop, stopped) = watch::channel(false);
    let start = |Listener { socket, door }| {
        let listener = net::TcpListener::from_std(socket)?;
        Ok(tokio::task::spawn_local(accept(worker.clone(), listener, door, stopped.clone())))
    };
    let tasks = listeners.into_iter().map(start).collect::<io::Result<_>>()?;
    Ok(Accepting { stop, tasks })
}

async fn accept(worker: Rc<Worker>, listener: net::TcpListener, door: Door, mut stopped: watch::Receiver<bool>) {
    let mut stop = pin!(stopped.wait_for(|stop| *stop));
    loop {
        tokio::select! {
            accepted = next(&worker, &listener) => take_in(&worker, door, accepted).await,
            _ = &mut stop => break,
        }
    }
    // Connections in the listen queue would be reset when it closes.
    for _ in 0..LAST {
        match tokio::time::timeout(Duration::ZERO, listener.accept()).await {
            Ok(Ok(accepted)) => take_in(&worker, door, Ok(accepted)).await,
            _ => return,
        }
    }
}

async fn next(worker: &Worker, listener: &net::TcpListener) -> io::Result<(net::TcpStream, SocketAddr)> {
    let share = worker.limits.connections.div_ceil(worker.shared.connections.len());
    while worker.open.get() >= share {
        tokio::time::sleep(PAUSE).await;
    }
    listener.accept().await
}

async fn take_in(worker: &Rc<Worker>, door: Door, accepted: io::Result<(net::TcpStream, SocketAddr)>) {
    match accepted {
        Ok((stream, peer)) => match worker.hand_over(stream, peer, door) {
            Ok(Some(stream)) => begin(worker, door, stream, peer),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a connection cannot be handed to another thread"),
        },
        // A client that left before it was accepted is nothing; without descriptors a pause lets some be freed.
        Err(error) if error.raw_os_error().is_some_and(is_want_of_resources) => {
            tracing::warn!(%error, "cannot accept connections");
            tokio::time::sleep(PAUSE).await;
        }
        Err(error) => tracing::debug!(%error, "a connection failed before it was accepted"),
    }
}

/// Serves what the process before gives, until it is aborted.
pub(super) async fn arrivals(worker: Rc<Worker>) {
    loop {
        for Moved { stream, peer } in worker.shared.moves.arrivals(worker.thread).await {
            let open = Open::new(&worker);
            match net::TcpStream::from_std(stream) {
                Ok(stream) if open.is_borne(peer.ip()) => {
                    serve(worker.clone(), open, Door::Http, stream, (peer, None));
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "a connection of the process before is lost"),
            }
        }
    }
}

/// Serves a connection that was accepted.
pub(super) fn begin(worker: &Rc<Worker>, door: Door, stream: net::TcpStream, peer: SocketAddr) {
    let open = Open::new(worker);
    if worker.is_relay(peer) {
        tokio::task::spawn_local(behind(worker.clone(), open, door, stream, peer));
    } else if open.is_borne(peer.ip()) {
        serve(worker.clone(), open, door, stream, (peer, None));
    }
}

/// Serves a connection of a client at the first address, who connected to the second; none: to the connection's own.
fn serve(
    worker: Rc<Worker>,
    open: Open,
    door: Door,
    stream: net::TcpStream,
    (peer, server): (SocketAddr, Option<SocketAddr>),
) {
    match (door, worker.http1) {
        (Door::Http, Http1::Fast) => tokio::task::spawn_local(fast::serve(worker, open, stream, peer)),
        (Door::Http, Http1::Hyper) => {
            tokio::task::spawn_local(client::serve(worker, open, stream, (Bytes::new(), true), peer))
        }
        (Door::Tls, _) => tokio::task::spawn_local(secure::serve(worker, open, stream, peer)),
        (Door::Tcp(port), _) => tokio::task::spawn_local(tcp::serve(worker, open, stream, peer, server, port)),
    };
}

/// Serves a connection that a proxy in front made for a client.
async fn behind(worker: Rc<Worker>, open: Open, door: Door, mut stream: net::TcpStream, peer: SocketAddr) {
    match relayed::ends(&mut stream, worker.limits.head_timeout).await {
        Ok(Some(ends)) if !open.is_borne(ends.client.ip()) => {}
        Ok(Some(ends)) => serve(worker, open, door, stream, (ends.client, Some(ends.server))),
        Ok(None) => serve(worker, open, door, stream, (peer, None)),
        Err(error) => tracing::warn!(%peer, %error, "a connection is refused: its peer must send a PROXY header"),
    }
}

fn is_want_of_resources(code: i32) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].iter().any(|errno| errno.raw_os_error() == code)
}
