//! The pure core of sc: what the nouns are ([`names`], [`spec`], [`records`]), what the app file says ([`mod@file`],
//! [`validate`], [`units`]), and what follows from them ([`mod@plan`], [`mod@routes`], [`mod@check`]).
//!
//! Nothing here does I/O, reads a clock or throws dice: `now` and what was observed are arguments, so the same
//! inputs give the same answer in production, in a test and in the simulator. `clippy.toml` beside this crate bans the
//! calls that would break this.

pub mod acme;
pub mod canary;
pub mod certs;
pub mod check;
pub mod cron;
pub mod file;
pub mod names;
pub mod observed;
pub mod plan;
pub mod records;
pub mod routes;
pub mod rules;
pub mod scaling;
pub mod spec;
pub mod stats;
pub mod units;
pub mod validate;
pub mod warm;

pub use check::check;
pub use names::{AppId, Name, NameError, ReplicaId};
pub use plan::plan;
pub use routes::routes;
