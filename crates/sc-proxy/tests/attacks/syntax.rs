//! Lines that are no lines, names that are no names, targets that are no targets (RFC 9112 sections 2, 3 and 5).

use super::bench::{Bench, GOOD, PATHS};

pub const HEADS: &[(&str, &str)] = &[
    ("bare CR in a value", "GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n"),
    ("bare CR between fields", "GET / HTTP/1.1\r\nhost: a\r\nx: a\ry: b\r\n\r\n"),
    ("NUL in a value", "GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n"),
    ("NUL in a name", "GET / HTTP/1.1\r\nhost: a\r\nx\0: b\r\n\r\n"),
    ("NUL in the target", "GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a control character in a value", "GET / HTTP/1.1\r\nhost: a\r\nx: a\x01b\r\n\r\n"),
    ("DEL in a value", "GET / HTTP/1.1\r\nhost: a\r\nx: a\x7fb\r\n\r\n"),
    ("bare LF in the fields", "GET / HTTP/1.1\r\nhost: a\nx: b\r\n\r\n"),
    ("bare LF after the request line", "GET / HTTP/1.1\nhost: a\r\n\r\n"),
    ("bare LFs only", "GET / HTTP/1.1\nhost: a\n\n"),
    ("bare LF as the last line", "GET / HTTP/1.1\r\nhost: a\r\n\n"),
    ("a space before the colon", "GET / HTTP/1.1\r\nhost: a\r\nx : b\r\n\r\n"),
    ("a space before the first field", "GET / HTTP/1.1\r\n host: a\r\n\r\n"),
    ("obs-fold", "GET / HTTP/1.1\r\nhost: a\r\nx: b\r\n c\r\n\r\n"),
    ("obs-fold with a tab", "GET / HTTP/1.1\r\nhost: a\r\nx: b\r\n\tc\r\n\r\n"),
    ("a line of blanks", "GET / HTTP/1.1\r\nhost: a\r\n \r\n\r\n"),
    ("no colon", "GET / HTTP/1.1\r\nhost: a\r\nx\r\n\r\n"),
    ("no name", "GET / HTTP/1.1\r\nhost: a\r\n: b\r\n\r\n"),
    ("a space in a name", "GET / HTTP/1.1\r\nhost: a\r\nx y: b\r\n\r\n"),
    ("a bracket in a name", "GET / HTTP/1.1\r\nhost: a\r\nx[: b\r\n\r\n"),
    ("a name that is no ASCII", "GET / HTTP/1.1\r\nhost: a\r\nx\u{e9}: b\r\n\r\n"),
    ("no version", "GET /\r\nhost: a\r\n\r\n"),
    ("version 0.9", "GET / HTTP/0.9\r\nhost: a\r\n\r\n"),
    ("version 1.2", "GET / HTTP/1.2\r\nhost: a\r\n\r\n"),
    ("version 2.0", "GET / HTTP/2.0\r\nhost: a\r\n\r\n"),
    ("version 1.10", "GET / HTTP/1.10\r\nhost: a\r\n\r\n"),
    ("version 01.1", "GET / HTTP/01.1\r\nhost: a\r\n\r\n"),
    ("version in lower case", "GET / http/1.1\r\nhost: a\r\n\r\n"),
    ("another protocol", "GET / ICAP/1.1\r\nhost: a\r\n\r\n"),
    ("text after the version", "GET / HTTP/1.1 x\r\nhost: a\r\n\r\n"),
    ("two spaces before the target", "GET  / HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("two spaces before the version", "GET /  HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("tabs for spaces", "GET\t/\tHTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a space in the target", "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a space before the method", " GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("no target", "GET HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a target without a slash", "GET x HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a bad method", "G@T / HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("* for a GET", "GET * HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("no host", "GET / HTTP/1.1\r\nx: a\r\n\r\n"),
    ("two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n"),
    ("a host list", "GET / HTTP/1.1\r\nhost: a, b\r\n\r\n"),
    ("a host with a path", "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n"),
    ("a host with user information", "GET / HTTP/1.1\r\nhost: u@a\r\n\r\n"),
    ("a host with a space", "GET / HTTP/1.1\r\nhost: a b\r\n\r\n"),
    ("a host with a bad port", "GET / HTTP/1.1\r\nhost: a:x\r\n\r\n"),
    ("a host with a port beyond 65535", "GET / HTTP/1.1\r\nhost: a:99999\r\n\r\n"),
    ("an address with a port beyond 65535", "GET / HTTP/1.1\r\nhost: [::1]:65536\r\n\r\n"),
    ("an empty host", "GET / HTTP/1.1\r\nhost:\r\n\r\n"),
    ("a host of blanks", "GET / HTTP/1.1\r\nhost: \t \r\n\r\n"),
    ("an empty host on HTTP/1.0", "GET / HTTP/1.0\r\nhost:\r\nconnection: keep-alive\r\n\r\n"),
    ("a port for a host", "GET / HTTP/1.1\r\nhost: :80\r\n\r\n"),
    ("a dot for a host", "GET / HTTP/1.1\r\nhost: .\r\n\r\n"),
    ("an absolute target with a port beyond 65535", "GET http://a:65536/ HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a host with two ports", "GET / HTTP/1.1\r\nhost: a:1:2\r\n\r\n"),
    ("an open bracket as host", "GET / HTTP/1.1\r\nhost: [::1\r\n\r\n"),
    ("an absolute target with user information", "GET http://u@a/ HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("an absolute target without a host", "GET http:///x HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("an absolute target of another scheme", "GET ftp://a/ HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("TLS on a plain port", "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03 0123456789\r\n\r\n"),
];

#[tokio::test]
async fn a_head_that_is_none_is_refused() {
    for http1 in PATHS {
        let bench = Bench::start(http1, GOOD).await;
        for (name, bytes) in HEADS {
            let statuses = ["400", "404", "421", "501", "505"];
            bench.refuses(&format!("{http1:?}: {name}"), bytes.as_bytes(), &statuses).await;
        }
    }
}

#[tokio::test]
async fn heads_that_are_large_are_refused_before_they_are_whole() {
    for http1 in PATHS {
        let bench = Bench::start_with(http1, GOOD, &[], |config| config.limits.head_bytes = 16 * 1024).await;
        let long = "x".repeat(20_000);
        let many = "x: y\r\n".repeat(101);
        for (name, bytes) in [
            ("a long target", format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n")),
            ("a long value", format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n")),
            ("a long name", format!("GET / HTTP/1.1\r\nhost: a\r\n{long}: x\r\n\r\n")),
            ("many fields", format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n")),
        ] {
            bench.refuses(&format!("{http1:?}: {name}"), bytes.as_bytes(), &["414", "431", "400"]).await;
        }
    }
}

#[tokio::test]
async fn unusual_heads_that_are_right_pass() {
    for http1 in PATHS {
        let bench = Bench::start(http1, GOOD).await;
        for (name, bytes) in [
            ("an empty line before", "\r\nGET /fine HTTP/1.1\r\nhost: a\r\n\r\n"),
            ("no blank after the colon", "GET /fine HTTP/1.1\r\nhost:a\r\n\r\n"),
            ("an empty value", "GET /fine HTTP/1.1\r\nhost: a\r\nx:\r\n\r\n"),
            ("a value beyond ASCII", "GET /fine HTTP/1.1\r\nhost: a\r\nx: caf\u{e9}\r\n\r\n"),
            ("an odd method", "PR!OP#FIND /fine HTTP/1.1\r\nhost: a\r\n\r\n"),
            ("an address as host", "GET /fine HTTP/1.1\r\nhost: [::1]:80\r\n\r\n"),
            ("names of all tokens", "GET /fine HTTP/1.1\r\nhost: a\r\n!#$%&'*+-.^_`|~: x\r\n\r\n"),
        ] {
            bench.passes(&format!("{http1:?}: {name}"), bytes.as_bytes()).await;
        }
    }
}
