//! Chunked bodies: sizes, endings, extensions, trailers (RFC 9112 section 7.1).

use super::bench::{Bench, GOOD, NEXT, PATHS, exchange};

pub const BROKEN: &[(&str, &str)] = &[
    ("size 0x", "0x3\r\nabc\r\n0\r\n\r\n"),
    ("size +", "+3\r\nabc\r\n0\r\n\r\n"),
    ("size -", "-3\r\nabc\r\n0\r\n\r\n"),
    ("size _", "0_3\r\nabc\r\n0\r\n\r\n"),
    ("no size", "\r\nabc\r\n0\r\n\r\n"),
    ("only an extension", ";x\r\nabc\r\n0\r\n\r\n"),
    ("a space before the size", " 3\r\nabc\r\n0\r\n\r\n"),
    ("a space inside the size", "0 3\r\nabc\r\n0\r\n\r\n"),
    ("a size of 17 digits", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("bare LF after the size", "3\nabc\r\n0\r\n\r\n"),
    ("bare CR after the size", "3\rabc\r\n0\r\n\r\n"),
    ("bare LF after the data", "3\r\nabc\n0\r\n\r\n"),
    ("nothing after the data", "3\r\nabc0\r\n\r\n"),
    ("too much data", "3\r\nabcd\r\n0\r\n\r\n"),
    ("too little data", "4\r\nabc\r\n0\r\n\r\n"),
    ("NUL in the size", "3\0\r\nabc\r\n0\r\n\r\n"),
    ("bare LF in an extension", "3;a\nb\r\nabc\r\n0\r\n\r\n"),
    ("a last chunk ended by a bare LF", "3\r\nabc\r\n0\n\r\n"),
];

/// The head has gone on before the body is read: the client is refused or cut off, the backend's connection is broken
/// off, and nothing behind is taken for a request.
#[tokio::test]
async fn a_broken_chunk_ends_the_connection() {
    for http1 in PATHS {
        for (name, body) in BROKEN {
            let bench = Bench::start(http1, GOOD).await;
            let name = format!("{http1:?}: {name}");
            let bytes = format!("POST /attack HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}");
            let answer = bench.attack(bytes.as_bytes()).await;
            assert!(["", "400"].contains(&answer.status()), "{name}: {answer:?}");
            assert!(answer.answers() <= 1, "{name}: {answer:?}");
            assert_eq!(bench.backend.requests(), [], "{name}: no whole request may have come of it");
            bench.backend_is_clean(&name, body);
        }
    }
}

#[tokio::test]
async fn good_chunks_come_out_as_they_went_in() {
    let fine: &[(&str, &str, &[u8])] = &[
        ("upper case", "A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        ("zeros before", "0003\r\nabc\r\n000\r\n\r\n", b"abc"),
        ("an extension", "3;name=value\r\nabc\r\n0;last\r\n\r\n", b"abc"),
        ("two chunks", "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc"),
        ("line ends as data", "4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
        ("trailers", "3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n", b"abc"),
    ];
    for http1 in PATHS {
        let bench = Bench::start(http1, GOOD).await;
        for (name, body, want) in fine {
            let bytes = format!("POST /fine HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}");
            let seen = bench.passes(&format!("{http1:?}: {name}"), bytes.as_bytes()).await;
            assert_eq!(&seen.body[..], *want, "{http1:?}: {name}");
            assert_eq!(seen.values("x-sum"), Vec::<&str>::new(), "a trailer is no field of the head");
        }
    }
}

/// A body that arrives byte by byte is the same body.
#[tokio::test]
async fn bytes_that_come_one_by_one_are_read_alike() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let bytes = format!(
        "POST /fine HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nt: 1\r\n\r\n{NEXT}"
    );
    for http1 in PATHS {
        let bench = Bench::start(http1, GOOD).await;
        let mut stream = tokio::net::TcpStream::connect(bench.addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for byte in bytes.as_bytes() {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let seen = bench.backend.requests();
        assert_eq!((seen.len(), &seen[0].body[..]), (2, &b"abcd"[..]), "{http1:?}: {answer}");
    }
}

/// Trailers that name framing or routing fields do not become fields, whatever the backend makes of trailers.
#[tokio::test]
async fn trailers_do_not_reframe() {
    for http1 in PATHS {
        let bench = Bench::start(http1, GOOD).await;
        let body = "3\r\nabc\r\n0\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\nhost: b\r\n\r\n";
        let bytes = format!("POST /fine HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}{NEXT}");
        exchange(bench.addr, bytes.as_bytes()).await;
        bench.backend_is_clean("trailers", body);
        for seen in bench.backend.requests() {
            assert_eq!((seen.values("host"), seen.values("content-length").len()), (vec!["a"], 0), "{http1:?}");
        }
        for connection in bench.backend.connections() {
            let text = String::from_utf8_lossy(&connection.bytes).to_lowercase();
            assert!(!text.contains("content-length: 9") && !text.contains("host: b"), "{http1:?}: {text}");
        }
    }
}
