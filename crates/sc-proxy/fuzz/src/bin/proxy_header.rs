//! The PROXY header: more bytes never change what was decided, and what we write of it is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sc_core::spec::ProxyProtocol;
use sc_proxy_fuzz::proxy_protocol::{Header, MAX, Verdict, read};

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes);
    assert!(bytes.len() < MAX || whole != Verdict::Partial, "it is waited for without end");
    for end in 0..bytes.len().min(MAX) {
        match read(&bytes[..end]) {
            Verdict::Partial => {}
            decided => assert_eq!(decided, whole, "decided at {end}, and then otherwise"),
        }
    }
    let Verdict::Whole(header, len) = whole else { return };
    assert!(len <= bytes.len());
    for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
        let text = header.write(version);
        let Verdict::Whole(again, used) = read(&text) else { panic!("we write {text:?}") };
        assert_eq!(used, text.len());
        // Version 1 has no word for two families in one header.
        assert!(again == header || again == Header::Unknown, "{header:?} goes on as {again:?}");
    }
});
