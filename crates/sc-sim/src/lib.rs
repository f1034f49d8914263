//! Two simulators (development only): a seeded world with faults around the real manager loop ([`world`]), and real request
//! counts through the real autoscaler and its peers ([`score`]).

pub mod dice;
pub mod score;
pub mod world;
