//! An open-loop load: requests leave when they are due, however slow the answers are, and their latency counts from when
//! they were due. On a thread of its own, so that nothing of the demo holds it up.

use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::LocalSet, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    pace::{Pace, SIDE},
    tally::Tally,
};

/// The longest a request may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest that the last answers are waited for.
const LAST: Duration = Duration::from_secs(15);
/// Requests open at once; one due beyond that has failed.
const OPEN_MAX: usize = 4_000;

type Connection = SendRequest<Empty<Bytes>>;

/// A load that runs.
pub(super) struct Load {
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

/// Starts a load.
pub(super) fn start(to: SocketAddr, pace: Pace, began: Instant, tally: Arc<Tally>) -> io::Result<Load> {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let run = move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        let generator = Rc::new(Generator { to, tally: tally.clone(), idle: RefCell::default() });
        runtime.block_on(LocalSet::new().run_until(generator.run(&pace, began, &stopped)));
        tally.close();
    };
    let thread = std::thread::Builder::new().name("load".to_owned()).spawn(run)?;
    Ok(Load { stop, thread })
}

impl Load {
    /// Sends no more, and waits for what is open.
    pub async fn stop(self) {
        self.stop.cancel();
        let _ = tokio::task::spawn_blocking(move || self.thread.join()).await;
    }
}

struct Generator {
    to: SocketAddr,
    tally: Arc<Tally>,
    /// Kept connections that are free.
    idle: RefCell<Vec<Connection>>,
}

impl Generator {
    async fn run(self: Rc<Self>, pace: &Pace, began: Instant, stop: &CancellationToken) {
        let mut open = tokio::task::JoinSet::new();
        let mut due = began;
        loop {
            let rps = pace.rps(due.saturating_duration_since(began)).max(0.1);
            due += gap(rps);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(due.into()) => {}
            }
            while open.try_join_next().is_some() {}
            self.tally.due();
            if open.len() >= OPEN_MAX {
                self.tally.done(Err(format!("{OPEN_MAX} requests are open already")));
                continue;
            }
            let this = self.clone();
            open.spawn_local(async move {
                let asked = timeout(PATIENCE, this.ask()).await.unwrap_or_else(|_| Err("no answer in 30 s".to_owned()));
                this.tally.done(asked.map(|()| due.elapsed()));
            });
        }
        let _ = timeout(LAST, async { while open.join_next().await.is_some() {} }).await;
    }

    async fn ask(&self) -> Result<(), String> {
        let mut connection = self.connection().await?;
        let request = Request::get(format!("/multiply?n={SIDE}")).header("host", self.to.to_string());
        let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
        let answer = connection.send_request(request).await.map_err(|error| said(&error))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| said(&error))?.to_bytes();
        if status != 200 {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&body).trim()));
        }
        self.idle.borrow_mut().push(connection);
        Ok(())
    }

    /// A kept connection, or a new one.
    async fn connection(&self) -> Result<Connection, String> {
        loop {
            let Some(mut kept) = self.idle.borrow_mut().pop() else { break };
            if kept.ready().await.is_ok() {
                return Ok(kept);
            }
        }
        let stream = TcpStream::connect(self.to).await.map_err(|error| format!("connect: {error}"))?;
        let _ = stream.set_nodelay(true);
        let (connection, driver) = handshake(TokioIo::new(stream)).await.map_err(|error| said(&error))?;
        tokio::task::spawn_local(driver);
        Ok(connection)
    }
}

/// Time to the next request: independent arrivals, as from many people (a Poisson process).
fn gap(rps: f64) -> Duration {
    let u: f64 = rand::random();
    Duration::from_secs_f64((-(1.0 - u).ln() / rps).min(10.0))
}

fn said(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
