//! Which backend gets a request, and which is passed over: pure decisions.

pub mod budget;
pub mod health;
pub mod pick;

pub use budget::Budget;
pub use health::Health;
pub use pick::pick;
