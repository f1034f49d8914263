//! The two readers of a request's head, changed bytes by a seed: they agree with each other, and what goes on is read alike.

use sc_proxy::{
    http1::{From, Guard, Verdict, fields, forward_request, judge},
    table::normal_path,
};

use super::mutated;

const ROUNDS: u64 = 30_000;
const FIELDS: usize = 100;

#[test]
fn a_plain_request_passes_the_guard_and_goes_on_with_the_same_framing() {
    let mut plain = 0;
    for seed in 0..ROUNDS {
        let bytes = mutated::request(seed);
        let mut room = fields();
        let Verdict::Plain(request) = judge(&bytes, FIELDS, &mut room) else { continue };
        plain += 1;
        let shown = || format!("SC_SEED={seed}: {:?}", String::from_utf8_lossy(&bytes));
        let mut guard = Guard::new(64 * 1024, FIELDS);
        assert_eq!(guard.watch(&bytes[..request.len]), request.len, "{}", shown());

        let mut out = Vec::new();
        forward_request(
            &request,
            request.target,
            From { address: b"9.9.9.9", trusted: false, secure: false },
            &mut out,
        );
        let mut room = fields();
        let Verdict::Plain(again) = judge(&out, FIELDS, &mut room) else {
            panic!("{} goes on as {:?}", shown(), String::from_utf8_lossy(&out))
        };
        assert_eq!(
            (again.body, again.host, again.target, again.len),
            (request.body, request.host, request.target, out.len()),
            "{}",
            shown()
        );

        let path = normal_path(request.path());
        assert_eq!(normal_path(&path), path, "{}", shown());
        assert!(!path.split('/').any(|segment| matches!(segment.split(';').next(), Some(".."))), "{}: {path}", shown());
    }
    assert!(plain > ROUNDS / 20, "only {plain} of them were requests");
}

/// However the bytes are cut, the guard stops before the same request.
#[test]
fn the_guard_does_not_depend_on_how_bytes_arrive() {
    for seed in 0..ROUNDS / 10 {
        // The last line ends, so that it is judged whatever came before it.
        let bytes = [&mutated::request(seed)[..], &mutated::request(seed + 1), b"\n\r\n\r\n"].concat();
        let shut = |size: usize| {
            let mut guard = Guard::new(64 * 1024, FIELDS);
            bytes.chunks(size).for_each(|part| _ = guard.watch(part));
            guard.is_shut()
        };
        let whole = shut(bytes.len());
        for size in [1, 3, 17] {
            assert_eq!(shut(size), whole, "SC_SEED={seed} by {size}: {:?}", String::from_utf8_lossy(&bytes));
        }
    }
}
