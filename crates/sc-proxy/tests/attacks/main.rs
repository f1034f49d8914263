//! Bytes that try to lead the proxy astray, as tables: what is sent, what must come back, what the backend may have seen.
//! Every case runs over the proxy's own HTTP/1.1 path and over hyper's.

mod answers;
mod backend;
mod bench;
mod chunks;
mod differential;
mod duties;
mod floods;
mod framing;
mod mutated;
mod parsers;
mod paths;
mod slow;
mod syntax;
