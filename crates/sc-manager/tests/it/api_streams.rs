//! Logs, events, exec, files, routes: what goes on and on.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use sc_api::{
    client::{EventsQuery, LogsQuery},
    exec::{FromReplica, ToReplica},
    types::{Exec, RoutesUpdate, SetScale},
};
use sc_engine::fake::ExecAnswer;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use crate::{
    cluster::{app, replica},
    server::{Server, whole},
};

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn logs_are_merged_filtered_and_followed_into_new_replicas() {
    let server = Server::start().await;
    let web = server.run_app("web", 2).await;
    for (name, text) in [("web-1", "one apple"), ("web-2", "two"), ("web-1", "three apple")] {
        server.engine.write_log(&replica(name), text);
        // Three different times.
        let written_ms = server.engine.now_ms();
        server.until("a millisecond has passed", async |_| server.engine.now_ms() > written_ms).await;
    }
    let texts = async |query: LogsQuery| -> Vec<String> {
        let lines = server.client().logs(&web, &query).await.unwrap();
        lines.map(|line| line.unwrap().text).collect().await
    };
    assert_eq!(texts(LogsQuery::default()).await, ["one apple", "two", "three apple"]);
    assert_eq!(texts(LogsQuery { tail: Some(1), ..Default::default() }).await, ["three apple"]);
    let grep = LogsQuery { grep: Some("apple".to_owned()), ..Default::default() };
    assert_eq!(texts(grep).await, ["one apple", "three apple"]);
    let follow = LogsQuery { follow: true, ..Default::default() };
    let mut lines = server.client().logs(&web, &follow).await.unwrap();
    for expected in ["one apple", "two", "three apple"] {
        assert_eq!(timeout(LIMIT, lines.next()).await.unwrap().unwrap().unwrap().text, expected);
    }
    server.client().scale(&web, &SetScale { count: Some(3), ..Default::default() }).await.unwrap();
    server.converged(&web).await;
    server.engine.write_log(&replica("web-3"), "from the new one");
    let line = timeout(LIMIT, lines.next()).await.unwrap().unwrap().unwrap();
    assert_eq!((line.replica, line.text.as_str()), (replica("web-3"), "from the new one"));
    // One that is gone is still read.
    server.client().scale(&web, &SetScale { count: Some(0), ..Default::default() }).await.unwrap();
    server.until("none is left", async |c| c.replicas(Some(&web)).await.is_ok_and(|r| r.is_empty())).await;
    let all = texts(LogsQuery::default()).await;
    for text in ["one apple", "two", "three apple", "from the new one"] {
        assert!(all.iter().any(|line| line == text), "{text}: {all:?}");
    }
    assert!(server.client().logs(&app("nobody"), &LogsQuery::default()).await.is_err());
}

#[tokio::test]
async fn events_are_followed() {
    let server = Server::start().await;
    let query = EventsQuery { follow: true, app: Some(app("web")), ..Default::default() };
    let mut events = server.client().events(&query).await.unwrap();
    server.run_app("web", 1).await;
    let mut kinds = Vec::new();
    while !kinds.iter().any(|kind| kind == "ready") {
        kinds.push(timeout(LIMIT, events.next()).await.unwrap().unwrap().unwrap().kind);
    }
    assert_eq!(&kinds[..2], ["created", "starting"], "{kinds:?}");
    let past = EventsQuery { since_ms: Some(0), ..Default::default() };
    let past: Vec<_> = server.client().events(&past).await.unwrap().collect().await;
    assert!(past.len() >= kinds.len(), "and read again");
}

#[tokio::test]
async fn a_program_is_run_inside() {
    let server = Server::start().await;
    server.run_app("web", 1).await;
    server.engine.on_exec(|_, _| ExecAnswer::Echo);
    let program = Exec { command: vec!["cat".to_owned()], tty: None };
    let mut session = server.client().exec(&replica("web-1"), &program).await.unwrap();
    session.input.send(ToReplica::Input("hello".into())).await.unwrap();
    session.input.send(ToReplica::End).await.unwrap();
    assert_eq!(
        timeout(LIMIT, session.output.next()).await.unwrap().unwrap().unwrap(),
        FromReplica::Stdout("hello".into())
    );
    assert_eq!(timeout(LIMIT, session.output.next()).await.unwrap().unwrap().unwrap(), FromReplica::Exit(0));
    assert!(server.client().exec(&replica("web-7"), &program).await.is_err());
}

#[tokio::test]
async fn a_terminal_can_be_resized() {
    let server = Server::start().await;
    server.run_app("web", 1).await;
    server.engine.on_exec(|_, _| ExecAnswer::Size);
    let program = Exec { command: vec!["vi".to_owned()], tty: Some((80, 24)) };
    let mut session = server.client().exec(&replica("web-1"), &program).await.unwrap();
    session.input.send(ToReplica::Resize(100, 40)).await.unwrap();
    let said = timeout(LIMIT, session.output.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(said, FromReplica::Stdout("100x40".into()));
}

#[tokio::test]
async fn files_go_in_and_come_out() {
    let server = Server::start().await;
    server.run_app("web", 1).await;
    let mut block = vec![0u8; 1024];
    block[0] = b'x';
    // Whatever the fake makes of it: both ways answer, and a missing replica is told.
    let _ = server.client().copy_in(&replica("web-1"), "/tmp", whole(block.clone())).await;
    let _ = server.client().copy_out(&replica("web-1"), "/tmp").await;
    assert!(server.client().copy_in(&replica("web-9"), "/tmp", whole(block)).await.is_err());
    assert!(server.client().copy_out(&replica("web-9"), "/tmp").await.is_err());
}

async fn line(lines: &mut (impl AsyncBufReadExt + Unpin)) -> RoutesUpdate {
    loop {
        let mut text = String::new();
        assert_ne!(timeout(LIMIT, lines.read_line(&mut text)).await.unwrap().unwrap(), 0);
        if let Ok(update) = serde_json::from_str(&text) {
            return update;
        }
    }
}

#[tokio::test]
async fn routes_are_streamed_and_proxies_register() {
    let server = Server::start().await;
    let web = server.run_app("web", 1).await;
    let mut stream = TcpStream::connect(server.running.addrs[0]).await.unwrap();
    let request = format!("GET /v1/routes HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", server.token);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream);
    let first = line(&mut lines).await;
    assert!(first.whole && first.put.len() == 1 && first.put[0].backends.len() == 1, "{first:?}");
    server.client().scale(&web, &SetScale { count: Some(2), ..Default::default() }).await.unwrap();
    let mut last = first.revision;
    loop {
        let update = line(&mut lines).await;
        assert!(!update.whole && update.revision >= last);
        last = update.revision;
        if update.put.first().is_some_and(|routes| routes.backends.len() == 2) {
            break;
        }
    }
    let record = r#"{"v":1,"stats":"http://127.0.0.1:9","boot":"x","listen":["127.0.0.1:80"]}"#;
    let put = || server.request("PUT", "/v1/proxies/edge-1").body(Bytes::from(record).into()).unwrap();
    assert_eq!(server.raw(put()).await.0, 204);
    assert_eq!(server.raw(put()).await.0, 204, "renewed");
    let proxies = server.client().proxies().await.unwrap();
    assert_eq!(proxies.iter().map(|p| (p.id.as_str(), p.report_age_ms)).collect::<Vec<_>>(), [("edge-1", None)]);
    // The last word of a process that has handed over counts for itself, not for another one of its id.
    for (boot, left) in [("w", 1), ("x", 0)] {
        let last = format!(r#"{{"v":1,"stats":"http://127.0.0.1:9","boot":"{boot}","ended":true}}"#);
        let request = server.request("PUT", "/v1/proxies/edge-1").body(Bytes::from(last).into()).unwrap();
        assert_eq!(server.raw(request).await.0, 204);
        assert_eq!(server.client().proxies().await.unwrap().len(), left, "{boot}");
    }
}

#[tokio::test]
async fn streams_end_with_their_reader() {
    let server = Server::start().await;
    server.run_app("web", 1).await;
    // More than may be open at once, one after another.
    for _ in 0..300 {
        let mut stream = TcpStream::connect(server.running.addrs[0]).await.unwrap();
        let request =
            format!("GET /v1/events?follow=1 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", server.token);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        timeout(LIMIT, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    }
    server
        .until("there is room again", async |client| {
            client.events(&EventsQuery { follow: true, ..Default::default() }).await.is_ok()
        })
        .await;
}
