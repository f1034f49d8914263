//! Connections: bounded in number, in the size of their heads and in time; ended gracefully.

use std::{convert::Infallible, sync::Arc, time::Duration};

use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Api,
    listen::{Accepted, Listener},
};

/// Connections open at once on one listener; more wait in the system's queue.
const CONNECTIONS: usize = 512;
/// How long a request's head may take to come, and a connection may idle.
const HEAD: Duration = Duration::from_secs(60);
/// The largest request head, in bytes.
const HEAD_MAX: usize = 64 << 10;
/// How long open requests may go on at the end.
const GRACE: Duration = Duration::from_secs(2);

/// Serves one listener until `stop`.
pub async fn serve(listener: Listener, api: Arc<Api>, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let tracker = TaskTracker::new();
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (api, stop) = (api.clone(), stop.clone());
        match accepted {
            Ok(Accepted::Tcp(stream)) => {
                tracker.spawn(async move {
                    connection(stream, api, false, stop).await;
                    drop(permit);
                });
            }
            Ok(Accepted::Unix(stream, trusted)) => {
                tracker.spawn(async move {
                    connection(stream, api, trusted, stop).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
    tracker.close();
    let _ = timeout(GRACE, tracker.wait()).await;
}

async fn connection<T>(io: T, api: Arc<Api>, trusted: bool, stop: CancellationToken)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(api.answer(request, trusted).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_MAX);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service).with_upgrades());
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            timeout(GRACE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}
