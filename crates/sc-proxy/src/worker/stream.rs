//! Upgraded connections (WebSocket and others): bytes both ways until one side ends.

use std::{rc::Rc, sync::Arc, time::Duration};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::{Open, Worker, exchange::Exchange, log::Logged};
use crate::live::{AppLive, AppSlot};

/// How long the change of protocol may take on either side.
const UPGRADE: Duration = Duration::from_secs(10);

/// Begins to pass bytes both ways once both sides have changed their protocol. The exchange counts as in flight until then
/// and until the end.
pub(super) fn start(
    worker: &Rc<Worker>,
    live: Arc<AppLive>,
    client: OnUpgrade,
    backend: OnUpgrade,
    (exchange, mut line): (Exchange, Logged),
) {
    let (open, thread) = (Open::new(worker), worker.thread);
    tokio::task::spawn_local(async move {
        let counted = Stream::new(live, thread);
        if let Some(line) = &mut line {
            line.entry.status = 101;
        }
        match (pass(client, backend).await, &mut line) {
            (Ok(bytes), Some(line)) => (line.entry.bytes_in, line.entry.bytes_out) = bytes,
            (Ok(_), None) => {}
            (Err(error), _) => tracing::debug!(%error, "a stream ended early"),
        }
        drop((counted, exchange, open, line));
    });
}

/// Bytes passed from the client and to it.
async fn pass(client: OnUpgrade, backend: OnUpgrade) -> Result<(u64, u64), Box<dyn std::error::Error>> {
    let both = async { tokio::try_join!(client, backend) };
    let (client, backend) = tokio::time::timeout(UPGRADE, both).await??;
    Ok(tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(backend)).await?)
}

/// Counts a stream while it is open.
struct Stream {
    live: Arc<AppLive>,
    thread: usize,
}

impl Stream {
    fn new(live: Arc<AppLive>, thread: usize) -> Self {
        live.count(thread, AppSlot::STREAMS_OPENED);
        Self { live, thread }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.live.count(self.thread, AppSlot::STREAMS_CLOSED);
    }
}
