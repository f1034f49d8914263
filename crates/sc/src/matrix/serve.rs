//! Connections: accepted until the signal to end, then finished.

use std::{convert::Infallible, io, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};

use super::{Args, Who, answer::App};

/// How long a connection that ends may go on for the sake of its last request.
const LAST: Duration = Duration::from_secs(60);

/// Serves until SIGTERM or SIGINT; then finishes what runs.
pub(super) async fn serve(args: &Args, who: Who) -> io::Result<()> {
    // Before the port is bound: who sees it open may rely on an orderly end.
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener = TcpListener::bind(args.addr()).await?;
    println!("{} serves on {}", who.replica, listener.local_addr()?);
    let app = App::new(args, who);
    let connections = GracefulShutdown::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => connection(stream, &app, &connections),
                // No descriptors are left: some come back when connections end.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            _ = term.recv() => break,
            _ = int.recv() => break,
        }
    }
    drop(listener);
    let _ = tokio::time::timeout(LAST, connections.shutdown()).await;
    println!("ended");
    Ok(())
}

fn connection(stream: TcpStream, app: &std::sync::Arc<App>, all: &GracefulShutdown) {
    let _ = stream.set_nodelay(true);
    let app = app.clone();
    let service = service_fn(move |request| {
        let app = app.clone();
        async move { Ok::<_, Infallible>(app.answer(request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(120));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    tokio::spawn(all.watch(connection));
}
