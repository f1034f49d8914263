//! Where a request ends: everything that has two readings is refused (RFC 9112 section 6.3).

use super::bench::{Bench, GOOD, PATHS};

pub const AMBIGUOUS: &[(&str, &str)] = &[
    ("CL.TE", "content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nG"),
    ("TE.CL", "transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n1\r\na\r\n0\r\n\r\n"),
    ("CL.TE equal readings", "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("CL twice, differing", "content-length: 3\r\ncontent-length: 4\r\n\r\nabcd"),
    ("CL twice, alike", "content-length: 3\r\ncontent-length: 3\r\n\r\nabc"),
    ("CL list", "content-length: 3, 3\r\n\r\nabc"),
    ("CL list, differing", "content-length: 3, 4\r\n\r\nabcd"),
    ("CL list, empty item", "content-length: 3,\r\n\r\nabc"),
    ("CL signed", "content-length: +3\r\n\r\nabc"),
    ("CL negative", "content-length: -1\r\n\r\n"),
    ("CL hexadecimal", "content-length: 0x3\r\n\r\nabc"),
    ("CL with a space inside", "content-length: 1 0\r\n\r\n0123456789"),
    ("CL with an underscore", "content-length: 1_0\r\n\r\n0123456789"),
    ("CL empty", "content-length:\r\n\r\n"),
    ("CL beyond 64 bits", "content-length: 18446744073709551617\r\n\r\na"),
    ("CL beyond what can be counted", "content-length: 99999999999999999999999\r\n\r\na"),
    ("CL decimal point", "content-length: 3.0\r\n\r\nabc"),
    ("CL in quotes", "content-length: \"3\"\r\n\r\nabc"),
    ("TE not chunked", "transfer-encoding: gzip\r\n\r\n0\r\n\r\n"),
    ("TE identity", "transfer-encoding: identity\r\ncontent-length: 3\r\n\r\nabc"),
    ("TE chunked, then another", "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    ("TE chunked, xchunked", "transfer-encoding: chunked, xchunked\r\n\r\n0\r\n\r\n"),
    ("TE xchunked", "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("TE xchunked, chunked", "transfer-encoding: xchunked, chunked\r\n\r\n0\r\n\r\n"),
    ("TE gzip, chunked", "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("TE chunked twice in a list", "transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("TE chunked in two fields", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("TE chunked, then identity", "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n"),
    ("TE identity, then chunked", "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("TE in quotes", "transfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    ("TE with a parameter", "transfer-encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
    ("TE empty", "transfer-encoding:\r\n\r\n"),
    ("TE with a leading comma", "transfer-encoding: ,chunked\r\n\r\n0\r\n\r\n"),
    ("TE with a vertical tab", "transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    ("TE with a form feed", "transfer-encoding: chunked\x0c\r\n\r\n0\r\n\r\n"),
    ("TE with NUL", "transfer-encoding: chunked\0\r\n\r\n0\r\n\r\n"),
    ("TE, a space before the colon", "transfer-encoding : chunked\r\n\r\n0\r\n\r\n"),
    ("CL, a space before the colon", "content-length : 3\r\n\r\nabc"),
    ("TE, a tab before the colon", "transfer-encoding\t: chunked\r\n\r\n0\r\n\r\n"),
    ("TE folded", "transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    ("TE behind a fold", "x: y\r\n transfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("TE behind a bare CR", "x: y\rtransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("TE behind a bare LF, with CL", "x: y\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n"),
];

#[tokio::test]
async fn a_request_with_two_ends_is_refused() {
    for http1 in PATHS {
        let bench = Bench::start(http1, GOOD).await;
        for (name, rest) in AMBIGUOUS {
            let bytes = format!("POST /attack HTTP/1.1\r\nhost: a\r\n{rest}");
            bench.refuses(&format!("{http1:?}: {name}"), bytes.as_bytes(), &["400", "501", "413"]).await;
        }
    }
}

#[tokio::test]
async fn http_1_0_has_no_chunks() {
    for http1 in PATHS {
        let bench = Bench::start(http1, GOOD).await;
        for fields in ["transfer-encoding: chunked", "transfer-encoding: chunked\r\nconnection: keep-alive"] {
            let bytes = format!("POST /attack HTTP/1.0\r\nhost: a\r\n{fields}\r\n\r\n0\r\n\r\n");
            bench.refuses(&format!("{http1:?}: TE in 1.0"), bytes.as_bytes(), &["400", "501"]).await;
        }
    }
}

#[tokio::test]
async fn what_has_one_reading_passes_with_it() {
    let fine: &[(&str, &str, &[u8])] = &[
        ("no body", "\r\n", b""),
        ("length", "content-length: 3\r\n\r\nabc", b"abc"),
        ("length, zeros before", "content-length: 003\r\n\r\nabc", b"abc"),
        ("length of zero", "content-length: 0\r\n\r\n", b""),
        ("length, blanks around", "content-length:  \t3\t \r\n\r\nabc", b"abc"),
        ("chunked", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
        ("chunked, empty", "transfer-encoding: chunked\r\n\r\n0\r\n\r\n", b""),
        ("Chunked", "Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (
            "a body that looks like a request",
            "content-length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
        ),
    ];
    for http1 in PATHS {
        let bench = Bench::start(http1, GOOD).await;
        for method in ["POST", "GET", "DELETE", "OPTIONS", "PUT"] {
            for (name, rest, body) in fine {
                let bytes = format!("{method} /fine HTTP/1.1\r\nhost: a\r\n{rest}");
                let seen = bench.passes(&format!("{http1:?}: {method} {name}"), bytes.as_bytes()).await;
                assert_eq!((seen.target(), &seen.body[..]), ("/fine", *body), "{http1:?}: {name}");
            }
        }
    }
}

/// An answer before the whole body was read: what is left of it is not taken for the next request.
#[tokio::test]
async fn a_body_that_was_not_read_is_no_request() {
    for http1 in PATHS {
        let bench = Bench::start(http1, GOOD).await;
        let inner = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
        for refused in ["CONNECT a:80 HTTP/1.1\r\nhost: a:80", "POST /attack HTTP/1.1\r\nhost: a\r\nhost: b"] {
            let bytes = format!("{refused}\r\ncontent-length: {}\r\n\r\n{inner}", inner.len());
            let answer = bench.attack(bytes.as_bytes()).await.answer;
            assert!(answer.starts_with("HTTP/1.1 4"), "{http1:?}: {answer}");
            let targets: Vec<_> = bench.backend.requests().iter().map(|seen| seen.target().to_owned()).collect();
            assert!(!targets.contains(&"/smuggled".to_owned()), "{http1:?}: {targets:?}");
        }
    }
}
