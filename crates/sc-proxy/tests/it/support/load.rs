//! Steady load: GETs and POSTs on keep-alive connections, every answer checked.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::*},
    },
};

use tokio::task::JoinSet;

use super::{Conn, request};

/// Load from a number of clients.
pub struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    done: AtomicU64,
    failed: Mutex<Vec<String>>,
    refused: AtomicU64,
}

/// What came of it.
#[derive(Debug)]
pub struct Totals {
    pub done: u64,
    /// Requests that were sent and did not get the right answer.
    pub failed: Vec<String>,
    /// Connections that could not be opened, or were reset before the proxy had accepted them.
    pub refused: u64,
}

impl Load {
    /// `posts`: of ten requests of each client so many are POSTs.
    pub fn start(addr: SocketAddr, host: &'static str, clients: usize, posts: usize) -> Self {
        let shared = Arc::<Shared>::default();
        let mut set = JoinSet::new();
        for client in 0..clients {
            set.spawn(run(addr, host, client, posts, shared.clone()));
        }
        Self { shared, clients: set }
    }

    pub fn done(&self) -> u64 {
        self.shared.done.load(SeqCst)
    }

    pub async fn stop(self) -> Totals {
        self.shared.stop.store(true, SeqCst);
        self.clients.join_all().await;
        let failed = std::mem::take(&mut *self.shared.failed.lock().unwrap());
        Totals { done: self.shared.done.load(SeqCst), failed, refused: self.shared.refused.load(SeqCst) }
    }
}

async fn run(addr: SocketAddr, host: &'static str, client: usize, posts: usize, shared: Arc<Shared>) {
    let mut conn: Option<Conn> = None;
    let mut unused = true;
    for n in client.. {
        if shared.stop.load(SeqCst) {
            return;
        }
        if conn.as_ref().is_none_or(|conn| conn.sender.is_closed()) {
            match Conn::open(addr).await {
                Ok(open) => (conn, unused) = (Some(open), true),
                Err(_) => {
                    shared.refused.fetch_add(1, SeqCst);
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                    continue;
                }
            }
        }
        let post = n % 10 < posts;
        let body = if post { format!("{client} {n} {}", "x".repeat(n * 37 % 5_000)) } else { String::new() };
        let (method, path) = if post { ("POST", "/echo") } else { ("GET", "/") };
        let reply = conn.as_mut().unwrap().send(request(method, host, path, body.clone())).await;
        let first = std::mem::replace(&mut unused, false);
        match reply {
            Ok(reply) if reply.status == 200 && (!post || reply.body == body.as_bytes()) => {
                shared.done.fetch_add(1, SeqCst);
                if reply.field("connection") == "close" {
                    conn = None;
                }
            }
            Ok(reply) => fail(&shared, format!("{method} {}: {}", reply.status, reply.text())),
            // A close that crossed with the request, which was not sent: a client opens another connection.
            Err(error) if error.is_canceled() || error.is_closed() => conn = None,
            // The kernel had accepted it, the proxy had not: it was in the listen queue when the proxy stopped listening.
            Err(error) if first && was_reset(&error) => {
                shared.refused.fetch_add(1, SeqCst);
                conn = None;
            }
            Err(error) => {
                fail(&shared, format!("{method} {error:?}"));
                conn = None;
            }
        }
    }
}

fn was_reset(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::ConnectionReset)
}

fn fail(shared: &Shared, what: String) {
    shared.failed.lock().unwrap().push(what);
}
