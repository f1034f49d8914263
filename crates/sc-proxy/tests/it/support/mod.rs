//! Backends, clients and proxies for the tests.

mod backend;
mod backend2;
mod client;
pub mod line;
mod load;
mod proxy;
mod tls;

use std::time::{Duration, Instant};

pub use self::{
    backend::Backend,
    backend2::{Backend2, first_request, frame},
    client::{Conn, Reply, delete, get, raw, request},
    load::{Load, Totals},
    proxy::{Proxy, Stats, app, backends, quiet},
    tls::{Conn2, Pair, connect, get_tls, trusting},
};

/// Polls until the condition holds; fails after ten seconds.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(Instant::now() < deadline, "in vain: waited until {what}");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// A pattern of `n` bytes with no short period.
pub fn pattern(n: usize) -> Vec<u8> {
    (0..n as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// A digest good enough to notice any lost, doubled or moved byte.
pub fn digest(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
