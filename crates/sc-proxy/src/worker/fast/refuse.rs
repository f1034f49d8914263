//! The proxy's own answers, as bytes.

use crate::{headers::REASON, worker::answer::Refusal};

/// An answer. `to_head`: to a HEAD, without the body; `close`: the connection ends after it.
pub(super) fn text(refusal: Refusal, date: &[u8], to_head: bool, close: bool) -> Vec<u8> {
    let (status, reason, text) = refusal.parts();
    let body = format!("{} {text}\n", status.as_u16());
    let retry = refusal.retry_after().map_or_else(String::new, |seconds| format!("retry-after: {seconds}\r\n"));
    let close = if close { "connection: close\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\n{REASON}: {reason}\r\n{retry}{close}\
         content-length: {}\r\ndate: ",
        body.len()
    );
    let end: &[&[u8]] = &[head.as_bytes(), date, b"\r\n\r\n", if to_head { b"" } else { body.as_bytes() }];
    end.concat()
}
