//! Real request counts through the real [`sc_scale::decide()`], and through the rules of its peers, scored by the same
//! measures.
//!
//! | step | where |
//! |---|---|
//! | counts per bucket → requests per second, every second | [`trace`] |
//! | the app that is scaled: what a replica can really take, known to nobody but the simulator | [`app`] |
//! | a second of it: request by request ([`requests`]), or as a fluid ([`fluid`]) for more than 10⁷ of them | [`plant`] |
//! | replicas that start, serve and drain | [`fleet`] |
//! | what goes wrong meanwhile | [`fault`] |
//! | who decides | [`scalers`] |
//! | a run, second by second | [`mod@run`] |
//! | how good that was | [`metrics`] |
//! | all scalers on all traces, the peers tuned in hindsight | [`contest`] |
//! | for people | [`table`], [`plot`] |
//!
//! Everything here is a pure function of its arguments and a seed.

pub mod app;
pub mod contest;
pub mod fault;
pub mod fleet;
pub mod fluid;
pub mod metrics;
pub mod plant;
pub mod plot;
pub mod requests;
pub mod run;
pub mod scalers;
pub mod story;
pub mod table;
pub mod trace;

pub use contest::{Contest, Row};
pub use run::{Run, run};
