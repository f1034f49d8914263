//! A request's head: whatever is taken for a plain request passes the guard in front of hyper too, and goes on with the same framing,
//! host and target; and the guard does not depend on how the bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sc_proxy_fuzz::{
    http1::{FIELDS, From, Guard, Verdict, fields, forward_request, judge},
    path::normal_path,
};

fuzz_target!(|bytes: &[u8]| {
    // The last line ends, so that it is judged whatever came before it.
    let ended = [bytes, b"\n\r\n\r\n"].concat();
    let shut = |size: usize| {
        let mut guard = Guard::new(64 * 1024, FIELDS);
        ended.chunks(size).for_each(|part| _ = guard.watch(part));
        guard.is_shut()
    };
    assert_eq!(shut(ended.len()), shut(1), "the guard depends on how bytes arrive");

    let mut room = fields();
    let Verdict::Plain(request) = judge(bytes, FIELDS, &mut room) else { return };
    let mut guard = Guard::new(64 * 1024, FIELDS);
    assert_eq!(guard.watch(&bytes[..request.len]), request.len, "the guard refuses it");

    let mut out = Vec::new();
    forward_request(&request, request.target, From { address: b"9.9.9.9", trusted: false, secure: false }, &mut out);
    let mut room = fields();
    match judge(&out, FIELDS + 8, &mut room) {
        Verdict::Plain(again) => assert_eq!(
            (again.body, again.host, again.target, again.len),
            (request.body, request.host, request.target, out.len()),
        ),
        // Our own fields may have been too many.
        _ if request.fields.len() + 8 > FIELDS => {}
        _ => panic!("it goes on as {:?}", String::from_utf8_lossy(&out)),
    }
    let path = normal_path(request.path());
    assert_eq!(normal_path(&path), path);
});
