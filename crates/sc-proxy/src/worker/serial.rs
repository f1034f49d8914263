//! Maps by serial numbers of ours: nobody outside chooses the keys, so a multiplication is hash enough.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// A map whose keys are serial numbers.
pub(super) type BySerial<T> = HashMap<u64, T, BuildHasherDefault<SerialHasher>>;

/// Spreads a number over all bits (Fibonacci hashing).
#[derive(Default)]
pub(super) struct SerialHasher(u64);

impl Hasher for SerialHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
