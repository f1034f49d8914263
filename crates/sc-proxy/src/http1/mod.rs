//! HTTP/1.1 on the wire (RFC 9112): pure. Bytes in, decisions and bytes out; no sockets, no clock.
//!
//! It takes a strict part of the protocol only. What is outside of it is [`Verdict::Odd`] and goes to hyper, which has an answer
//! for everything; nothing of it has been forwarded then.

mod body;
mod chunked;
mod field;
mod forward;
mod guard;
mod request;
mod response;

pub use body::{Body, Encoding, Framing, Step};
pub use chunked::{Chunked, Piece};
pub use field::{Connection, is_barred, length};
pub use forward::{From, add_field, forward_request, forward_response};
pub use guard::Guard;
pub use request::{FIELDS, Fields, Request, Verdict, fields, judge};
pub use response::{Answer, Response, answer};

/// A message that breaks the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message is malformed: {0}")]
pub struct Bad(pub &'static str);
