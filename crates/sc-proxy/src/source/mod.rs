//! Where routes come from: one small trait, four sources.
//!
//! A source never fails: what it cannot reach it waits for, saying so, and what it cannot read it leaves as it was. The last
//! good table serves on meanwhile.

pub mod certs;
pub mod file;
mod given;
pub(crate) mod link;
mod manager;
mod store;
mod target;
mod terms;

use std::time::Duration;

use async_trait::async_trait;
use sc_core::{AppId, routes::AppRoutes};

use crate::probe::Probes;

pub use self::certs::{CertSource, Opened, Stored};
pub(crate) use self::{
    certs::{GivenCerts, StoreCerts},
    file::FileSource,
    given::GivenSource,
    manager::{ManagerCerts, ManagerSource},
    store::StoreSource,
};

/// What changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Update {
    /// Everything up to this revision is included.
    pub revision: u64,
    /// `put` is all there is (and `keep`); else only what changed follows.
    pub whole: bool,
    /// New or changed.
    pub put: Vec<AppRoutes>,
    /// Gone.
    pub delete: Vec<AppId>,
    /// There, but not readable: the last good routes of these stay.
    pub keep: Vec<AppId>,
    /// Why what was read was refused as a whole; nothing has changed then.
    pub refused: Option<String>,
    /// How backends are to be probed, by app; none: as before. Only for sources with no manager behind them.
    pub probes: Option<Probes>,
}

/// A source of routes.
#[async_trait(?Send)]
pub trait RouteSource {
    /// Waits for the next change; the first is whole. Not called again before it has answered, but may be dropped while it waits.
    async fn next(&mut self) -> Update;

    /// Somebody knows of a change that did not come: the next one is whole. Nothing for sources that look themselves.
    fn relist(&mut self) {}
}

/// How long a watch or a stream is believed before everything is listed again. Less than the time that a replica drains by
/// default: where an event was lost, that is noticed before the replica is stopped.
const RELIST: Duration = Duration::from_secs(20);

/// So long or up to a third less, at random, so that many proxies do not list at once.
fn scattered(patience: Duration) -> Duration {
    patience.mul_f64(1.0 - random() / 3.0)
}

/// Waits between attempts: doubling from 100 ms to 5 s, each cut by up to a half at random so that many proxies do not come
/// back at once.
#[derive(Debug, Default)]
pub(crate) struct BackOff {
    failures: u32,
}

impl BackOff {
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    pub(crate) async fn wait(&mut self) {
        let longest = Duration::from_millis(100 << self.failures.min(6)).min(Duration::from_secs(5));
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(longest.mul_f64(1.0 - random() / 2.0)).await;
    }
}

/// A random number from 0 to 1.
pub(crate) fn random() -> f64 {
    let hash = std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), 0u8);
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use sc_core::spec::DrainSpec;

    use super::*;

    #[test]
    fn a_lost_event_is_noticed_before_a_replica_has_drained() {
        let drain = Duration::from_millis(DrainSpec::default().timeout_ms);
        // A third of it for a list that is slow and for requests sent before it.
        assert!(RELIST <= drain * 2 / 3, "{RELIST:?} against {drain:?}");
        for _ in 0..100 {
            assert!((RELIST * 2 / 3..=RELIST).contains(&scattered(RELIST)));
        }
    }
}
