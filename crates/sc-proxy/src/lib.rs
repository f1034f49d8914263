//! The data plane of sc: an HTTP proxy whose routes change with no reload.
//!
//! ```text
//!  clients ─▶ worker threads (one runtime, one listener, one set of upstream pools each) ─▶ backends
//!                 ▲ one immutable table, swapped whole          │ counters, one block per thread
//!                 │                                             ▼
//!             control thread: routes from a source · frames, metrics, admin API · registration
//! ```
//!
//! **One request** ([`worker`]): accept → parse → find the app in the table → choose a backend (two choices, the one with
//! fewer in flight) → reuse or open a connection of this thread's → stream both ways → count. No request is handed to
//! another thread and no lock is taken, unless the request must wait for a backend. Plain HTTP/1.1 is the proxy's own
//! ([`http1`], pure, and `worker::fast`); hyper serves what is not plain, or all of it on request ([`Http1`]).
//!
//! **One change** ([`control`]): a source says what changed → the control thread builds a new [`live::Table`] around the same
//! [`live::Backend`]s (their counters go on) → one swap → each worker sees it, closes what it no longer needs and
//! acknowledges → the next frame reports the revision as applied.
//!
//! The library is what `sc demo` and the tests use: [`start()`] gives a [`Running`] proxy.

pub mod access;
pub mod addresses;
pub mod admin;
pub mod balance;
pub mod compress;
pub mod config;
pub mod control;
pub mod counters;
pub mod headers;
pub mod http1;
pub mod http2;
pub mod live;
pub mod metrics;
pub mod ports;
pub mod probe;
pub mod proxy_protocol;
pub mod rate;
pub mod rules;
pub mod source;
pub mod start;
pub mod sticky;
pub mod table;
pub mod tls;
pub mod upgrade;
pub mod worker;

pub use access::AccessLog;
pub use admin::LogFilter;
pub use config::{Admin, Cidr, Config, Http1, Limits, Source};
pub use start::{Running, StartError, start};
pub use tls::{TlsConfig, TlsError};
