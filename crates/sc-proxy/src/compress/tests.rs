use super::*;

fn asked(fields: &[(&'static str, &'static str)]) -> Asked {
    let mut request = Request::builder().uri("/");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    compressor().asked(&request.body(()).unwrap())
}

fn compressor() -> Compressor {
    Compressor::new(&Compress::default())
}

fn head(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    map
}

const BR: (&str, &str) = ("accept-encoding", "gzip, br");
const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");

#[test]
fn an_answer_that_shrinks_is_planned_and_its_head_fits() {
    let mut headers =
        head(&[HTML, ("content-length", "5000"), ("etag", "\"a\""), ("accept-ranges", "bytes"), ("vary", "Origin")]);
    let plan = compressor().plan(&asked(&[BR]), StatusCode::OK, &mut headers, true);
    assert_eq!(plan, Some(Plan { coding: Coding::Br, length: Some(5000) }));
    let vary: Vec<_> = headers.get_all(VARY).iter().collect();
    assert_eq!(vary, ["Origin", "Accept-Encoding"]);
    assert_eq!(headers[ETAG], "W/\"a\"");
    assert_eq!(headers[CONTENT_ENCODING], "br");
    assert!(!headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(ACCEPT_RANGES));
}

#[test]
fn who_does_not_ask_gets_it_as_it_is_but_caches_are_told() {
    for (fields, has_room) in [
        (&[][..], true),
        (&[("accept-encoding", "identity")], true),
        (&[BR, ("cache-control", "no-transform")], true),
        (&[BR], false),
    ] {
        let mut headers = head(&[HTML, ("content-length", "5000"), ("etag", "\"a\"")]);
        assert_eq!(compressor().plan(&asked(fields), StatusCode::OK, &mut headers, has_room), None);
        assert!(headers[VARY] == WANTS_CODING && headers[ETAG] == "\"a\"", "{fields:?}");
    }
    let head_only = Request::head("/").header("accept-encoding", "br").body(()).unwrap();
    assert_eq!(compressor().asked(&head_only).coding, None);
    let old = Request::get("/").version(Version::HTTP_10).header("accept-encoding", "br").body(()).unwrap();
    assert_eq!(compressor().asked(&old).coding, None);
}

#[test]
fn what_must_not_change_does_not() {
    let all: [&[(&'static str, &'static str)]; 14] = [
        &[HTML, ("content-length", "1023")],
        &[HTML, ("content-encoding", "gzip")],
        &[HTML, ("content-encoding", "identity")],
        &[HTML, ("content-range", "bytes 0-1/2")],
        &[HTML, ("cache-control", "public, No-Transform")],
        &[HTML, ("content-digest", "sha-256=:x:")],
        &[HTML, ("content-md5", "x")],
        &[("content-type", "image/png")],
        &[("content-type", "application/grpc+json")],
        &[("content-type", "application/grpc")],
        &[("content-type", "text/event-stream")],
        &[("content-type", "application/octet-stream")],
        &[("content-type", "")],
        &[],
    ];
    for fields in all {
        let mut headers = head(fields);
        assert_eq!(compressor().plan(&asked(&[BR]), StatusCode::OK, &mut headers, true), None, "{fields:?}");
        assert_eq!(headers, head(fields));
    }
    for status in [204, 205, 206] {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(compressor().plan(&asked(&[BR]), status, &mut head(&[HTML]), true), None, "{status}");
    }
}

#[test]
fn types_are_those_known_or_those_named() {
    let fits = |types: &[&str], kind: &'static str| {
        let types = types.iter().map(|name| (*name).to_owned()).collect();
        Compressor::new(&Compress { types, ..Compress::default() }).fits(&head(&[("content-type", kind)]))
    };
    for kind in
        ["text/css", "Application/JSON ; charset=utf-8", "image/svg+xml", "application/problem+json", "font/ttf"]
    {
        assert!(fits(&[], kind), "{kind}");
    }
    assert!(fits(&["text/*"], "text/event-stream") && !fits(&["text/*"], "application/json"));
    assert!(fits(&["Image/PNG"], "image/png") && !fits(&["image/png"], "image/pngx"));
    assert!(!fits(&["application/*"], "application/grpc"));
}

#[test]
fn a_304_speaks_of_what_the_client_has() {
    let tag = |known: &'static str| {
        let mut headers = head(&[("etag", "\"a\"")]);
        let asked = asked(&[BR, ("if-none-match", known)]);
        assert_eq!(compressor().plan(&asked, StatusCode::NOT_MODIFIED, &mut headers, true), None);
        assert_eq!(headers[VARY], WANTS_CODING);
        headers[ETAG].to_str().unwrap().to_owned()
    };
    assert_eq!(tag("\"x\", W/\"a\""), "W/\"a\"");
    assert_eq!(tag("\"a\""), "\"a\"");
    assert_eq!(tag("*"), "\"a\"");
}

#[test]
fn vary_is_told_once() {
    for kept in ["accept-encoding, cookie", "*"] {
        let mut headers = head(&[HTML, ("vary", kept)]);
        compressor().plan(&asked(&[BR]), StatusCode::OK, &mut headers, true).unwrap();
        assert_eq!(headers.get_all(VARY).iter().collect::<Vec<_>>(), [kept]);
    }
}
