//! Uploads: whole or not at all.

use bytes::Bytes;
use futures_util::stream;
use sc_api::client::ClientError;
use sc_core::spec::{FileSpec, Source};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    cluster::{app, deploy, spec},
    server::{Server, whole},
};

const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

fn kept(server: &Server) -> usize {
    std::fs::read_dir(server.folder.path().join("blobs")).unwrap().count()
}

fn kind<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (u16, String) {
    match result {
        Err(ClientError::Problem(problem)) => (problem.status, problem.kind.replace("/problems/", "")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn uploads_are_checked() {
    let server = Server::start().await;
    let client = server.client();
    assert!(!client.has_blob(HELLO).await.unwrap());
    assert_eq!(kind(client.put_blob(HELLO, 5, whole("hellO")).await), (422, "wrong-digest".to_owned()));
    let large = vec![0u8; 5 << 20];
    assert_eq!(kind(client.put_blob(HELLO, 5 << 20, whole(large)).await), (413, "body-too-large".to_owned()));
    assert_eq!(kind(client.put_blob("HELLO", 5, whole("hello")).await).0, 400);
    assert_eq!(kept(&server), 0, "nothing is left of any");
    client.put_blob(HELLO, 5, whole("hello")).await.unwrap();
    assert!(client.has_blob(HELLO).await.unwrap());
    client.put_blob(HELLO, 5, whole("hello")).await.unwrap();
    assert_eq!(kept(&server), 1);
}

#[tokio::test]
async fn one_without_a_length_is_stopped_at_the_limit() {
    let server = Server::start().await;
    let part = Bytes::from(vec![0u8; 1 << 20]);
    let mut stream = TcpStream::connect(server.running.addrs[0]).await.unwrap();
    let head = format!(
        "PUT /v1/blobs/{HELLO} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ntransfer-encoding: chunked\r\n\r\n",
        server.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..8 {
        let sent = stream.write_all(format!("{:x}\r\n", part.len()).as_bytes()).await.is_ok()
            && stream.write_all(&part).await.is_ok()
            && stream.write_all(b"\r\n").await.is_ok();
        if !sent {
            break;
        }
    }
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 413");
    assert_eq!(kept(&server), 0);
}

#[tokio::test]
async fn one_that_is_cut_off_leaves_nothing() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.running.addrs[0]).await.unwrap();
    let head = format!(
        "PUT /v1/blobs/{HELLO} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 5\r\n\r\nhel",
        server.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    server.until("it has begun", async |_| kept(&server) == 1).await;
    drop(stream);
    server.until("nothing is left", async |_| kept(&server) == 0).await;
    assert!(!server.client().has_blob(HELLO).await.unwrap());
}

#[tokio::test]
async fn a_deploy_needs_its_files() {
    let server = Server::start().await;
    let files = vec![FileSpec { sha256: HELLO.to_owned(), path: "/app".to_owned(), mode: 0o755 }];
    let mut request = deploy(spec("web", "1"), 1);
    request.spec.source = Source::Files { base: None };
    request.spec.files = files;
    request.spec.command = vec!["/app".to_owned()];
    let web = app("web");
    assert_eq!(kind(server.client().deploy(&web, &request).await), (422, "no-such-blob".to_owned()));
    server.client().put_blob(HELLO, 5, stream::iter([Ok("hel".into()), Ok("lo".into())])).await.unwrap();
    server.client().deploy(&web, &request).await.unwrap();
    server.converged(&web).await;
    let made = server.engine.spec(&"web-1".parse().unwrap()).unwrap();
    assert_eq!(std::fs::read(&made.blobs[HELLO]).unwrap(), b"hello");
}
