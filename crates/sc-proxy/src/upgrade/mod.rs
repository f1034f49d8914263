//! Hot upgrade: a new process takes over the listening sockets of the running one, and no client notices.
//!
//! ```text
//!  new: connects ──────────────▶ old: serves on
//!       ◀── the very same listening sockets (SCM_RIGHTS)
//!  loads the routes, starts all but its workers
//!       ── READY ──────────────▶ lets go of the admin socket and the data folder
//!       ◀────────────────── GO ─
//!  accepts
//!       ── SERVING, TAKING ────▶ stops accepting, drains for as long as its grace, exits 0
//!       ◀── clients' connections, each between two of its requests (see [`moves`])
//! ```
//!
//! Whatever fails before SERVING leaves the old process as it was. A connection in a socket's accept queue would be reset with
//! the socket, therefore the sockets themselves are handed over, also when the new process has another number of threads. Both
//! processes are registered while the old one drains, the new one by an id of its own: the manager stops a replica
//! only when both have let go of it. The old one reports on over the streams that are open to it and follows the routes; when
//! it has ended, it says that nobody need wait for it (`ended` in its entry). A stream that breaks meanwhile cannot be opened
//! anew, as the admin socket is the new one's: drains then wait for the old one's end, at most for their deadline.

pub(crate) mod moves;
pub mod service;
pub(crate) mod wire;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::atomic::Ordering::Acquire,
    time::Duration,
};

use self::wire::Use;
use crate::{
    config::{Admin, Config},
    control::Phase,
    start::{Running, StartError, prepare},
    worker::Door,
};

/// How long either process waits for the other's next word. A new process may need that long for its first routes.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a new process may wait for its first routes.
const ROUTES: Duration = Duration::from_secs(45);

const READY: u8 = b'r';
const GO: u8 = b'g';
const SERVING: u8 = b's';
/// The new process also takes connections. One of an earlier release does not say it, and none is waited for.
const TAKING: u8 = b't';
const STAY: u8 = b'n';
/// How long the old process may take to leave admin socket and data folder.
pub(crate) const LETTING_GO: Duration = Duration::from_secs(10);

/// Sockets got from the process before.
#[derive(Debug, Default)]
pub(crate) struct Handed(Vec<(Use, OwnedFd)>);

impl Handed {
    fn take(&mut self, fits: impl Fn(&Use) -> bool) -> Option<(Use, OwnedFd)> {
        self.0.iter().position(|(what, _)| fits(what)).map(|at| self.0.swap_remove(at))
    }

    /// The next listener for this address and door.
    pub(crate) fn listener(&mut self, addr: SocketAddr, door: Door) -> Option<TcpListener> {
        let wanted = listener_use(door, addr);
        self.take(|what| *what == wanted).map(|(_, fd)| fd.into())
    }

    /// The admin socket, if it listens where it now should.
    pub(crate) fn admin(&mut self, admin: &Admin) -> Option<OwnedFd> {
        let fits = |what: &Use| match (what, admin) {
            (Use::AdminTcp(was), Admin::Tcp(addr)) => was == addr,
            (Use::AdminUnix(was), Admin::Unix(path)) => was == path,
            _ => false,
        };
        self.take(fits).map(|(_, fd)| fd)
    }

    fn upgrade(&mut self) -> Option<UnixListener> {
        self.take(|what| *what == Use::Upgrade).map(|(_, fd)| fd.into())
    }
}

pub(crate) fn listener_use(door: Door, addr: SocketAddr) -> Use {
    match door {
        Door::Http => Use::Http(addr),
        Door::Tls => Use::Https(addr),
        Door::Tcp(_) => Use::Tcp(addr),
    }
}

/// The socket at which a running proxy can be asked to hand over.
pub struct Upgrades {
    listener: UnixListener,
    incoming: tokio::net::UnixListener,
}

/// A new process that is ready to take over.
pub struct Successor(UnixStream);

/// Starts a proxy in the place of the one that runs, if one does: at `socket` it is asked to hand over. It serves when this returns.
///
/// # Errors
/// As [`crate::start()`], and when the running one does not hand over or no routes come in time. The running one then serves on.
pub async fn start_or_take_over(config: Config, socket: &Path) -> Result<(Running, Upgrades), StartError> {
    let path = socket.to_owned();
    let failed = |source| StartError::Upgrade { path: path.clone(), source };
    let asked = socket.to_owned();
    match blocking(move || ask(&asked)).await.map_err(failed)? {
        None => {
            let upgrades = Upgrades::bind(socket).map_err(failed)?;
            Ok((crate::start(config)?, upgrades))
        }
        Some((stream, handed)) => take_over(config, stream, handed, socket).await,
    }
}

async fn take_over(
    config: Config,
    stream: UnixStream,
    mut handed: Handed,
    socket: &Path,
) -> Result<(Running, Upgrades), StartError> {
    let failed = |source| StartError::Upgrade { path: socket.to_owned(), source };
    let listener = handed.upgrade();
    let (mut running, crew) = prepare(config, handed, Phase::Waiting)?;
    let shared = running.shared();
    let first = async {
        while !shared.has_table.load(Acquire) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let late = |_| failed(io::Error::other("no routes came in time"));
    tokio::time::timeout(ROUTES, first).await.map_err(late)?;
    let stream = blocking(move || {
        wire::say(&stream, READY)?;
        match wire::hear(&stream, GO) {
            // It died in the meantime: the sockets are ours.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(stream),
            other => other.map(|()| stream),
        }
    });
    let stream = stream.await.map_err(failed)?;
    running.launch(crew)?;
    let said = blocking(move || wire::say(&stream, SERVING).and_then(|()| wire::say(&stream, TAKING)).map(|()| stream));
    if let Ok(stream) = said.await {
        running.take_clients(stream);
    }
    let upgrades = listener.map_or_else(|| Upgrades::bind(socket), Upgrades::new).map_err(failed)?;
    Ok((running, upgrades))
}

/// Asks the running proxy for its sockets; none when nobody is there.
fn ask(socket: &Path) -> io::Result<Option<(UnixStream, Handed)>> {
    let stream = match UnixStream::connect(socket) {
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&error.kind()) => {
            return Ok(None);
        }
        other => other?,
    };
    wire::bound(&stream, PATIENCE)?;
    let handed = Handed(wire::receive(&stream)?);
    Ok(Some((stream, handed)))
}

impl Upgrades {
    fn bind(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Self::new(crate::start::bind_unix(path)?)
    }

    fn new(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { incoming: tokio::net::UnixListener::from_std(listener.try_clone()?)?, listener })
    }

    /// Waits until a new process has all it needs from this one and is ready to serve. One that fails before is only logged.
    pub async fn next(&self, running: &Running) -> Successor {
        loop {
            match self.offer(running).await {
                Ok(successor) => return successor,
                Err(error) => {
                    tracing::warn!(%error, "an upgrade failed; this process serves on");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn offer(&self, running: &Running) -> io::Result<Successor> {
        let stream = self.incoming.accept().await?.0;
        is_one_of_us(&stream)?;
        let stream = stream.into_std()?;
        let mut sockets = running.sockets()?;
        sockets.push((Use::Upgrade, self.listener.try_clone()?.into()));
        tracing::info!("a new process asks to take over");
        blocking(move || {
            wire::bound(&stream, PATIENCE)?;
            wire::send(&stream, &sockets)?;
            drop(sockets);
            wire::hear(&stream, READY)?;
            Ok(Successor(stream))
        })
        .await
    }
}

/// Sockets are handed only to the same user, or root. A process in another container has no process id here (the kernel says 0),
/// which rustix takes for an error.
fn is_one_of_us(stream: &tokio::net::UnixStream) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    let fine = peer == 0 || peer == rustix::process::geteuid().as_raw();
    if fine { Ok(()) } else { Err(io::Error::other("a process of another user asked for the sockets")) }
}

impl Successor {
    /// Lets the new process serve. The caller then stops `running`, or goes on with it on an error.
    ///
    /// # Errors
    /// When the new process ends before it serves.
    pub async fn let_serve(self, running: &mut Running) -> io::Result<()> {
        let Self(stream) = self;
        let serves = match running.let_go().await {
            Ok(()) => {
                let words = move || {
                    wire::say(&stream, GO)?;
                    wire::hear(&stream, SERVING)?;
                    Ok(wire::hear(&stream, TAKING).is_ok().then_some(stream))
                };
                blocking(words).await
            }
            // It must not take the end of the stream for the end of this process.
            Err(error) => blocking(move || wire::say(&stream, STAY)).await.and(Err(error)),
        };
        match serves {
            Ok(heir) => {
                running.forget_sockets();
                if let Some(stream) = heir {
                    running.give_clients(stream);
                }
                Ok(())
            }
            Err(error) => {
                running.take_back();
                Err(error)
            }
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    /// As when one upgrade follows upon the other on a busy machine: the control thread gets to run only when the next is
    /// asked for already.
    #[tokio::test]
    async fn who_is_asked_to_let_go_before_it_has_begun_does_so() {
        let given = Source::Given(tokio::sync::watch::channel(Default::default()).1);
        let (running, _crew) = prepare(Config::new(given), Handed::default(), Phase::LettingGo).unwrap();
        running.let_go().await.unwrap();
    }
}
