//! The proxy's readers of bytes, as they are.

#[path = "../../src/http1/mod.rs"]
pub mod http1;
#[path = "../../src/table/path.rs"]
pub mod path;
#[path = "../../src/proxy_protocol.rs"]
pub mod proxy_protocol;
