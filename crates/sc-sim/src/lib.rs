//! A seeded world with faults around the real manager loop (development only). `sc-sim world` runs it; the autoscaler's
//! part (`score`, `plot`) will live beside it.

pub mod dice;
pub mod world;
