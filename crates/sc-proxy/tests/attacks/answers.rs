//! Backends that answer amiss: what a client gets is one whole answer, an honest error, or a connection cut off.

use super::bench::{Bench, GOOD, PATHS, exchange};

const GET: &[u8] = b"GET /fine HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// Each of these is refused with 502, or the connection is cut before anything false can be believed.
const BROKEN: &[(&str, &str)] = &[
    ("no HTTP", "hello\r\n\r\n"),
    ("no status", "HTTP/1.1\r\n\r\n"),
    ("a status of two digits", "HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n"),
    ("a status of letters", "HTTP/1.1 abc OK\r\ncontent-length: 0\r\n\r\n"),
    ("two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!"),
    ("a length that is none", "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nok"),
    ("a signed length", "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok"),
    ("a bad chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n"),
    ("chunks in HTTP/1.0", "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nsecret\r\n0\r\n\r\n"),
    (
        "chunks in HTTP/1.0 kept alive",
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n6\r\nsecret\r\n0\r\n\r\n",
    ),
    ("a space before the colon", "HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\nok"),
    ("NUL in a value", "HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 2\r\n\r\nok"),
    (
        "a switch that nobody asked for",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nsecret",
    ),
];

#[tokio::test]
async fn a_broken_answer_is_not_passed_on_as_a_good_one() {
    for http1 in PATHS {
        for (name, answer) in BROKEN {
            let bench = Bench::start(http1, *answer).await;
            let got = exchange(bench.addr, GET).await;
            // A bad chunk is met when the head has gone on already, or is about to: then there is no end.
            let cut = got.is_empty() || got.contains("chunked") && !got.ends_with("0\r\n\r\n");
            assert!(got.starts_with("HTTP/1.1 502") || cut, "{http1:?}: {name}: {got}");
            assert!(!got.contains("secret"), "{http1:?}: {name}: {got}");
        }
    }
}

/// The same to a request with a body, which other code may send; nothing of its connection is used again.
#[tokio::test]
async fn chunks_in_http_1_0_are_faulty_whatever_was_asked() {
    let answer =
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n6\r\nsecret\r\n0\r\n\r\n";
    let asks = [
        "POST /fine HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab",
        "POST /fine HTTP/1.0\r\nhost: a\r\ncontent-length: 2\r\n\r\nab",
        "HEAD /fine HTTP/1.1\r\nhost: a\r\n\r\n",
    ];
    for http1 in PATHS {
        let bench = Bench::start(http1, answer).await;
        for (n, ask) in asks.iter().enumerate() {
            let outcome = bench.attack(ask.as_bytes()).await;
            assert!(outcome.status() == "502" && !outcome.answer.contains("secret"), "{http1:?}: {ask:?}: {outcome:?}");
            let used = bench
                .backend
                .connections()
                .into_iter()
                .map(|c| c.bytes)
                .filter(|b| b.windows(6).filter(|w| w == b" HTTP/").count() > 1);
            assert_eq!(used.count(), 0, "{http1:?}: {n}: a connection was used again");
        }
    }
}

/// Length and chunks together: the chunks count, and no length goes on (RFC 9112 section 6.3) — or it is refused.
/// One bound, whoever reads the answer: the proxy's own code or, for a request with a body, hyper.
#[tokio::test]
async fn a_head_is_as_large_as_it_may_be_and_no_larger() {
    let fields = |n: usize, each: usize| {
        let all: String = (0..n).map(|i| format!("x-{i}: {}\r\n", "y".repeat(each))).collect();
        format!("HTTP/1.1 200 OK\r\n{all}content-length: 2\r\n\r\nok")
    };
    let cases = [
        (fields(2, 9_000), true),
        (fields(90, 600), true),
        (fields(1, 65_000), true),
        (fields(1, 66_000), false),
        (fields(8, 10_000), false),
        (fields(120, 2), false),
    ];
    for http1 in PATHS {
        for (answer, fits) in &cases {
            let bench = Bench::start(http1, answer.as_bytes()).await;
            let size = answer.len();
            // Again and again: the replica is not passed over for it.
            for request in ["GET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\ncontent-length: 2\r\n"].repeat(8) {
                let body = if request.starts_with("POST") { "ab" } else { "" };
                let bytes = format!("{request}host: a\r\nconnection: close\r\n\r\n{body}");
                let got = exchange(bench.addr, bytes.as_bytes()).await;
                let good = match fits {
                    true => got.starts_with("HTTP/1.1 200") && got.ends_with("ok"),
                    false => got.starts_with("HTTP/1.1 502") && got.contains("x-sc-reason: response-head-too-large"),
                };
                assert!(good, "{http1:?}: {request:?} with {size} bytes: {}", &got[..got.len().min(300)]);
            }
        }
    }
}

#[tokio::test]
async fn an_answer_with_two_framings_goes_on_with_one() {
    for http1 in PATHS {
        for fields in
            ["content-length: 9\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 9"]
        {
            let bench = Bench::start(http1, format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n2\r\nok\r\n0\r\n\r\n")).await;
            let got = exchange(bench.addr, GET).await;
            let one = got.starts_with("HTTP/1.1 200")
                && !got.contains("content-length")
                && got.ends_with("2\r\nok\r\n0\r\n\r\n");
            assert!(one || got.starts_with("HTTP/1.1 502"), "{http1:?}: {got}");
        }
    }
}

/// What comes behind an answer belongs to no other request.
#[tokio::test]
async fn an_answer_too_many_is_given_to_nobody() {
    let twice = format!("{GOOD}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret");
    for http1 in PATHS {
        let bench = Bench::start(http1, twice.as_str()).await;
        for _ in 0..20 {
            let got = exchange(bench.addr, GET).await;
            assert!(!got.contains("secret"), "{http1:?}: {got}");
        }
    }
}

#[tokio::test]
async fn answers_that_have_no_body_get_none() {
    for http1 in PATHS {
        for (name, method, answer) in [
            ("HEAD", "HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"),
            ("HEAD, chunked", "HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
            ("204", "GET", "HTTP/1.1 204 No Content\r\n\r\n"),
            ("304 with a length", "GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n"),
        ] {
            let bench = Bench::start(http1, answer).await;
            let request = format!("{method} /fine HTTP/1.1\r\nhost: a\r\n");
            let both = format!("{request}\r\n{request}connection: close\r\n\r\n");
            let got = exchange(bench.addr, both.as_bytes()).await;
            assert_eq!(got.matches("HTTP/1.1 ").count(), 2, "{http1:?}: {name}: {got}");
            assert!(got.ends_with("\r\n\r\n") && !got.contains("0\r\n\r\n"), "{http1:?}: {name}: {got}");
        }
    }
}

/// A body behind a 204 or an answer to HEAD is no answer to the next request.
#[tokio::test]
async fn a_body_where_none_may_be_poisons_nothing() {
    let hidden =
        "HTTP/1.1 204 No Content\r\ncontent-length: 44\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret";
    for http1 in PATHS {
        let bench = Bench::start(http1, hidden).await;
        for _ in 0..10 {
            let got = exchange(bench.addr, GET).await;
            assert!(got.starts_with("HTTP/1.1 204") && !got.contains("secret"), "{http1:?}: {got}");
        }
    }
}

#[tokio::test]
async fn interim_answers_are_not_the_answer() {
    for http1 in PATHS {
        let bench = Bench::start(
            http1,
            format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n{GOOD}"),
        )
        .await;
        let got = exchange(bench.addr, GET).await;
        assert!(got.contains("HTTP/1.1 200 OK") && got.ends_with("\r\n\r\nok"), "{http1:?}: {got}");
        let old = exchange(bench.addr, b"GET /fine HTTP/1.0\r\nhost: a\r\n\r\n").await;
        assert!(old.starts_with("HTTP/1.0 200") || old.starts_with("HTTP/1.1 200"), "{http1:?}: no 1xx for 1.0: {old}");
    }
}

/// A header may not be split in two by what a backend says.
#[tokio::test]
async fn fields_of_an_answer_stay_fields() {
    for http1 in PATHS {
        let bench = Bench::start(
            http1,
            "HTTP/1.1 200 OK\r\nconnection: x-mine\r\nx-mine: 1\r\nkeep-alive: 1\r\ncontent-length: 2\r\n\r\nok",
        )
        .await;
        let got = exchange(bench.addr, GET).await.to_lowercase();
        assert!(
            !got.contains("x-mine: 1") && !got.contains("keep-alive: 1") && got.contains("via: 1.1 sc"),
            "{http1:?}: {got}"
        );
    }
}
