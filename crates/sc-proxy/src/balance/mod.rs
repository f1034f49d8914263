//! Which backend gets a request, and which is passed over: pure decisions.

pub mod budget;
pub mod ewma;
pub mod health;
pub mod pick;
pub mod share;
#[cfg(test)]
mod simulated;

pub use budget::Budget;
pub use ewma::Ewma;
pub use health::Health;
pub use pick::pick;
