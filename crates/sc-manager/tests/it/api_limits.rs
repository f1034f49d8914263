//! Bad and oversized requests get a clear answer, soon.

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{body::Frame, client::conn::http1};
use hyper_util::rt::TokioIo;
use sc_core::AppId;
use tokio::net::TcpStream;

use crate::server::{Server, problem};

#[tokio::test]
async fn a_body_of_100_mb_is_refused_and_not_taken_in() {
    let server = Server::start().await;
    let declared = server.request("PUT", "/v1/apps/web").body(Full::from(vec![b' '; 100 << 20])).unwrap();
    let (status, body) = server.raw(declared).await;
    assert_eq!((status, problem(&body).kind.as_str()), (413, "/problems/body-too-large"));
    // Without a length it is known only as it comes.
    let part = Bytes::from(vec![b' '; 64 << 10]);
    let parts = futures_util::stream::repeat(part).take(1_600).map(|part| Ok::<_, std::io::Error>(Frame::data(part)));
    let request = server.request("PUT", "/v1/apps/web").body(StreamBody::new(parts)).unwrap();
    let stream = TcpStream::connect(server.running.addrs[0]).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 413);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(problem(&body).kind, "/problems/body-too-large");
    assert!(server.client().apps().await.unwrap().is_empty(), "it serves on");
}

#[tokio::test]
async fn what_cannot_be_understood_is_said() {
    let server = Server::start().await;
    let put = |path: &str, body: &'static str| server.request("PUT", path).body(Full::from(body)).unwrap();
    let spec = r#"{"spec":{"source":{"image":"a"},"colour":"red"}}"#;
    let cases = [
        (put("/v1/apps/web", "{"), 400, "EOF"),
        (put("/v1/apps/web", spec), 400, "colour"),
        (put("/v1/apps/Web", "{}"), 400, "lower-case"),
        (put("/v1/apps/%zz", "{}"), 400, "escape"),
        (put("/v1/nothing", "{}"), 404, "nothing at"),
        (put("/v1/events", "{}"), 405, "takes GET"),
        (server.request("GET", "/v1/events?since=x").body(Full::default()).unwrap(), 400, "whole number"),
    ];
    for (request, status, words) in cases {
        let what = format!("{} {}", request.method(), request.uri());
        let (got, body) = server.raw(request).await;
        let problem = problem(&body);
        assert_eq!((got, problem.status), (status, status), "{what}");
        assert!(problem.detail.contains(words), "{what}: {problem:?}");
    }
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.running.addrs[0]).await.unwrap();
    stream.write_all(b"GET /v1/apps HTTP/1.1\r\nx: ").await.unwrap();
    let endless = vec![b'a'; 1 << 20];
    let _ = stream.write_all(&endless).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert!(server.client().app(&AppId::in_default("web").unwrap()).await.is_err(), "it serves on");
}
