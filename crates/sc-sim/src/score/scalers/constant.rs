//! No scaling at all.

use super::{Scaler, Seen};

/// Always so many.
#[derive(Debug, Clone)]
pub struct Constant(
    /// How many.
    pub u32,
);

impl Scaler for Constant {
    fn step(&mut self, _: &Seen) -> u32 {
        self.0
    }
}
