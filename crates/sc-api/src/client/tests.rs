//! Against a server that answers by hand, so that each kind of answer and failure is met.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// Answers one connection with these bytes and closes it; gives what was asked.
async fn serve(answer: &'static str) -> (Client, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.windows(4).any(|w| w == b"\r\n\r\n") {
            let mut buffer = [0; 4096];
            let n = stream.read(&mut buffer).await.unwrap();
            asked.extend_from_slice(&buffer[..n]);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(asked).unwrap()
    });
    (client(addr), task)
}

fn client(addr: SocketAddr) -> Client {
    Client::new(Target::Tcp(addr.to_string()), Some("secret".to_owned()))
}

fn web() -> AppId {
    "team/web".parse().unwrap()
}

#[tokio::test]
async fn asks_with_token_and_escapes() {
    let (client, asked) = serve("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]").await;
    assert_eq!(client.versions(&web()).await.unwrap(), []);
    let asked = asked.await.unwrap();
    assert!(asked.starts_with("GET /v1/apps/team%2Fweb/versions HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("authorization: Bearer secret\r\n"), "{asked}");
    assert!(!format!("{client:?}").contains("secret"));
}

#[tokio::test]
async fn a_problem_is_an_error_with_its_hint() {
    let (client, _) = serve(
        "HTTP/1.1 404 Not Found\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\r\n\
         {\"type\":\"/problems/no-such-app\",\"title\":\"No such app\",\"status\":404,\"detail\":\"x\",\"hint\":\"try y\"}",
    )
    .await;
    let error = client.app(&web()).await.unwrap_err();
    assert_eq!(error.status(), Some(404));
    assert!(error.to_string().contains("try y"), "{error}");
}

#[tokio::test]
async fn an_error_page_of_somebody_else_is_shown() {
    let (client, _) = serve("HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\n\r\n<h1>oops</h1>").await;
    let error = client.apps().await.unwrap_err();
    assert_eq!(error.status(), Some(502));
    assert!(error.to_string().contains("oops"), "{error}");
}

#[tokio::test]
async fn lines_come_as_they_are_sent_and_end() {
    let (client, _) = serve(
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"replica\":\"web-1\",\"at_ms\":1,\"stderr\":false,\"text\":\"a\"}\n\n\
         {\"replica\":\"web-2\",\"at_ms\":2,\"stderr\":true,\"text\":\"b\"}",
    )
    .await;
    let lines = client.logs(&web(), &LogsQuery { tail: Some(2), ..LogsQuery::default() }).await.unwrap();
    let texts: Vec<String> = lines.map(|line| line.unwrap().text).collect().await;
    assert_eq!(texts, ["a", "b"]);
}

#[tokio::test]
async fn nobody_there_is_told_from_nonsense() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let error = client(addr).apps().await.unwrap_err();
    assert!(error.is_unreachable() && error.to_string().contains("sc up"), "{error}");

    let gone = std::env::temp_dir().join("sc-no-such.sock");
    let error = Client::new(Target::Unix(gone), None).apps().await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");

    let (client, _) = serve("SSH-2.0-OpenSSH\r\n").await;
    assert!(matches!(client.apps().await.unwrap_err(), ClientError::Broken { .. }));
    let (client, _) = serve("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnope").await;
    assert!(matches!(client.apps().await.unwrap_err(), ClientError::Broken { .. }));
    let (client, _) = serve("").await;
    assert!(client.apps().await.unwrap_err().is_unreachable());
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_hangs_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client(listener.local_addr().unwrap());
    assert!(matches!(client.apps().await.unwrap_err(), ClientError::TimedOut { seconds: 30, .. }));
    let endless = stream::once(async { Ok(Bytes::from_static(b"x")) }).chain(stream::pending());
    assert!(matches!(client.put_blob("00", 9, endless).await.unwrap_err(), ClientError::TimedOut { .. }));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    let (client, _) = serve("").await;
    let broken = stream::iter([Ok(Bytes::from_static(b"x")), Err(std::io::Error::other("disk on fire"))]);
    let error = client.put_blob("00", 9, broken).await.unwrap_err();
    assert!(matches!(&error, ClientError::Local(why) if why.to_string().contains("disk on fire")), "{error:?}");
}
