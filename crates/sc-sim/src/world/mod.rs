//! The seeded world: the real manager loop on a simulated store, engine, proxies and clock, under tokio's paused time,
//! while users command and everything fails that can.
//!
//! ```text
//!  users ──commands──▶ managers (real; killed at any call, frozen, two at once)
//!                        │ StoreEdge (slow, failing, late, lost answers)   │ EngineEdge
//!                        ▼                                                 ▼
//!                      Memory ◀──StoreEdge── proxies ──requests──▶ Fake (slow, hanging, late, double)
//!                        └──── every commit ────▶ Watchdog: sc_core::check, stops, misrouting, lost commands
//! ```
//! One thread, no clock but tokio's, no dice but the seed's: a seed gives the same run again.

pub mod chaos;
pub mod engine;
pub mod life;
pub mod manager;
pub mod proxy;
pub mod store;
pub mod trace;
pub mod users;
pub mod watchdog;
pub mod weather;

use std::sync::Arc;

use trace::Trace;

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// The hash of everything that happened.
    pub hash: u64,
    /// What must never happen, and did.
    pub violations: Vec<String>,
    /// The latest lines of the trace.
    pub lines: Vec<String>,
}

/// Runs the world of a seed. `verbose` prints what happens.
///
/// # Panics
/// When no runtime can be made.
pub fn run(seed: u64, verbose: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime with a paused clock needs nothing from the system");
    runtime.block_on(async {
        let trace = Arc::new(Trace::new(verbose));
        chaos::Chaos::new(seed, trace.clone()).run().await;
        Outcome { seed, hash: trace.hash(), violations: trace.violations(), lines: trace.lines() }
    })
}
