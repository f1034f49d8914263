//! Tests run side by side, each with ports, addresses and names of its own: a slot, held by a file lock that the kernel
//! gives back however the test ends.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

use rustix::fs::{FlockOperation, flock};

/// How many tests can run at once.
const SLOTS: u16 = 20;
/// Below the range that the kernel takes outgoing ports from, so that no connection of a load sits on them.
const FIRST_PORT: u16 = 14_000;
/// Ports of one slot.
const PORTS: u16 = 50;

/// One test's own ports, addresses and names.
pub struct Slot {
    number: u16,
    next: AtomicU16,
    _lock: File,
}

impl Slot {
    /// Takes a free one.
    ///
    /// # Panics
    /// When there is none, which means that something leaks them.
    pub fn take() -> Self {
        let folder = std::env::temp_dir().join("sc-tests-slots");
        std::fs::create_dir_all(&folder).expect("a folder for the slots' locks");
        let free = (0..SLOTS).find_map(|number| {
            let file = File::options().create(true).append(true).open(folder.join(number.to_string())).ok()?;
            flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
            Some(Self { number, next: AtomicU16::new(0), _lock: file })
        });
        free.expect("no free slot: more tests at once than there are slots")
    }

    /// The name of the installation: what it makes in Docker starts with it.
    pub fn instance(&self) -> String {
        let run = std::env::var("SC_TEST_INSTANCE").unwrap_or_else(|_| format!("sct{}", std::process::id()));
        format!("{run}-{}", self.number)
    }

    /// A loopback address with a port that nobody listens on now.
    pub fn addr(&self) -> SocketAddr {
        for _ in 0..PORTS {
            let port = FIRST_PORT + self.number * PORTS + self.next.fetch_add(1, Ordering::Relaxed) % PORTS;
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if TcpListener::bind(addr).is_ok() {
                return addr;
            }
        }
        panic!("slot {} has no free port left", self.number);
    }

    /// The addresses of its apps' networks.
    pub fn pool(&self) -> String {
        format!("10.{}.0.0/16", 130 + self.number)
    }

    /// The ports of its replicas as processes: seven blocks, one for each app.
    pub fn ports(&self) -> String {
        let first = 20_000 + self.number * 480;
        format!("{first}-{}", first + 479)
    }
}
