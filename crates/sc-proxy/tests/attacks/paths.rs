//! No way of writing a path leads around a route.

use super::bench::{Bench, GOOD, PATHS, exchange};

/// `/admin` belongs to an app that is stopped: whoever gets there gets a 503 and the other app sees nothing.
const SAME: &[&str] = &[
    "/admin",
    "/admin/",
    "/admin/x",
    "/admin?x",
    "//admin",
    "///admin",
    "/./admin",
    "/x/../admin",
    "/../admin",
    "/x/..//admin",
    "/%61dmin",
    "/%61%64%6d%69%6e",
    "/%2e/admin",
    "/x/%2e%2e/admin",
    "/x/%2E%2e/admin",
    "/x/.%2e/admin",
    "/x/..;a/admin",
    "/x/..;/admin",
    "/.;/admin",
    "/a/b/../../admin",
    "/%2E%2E/admin",
    "/admin/.",
    "/admin/x/..",
    "/x/../y/..//./admin/",
    "http://a/admin",
    "http://a//admin",
    "http://a/x/%2e%2e/admin",
];

/// Not the same path: an encoded slash, percent or backslash is data, and a prefix counts by whole segments.
const OTHER: &[&str] = &[
    "/",
    "/adminx",
    "/admi",
    "/x/admin",
    "/admin%2fx",
    "/%2fadmin",
    "/x%2f..%2fadmin",
    "/%2561dmin",
    "/admin/..",
    "/x?/../admin",
    "/admin/../x",
    "/Admin",
];

#[tokio::test]
async fn a_route_is_found_however_its_path_is_written() {
    for http1 in PATHS {
        let bench = Bench::start_with(http1, GOOD, &["/admin"], |_| ()).await;
        for target in SAME {
            let bytes = format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
            let answer = exchange(bench.addr, bytes.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 503"), "{http1:?}: {target} gave {answer}");
        }
        let seen: Vec<_> = bench.backend.requests().iter().map(|seen| seen.target().to_owned()).collect();
        assert_eq!(seen, Vec::<String>::new(), "{http1:?}: these went around the route");
    }
}

#[tokio::test]
async fn a_path_that_differs_is_another() {
    for http1 in PATHS {
        let bench = Bench::start_with(http1, GOOD, &["/admin"], |_| ()).await;
        for target in OTHER {
            let bytes = format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n");
            bench.passes(&format!("{http1:?}: {target}"), bytes.as_bytes()).await;
        }
    }
}

#[tokio::test]
async fn a_fragment_or_a_backslash_is_no_path() {
    for http1 in PATHS {
        let bench = Bench::start_with(http1, GOOD, &["/admin"], |_| ()).await;
        for target in ["/x#/../admin", "/x\\..\\admin", "\\admin", "/\\admin"] {
            let bytes = format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n");
            bench.refuses(&format!("{http1:?}: {target}"), bytes.as_bytes(), &["400", "404"]).await;
        }
    }
}
