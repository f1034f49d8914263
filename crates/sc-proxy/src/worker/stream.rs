//! Upgraded connections (WebSocket and others): bytes both ways until one side ends.

use std::{rc::Rc, sync::Arc, time::Duration};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::{Open, Worker, exchange::Exchange};
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
    exchange: Exchange,
) {
    let (open, thread) = (Open::new(worker), worker.thread);
    tokio::task::spawn_local(async move {
        let counted = Stream::new(live, thread);
        if let Err(error) = pass(client, backend).await {
            tracing::debug!(%error, "a stream ended early");
        }
        drop((counted, exchange, open));
    });
}

async fn pass(client: OnUpgrade, backend: OnUpgrade) -> Result<(), Box<dyn std::error::Error>> {
    let both = async { tokio::try_join!(client, backend) };
    let (client, backend) = tokio::time::timeout(UPGRADE, both).await??;
    tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(backend)).await?;
    Ok(())
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
