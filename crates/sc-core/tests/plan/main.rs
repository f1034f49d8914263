//! The plan, in ordinary cases and whatever happens.

mod canary;
mod cases;
mod properties;
mod shed;
mod warm;
mod world;
