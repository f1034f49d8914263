//! Floods of HTTP/2 frames, written by hand. Each ends its connection or is held back with bounded memory, and others are
//! served meanwhile.

use std::time::Duration;

use sc_proxy::Http1;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{
    bench::{Bench, GOOD, PATIENCE, exchange},
    slow::resident_kib,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const PRIORITY_UPDATE: u8 = 16;

const END_STREAM: u8 = 1;
const PADDED: u8 = 8;
const END_HEADERS: u8 = 4;

/// What the proxy may grow by, whatever comes.
const GROWTH_KIB: u64 = 48 * 1024;
/// More than this need not be sent: a flood that was not ended by then never is.
const FLOOD: usize = 256 << 20;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes()[..], payload].concat()
}

/// `GET http://a/` or `POST`, as HPACK (RFC 7541) without a dynamic table.
fn head(method: u8) -> Vec<u8> {
    [&[method, 0x86, 0x84, 0x01, 1][..], b"a"].concat()
}

const GET: u8 = 0x82;
const POST: u8 = 0x83;

/// A field that is not indexed; both parts shorter than 127 bytes.
fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0, name.len() as u8][..], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

async fn open(bench: &Bench, settings: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(bench.addr).await.unwrap();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).await.unwrap();
    stream
}

/// How a flood ended.
#[derive(Debug, PartialEq)]
enum End {
    /// The proxy closed the connection.
    Closed,
    /// It takes nothing more while its own frames are not read.
    HeldBack,
    /// It took everything.
    Taken,
}

/// Writes chunk after chunk until the proxy has enough; `reads`: its frames are read meanwhile.
async fn pour(stream: TcpStream, reads: bool, mut chunk: impl FnMut() -> Vec<u8>) -> End {
    let (mut read, mut write) = stream.into_split();
    let reader = reads.then(|| tokio::spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await }));
    let mut sent = 0;
    while sent < FLOOD {
        let chunk = chunk();
        match timeout(Duration::from_secs(2), write.write_all(&chunk)).await {
            Ok(Ok(())) => sent += chunk.len(),
            Ok(Err(_)) => return End::Closed,
            Err(_) if reads => break,
            Err(_) => return End::HeldBack,
        }
    }
    drop(reader);
    End::Taken
}

/// Runs a flood, and asks for something on another connection all the while.
async fn flood(bench: &Bench, settings: &[u8], reads: bool, chunk: impl FnMut() -> Vec<u8>) -> End {
    let stream = open(bench, settings).await;
    let before = resident_kib();
    let others = async {
        loop {
            is_served(bench).await;
        }
    };
    let end = tokio::select! {
        end = pour(stream, reads, chunk) => end,
        () = others => End::Taken,
    };
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB, "grew by {grown} KiB");
    is_served(bench).await;
    end
}

/// Somebody else is.
async fn is_served(bench: &Bench) {
    let answer = exchange(bench.addr, b"GET /fine HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

async fn bench() -> Bench {
    Bench::start(Http1::Fast, GOOD).await
}

/// CVE-2024-27316: a head that never ends.
#[tokio::test]
async fn continuation() {
    let (bench, mut first) = (bench().await, true);
    let fields = field("x-a", &"y".repeat(100)).repeat(140);
    let end = flood(&bench, &[], true, || {
        if std::mem::take(&mut first) {
            return frame(HEADERS, 0, 1, &head(GET));
        }
        frame(CONTINUATION, 0, 1, &fields)
    });
    assert_eq!(end.await, End::Closed);
    assert_eq!(bench.backend.requests().iter().filter(|seen| seen.target() == "/").count(), 0);
}

/// The same with frames that hold nothing, so that no size is ever reached.
#[tokio::test]
async fn empty_continuation() {
    let (bench, mut first) = (bench().await, true);
    let end = flood(&bench, &[], true, || {
        if std::mem::take(&mut first) {
            return frame(HEADERS, 0, 1, &head(GET));
        }
        frame(CONTINUATION, 0, 1, &[]).repeat(1_000)
    });
    assert_eq!(end.await, End::Closed);
}

/// CVE-2025-8671 ("MadeYouReset"): errors that make the proxy reset the stream, so that the client needs not do it.
#[tokio::test]
async fn made_to_reset() {
    for fault in [frame(WINDOW_UPDATE, 0, 0, &0_u32.to_be_bytes()), frame(WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255])]
    {
        let (bench, mut id) = (bench().await, 1);
        let end = flood(&bench, &[], true, || {
            let mut fault = fault.clone();
            fault[5..9].copy_from_slice(&u32::to_be_bytes(id));
            let both = [frame(HEADERS, END_HEADERS, id, &head(POST)), fault].concat();
            id += 2;
            both
        });
        assert_eq!(end.await, End::Closed);
        assert!(bench.backend.requests().iter().filter(|seen| seen.target() == "/").count() < 200);
    }
}

/// One entry of the table, named ten thousand times by a byte each.
#[tokio::test]
async fn hpack_bomb() {
    let (bench, mut id) = (bench().await, 1);
    let value = vec![b'y'; 4_000];
    // Literal with incremental indexing: name "x", value of 4000 bytes (an integer of 7 bits prefix: 127, then 3873).
    let entry = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], &value].concat();
    let end = flood(&bench, &[], true, || {
        let bomb = [head(GET), entry.clone(), vec![0xbe; 10_000]].concat();
        let bomb = frame(HEADERS, END_HEADERS | END_STREAM, id, &bomb);
        id += 2;
        bomb
    });
    assert_eq!(end.await, End::Closed);
    assert_eq!(bench.backend.requests().iter().filter(|seen| seen.target() == "/").count(), 0);
}

/// Whatever asks for an answer is not answered faster than its answers are read.
#[tokio::test]
async fn pings_and_settings_that_are_not_read() {
    let ping = frame(PING, 0, 0, &[0; 8]).repeat(1_000);
    let settings = frame(SETTINGS, 0, 0, &[]).repeat(1_000);
    for chunk in [ping, settings] {
        let bench = bench().await;
        assert_ne!(flood(&bench, &[], false, || chunk.clone()).await, End::Taken);
    }
}

/// CVE-2019-9512, 9515, 9513 and what else carries nothing, from a client that reads all answers.
#[tokio::test]
async fn frames_that_carry_nothing() {
    for (what, chunk) in [
        ("PING", frame(PING, 0, 0, &[0; 8])),
        ("PING answered that was not sent", frame(PING, 1, 0, &[0; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])),
        ("PRIORITY", frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 7])),
        ("PRIORITY_UPDATE", frame(PRIORITY_UPDATE, 0, 0, &[0, 0, 0, 3, b'u'])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        ("a kind that nobody knows", frame(0xbe, 0, 0, &[0; 100])),
    ] {
        let bench = bench().await;
        let chunk = chunk.repeat(1_000);
        assert_eq!(flood(&bench, &[], true, || chunk.clone()).await, End::Closed, "{what}");
    }
}

/// A stream that was answered is ended again and again, by nothing or by padding alone.
#[tokio::test]
async fn ends_of_a_stream_that_has_ended() {
    for again in [frame(DATA, END_STREAM, 1, &[]), frame(DATA, END_STREAM | PADDED, 1, &[0])] {
        let (bench, mut first, again) = (bench().await, true, again.repeat(1_000));
        let end = flood(&bench, &[], true, || {
            if std::mem::take(&mut first) {
                return frame(HEADERS, END_HEADERS | END_STREAM, 1, &head(GET));
            }
            again.clone()
        });
        assert_eq!(end.await, End::Closed);
    }
}

/// A client may begin any number of requests until it is told how many that are: those beyond are refused, and the others served.
#[tokio::test]
async fn a_burst_before_the_settings_ends_no_connection() {
    let bench = bench().await;
    let mut stream = open(&bench, &[]).await;
    let request = |n: u32| frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &head(GET));
    let burst: Vec<u8> = (0..300).flat_map(request).collect();
    stream.write_all(&burst).await.unwrap();
    let (mut answered, mut refused) = (0, 0);
    while answered + refused < 300 {
        match timeout(PATIENCE, next(&mut stream)).await.unwrap().unwrap() {
            (HEADERS, _) => answered += 1,
            (RST_STREAM, _) => refused += 1,
            (kind, _) => assert_ne!(kind, GOAWAY, "after {answered} answers and {refused} refusals"),
        }
    }
    assert!(answered >= 100, "{answered} of 300");
    stream.write_all(&request(300)).await.unwrap();
    while timeout(PATIENCE, next(&mut stream)).await.unwrap().unwrap() != (HEADERS, 601) {}
}

/// HTTP/2 is what a connection begins with, not what comes on one of HTTP/1.1.
#[tokio::test]
async fn http2_does_not_begin_in_the_middle() {
    for http1 in [Http1::Fast, Http1::Hyper] {
        let bench = Bench::start(http1, GOOD).await;
        let request = b"GET /fine HTTP/1.1\r\nhost: a\r\n\r\n";
        let answer = exchange(bench.addr, &[request, PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{http1:?}: {answer}");
        let rest = answer.split_once("\r\n\r\n").map_or("", |(_, rest)| rest);
        assert!(!rest.contains('\0'), "{http1:?}: frames came: {rest:?}");
        is_served(&bench).await;
    }
}

/// Far more PINGs and WINDOW_UPDATEs than may come for nothing, each beside a request or its answer.
#[tokio::test]
async fn frames_beside_requests_are_no_flood() {
    let bench = bench().await;
    let mut stream = open(&bench, &[]).await;
    for n in 0..10_000 {
        let id = 2 * n + 1;
        let updates = frame(WINDOW_UPDATE, 0, 0, &5_u32.to_be_bytes()).repeat(2);
        let request = frame(HEADERS, END_HEADERS | END_STREAM, id, &head(GET));
        stream.write_all(&[request, frame(PING, 0, 0, &[0; 8]), updates].concat()).await.unwrap();
        while !matches!(timeout(PATIENCE, next(&mut stream)).await.unwrap().unwrap(), (DATA | RST_STREAM, by) if by == id)
        {
        }
    }
}

/// h2 cuts a fragment off before anybody can see it: then it is seen by nobody.
#[tokio::test]
async fn a_fragment_goes_no_further() {
    let bench = Bench::start_with(Http1::Fast, GOOD, &["/admin"], |_| ()).await;
    let mut stream = open(&bench, &[]).await;
    for (n, path) in ["/x#/../admin", "/fine#", "/x?y#z"].iter().enumerate() {
        // `:path` is entry 4 of the static table.
        let path = [&[4, path.len() as u8][..], path.as_bytes()].concat();
        let head = [&[GET, 0x86][..], &path, &[0x01, 1, b'a']].concat();
        let id = 2 * n as u32 + 1;
        stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, id, &head)).await.unwrap();
        while !matches!(timeout(PATIENCE, next(&mut stream)).await.unwrap().unwrap(), (HEADERS | RST_STREAM, by) if by == id)
        {
        }
    }
    let seen: Vec<_> = bench.backend.requests().iter().map(|seen| seen.target().to_owned()).collect();
    assert!(!seen.iter().any(|target| target.contains('#') || target.contains("admin")), "{seen:?}");
}

#[tokio::test]
async fn empty_data() {
    let (bench, mut first) = (bench().await, true);
    let end = flood(&bench, &[], true, || {
        if std::mem::take(&mut first) {
            return frame(HEADERS, END_HEADERS, 1, &head(POST));
        }
        frame(DATA, 0, 1, &[]).repeat(1_000)
    });
    assert_eq!(end.await, End::Closed);
}

/// The next frame: its kind and stream.
async fn next(stream: &mut TcpStream) -> std::io::Result<(u8, u32)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    tokio::io::copy(&mut stream.take(length.into()), &mut tokio::io::sink()).await?;
    Ok((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]])))
}

/// A client that never opens its window loses its streams in time, though its connection is alive and its backend is willing;
/// meanwhile little is kept for it.
#[tokio::test]
async fn window_stall() {
    let size = 64 << 20;
    let large = [format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n").into_bytes(), vec![b'x'; size]].concat();
    let hasty = |config: &mut sc_proxy::Config| config.limits.idle_timeout = Duration::from_millis(600);
    let bench = Bench::start_with(Http1::Fast, large, &[], hasty).await;
    let no_window = [0, 4, 0, 0, 0, 0];
    let mut stream = open(&bench, &no_window).await;
    let before = resident_kib();
    let streams = 40;
    for n in 0..streams {
        stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &head(GET))).await.unwrap();
    }
    let (mut reset, deadline) = (std::collections::BTreeSet::new(), Instant::now() + PATIENCE);
    while reset.len() < streams as usize {
        assert!(Instant::now() < deadline, "only {} of {streams} streams were ended", reset.len());
        match timeout(Duration::from_millis(50), next(&mut stream)).await {
            Ok(Ok((RST_STREAM, id))) => _ = reset.insert(id),
            Ok(Ok((GOAWAY, _))) | Ok(Err(_)) => break,
            Ok(Ok(_)) => {}
            // It is there all the while.
            Err(_) => stream.write_all(&frame(PING, 0, 0, &[0; 8])).await.unwrap(),
        }
        let grown = resident_kib().saturating_sub(before);
        assert!(grown < 2 * GROWTH_KIB, "grew by {grown} KiB");
    }
    assert!(!reset.is_empty(), "streams are ended one by one");
}
