//! A backend's answer: what goes on of its head is read again with the same status and framing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sc_proxy_fuzz::http1::{Answer, Framing, answer, fields, forward_response};

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let to_head = first & 1 == 1;
    let mut room = fields();
    let Ok(Answer::Head(response)) = answer(bytes, to_head, &mut room) else { return };
    let mut out = Vec::new();
    forward_response(&response, b"Sun, 06 Nov 1994 08:49:37 GMT", first & 2 == 2, &mut out);
    let mut room = fields();
    match answer(&out, to_head, &mut room) {
        Ok(Answer::Head(again)) => {
            assert_eq!((again.status, again.len), (response.status, out.len()));
            let chunked = |framing: Framing| matches!(framing, Framing::Chunked | Framing::Close);
            let same = again.body == response.body || (chunked(again.body) && chunked(response.body));
            assert!(same, "{:?} goes on as {:?}", response.body, again.body);
        }
        _ if response.fields.len() + 8 > sc_proxy_fuzz::http1::FIELDS => {}
        _ => panic!("it goes on as {:?}", String::from_utf8_lossy(&out)),
    }
});
