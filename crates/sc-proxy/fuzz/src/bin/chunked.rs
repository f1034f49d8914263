//! Chunked coding: the same bytes give the same body however they are cut, and what is written of it is read as the same body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sc_proxy_fuzz::http1::{Body, Encoding, Framing};

/// The body and whether it has ended; none where it is malformed. And how many bytes were used.
fn read(bytes: &[u8], size: usize) -> Option<(Vec<u8>, Body, usize)> {
    let (mut body, mut data, mut used) = (Body::new(Framing::Chunked), Vec::new(), 0);
    for piece in bytes.chunks(size) {
        let mut piece = piece;
        while !piece.is_empty() && !body.is_done() {
            let step = body.next(piece).ok()?;
            assert!(step.used > 0, "it stands still");
            data.extend_from_slice(&piece[step.data]);
            used += step.used;
            piece = &piece[step.used..];
        }
    }
    Some((data, body, used))
}

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes, bytes.len().max(1));
    for size in [1, 3, 17] {
        let cut = read(bytes, size);
        assert_eq!(
            cut.as_ref().map(|(data, body, used)| (data, body.is_done(), *used)),
            whole.as_ref().map(|(data, body, used)| (data, body.is_done(), *used)),
        );
    }
    let Some((data, body, _)) = whole.filter(|(_, body, _)| body.is_done()) else { return };
    let encoding = Encoding::Chunked { trailers: true };
    let mut out = Vec::new();
    encoding.put(&data, &mut out);
    encoding.end(&body, &mut out);
    let (again, end, used) = read(&out, out.len()).expect("we write what we can read");
    assert!(again == data && end.is_done() && used == out.len());
    assert_eq!(end.trailers(), body.trailers());
});
