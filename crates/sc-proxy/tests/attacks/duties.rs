//! A proxy's duties with what it passes on (RFC 9110 sections 7.4, 7.6 and 10), and whom it believes.

use super::{
    backend::Seen,
    bench::{Bench, GOOD, PATHS, exchange},
};

async fn seen(bench: &Bench, fields: &str) -> Seen {
    bench.passes(fields, format!("GET /fine HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n").as_bytes()).await
}

#[tokio::test]
async fn fields_of_the_connection_stay_with_it() {
    for http1 in PATHS {
        let bench = Bench::start(http1, GOOD).await;
        for (fields, gone) in [
            ("connection: x-mine\r\nx-mine: 1", "x-mine"),
            ("connection: keep-alive, X-MINE\r\nx-mine: 1", "x-mine"),
            ("connection: keep-alive\r\nconnection: x-mine\r\nx-mine: 1", "x-mine"),
            ("x-mine: 1\r\nconnection:,, x-mine ,", "x-mine"),
            ("keep-alive: timeout=5", "keep-alive"),
            ("proxy-connection: keep-alive", "proxy-connection"),
            ("proxy-authorization: basic x", "proxy-authorization"),
            ("te: gzip", "te"),
            ("upgrade: h2c", "upgrade"),
            ("connection: http2-settings\r\nhttp2-settings: x", "http2-settings"),
        ] {
            let seen = seen(&bench, fields).await;
            assert_eq!(seen.values(gone), Vec::<&str>::new(), "{http1:?}: {fields:?} gave {}", seen.head);
        }
    }
}

/// What the backend relies on cannot be taken off by naming it.
#[tokio::test]
async fn naming_our_fields_in_connection_takes_nothing_off() {
    for http1 in PATHS {
        let bench = Bench::start(http1, GOOD).await;
        let named = "connection: x-forwarded-for, x-forwarded-proto, x-forwarded-host, host, via, content-length";
        let seen = seen(&bench, named).await;
        for (name, value) in [
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "a"),
            ("host", "a"),
            ("via", "1.1 sc"),
        ] {
            assert_eq!(seen.values(name), [value], "{http1:?}: {name} in {}", seen.head);
        }
    }
}

/// Taking `content-length` or `transfer-encoding` off by name would change where the request ends.
#[tokio::test]
async fn naming_the_framing_in_connection_changes_no_framing() {
    for http1 in PATHS {
        let bench = Bench::start(http1, GOOD).await;
        let attacks = [
            "connection: content-length\r\ncontent-length: 3\r\n\r\nabc",
            "connection: transfer-encoding\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ];
        for rest in attacks {
            let bytes = format!("POST /fine HTTP/1.1\r\nhost: a\r\n{rest}");
            let seen = bench.passes(&format!("{http1:?}"), bytes.as_bytes()).await;
            assert_eq!(seen.body, b"abc", "{http1:?}: {rest:?}");
        }
    }
}

#[tokio::test]
async fn nobody_speaks_for_another_unless_trusted() {
    let spoof = "x-forwarded-for: 6.6.6.6\r\nx-forwarded-proto: https\r\nx-forwarded-host: evil\r\nx-forwarded-port: 1\r\n\
                 x-forwarded-prefix: /x\r\nx-forwarded-server: evil\r\nx-real-ip: 6.6.6.6\r\nforwarded: for=6.6.6.6\r\n\
                 X-Forwarded-For: 7.7.7.7";
    for http1 in PATHS {
        let bench = Bench::start(http1, GOOD).await;
        let seen = seen(&bench, spoof).await;
        assert!(!seen.head.contains("6.6.6.6") && !seen.head.contains("7.7.7.7"), "{http1:?}: {}", seen.head);
        assert!(!seen.head.contains("evil") && !seen.head.contains("https"), "{http1:?}: {}", seen.head);
        assert_eq!(seen.values("x-forwarded-for"), ["127.0.0.1"], "{http1:?}");
        let trust = |config: &mut sc_proxy::Config| config.trust = vec!["127.0.0.1".parse().unwrap()];
        let bench = Bench::start_with(http1, GOOD, &[], trust).await;
        let seen = self::seen(&bench, "x-forwarded-for: 6.6.6.6\r\nx-forwarded-proto: https").await;
        let chain = seen.values("x-forwarded-for").join(", ");
        assert_eq!(
            (chain.as_str(), seen.values("x-forwarded-proto")),
            ("6.6.6.6, 127.0.0.1", vec!["https"]),
            "{http1:?}"
        );
    }
}

/// With an absolute target the Host field is not looked at (RFC 9112 section 3.2.2) and goes on as the target says.
#[tokio::test]
async fn an_absolute_target_decides() {
    for http1 in PATHS {
        let bench = Bench::start(http1, GOOD).await;
        let bytes = b"GET http://real/fine?q HTTP/1.1\r\nhost: other\r\n\r\n";
        let seen = bench.passes("absolute", bytes).await;
        assert_eq!((seen.target(), seen.values("host")), ("/fine?q", vec!["real"]), "{http1:?}");
        assert_eq!(seen.values("x-forwarded-host"), ["real"], "{http1:?}");
        let seen = bench.passes("absolute, no path", b"GET http://real HTTP/1.1\r\nhost: real\r\n\r\n").await;
        assert_eq!(seen.target(), "/", "{http1:?}");
    }
}

#[tokio::test]
async fn via_is_added_to_and_expectations_are_met_here() {
    for http1 in PATHS {
        let bench = Bench::start(http1, GOOD).await;
        assert_eq!(seen(&bench, "via: 1.0 before").await.values("via").join(", "), "1.0 before, 1.1 sc", "{http1:?}");
        let bytes = b"POST /fine HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc";
        let answer = exchange(bench.addr, &[&bytes[..], super::bench::NEXT.as_bytes()].concat()).await;
        assert!(answer.matches("HTTP/1.1 200").count() == 2, "{http1:?}: {answer}");
        let all = bench.backend.requests();
        assert_eq!(all.iter().find(|seen| seen.body == b"abc").unwrap().values("expect"), Vec::<&str>::new());
        bench
            .refuses(
                "expectation",
                b"GET / HTTP/1.1\r\nhost: a\r\nexpect: the-moon\r\nconnection: close\r\n\r\n",
                &["417"],
            )
            .await;
    }
}

/// TRACE and OPTIONS count down where Max-Forwards is given, and are answered here at zero (RFC 9110 section 7.6.2).
#[tokio::test]
async fn max_forwards_is_counted_down() {
    for http1 in PATHS {
        let bench = Bench::start(http1, GOOD).await;
        for method in ["TRACE", "OPTIONS"] {
            let bytes = format!("{method} /fine HTTP/1.1\r\nhost: a\r\nmax-forwards: 3\r\n\r\n");
            assert_eq!(
                bench.passes(method, bytes.as_bytes()).await.values("max-forwards"),
                ["2"],
                "{http1:?}: {method}"
            );
            let before = bench.backend.requests().len();
            let last = format!("{method} /fine HTTP/1.1\r\nhost: a\r\nmax-forwards: 0\r\nconnection: close\r\n\r\n");
            let answer = exchange(bench.addr, last.as_bytes()).await;
            let want = if method == "TRACE" { "HTTP/1.1 405" } else { "HTTP/1.1 200" };
            assert!(answer.starts_with(want), "{http1:?}: {method}: {answer}");
            assert_eq!(bench.backend.requests().len(), before, "{http1:?}: {method}");
        }
        assert_eq!(seen(&bench, "max-forwards: 0").await.values("max-forwards"), ["0"], "other methods do not count");
    }
}

/// Bytes sent before an upgrade is answered reach nobody unless it is agreed to; they are no request either.
#[tokio::test]
async fn bytes_before_101_are_not_smuggled() {
    let ask = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
               sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let inner = "GET /smuggled HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    for http1 in PATHS {
        // Refused by the backend: what follows is an ordinary request of this client, through all checks of ours.
        let bench = Bench::start_with(http1, GOOD, &["/smuggled"], |_| ()).await;
        let answer = exchange(bench.addr, format!("{ask}{inner}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("HTTP/1.1 503"), "{http1:?}: {answer}");
        let targets: Vec<_> = bench.backend.requests().iter().map(|seen| seen.target().to_owned()).collect();
        assert_eq!(targets, ["/ws"], "{http1:?}");
    }
}
