//! The plan, in ordinary cases and whatever happens.

mod cases;
mod properties;
mod warm;
mod world;
