//! gRPC through the proxy: trailers, streams both ways, cancelling, and the proxy's own refusals.

use std::{future::poll_fn, net::SocketAddr};

use bytes::Bytes;
use h2::{RecvStream, SendStream, client::SendRequest};
use hyper::{HeaderMap, Request, Response};
use sc_core::{routes::AppRoutes, spec::Protocol};
use tokio::net::TcpStream;

use crate::support::*;

fn grpc(backends: &[(u64, SocketAddr)]) -> AppRoutes {
    let mut app = app("web", "web.test", backends);
    app.traffic.protocol = Protocol::H2c;
    app.traffic.queue_timeout_ms = 200;
    app
}

async fn client(proxy: &Proxy) -> SendRequest<Bytes> {
    let (sender, connection) = h2::client::handshake(TcpStream::connect(proxy.addr).await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

fn call(host: &str, path: &str) -> Request<()> {
    let uri = format!("http://{host}{path}");
    let request = Request::builder().method("POST").uri(uri).header("te", "trailers");
    request.header("content-type", "application/grpc+proto").body(()).unwrap()
}

async fn begin(client: &mut SendRequest<Bytes>, path: &str) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
    client.send_request(call("web.test", path), false).unwrap()
}

async fn next(body: &mut RecvStream) -> Bytes {
    let data = body.data().await.unwrap().unwrap();
    body.flow_control().release_capacity(data.len()).unwrap();
    data
}

/// Each message comes back before the next one goes: nothing waits for an end.
#[tokio::test]
async fn streams_pass_both_ways_at_once_and_end_with_trailers() {
    let backend = Backend2::start("a").await;
    let proxy = Proxy::start(vec![grpc(&[(1, backend.addr)])]);
    proxy.ready().await;
    let mut client = client(&proxy).await;
    let (response, mut send) = begin(&mut client, "/echo").await;
    let response = response.await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let mut body = response.into_body();
    for n in 0..50_u32 {
        let message = Bytes::copy_from_slice(&n.to_be_bytes());
        send.send_data(message.clone(), false).unwrap();
        assert_eq!(next(&mut body).await, message);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    send.send_trailers(trailers).unwrap();
    assert!(body.data().await.is_none());
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!((&trailers["grpc-status"], &trailers["x-sum"]), (&"0".parse().unwrap(), &"7".parse().unwrap()));
}

/// Empty DATA frames are borne by no receiver for long: many clients' would end a backend's shared connection.
#[tokio::test]
async fn empty_frames_do_not_go_on() {
    let backend = Backend2::start("a").await;
    let proxy = Proxy::start_with(vec![grpc(&[(1, backend.addr)])], |config| config.threads = 1);
    proxy.ready().await;
    for _ in 0..5 {
        let mut client = client(&proxy).await;
        let (response, mut send) = begin(&mut client, "/echo").await;
        for n in 0..50_u8 {
            send.send_data(Bytes::new(), false).unwrap();
            send.send_data(vec![n].into(), n == 49).unwrap();
        }
        let mut body = response.await.unwrap().into_body();
        let mut got = Vec::new();
        while let Some(data) = body.data().await {
            got.extend_from_slice(&data.unwrap());
        }
        assert_eq!(got, (0..50).collect::<Vec<u8>>());
    }
    assert_eq!(backend.count(|seen| &seen.connections), 1);
}

#[tokio::test]
async fn an_answer_of_trailers_only_is_one() {
    let backend = Backend2::start("a").await;
    let proxy = Proxy::start(vec![grpc(&[(1, backend.addr)])]);
    proxy.ready().await;
    let mut client = client(&proxy).await;
    let (response, _send) = begin(&mut client, "/trailers-only").await;
    let response = response.await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "5");
    assert!(response.body().is_end_stream());
}

/// Whoever cancels a call cancels it at the backend: before its answer, and within it.
#[tokio::test]
async fn cancelling_reaches_the_backend() {
    let backend = Backend2::start("a").await;
    let proxy = Proxy::start(vec![grpc(&[(1, backend.addr)])]);
    proxy.ready().await;
    let mut client = client(&proxy).await;
    let (response, mut send) = begin(&mut client, "/hang").await;
    until("it runs", async || backend.count(|seen| &seen.running) == 1).await;
    send.send_reset(h2::Reason::CANCEL);
    until("it is cancelled", async || backend.count(|seen| &seen.cancelled) == 1).await;
    drop(response);
    let (response, mut send) = begin(&mut client, "/half").await;
    let mut body = response.await.unwrap().into_body();
    assert_eq!(next(&mut body).await, "half");
    send.send_reset(h2::Reason::CANCEL);
    until("it is cancelled as well", async || backend.count(|seen| &seen.cancelled) == 2).await;
    let mut stats = proxy.stats().await;
    let frame = stats.until("nothing runs", |frame| quiet(frame, "web", 2)).await;
    assert!(frame.apps.values().all(|app| app.backends.values().all(|b| !b.ejected)));
    let (response, _send) = begin(&mut client, "/trailers-only").await;
    assert_eq!(response.await.unwrap().headers()["grpc-status"], "5", "the connection lives on");
    assert_eq!(backend.count(|seen| &seen.connections), 1);
}

/// A call's own deadline, which is shorter than the app's bound, holds here too: waiting for a replica, for an answer, within it.
#[tokio::test]
async fn a_call_ends_at_its_deadline() {
    let backend = Backend2::start("a").await;
    let mut bounded = grpc(&[(1, backend.addr)]);
    bounded.traffic.bounds.total_ms = Some(60_000);
    let mut empty = app("empty", "empty.test", &[]);
    empty.traffic.protocol = Protocol::H2c;
    let proxy = Proxy::start(vec![bounded, empty]);
    proxy.ready().await;
    let mut client = client(&proxy).await;
    let mut call = |host, path, timeout: &str| {
        let mut request = call(host, path);
        request.headers_mut().insert("grpc-timeout", timeout.parse().unwrap());
        client.send_request(request, true).unwrap().0
    };
    for (host, path) in [("web.test", "/hang"), ("empty.test", "/")] {
        let response = call(host, path, "300m").await.unwrap();
        let headers = response.headers();
        assert_eq!(
            (&headers["grpc-status"], &headers["x-sc-reason"]),
            (&"4".parse().unwrap(), &"total-timeout".parse().unwrap())
        );
    }
    until("it is cancelled", async || backend.count(|seen| &seen.cancelled) == 1).await;
    let mut body = call("web.test", "/half", "300000u").await.unwrap().into_body();
    assert_eq!(next(&mut body).await, "half");
    assert!(body.data().await.unwrap().is_err(), "its stream is reset");
    until("it is cancelled as well", async || backend.count(|seen| &seen.cancelled) == 2).await;
    let response = call("web.test", "/trailers-only", "30S").await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "5");
}

async fn refused(proxy: &Proxy, host: &str) -> Response<RecvStream> {
    let mut client = client(proxy).await;
    let (response, mut send) = client.send_request(call(host, "/x"), false).unwrap();
    send.send_data(Bytes::from_static(b"\0\0\0\0\0"), true).unwrap();
    response.await.unwrap()
}

/// What the proxy refuses is said as gRPC says it; others get the plain answer.
#[tokio::test]
async fn refusals_are_grpc_statuses() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut stopped = app("stopped", "stopped.test", &[]);
    stopped.stopped = true;
    let proxy = Proxy::start(vec![grpc(&[(1, gone)]), stopped]);
    proxy.ready().await;
    for (host, code, message) in [
        ("web.test", "14", "503 The app could not be reached in time."),
        ("stopped.test", "14", "503 The app is stopped."),
        ("unknown.test", "12", "404 No app is routed at this host and path."),
    ] {
        let response = refused(&proxy, host).await;
        assert_eq!(response.status(), 200, "{host}");
        let headers = response.headers();
        assert_eq!(headers["grpc-status"], code, "{host}");
        assert_eq!(headers["grpc-message"], message, "{host}");
        assert!(response.body().is_end_stream(), "{host}");
    }
    assert_eq!(get(proxy.addr, "unknown.test", "/").await.status, 404);
    let mut sender = client(&proxy).await;
    let (response, _) = sender.send_request(Request::get("http://unknown.test/").body(()).unwrap(), true).unwrap();
    assert_eq!(response.await.unwrap().status(), 404);
    poll_fn(|cx| sender.poll_ready(cx)).await.unwrap();
}
