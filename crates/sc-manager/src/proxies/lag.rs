//! Which proxies are to be told that they have missed a change of the routes.
//!
//! A proxy takes a change some milliseconds after it was written. One that reports and has not taken it after seconds has lost
//! the event of its watch (etcd's are hints): by itself it reads all anew only after up to 20 s, and until then the replicas
//! that are to leave wait for it, or meet their deadline while it still sends to them.

use std::{collections::BTreeMap, time::Duration};

use sc_core::{
    observed::{Observed, ProxySeen},
    plan::Desired,
    records::UnixMs,
};
use tokio::time::Instant;

/// How long a proxy may lack a change before it is told, and between two times that it is.
const LATE: Duration = Duration::from_secs(2);
/// A report older than this tells nothing of what its proxy has applied since.
const FRESH_MS: UnixMs = 3_000;

/// Which revision each proxy lacks, and since when that is known, or since it was told.
#[derive(Debug, Default)]
pub struct Lag(BTreeMap<String, (u64, Instant)>);

impl Lag {
    /// The proxies to be told now: registered, reporting, and without a change that was published some time ago.
    pub fn late(&mut self, desired: &Desired, observed: &Observed, now: Instant) -> Vec<String> {
        let published = desired.apps.values().filter_map(|app| app.published.as_ref());
        let newest = published.map(|published| published.revision).max().unwrap_or(0);
        let lacks = |id: &String, revision: u64| {
            let is_fresh = |seen: &ProxySeen| seen.live && observed.at.saturating_sub(seen.at) < FRESH_MS;
            observed.proxies.get(id).is_some_and(|seen| is_fresh(seen) && seen.applied < revision)
        };
        // One that has what it lacked may lack the next: its time begins anew.
        self.0.retain(|id, (revision, _)| desired.proxies.contains_key(id) && lacks(id, *revision));
        let mut late = Vec::new();
        for id in desired.proxies.keys().filter(|id| lacks(id, newest)) {
            let (_, since) = self.0.entry(id.clone()).or_insert((newest, now));
            if now.saturating_duration_since(*since) >= LATE {
                *since = now;
                late.push(id.clone());
            }
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use sc_core::{
        AppId,
        records::{self, Proxy, key},
        routes::AppRoutes,
    };

    use super::*;

    /// One app whose routes were published at this revision, and the proxies `p` and `q`.
    fn desired(revision: u64) -> Desired {
        let app = AppId::in_default("web").unwrap();
        let spec = serde_json::json!({ "source": { "image": "web:1" }, "port": 8080 });
        let app_record = serde_json::json!({ "v": 1, "version": 1, "next": 1, "created_ms": 0 });
        let version = serde_json::json!({ "v": 1, "spec": spec, "created_ms": 0 });
        let scale = serde_json::json!({ "v": 1, "want": 1 });
        let routes = AppRoutes::new(app.clone(), Vec::new(), Vec::new());
        let proxy = |stats: &str| Proxy {
            v: 1,
            stats: stats.to_owned(),
            boot: String::new(),
            listen: Vec::new(),
            release: String::new(),
            ended: false,
            extra: Default::default(),
        };
        let text = |value: &serde_json::Value| serde_json::to_vec(value).unwrap();
        let entries = [
            (key::app(&app), text(&app_record), 1),
            (key::version(&app, 1), text(&version), 1),
            (key::scale(&app), text(&scale), 1),
            (key::routes(&app), records::write(&routes), revision),
            (key::proxy("p"), records::write(&proxy("p")), 1),
            (key::proxy("q"), records::write(&proxy("q")), 1),
        ];
        let addressing = sc_core::plan::Addressing::Networks { base: [10, 0, 0, 0].into(), bits: 16 };
        let all = entries.iter().map(|(key, value, revision)| (key.as_str(), &value[..], *revision));
        let (desired, wrong) = Desired::from_snapshot(addressing, revision, all);
        assert!(desired.apps.len() == 1 && desired.proxies.len() == 2, "{wrong:?}");
        desired
    }

    fn observed(at: UnixMs, p: (UnixMs, u64), q: (UnixMs, u64)) -> Observed {
        let seen = |(at, applied)| ProxySeen { at, applied, live: true, ..ProxySeen::default() };
        let proxies = [("p".to_owned(), seen(p)), ("q".to_owned(), seen(q))];
        Observed { at, proxies: proxies.into(), ..Observed::default() }
    }

    #[test]
    fn who_lacks_a_change_for_long_is_told_again_and_again_until_it_has_it() {
        let (mut lag, start) = (Lag::default(), Instant::now());
        let mut told = |revision: u64, ms: u64, p: u64, q: u64| {
            let seen = observed(10_000 + ms, (10_000 + ms, p), (10_000 + ms, q));
            lag.late(&desired(revision), &seen, start + Duration::from_millis(ms)).concat()
        };
        assert_eq!(told(5, 0, 5, 4), "");
        assert_eq!(told(5, 1_900, 5, 4), "", "it may be on its way");
        assert_eq!(told(5, 2_000, 5, 4), "q");
        assert_eq!(told(5, 3_000, 5, 4), "", "it was told just now");
        assert_eq!(told(5, 4_000, 5, 4), "q");
        assert_eq!(told(6, 4_100, 5, 5), "", "it has what it lacked; both lack the next");
        assert_eq!(told(7, 6_050, 6, 5), "", "one of them has that, and lacks another one");
        assert_eq!(told(7, 6_100, 6, 5), "q");
        assert_eq!(told(7, 8_000, 7, 7), "");
    }

    #[test]
    fn who_does_not_report_is_not_told() {
        let (mut lag, start) = (Lag::default(), Instant::now());
        for second in 0..10 {
            let at = 10_000 + second * 1_000;
            let seen = observed(at, (at, 5), (7_000, 4));
            assert_eq!(lag.late(&desired(5), &seen, start + Duration::from_secs(second)).concat(), "");
        }
    }
}
