//! The buckets of all clients in a fixed room, shared by the threads without a lock.
//!
//! A client has a bucket in each of four rows, by a keyed hash: other clients may have the same one in a row, but hardly in all
//! four. It may pass if any of its four has a token; then all four pay. A bucket that is shared is emptier than its client's
//! own would be, never fuller: whatever others send, nobody's limit is lifted, and nothing is ever evicted. With a thousand
//! other clients at their limits, one in 70,000 clients is taken for one of them.
//!
//! Threads that count the same client in the same instant may let one request through each; its bucket has paid for all of
//! them, so that the rate holds.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::Bucket;

const ROWS: usize = 4;
/// Buckets of a row: 512 KiB in all.
const ROW: usize = 1 << 14;

/// The buckets of all clients.
#[derive(Debug)]
pub struct Meter {
    cells: Box<[AtomicU64]>,
    /// Nobody outside can find clients that share a bucket.
    seed: RandomState,
}

impl Default for Meter {
    fn default() -> Self {
        Self { cells: (0..ROWS * ROW).map(|_| AtomicU64::new(0)).collect(), seed: RandomState::new() }
    }
}

impl Meter {
    /// Takes a token of a client. `now`: nanoseconds since any time zero.
    ///
    /// # Errors
    /// In how many nanoseconds it will have one.
    pub fn take(&self, bucket: Bucket, client: impl Hash, now: u64) -> Result<(), u64> {
        let hash = self.seed.hash_one(client);
        let cell = |row: usize| &self.cells[row * ROW + (hash >> (16 * row)) as usize % ROW];
        let mut wait = u64::MAX;
        for row in 0..ROWS {
            match cell(row).fetch_update(Relaxed, Relaxed, |full_at| bucket.take(full_at, now).ok()) {
                Ok(_) => {
                    for other in (0..ROWS).filter(|other| *other != row) {
                        let charge = |full_at| Some(bucket.charge(full_at, now));
                        let _ = cell(other).fetch_update(Relaxed, Relaxed, charge);
                    }
                    return Ok(());
                }
                Err(full_at) => wait = wait.min(bucket.take(full_at, now).err().unwrap_or(1)),
            }
        }
        Err(wait)
    }
}

#[cfg(test)]
mod tests {
    use sc_core::spec::{ClientKey, Rate};

    use super::*;

    fn bucket(burst: u32) -> Bucket {
        Bucket::new(&Rate { requests: 1, per_ms: 1_000, burst: Some(burst), by: ClientKey::Address })
    }

    #[test]
    fn a_client_gets_its_limit_and_no_more_whatever_others_send() {
        let (meter, bucket) = (Meter::default(), bucket(5));
        let passed = |now| (0..10).filter(|_| meter.take(bucket, "me", now).is_ok()).count();
        assert_eq!(passed(0), 5);
        (0..200_000u32).for_each(|other| _ = meter.take(bucket, other, 0));
        assert_eq!((passed(0), passed(999_999_999)), (0, 0), "the others have not lifted it");
        assert!(passed(1_000_000_000) <= 1, "and a token is one");
    }

    #[test]
    fn others_at_their_limits_take_nothing_from_a_client() {
        let (meter, bucket) = (Meter::default(), bucket(5));
        for other in 0..1_000u32 {
            (0..10).for_each(|_| _ = meter.take(bucket, other, 0));
        }
        let spared = (1_000_000..1_001_000u32).filter(|client| meter.take(bucket, client, 0).is_ok()).count();
        assert!(spared >= 995, "{spared} of 1000");
    }

    #[test]
    fn the_limit_holds_across_threads() {
        let (meter, bucket, threads) = (Meter::default(), bucket(1_000), 4);
        let count = || (0..5_000).filter(|_| meter.take(bucket, "me", 7).is_ok()).count();
        let passed: usize = std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(count)).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!((1_000..1_000 + threads).contains(&passed), "{passed}");
        assert!(meter.take(bucket, "me", 7).is_err());
    }
}
