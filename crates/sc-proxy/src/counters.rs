//! Counters of one thread each: written by their owner with plain stores, read by anybody, summed by the reader.
//!
//! A block's counters belong together (arrivals = answers + in flight), so a reader must not see half an update: the owner
//! makes `version` odd while it writes, and a reader that meets an odd or a changed version reads again.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*, fence};

use sc_core::stats::{BUCKETS, Histogram, bucket_of};

/// `N` counters of one thread, on cache lines of their own.
#[derive(Debug)]
#[repr(align(128))]
pub struct Block<const N: usize> {
    version: AtomicU32,
    slots: [AtomicU64; N],
}

impl<const N: usize> Default for Block<N> {
    fn default() -> Self {
        Self { version: AtomicU32::new(0), slots: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

/// Writes to a block; made by its owner only.
pub struct Writer<'a, const N: usize>(&'a Block<N>);

impl<const N: usize> Block<N> {
    /// Changes some counters at once. Only the thread that owns the block may call this.
    pub fn write(&self, change: impl FnOnce(Writer<'_, N>)) {
        let version = self.version.load(Relaxed);
        self.version.store(version.wrapping_add(1), Relaxed);
        fence(Release);
        change(Writer(self));
        self.version.store(version.wrapping_add(2), Release);
    }

    /// All counters as they were at one instant.
    pub fn read(&self) -> [u64; N] {
        loop {
            let before = self.version.load(Acquire);
            let values = std::array::from_fn(|n| self.slots[n].load(Relaxed));
            fence(Acquire);
            if before.is_multiple_of(2) && self.version.load(Relaxed) == before {
                return values;
            }
            // The owner is within a handful of stores, unless it was descheduled there.
            std::thread::yield_now();
        }
    }
}

impl<const N: usize> Writer<'_, N> {
    /// Adds to a counter, wrapping.
    pub fn add(&self, slot: usize, n: u64) {
        let slot = &self.0.slots[slot];
        slot.store(slot.load(Relaxed).wrapping_add(n), Relaxed);
    }
}

/// A histogram of one thread, with the buckets of [`Histogram`].
#[derive(Debug)]
pub struct Buckets {
    counts: Box<[AtomicU64]>,
    sum_nanos: AtomicU64,
}

impl Default for Buckets {
    fn default() -> Self {
        Self { counts: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), sum_nanos: AtomicU64::new(0) }
    }
}

impl Buckets {
    /// Counts a duration. Only the thread that owns it may call this.
    pub fn record(&self, nanos: u64) {
        add(&self.counts[usize::from(bucket_of(nanos))], 1);
        add(&self.sum_nanos, nanos);
    }

    /// Adds what was counted to `sum`.
    pub fn add_to(&self, sum: &mut Histogram) {
        for (bucket, count) in self.counts.iter().enumerate() {
            let count = count.load(Relaxed);
            if count > 0 {
                *sum.buckets.entry(bucket as u16).or_default() += count;
            }
        }
        sum.sum_seconds += self.sum_nanos.load(Relaxed) as f64 * 1e-9;
    }
}

fn add(slot: &AtomicU64, n: u64) {
    slot.store(slot.load(Relaxed).wrapping_add(n), Relaxed);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn a_reader_never_sees_half_an_update() {
        let (block, done) = (Block::<2>::default(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..200_000 {
                    block.write(|w| {
                        w.add(0, 1);
                        w.add(1, 3);
                    });
                }
                done.store(true, Release);
            });
            while !done.load(Acquire) {
                let [a, b] = block.read();
                assert_eq!(a * 3, b);
            }
        });
        assert_eq!(block.read(), [200_000, 600_000]);
    }

    #[test]
    fn buckets_sum_to_the_same_histogram() {
        let (buckets, mut want, mut got) = (Buckets::default(), Histogram::default(), Histogram::default());
        for nanos in [0, 1_500, 90_000, 90_001, 5_000_000_000] {
            buckets.record(nanos);
            want.record(nanos);
        }
        buckets.add_to(&mut got);
        assert_eq!(got.buckets, want.buckets);
        assert!((got.sum_seconds - want.sum_seconds).abs() < 1e-9);
    }
}
