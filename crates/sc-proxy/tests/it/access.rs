//! The access log: what stands in it, on every path, and where it goes.

use std::path::{Path, PathBuf};

use sc_proxy::{
    AccessLog,
    access::{Format, Target},
};
use serde_json::Value;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::support::*;

fn logged(apps: Vec<sc_core::routes::AppRoutes>, path: PathBuf, format: Format) -> Proxy {
    let log = AccessLog { target: Target::File(path), format, sample: 1.0, slow: None };
    Proxy::start_with(apps, |config| config.access_log = Some(log))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The entry of the request for a path, which it waits for.
async fn entry(file: &Path, path: &str) -> Value {
    let mut found = None;
    let looked = async || {
        let text = read(file);
        let mut entries = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        found = entries.find(|entry| entry["path"] == path);
        found.is_some()
    };
    until(&format!("{path} is logged"), looked).await;
    found.unwrap()
}

#[tokio::test]
async fn each_request_has_a_line_that_says_what_became_of_it() {
    let backend = Backend::start("a").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let mut stopped = app("off", "off.test", &[]);
    stopped.stopped = true;
    let apps = vec![app("web", "web.test", &[(7, backend.addr)]), stopped];
    let proxy = logged(apps, file.clone(), Format::Json);
    proxy.ready().await;

    let mut conn = Conn::open(proxy.addr).await.unwrap();
    let mut ask = request("POST", "web.test", "/echo?q=1", pattern(1_000));
    for (name, value) in [("user-agent", "me \"quoted\" \\"), ("referer", "http://r/"), ("x-request-id", "id-1")] {
        ask.headers_mut().insert(name, value.parse().unwrap());
    }
    assert_eq!(conn.send(ask).await.unwrap().body.len(), 1_000);
    let line = entry(&file, "/echo?q=1").await;
    for (field, value) in [
        ("client", "127.0.0.1"),
        ("app", "web"),
        ("replica", "web-7"),
        ("method", "POST"),
        ("host", "web.test"),
        ("protocol", "HTTP/1.1"),
        ("user_agent", "me \"quoted\" \\"),
        ("referer", "http://r/"),
        ("request_id", "id-1"),
    ] {
        assert_eq!(line[field], value, "{line}");
    }
    for (field, value) in [("status", 200), ("bytes_in", 1_000), ("bytes_out", 1_000), ("retries", 0)] {
        assert_eq!(line[field], value, "{line}");
    }
    assert!(line["duration_seconds"].as_f64() >= line["upstream_seconds"].as_f64(), "{line}");
    assert!(line["upstream_seconds"].as_f64().unwrap() > 0.0 && line.get("reason").is_none(), "{line}");

    // Bodies that are passed on without a copy count as well.
    let large = conn.send(request("PUT", "web.test", "/echo?large", pattern(3_000_000))).await.unwrap();
    assert_eq!(large.body.len(), 3_000_000);
    let line = entry(&file, "/echo?large").await;
    assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&3_000_000.into(), &3_000_000.into()), "{line}");

    for (host, path, status, reason, app) in
        [("off.test", "/off", 503, "stopped", "off"), ("nowhere.test", "/none", 404, "no-route", "")]
    {
        let reply = get(proxy.addr, host, path).await;
        let line = entry(&file, path).await;
        assert_eq!((&line["status"], &line["reason"]), (&status.into(), &reason.into()), "{line}");
        assert_eq!((line["app"].as_str().unwrap_or(""), line.get("replica")), (app, None), "{line}");
        assert_eq!(line["bytes_out"], reply.body.len(), "{line}");
    }

    let mut conn = Conn2::over(TcpStream::connect(proxy.addr).await.unwrap()).await;
    let ask = hyper::Request::post("http://web.test/echo?two").body(bytes::Bytes::from_static(b"four").into()).unwrap();
    assert_eq!(conn.send(ask).await.unwrap().text(), "four");
    let line = entry(&file, "/echo?two").await;
    assert_eq!((&line["protocol"], &line["host"]), (&"HTTP/2.0".into(), &"web.test".into()), "{line}");
    assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&4.into(), &4.into()), "{line}");

    let metrics = get(proxy.stats_addr(), "x", "/metrics").await;
    assert!(metrics.text().contains("\nsc_proxy_access_log_lines_total 5\n"), "{}", metrics.text());
    assert!(metrics.text().contains("\nsc_proxy_access_log_dropped_total 0\n"), "{}", metrics.text());
}

#[tokio::test]
async fn a_client_that_leaves_and_what_is_no_request_are_logged_too() {
    let backend = Backend::start("a").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let proxy = logged(vec![app("web", "", &[(1, backend.addr)])], file.clone(), Format::Json);
    proxy.ready().await;
    let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
    stream.write_all(b"GET /slow?60000 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    until("it runs", async || backend.running() == 1).await;
    drop(stream);
    let line = entry(&file, "/slow?60000").await;
    assert_eq!((&line["status"], &line["reason"]), (&499.into(), &"client-gone".into()), "{line}");
    assert_eq!(line["replica"].as_str().unwrap_or("web-1"), "web-1", "{line}");
}

#[tokio::test]
async fn nothing_a_client_sends_makes_a_line_of_its_own() {
    let backend = Backend::start("a").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let proxy = logged(vec![app("web", "", &[(1, backend.addr)])], file.clone(), Format::Combined);
    proxy.ready().await;
    // A quote, a tab and a terminal's control sequence (U+009B); \r and \n do not come through a head's grammar.
    let agent = "a\" 200 1 \"-\" \"\t\u{9b}2J";
    raw(proxy.addr, &format!("GET /in%0Aject HTTP/1.1\r\nhost: x\r\nuser-agent: {agent}\r\nconnection: close\r\n\r\n"))
        .await;
    until("it is logged", async || read(&file).ends_with('\n')).await;
    let line = read(&file);
    assert_eq!(line.lines().count(), 1);
    let (_, rest) = line.split_once("] ").unwrap();
    assert!(rest.starts_with("\"GET /in%0Aject HTTP/1.1\" 200 "), "{line}");
    let agent = r#" "-" "a\x22 200 1 \x22-\x22 \x22\x09\xC2\x9B2J""#;
    assert!(rest.trim_end().ends_with(agent), "{line}");
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_opened_anew_and_no_line_is_lost() {
    let backend = Backend::start("a").await;
    let folder = tempfile::tempdir().unwrap();
    let (file, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let proxy = logged(vec![app("web", "", &[(1, backend.addr)])], file.clone(), Format::Json);
    proxy.ready().await;
    get(proxy.addr, "x", "/first").await;
    entry(&file, "/first").await;
    std::fs::rename(&file, &old).unwrap();
    until("there is a new file", async || file.exists()).await;
    get(proxy.addr, "x", "/second").await;
    entry(&file, "/second").await;
    assert_eq!((read(&old).lines().count(), read(&file).lines().count()), (1, 1));
    get(proxy.addr, "x", "/last").await;
    let mut proxy = proxy;
    proxy.running.take().unwrap().stop_within(std::time::Duration::from_secs(5)).await;
    assert!(read(&file).contains("/last"), "what is in the buffers is written before the end: {}", read(&file));
}

#[test]
fn a_log_that_cannot_be_written_is_told_at_the_start() {
    let given = sc_proxy::Source::Given(tokio::sync::watch::channel(Default::default()).1);
    let mut config = sc_proxy::Config::new(given);
    let target = Target::File("/nope/access.log".into());
    config.access_log = Some(AccessLog { target, format: Format::Json, sample: 1.0, slow: None });
    let error = sc_proxy::start(config).err().expect("it must not start");
    assert!(error.to_string().contains("/nope/access.log"), "{error}");
}
