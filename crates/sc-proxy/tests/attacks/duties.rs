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
            ("http2-settings: x", "http2-settings"),
            ("connection: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o\r\nconnection: x-mine\r\nx-mine: 1", "x-mine"),
        ] {
            let seen = seen(&bench, fields).await;
            assert_eq!(seen.values(gone), Vec::<&str>::new(), "{http1:?}: {fields:?} gave {}", seen.head);
        }
    }
}

/// Every field would be looked for among the many that it names: seconds of a thread for a head of a few kilobytes.
#[tokio::test]
async fn a_connection_field_that_names_very_many_is_refused() {
    let fields = "b:\r\n".repeat(97);
    for http1 in PATHS {
        let bench = Bench::start(http1, GOOD).await;
        for names in ["a,".repeat(7_700), "a,".repeat(17), (0..100).map(|n| format!("x-{n} ,")).collect()] {
            let bytes = format!("GET /x HTTP/1.1\r\nhost: a\r\n{fields}Connection: {names}\r\n\r\n");
            bench.refuses(&format!("{http1:?}"), bytes.as_bytes(), &["400"]).await;
        }
        let empty =
            format!("GET /fine HTTP/1.1\r\nhost: a\r\nconnection: {} x-mine\r\nx-mine: 1\r\n\r\n", ",".repeat(20_000));
        assert_eq!(
            bench.passes("empty items name nothing", empty.as_bytes()).await.values("x-mine"),
            Vec::<&str>::new()
        );
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

/// Some turn names into variables, and there one of these becomes what only we may say; and others have names of their own for it.
#[tokio::test]
async fn no_spelling_of_a_field_speaks_for_another() {
    let untrusted = [
        "X-Forwarded-Ssl: evil",
        "X-Forwarded-Scheme: evil",
        "X-Forwarded-Protocol: evil",
        "X-Forwarded-By: evil",
        "X-Forwarded-Client-Cert: evil",
        "x-forwarded-user: evil",
        "X-Forwarded-: evil",
    ];
    let anybody = [
        "X_Forwarded_For: evil",
        "X-Forwarded_For: evil",
        "x_forwarded-proto: evil",
        "X_Forwarded_Ssl: evil",
        "X_Real_IP: evil",
        "X-Real_IP: evil",
        "Content_Length: evil",
        "Transfer_Encoding: evil",
        "Proxy: evil",
        "pROXY: evil",
        "Proxy_Authorization: evil",
    ];
    for http1 in PATHS {
        let trust = |config: &mut sc_proxy::Config| config.trust = vec!["127.0.0.1".parse().unwrap()];
        let (bench, trusting) = (Bench::start(http1, GOOD).await, Bench::start_with(http1, GOOD, &[], trust).await);
        for field in untrusted {
            let seen = seen(&bench, field).await;
            assert!(!seen.head.contains("evil"), "{http1:?}: {field} in {}", seen.head);
            assert!(self::seen(&trusting, field).await.head.contains("evil"), "{http1:?}: {field}");
        }
        for field in anybody {
            for bench in [&bench, &trusting] {
                let seen = seen(bench, field).await;
                assert!(!seen.head.contains("evil"), "{http1:?}: {field} in {}", seen.head);
            }
        }
        for field in ["X_Mine: 1", "Content_Type: 1", "X-Forwarder: 1", "Proxy-Status: 1", "x-real-ips: 1"] {
            let (name, _) = field.split_once(':').unwrap();
            assert_eq!(seen(&bench, field).await.values(name), ["1"], "{http1:?}: {field} is nobody else's");
        }
    }
}

/// A request of HTTP/1.0 need not say whom it is for; one of HTTP/1.1 must (RFC 9112 section 3.2).
#[tokio::test]
async fn a_backend_gets_a_host_whatever_came() {
    for http1 in PATHS {
        let bench = Bench::start(http1, GOOD).await;
        for bytes in ["GET /fine HTTP/1.0\r\n\r\n", "POST /fine HTTP/1.0\r\ncontent-length: 3\r\n\r\nabc"] {
            let answer = exchange(bench.addr, bytes.as_bytes()).await;
            assert!(answer.contains(" 200 OK\r\n"), "{http1:?}: {answer}");
            let seen = bench.backend.requests().pop().unwrap();
            assert!(seen.head.contains(" /fine HTTP/1.1\r\n"), "{http1:?}: {}", seen.head);
            assert_eq!(seen.values("host"), [bench.backend.addr.to_string()], "{http1:?}: {}", seen.head);
        }
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

/// An answer to TRACE would show scripts the cookies that they may not see (RFC 9110 section 9.3.8).
#[tokio::test]
async fn trace_goes_nowhere() {
    for http1 in PATHS {
        let bench = Bench::start(http1, GOOD).await;
        for fields in ["cookie: a=b", "max-forwards: 3", "max-forwards: 0", "authorization: basic x"] {
            let bytes = format!("TRACE /fine HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n\r\n");
            bench.refuses(&format!("{http1:?}: {fields}"), bytes.as_bytes(), &["405"]).await;
        }
    }
}

/// OPTIONS counts down where Max-Forwards is given, and are answered here at zero (RFC 9110 section 7.6.2).
#[tokio::test]
async fn max_forwards_is_counted_down() {
    for http1 in PATHS {
        let bench = Bench::start(http1, GOOD).await;
        let bytes = b"OPTIONS /fine HTTP/1.1\r\nhost: a\r\nmax-forwards: 3\r\n\r\n";
        assert_eq!(bench.passes("OPTIONS", bytes).await.values("max-forwards"), ["2"], "{http1:?}");
        let before = bench.backend.requests().len();
        let last = b"OPTIONS /fine HTTP/1.1\r\nhost: a\r\nmax-forwards: 0\r\nconnection: close\r\n\r\n";
        let answer = exchange(bench.addr, last).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{http1:?}: {answer}");
        assert_eq!(bench.backend.requests().len(), before, "{http1:?}");
        assert_eq!(seen(&bench, "max-forwards: 0").await.values("max-forwards"), ["0"], "other methods do not count");
    }
}

/// In a tunnel of HTTP a client would ask for whatever it likes, past all routes and rules ("h2c smuggling").
#[tokio::test]
async fn http_is_not_tunnelled() {
    for http1 in PATHS {
        let bench = Bench::start_with(http1, GOOD, &["/admin"], |_| ()).await;
        for (upgrade, left) in [
            ("h2c", None),
            ("H2C", None),
            ("h2", None),
            ("HTTP/2.0", None),
            ("http/1.1", None),
            ("TLS/1.2", None),
            ("h2c, TLS/1.0", None),
            (",h2c", None),
            ("h2c\r\nupgrade: h2", None),
            ("h2c, websocket", Some("websocket")),
            ("h2c\r\nupgrade: echo", Some("echo")),
        ] {
            let fields = format!(
                "connection: Upgrade, HTTP2-Settings\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\nupgrade: {upgrade}"
            );
            let seen = seen(&bench, &fields).await;
            assert_eq!(seen.values("upgrade"), Vec::from_iter(left), "{http1:?}: {upgrade:?}: {}", seen.head);
            assert_eq!(seen.values("http2-settings"), Vec::<&str>::new(), "{http1:?}: {upgrade:?}: {}", seen.head);
            let connection = left.map(|_| "upgrade");
            assert_eq!(seen.values("connection"), Vec::from_iter(connection), "{http1:?}: {upgrade:?}: {}", seen.head);
        }
        // What follows is for the routes to judge, as ever.
        let answer = exchange(
            bench.addr,
            b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n\
              GET /admin HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        );
        assert!(answer.await.contains("HTTP/1.1 503"), "{http1:?}");
    }
}

/// A backend changes to what was asked for, or to nothing (RFC 9110 section 7.8).
#[tokio::test]
async fn a_switch_to_what_nobody_asked_for_is_refused() {
    let switch = |fields: &str| format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n\r\nsecret");
    for http1 in PATHS {
        for (asked, agreed) in [
            ("h2c", "upgrade: h2c\r\nconnection: upgrade"),
            ("websocket", "upgrade: h2c\r\nconnection: upgrade"),
            ("websocket, h2c", "upgrade: h2c\r\nconnection: upgrade"),
            ("websocket", "upgrade: websocket, h2c\r\nconnection: upgrade"),
            ("websocket", "upgrade: other\r\nconnection: upgrade"),
            ("websocket", "connection: upgrade"),
            ("websocket", "x: y"),
        ] {
            let bench = Bench::start(http1, switch(agreed)).await;
            let ask = format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\nupgrade: {asked}\r\n\r\n");
            let answer = exchange(bench.addr, ask.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 502") && !answer.contains("secret"), "{http1:?}: {asked}: {answer}");
        }
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
