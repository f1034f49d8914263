//! What to do now about certificates from an authority (ACME, RFC 8555, proved by HTTP-01): decided from the records, what the
//! routes ask for, what proxies have applied, and the time. The manager that leads looks, decides and acts every second.
//!
//! ```text
//!  Waiting ─time─▶ Begun ─ordered, challenge published─▶ Open ─proxies have it─▶ Answered ─issued─▶ (certificate, no order)
//!     ▲              │                                    │                        │
//!     └──────────────┴──── failed: back-off ──────────────┴────────────────────────┘
//! ```
//!
//! At most one order of a host is under way, since its record is written before the authority is asked and only its end
//! removes it; whoever leads next goes on from the record.

use std::collections::BTreeSet;

use crate::{
    certs::{
        Cert, Certificates, Hosts, Order, OrderState, Origin, acme_fault, cert_key, issued_host, issued_name, order_key,
    },
    records::UnixMs,
};

/// Times and bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Wait after the first failed attempt; four times as long after each further one.
    pub first_wait_ms: u64,
    /// The longest wait.
    pub most_wait_ms: u64,
    /// Orders under way at once, of all hosts.
    pub orders_max: usize,
    /// How long proxies may take to take over a challenge. Then one that has is enough.
    pub patience_ms: u64,
    /// How long an order may take in all.
    pub order_ms: u64,
}

impl Default for Policy {
    /// Let's Encrypt takes 5 failed validations of a host an hour, and 300 orders in 3 hours.
    fn default() -> Self {
        Self {
            first_wait_ms: 60_000,
            most_wait_ms: 24 * 3_600_000,
            orders_max: 5,
            patience_ms: 30_000,
            order_ms: 600_000,
        }
    }
}

impl Policy {
    /// When the next attempt may begin after so many failed ones in a row, spread over the last quarter of the wait. An
    /// authority that names a time is not asked before.
    pub fn next_attempt(&self, now_ms: UnixMs, failures: u32, host: &str, not_before_ms: Option<UnixMs>) -> UnixMs {
        let doublings = failures.saturating_sub(1).saturating_mul(2).min(40);
        let wait = self.first_wait_ms.saturating_mul(1 << doublings).min(self.most_wait_ms);
        let spread = share(host, u64::from(failures));
        let until = now_ms.saturating_add(wait - (wait as f64 / 4.0 * spread) as u64);
        // A week: what is further away is a mistake, or a wish to be left alone that a person should hear of.
        until.max(not_before_ms.unwrap_or(0).min(now_ms.saturating_add(7 * 24 * 3_600_000)))
    }
}

/// What is decided on.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// Now.
    pub now_ms: UnixMs,
    /// Hosts that shall have certificates.
    pub wanted: &'a Hosts,
    /// What the store says.
    pub store: &'a Certificates,
    /// Hosts that something is being done about.
    pub busy: &'a BTreeSet<String>,
    /// The account can be used.
    pub has_account: bool,
    /// No order is begun before, by the authority's wish.
    pub paused_until_ms: UnixMs,
    /// What every proxy that reports has applied of certificates and challenges; none: no proxy reports.
    pub applied: Option<u64>,
    /// What the furthest of them has.
    pub applied_by_one: Option<u64>,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Order a certificate for this host, and publish the challenge.
    Begin(String),
    /// Tell the authority to look for the challenge.
    Answer(String),
    /// Ask how the order is, and take the certificate.
    Finish(String),
    /// End this attempt: the reason, for people.
    Fail(String, String),
    /// Forget a host's order.
    Forget(String),
    /// Remove an ended certificate of a host that wants none any more, by its name.
    Drop(String),
    /// Remove a challenge that belongs to no order, by its token.
    Clear(String),
}

impl Step {
    /// The host it is about.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Begin(host) | Self::Answer(host) | Self::Finish(host) | Self::Fail(host, _) | Self::Forget(host) => {
                Some(host)
            }
            Self::Drop(_) | Self::Clear(_) => None,
        }
    }
}

/// What to do now. The same again once it is done gives other steps or none; in any order.
pub fn decide(policy: &Policy, look: &Look<'_>) -> Vec<Step> {
    let mut steps: Vec<Step> = under_way(policy, look);
    if look.has_account && look.now_ms >= look.paused_until_ms {
        let open = look.store.orders.values().filter(|order| order.record.is_open()).count();
        let room = policy.orders_max.saturating_sub(open);
        steps.extend(due(look).into_iter().take(room).map(Step::Begin));
    }
    steps.extend(left_over(look));
    steps
}

/// Whether a host needs a certificate now that it has none of, or whose time has come to be renewed.
pub fn is_due(store: &Certificates, host: &str, now_ms: UnixMs) -> bool {
    let serves = |cert: &Cert| {
        let stays = match cert.source {
            Origin::Added => !cert.ends_soon(now_ms),
            Origin::Acme => now_ms < renewal_ms(host, cert),
        };
        cert.is_good(now_ms) && stays && cert.covers(host)
    };
    !store.certs.values().any(|kept| serves(&kept.record))
}

/// When a certificate is renewed: when two thirds of its lifetime are over, or up to a thirtieth of it before, so that many
/// do not come due at once.
pub fn renewal_ms(host: &str, cert: &Cert) -> UnixMs {
    let lifetime = cert.lifetime_ms() as f64;
    cert.not_before_ms + (lifetime * (2.0 / 3.0 - share(host, cert.not_before_ms) / 30.0)) as u64
}

/// Hosts whose turn it is: first those that have no good certificate at all.
fn due(look: &Look<'_>) -> Vec<String> {
    let store = look.store;
    let may = |host: &&String| {
        let broken =
            [order_key(host), cert_key(&issued_name(host))].iter().any(|key| store.unreadable.contains_key(key));
        let begins = match store.orders.get(*host).map(|kept| &kept.record.state) {
            None => true,
            Some(OrderState::Waiting { until_ms }) => *until_ms <= look.now_ms,
            Some(_) => false,
        };
        begins && !broken && !look.busy.contains(*host) && acme_fault(host).is_none()
    };
    let due = look.wanted.keys().filter(may).filter(|host| is_due(store, host, look.now_ms));
    let bare =
        |host: &String| !store.certs.values().any(|kept| kept.record.is_good(look.now_ms) && kept.record.covers(host));
    let (mut first, then): (Vec<String>, Vec<String>) = due.cloned().partition(bare);
    first.extend(then);
    first
}

fn under_way(policy: &Policy, look: &Look<'_>) -> Vec<Step> {
    let idle = look.store.orders.iter().filter(|(host, _)| !look.busy.contains(*host));
    idle.filter_map(|(host, kept)| {
        if !look.wanted.contains_key(host) {
            return Some(Step::Forget(host.clone()));
        }
        next(policy, look, host, &kept.record)
    })
    .collect()
}

fn next(policy: &Policy, look: &Look<'_>, host: &str, order: &Order) -> Option<Step> {
    let fail = |why: &str| Some(Step::Fail(host.to_owned(), why.to_owned()));
    let over = |since: UnixMs, limit: u64| look.now_ms.saturating_sub(since) >= limit;
    match &order.state {
        OrderState::Waiting { .. } if !is_due(look.store, host, look.now_ms) => Some(Step::Forget(host.to_owned())),
        OrderState::Waiting { .. } => None,
        OrderState::Begun { .. } => fail("the manager ended while it was asking the authority"),
        _ if !look.has_account => None,
        OrderState::Open { since_ms, .. } | OrderState::Answered { since_ms, .. }
            if over(*since_ms, policy.order_ms) =>
        {
            fail("the authority was not done with the order in time")
        }
        OrderState::Answered { .. } => Some(Step::Finish(host.to_owned())),
        OrderState::Open { token: None, .. } => Some(Step::Answer(host.to_owned())),
        OrderState::Open { token: Some(token), since_ms, .. } => {
            let Some(challenge) = look.store.challenges.get(token) else {
                return fail("somebody removed the challenge from the store");
            };
            let has = |applied: Option<u64>| applied.is_some_and(|revision| revision >= challenge.revision);
            let late = over(*since_ms, policy.patience_ms);
            if has(look.applied) || late && has(look.applied_by_one) {
                return Some(Step::Answer(host.to_owned()));
            }
            let why = "no proxy has taken over the challenge: `sc doctor` says how the proxies are, and whether they may \
                       read `certs/`";
            if late { fail(why) } else { None }
        }
    }
}

fn left_over(look: &Look<'_>) -> Vec<Step> {
    let used: BTreeSet<&str> = look.store.orders.values().filter_map(|kept| kept.record.token()).collect();
    let clear = look
        .store
        .challenges
        .iter()
        .filter(|(token, kept)| !used.contains(token.as_str()) && !look.busy.contains(&kept.record.host));
    let ended = look.store.certs.iter().filter(|(name, kept)| {
        let unwanted = issued_host(name).is_some_and(|host| !look.wanted.contains_key(host));
        unwanted && kept.record.not_after_ms <= look.now_ms
    });
    let clear = clear.map(|(token, _)| Step::Clear(token.clone()));
    clear.chain(ended.map(|(name, _)| Step::Drop(name.clone()))).collect()
}

/// A number from 0 to 1 that a host and a number always give, and no two alike (FNV-1a).
fn share(host: &str, number: u64) -> f64 {
    let bytes = host.bytes().chain(number.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    (hash >> 11) as f64 / (1u64 << 53) as f64
}
