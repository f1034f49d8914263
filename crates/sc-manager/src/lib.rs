//! The daemon of sc: it looks, plans and acts.
//!
//! ```text
//!  store ──watch──▶ Mirror ─┐                       ┌─▶ commits (records, routes), fenced
//!  engine ──observe──────── ├─▶ pass: plan(desired, ┤
//!  replicas ──probes─────── │        observed)      └─▶ engine calls, one task each
//!  proxies ──stats──▶ Reports ─▶ scaler: decide ──▶ commits want, fenced
//!  people ──HTTP──▶ api ──▶ commands: compare-and-set commits, by any manager
//! ```
//!
//! | part | where |
//! |---|---|
//! | who leads | [`lead`] |
//! | the loop | [`reconcile`] |
//! | probes, proxies' reports, usage | [`probe`], [`proxies`], [`usage`] |
//! | how many | [`scaler`] |
//! | what that was decided from, kept for a day | [`record`] |
//! | certificates: what is told of them, and those from an authority | [`certs`] |
//! | what users ask for | [`commands`] |
//! | what users see | [`view`] |
//! | HTTP | [`api`] |
//!
//! Nothing here reads the system's clock but [`clock::SystemClock`]; all waiting is tokio's, so that the simulator runs
//! these very loops under paused time.

pub mod api;
pub mod blobs;
pub mod certs;
pub mod clock;
pub mod commands;
pub mod events;
pub mod identity;
mod latest;
pub mod lead;
pub mod metrics;
pub mod mirror;
mod outside;
mod pace;
pub mod probe;
mod problem;
pub mod proxies;
pub mod reconcile;
pub mod record;
mod run;
pub mod scaler;
mod settings;
pub mod usage;
pub mod view;
pub mod waiting;
pub mod world;

pub use reconcile::{Parts, Reconciler};
pub use run::{Error, Running, run, start, start_with};
pub use settings::{Acme, Config, LETS_ENCRYPT, Settings};
pub use world::World;
