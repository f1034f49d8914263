//! Answers that are compressed on their way, for clients that ask for it.

use std::io::Read;

use http_body_util::BodyExt;
use hyper::{Request, body::Bytes};
use sc_core::spec::{Coding, Compress};
use tokio::net::TcpStream;

use crate::support::*;

async fn with(compress: Option<Compress>) -> (Backend, Proxy) {
    let backend = Backend::start("one").await;
    let mut routes = app("web", "", &[(1, backend.addr)]);
    routes.traffic.compress = compress;
    let proxy = Proxy::start(vec![routes]);
    proxy.ready().await;
    (backend, proxy)
}

fn ask(method: &str, path: &str, accept: &str) -> Request<http_body_util::Full<Bytes>> {
    let mut request = request(method, "x", path, "");
    let fields = request.headers_mut();
    fields.insert("x-type", "text/html".parse().unwrap());
    if !accept.is_empty() {
        fields.insert("accept-encoding", accept.parse().unwrap());
    }
    request
}

async fn fetch(proxy: &Proxy, method: &str, path: &str, accept: &str) -> Reply {
    Conn::open(proxy.addr).await.unwrap().send(ask(method, path, accept)).await.unwrap()
}

/// What can be read of a body, and whether it is whole.
fn decoded(coding: &str, bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut plain = Vec::new();
    let read = match coding {
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain),
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut plain),
        "zstd" => zstd::stream::read::Decoder::new(bytes).and_then(|mut zstd| zstd.read_to_end(&mut plain)),
        _ => (&mut &bytes[..]).read_to_end(&mut plain),
    };
    (plain, read.is_ok())
}

const LINE: &str = "a line of text\n";

#[tokio::test]
async fn each_coding_gives_the_same_answer_smaller() {
    let (_backend, proxy) = with(Some(Compress::default())).await;
    for coding in Coding::ALL.map(Coding::name) {
        for lines in [100, 3_000, 100_000] {
            let reply = fetch(&proxy, "GET", &format!("/text?{lines}"), coding).await;
            let (encoding, vary) = (reply.field("content-encoding"), reply.field("vary"));
            assert_eq!((reply.status.as_u16(), encoding, vary), (200, coding, "Accept-Encoding"));
            assert_eq!((reply.field("etag"), reply.field("content-length")), ("W/\"v1\"", ""));
            assert!(reply.body.len() < lines * LINE.len() / 5, "{coding} {lines}: {} bytes", reply.body.len());
            assert!(decoded(coding, &reply.body) == (LINE.repeat(lines).into_bytes(), true), "{coding} {lines}");
        }
    }
}

#[tokio::test]
async fn what_is_not_asked_for_or_cannot_be_stays_as_it_is() {
    let (_backend, proxy) = with(Some(Compress::default())).await;
    for (method, path, accept) in [
        ("GET", "/text?1000", ""),
        ("GET", "/text?1000", "gzip;q=0"),
        ("GET", "/text?10", "gzip"),
        ("HEAD", "/text?1000", "gzip"),
    ] {
        let reply = fetch(&proxy, method, path, accept).await;
        assert_eq!((reply.field("content-encoding"), reply.field("etag")), ("", "\"v1\""), "{method} {path} {accept}");
        let lines: usize = path.rsplit_once('?').unwrap().1.parse().unwrap();
        assert_eq!(reply.field("content-length"), (lines * LINE.len()).to_string());
        assert_eq!(reply.field("vary"), if lines == 1000 { "Accept-Encoding" } else { "" });
    }
    for status in [204, 304] {
        let reply = fetch(&proxy, "GET", &format!("/status?{status}"), "gzip").await;
        assert!(reply.status == status && reply.field("content-encoding").is_empty() && reply.body.is_empty());
    }
    let mut typed = ask("GET", "/text?1000", "gzip");
    typed.headers_mut().insert("x-type", "image/png".parse().unwrap());
    let reply = Conn::open(proxy.addr).await.unwrap().send(typed).await.unwrap();
    assert_eq!((reply.field("content-encoding"), reply.field("vary"), reply.body.len()), ("", "", 15_000));
    // HTTP/1.0 has no chunks: a broken answer could be taken for a whole one.
    let old =
        raw(proxy.addr, "GET /text?1000 HTTP/1.0\r\nhost: x\r\nx-type: text/html\r\naccept-encoding: gzip\r\n\r\n")
            .await;
    assert!(old.contains("content-length: 15000") && !old.contains("content-encoding"), "{}", &old[..300]);
}

#[tokio::test]
async fn an_app_that_does_not_want_it_has_nothing_changed() {
    let (_backend, proxy) = with(None).await;
    let reply = fetch(&proxy, "GET", "/text?1000", "gzip, br, zstd").await;
    assert_eq!((reply.field("content-encoding"), reply.field("vary"), reply.body.len()), ("", "", 15_000));
}

#[tokio::test]
async fn what_comes_drop_by_drop_arrives_so() {
    let (backend, proxy) = with(Some(Compress::default())).await;
    for coding in Coding::ALL.map(Coding::name) {
        let mut conn = Conn::open(proxy.addr).await.unwrap();
        let mut body = conn.sender.send_request(ask("GET", "/drip", coding)).await.unwrap().into_body();
        let mut coded = Vec::new();
        // The answer has no end: what is read was flushed.
        for drops in 1..=5 {
            while decoded(coding, &coded).0.len() < drops * 5 {
                coded.extend(body.frame().await.unwrap().unwrap().into_data().unwrap());
            }
        }
        assert!(decoded(coding, &coded).0.starts_with(b"drop\ndrop\n"));
    }
    until("the backend is let go", async || backend.running() == 0).await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_whole() {
    let (_backend, proxy) = with(Some(Compress { min_size: 0, ..Compress::default() })).await;
    for coding in Coding::ALL.map(Coding::name) {
        let broken = Conn::open(proxy.addr).await.unwrap().send(ask("GET", "/break", coding)).await;
        assert!(broken.is_err(), "{coding}: {broken:?}");
        let fields = format!("host: x\r\nx-type: text/html\r\naccept-encoding: {coding}\r\n");
        let broken = raw(proxy.addr, &format!("GET /break HTTP/1.1\r\n{fields}\r\n")).await;
        assert!(!broken.ends_with("0\r\n\r\n"), "{coding}: {broken}");
    }
}

#[tokio::test]
async fn trailers_come_after_what_was_compressed() {
    let (_backend, proxy) = with(Some(Compress { min_size: 0, ..Compress::default() })).await;
    let mut request = ask("GET", "/trailers", "gzip");
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    let reply = Conn::open(proxy.addr).await.unwrap().send(request).await.unwrap();
    assert_eq!(decoded("gzip", &reply.body), (b"one two".to_vec(), true));
    assert_eq!(reply.trailers.unwrap()["x-sum"], "3");
}

#[tokio::test]
async fn many_at_once_over_http2_are_compressed_or_passed_whole() {
    let (_backend, proxy) = with(Some(Compress::default())).await;
    let conn = Conn2::over(TcpStream::connect(proxy.addr).await.unwrap()).await;
    let mut all = tokio::task::JoinSet::new();
    for n in 0..100 {
        let (mut conn, coding) = (conn.clone(), Coding::ALL[n % 3].name());
        let uri = format!("http://{}/text?{}", proxy.addr, 200 + n * 100);
        all.spawn(async move {
            let request = Request::get(uri).header("accept-encoding", coding).header("x-type", "text/html");
            let reply = conn.send(request.body(Default::default()).unwrap()).await.unwrap();
            let (plain, whole) = decoded(reply.field("content-encoding"), &reply.body);
            assert!(whole && plain == LINE.repeat(200 + n * 100).into_bytes(), "{coding} {n}");
            reply.field("content-encoding") == coding
        });
    }
    let coded = all.join_all().await.into_iter().filter(|coded| *coded).count();
    assert!(coded >= 1, "{coded}");
}
