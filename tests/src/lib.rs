//! What the tests of the whole stand on: an installation of their own ([`Cloud`]), a load with exact accounting
//! ([`Load`]), programs and Docker to drive, and waiting that ends.

pub mod acme;
pub mod certificates;
pub mod cloud;
pub mod docker;
pub mod etcd;
pub mod load;
pub mod programs;
pub mod slot;
pub mod tls;

use std::time::{Duration, Instant};

pub use cloud::Cloud;
pub use etcd::Etcd;
pub use load::{Load, LoadSpec, Tally, Target};
pub use programs::{Out, program};

/// Waits until `look` gives something, trying about twenty times a second.
///
/// # Panics
/// When the deadline passes; names what was waited for.
pub async fn poll<T>(within: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "waited {} s in vain for: {what}", within.as_secs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether the long runs are wanted (`tests/run --long`).
pub fn long() -> bool {
    std::env::var_os("SC_TEST_LONG").is_some()
}

/// Seconds, shortly.
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
