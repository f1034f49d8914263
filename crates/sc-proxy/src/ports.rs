//! The ports of TCP routes: opened when a table has them, one socket per thread; a thread takes its own when it sees the table.
//!
//! The control thread opens and closes, and looks each second, so that a port that another process holds is taken as soon as
//! that lets go of it. The lock is taken when a table changes, never for a connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    start::{bind_shared, hint},
    upgrade::{Handed, wire::Use},
    worker::Door,
};

/// The ports that are open, and those that cannot be.
#[derive(Debug)]
pub struct Ports {
    threads: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// Where they listen; none: nowhere, as before the start and after a stop.
    ip: Option<IpAddr>,
    ports: BTreeMap<u16, Port>,
    /// Sockets of the process before.
    handed: Handed,
}

#[derive(Debug, Default)]
struct Port {
    /// By thread: its socket until it takes it.
    waiting: Vec<Vec<TcpListener>>,
    /// The same sockets once more, for a process that takes over.
    again: Vec<OwnedFd>,
    /// Why it is not open.
    fault: Option<String>,
}

impl Ports {
    /// For so many threads; nothing is opened before its `begin`.
    pub fn new(threads: usize) -> Self {
        Self { threads, open: Mutex::default() }
    }

    /// From here on ports are opened at this address, with what was handed over of them.
    pub(crate) fn begin(&self, ip: IpAddr, handed: Handed) {
        let mut open = self.open();
        (open.ip, open.handed) = (Some(ip), handed);
    }

    /// Opens what is wanted and not open, and leaves the rest. Whether threads have something to take.
    pub(crate) fn set(&self, wanted: &BTreeSet<u16>) -> bool {
        let mut open = self.open();
        open.ports.retain(|port, _| wanted.contains(port));
        let Some(ip) = open.ip else { return false };
        let is_missing = |open: &Open, port: &u16| open.ports.get(port).is_none_or(|known| known.fault.is_some());
        let missing: Vec<u16> = wanted.iter().copied().filter(|port| is_missing(&open, port)).collect();
        let mut opened = false;
        for port in missing {
            let addr = SocketAddr::new(ip, port);
            let new =
                Port::open(addr, self.threads, &mut open.handed).unwrap_or_else(|error| Port::closed(addr, &error));
            opened |= new.fault.is_none();
            let known = open.ports.insert(port, new);
            open.ports[&port].tell(addr, known.as_ref());
        }
        opened
    }

    /// What a thread has not taken yet.
    pub(crate) fn take(&self, thread: usize) -> Vec<(u16, TcpListener)> {
        let mut open = self.open();
        let mine = |(port, known): (&u16, &mut Port)| {
            let sockets = known.waiting.get_mut(thread).map(std::mem::take).unwrap_or_default();
            sockets.into_iter().map(|socket| (*port, socket)).collect::<Vec<_>>()
        };
        open.ports.iter_mut().flat_map(mine).collect()
    }

    /// The ports that cannot be listened on, with the reason.
    pub fn faults(&self) -> BTreeMap<u16, String> {
        let open = self.open();
        open.ports.iter().filter_map(|(port, known)| Some((*port, known.fault.clone()?))).collect()
    }

    /// Further descriptors of all sockets, with what they are for.
    pub(crate) fn sockets(&self) -> io::Result<Vec<(Use, OwnedFd)>> {
        let open = self.open();
        let Some(ip) = open.ip else { return Ok(Vec::new()) };
        let all = open.ports.iter().flat_map(|(port, known)| known.again.iter().map(move |fd| (port, fd)));
        all.map(|(port, fd)| Ok((Use::Tcp(SocketAddr::new(ip, *port)), fd.try_clone()?))).collect()
    }

    /// This process serves: what was handed over and no route wants is closed.
    pub(crate) fn settle(&self) {
        self.open().handed = Handed::default();
    }

    /// Nothing is opened any more; threads keep what they have taken.
    pub(crate) fn close(&self) {
        *self.open() = Open::default();
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Port {
    fn open(addr: SocketAddr, threads: usize, handed: &mut Handed) -> io::Result<Self> {
        let given: Vec<_> = std::iter::from_fn(|| handed.listener(addr, Door::Tcp(addr.port()))).collect();
        let sockets = if given.is_empty() { bind_shared(addr, threads)? } else { given };
        let again = sockets.iter().map(|socket| Ok(socket.try_clone()?.into())).collect::<io::Result<_>>()?;
        let mut waiting: Vec<Vec<TcpListener>> = (0..threads).map(|_| Vec::new()).collect();
        for (n, socket) in sockets.into_iter().enumerate() {
            waiting[n % threads].push(socket);
        }
        Ok(Self { waiting, again, fault: None })
    }

    fn closed(addr: SocketAddr, error: &io::Error) -> Self {
        Self { fault: Some(format!("cannot listen on {addr}: {error}; {}", hint(addr, error))), ..Self::default() }
    }

    /// Logs what has changed.
    fn tell(&self, addr: SocketAddr, before: Option<&Self>) {
        match &self.fault {
            None => tracing::info!(%addr, "takes TCP connections"),
            Some(fault) if before.is_some_and(|before| before.fault.as_ref() == Some(fault)) => {}
            Some(fault) => tracing::error!(fault, "a TCP route is not served; tried again each second"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_port_that_is_taken_is_told_and_opened_once_it_is_free() {
        let other = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let port = other.local_addr().unwrap().port();
        let ports = Ports::new(2);
        ports.begin(LOOPBACK, Handed::default());
        assert!(!ports.set(&[port].into()) && ports.take(0).is_empty());
        assert!(ports.faults()[&port].contains("another process listens there"), "{:?}", ports.faults());
        drop(other);
        assert!(ports.set(&[port].into()) && ports.faults().is_empty());
        assert_eq!((ports.take(0).len(), ports.take(1).len(), ports.take(1).len()), (1, 1, 0));
        assert!(!ports.set(&[port].into()), "it is open");
        assert_eq!(ports.sockets().unwrap().len(), 2);
        ports.set(&BTreeSet::new());
        assert!(TcpListener::bind((LOOPBACK, port)).is_ok(), "nobody holds it any more");
    }
}
