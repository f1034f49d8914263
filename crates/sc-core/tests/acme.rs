//! The decider of ACME in a world of its own: time passes, the authority does what it likes, managers die, records stay.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use sc_core::{
    AppId,
    acme::{Look, Policy, Step, decide, is_due, renewal_ms},
    certs::{Cert, Certificates, Challenge, Hosts, Kept, Order, OrderState, Origin, Sealed, issued_name},
};

const HOSTS: [&str; 4] = ["a.shop.com", "b.shop.com", "c.shop.com", "d.shop.com"];

fn sealed() -> Sealed {
    Sealed { alg: "A256GCM".into(), key: "k".into(), nonce: "n".into(), text: "t".into() }
}

fn cert(host: &str, from: u64, to: u64, source: Origin) -> Cert {
    Cert {
        v: 1,
        chain: String::new(),
        key: sealed(),
        names: vec![host.to_owned()],
        not_before_ms: from,
        not_after_ms: to,
        source,
        added_ms: from,
        extra: BTreeMap::new(),
    }
}

fn order(failures: u32, state: OrderState) -> Order {
    Order { v: 1, failures, why: String::new(), state, extra: BTreeMap::new() }
}

/// The store, and the time.
struct World {
    now: u64,
    store: Certificates,
    busy: BTreeSet<String>,
    wanted: Hosts,
    policy: Policy,
    applied: u64,
    lifetime: u64,
    /// When each host's authority was asked for a new order.
    asked: Vec<(String, u64)>,
}

impl World {
    fn new(lifetime: u64) -> Self {
        let app = AppId::in_default("web").unwrap();
        let wanted = HOSTS.iter().map(|host| ((*host).to_owned(), app.clone())).collect();
        let policy = Policy { orders_max: 2, ..Policy::default() };
        let (store, busy, asked) = (Certificates::default(), BTreeSet::new(), Vec::new());
        Self { now: 1_000, store, busy, wanted, policy, applied: 0, lifetime, asked }
    }

    fn steps(&self) -> Vec<Step> {
        let look = Look {
            now_ms: self.now,
            wanted: &self.wanted,
            store: &self.store,
            busy: &self.busy,
            has_account: true,
            paused_until_ms: 0,
            applied: Some(self.applied),
            applied_by_one: Some(self.applied),
        };
        decide(&self.policy, &look)
    }

    fn put(&mut self, host: &str, record: Order) {
        self.store.revision += 1;
        let revision = self.store.revision;
        self.store.orders.insert(host.to_owned(), Kept { record, revision });
    }

    fn fail(&mut self, host: &str) {
        let failures = self.store.orders.get(host).map_or(0, |kept| kept.record.failures) + 1;
        self.clear(host);
        let until_ms = self.policy.next_attempt(self.now, failures, host, None);
        self.put(host, order(failures, OrderState::Waiting { until_ms }));
    }

    fn clear(&mut self, host: &str) {
        if let Some(token) = self.store.orders.get(host).and_then(|kept| kept.record.token().map(str::to_owned)) {
            self.store.challenges.remove(&token);
        }
    }

    /// What the shell does about a step; `luck`: 0 the authority refuses, 1 the manager dies in the middle, else it works.
    fn act(&mut self, step: &Step, luck: u8) {
        match step {
            Step::Begin(host) => {
                let before = self.store.orders.get(host).map(|kept| kept.record.clone());
                if let Some(Order { state: OrderState::Waiting { until_ms }, .. }) = &before {
                    assert!(*until_ms <= self.now, "begun before the back-off's end");
                }
                assert!(before.as_ref().is_none_or(|order| !order.is_open()), "two orders of {host}");
                assert!(is_due(&self.store, host, self.now));
                let failures = before.map_or(0, |order| order.failures);
                self.put(host, order(failures, OrderState::Begun { since_ms: self.now }));
                let open = self.store.orders.values().filter(|kept| kept.record.is_open()).count();
                assert!(open <= self.policy.orders_max, "{open} orders at once");
                self.asked.push((host.clone(), self.now));
                match luck {
                    0 => self.fail(host),
                    1 => {}
                    _ => {
                        let token = format!("{host}-{}", self.store.revision);
                        let state = OrderState::Open {
                            url: String::new(),
                            key: sealed(),
                            token: Some(token.clone()),
                            since_ms: self.now,
                        };
                        self.put(host, order(failures, state));
                        let record =
                            Challenge { v: 1, host: host.clone(), answer: token.clone(), extra: BTreeMap::new() };
                        let revision = self.store.revision;
                        self.store.challenges.insert(token, Kept { record, revision });
                    }
                }
            }
            Step::Answer(host) => {
                let kept = self.store.orders[host].record.clone();
                let OrderState::Open { url, key, token, since_ms } = kept.state else { panic!("{host} is not open") };
                if luck > 1 {
                    self.put(host, order(kept.failures, OrderState::Answered { url, key, token, since_ms }));
                }
            }
            Step::Finish(host) => {
                assert!(matches!(self.store.orders[host].record.state, OrderState::Answered { .. }));
                match luck {
                    0 => self.fail(host),
                    1 => {}
                    _ => {
                        self.clear(host);
                        self.store.orders.remove(host);
                        let record = cert(host, self.now, self.now + self.lifetime, Origin::Acme);
                        self.store.certs.insert(issued_name(host), Kept { record, revision: 0 });
                    }
                }
            }
            Step::Fail(host, _) => self.fail(host),
            Step::Forget(host) => {
                self.clear(host);
                self.store.orders.remove(host);
            }
            Step::Drop(name) => drop(self.store.certs.remove(name)),
            Step::Clear(token) => drop(self.store.challenges.remove(token)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the authority and the managers do: `act` asserts that no host has two orders, that none begins before its
    /// back-off ends, and that no more than allowed are under way.
    #[test]
    fn never_two_orders_of_a_host_nor_one_before_its_back_off_ends(
        script in prop::collection::vec((0u8..6, 0u64..400_000, any::<bool>()), 1..120)
    ) {
        let mut world = World::new(7_200_000);
        for (luck, passes, applied) in script {
            world.now += passes;
            if applied {
                world.applied = world.store.revision;
            }
            for step in world.steps() {
                world.act(&step, luck);
            }
        }
        // Five failed validations of a host an hour are what Let's Encrypt takes; with success in between there are more.
        for host in HOSTS {
            let challenges = world.store.challenges.values().filter(|kept| kept.record.host == host).count();
            prop_assert!(challenges <= 1);
        }
    }

    /// With an authority that refuses everything, hardly anything is asked of it.
    #[test]
    fn a_refusing_authority_is_left_alone_ever_longer(hours in 1u64..100) {
        let mut world = World::new(7_200_000);
        let end = world.now + hours * 3_600_000;
        while world.now < end {
            for step in world.steps() {
                world.act(&step, 0);
            }
            world.now += 10_000;
        }
        for host in HOSTS {
            let in_hour = |from: u64| world.asked.iter().filter(|(of, at)| of == host && (from..from + 3_600_000).contains(at)).count();
            let most = world.asked.iter().map(|(_, at)| in_hour(*at)).max().unwrap_or(0);
            prop_assert!(most <= 5, "{} attempts in an hour", most);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    /// With one that works, every host has a good certificate all the time once it has its first, and is renewed in the last
    /// third of its lifetime, not before.
    #[test]
    fn renewal_comes_in_time_and_not_before(lifetime in 600_000u64..1_000_000_000, pace in 1u64..60) {
        let mut world = World::new(lifetime);
        let step_ms = (lifetime / 6_000 * pace).max(1);
        let mut since: BTreeMap<String, u64> = BTreeMap::new();
        for n in 0..12_000 {
            world.applied = world.store.revision;
            for step in world.steps() {
                if let Step::Begin(host) = &step
                    && let Some(before) = since.insert(host.clone(), world.now)
                {
                    let age = (world.now - before) as f64 / lifetime as f64;
                    prop_assert!((0.63..0.75).contains(&age), "renewed after {age} of the lifetime");
                }
                world.act(&step, 5);
            }
            if n % 6 != 5 {
                continue; // an order is done in no time
            }
            for host in since.keys() {
                let bare = !world.store.certs.values().any(|kept| kept.record.covers(host) && kept.record.is_good(world.now));
                prop_assert!(!bare || world.store.orders.contains_key(host), "{host} is without a certificate");
            }
            world.now += step_ms;
        }
    }
}

fn stepped(world: &mut World) -> Vec<Step> {
    let steps = world.steps();
    for step in &steps {
        world.act(step, 5);
    }
    steps
}

#[test]
fn the_authority_is_told_to_look_only_once_proxies_have_the_challenge() {
    let mut world = World::new(1_000_000);
    world.wanted.retain(|host, _| host == HOSTS[0]);
    let host = HOSTS[0].to_owned();
    assert_eq!(stepped(&mut world), [Step::Begin(host.clone())]);
    assert_eq!(stepped(&mut world), [], "no proxy has it");
    world.applied = world.store.revision;
    assert_eq!(stepped(&mut world), [Step::Answer(host.clone())]);
    assert_eq!(stepped(&mut world), [Step::Finish(host.clone())]);
    assert_eq!(stepped(&mut world), [], "done");
    assert!(world.store.orders.is_empty() && world.store.challenges.is_empty());
}

#[test]
fn one_proxy_that_hangs_does_not_stop_an_order_for_ever_and_no_proxy_ends_it() {
    let mut world = World::new(1_000_000);
    world.wanted.retain(|host, _| host == HOSTS[0]);
    stepped(&mut world);
    world.now += world.policy.patience_ms;
    let look = |applied_by_one| Look {
        now_ms: world.now,
        wanted: &world.wanted,
        store: &world.store,
        busy: &world.busy,
        has_account: true,
        paused_until_ms: 0,
        applied: Some(0),
        applied_by_one,
    };
    let revision = world.store.revision;
    assert_eq!(decide(&world.policy, &look(Some(revision))), [Step::Answer(HOSTS[0].to_owned())]);
    assert!(matches!(&decide(&world.policy, &look(Some(0)))[..], [Step::Fail(_, why)] if why.contains("no proxy")));
}

#[test]
fn a_host_that_has_what_it_needs_or_is_busy_or_unreadable_is_left_alone() {
    let mut world = World::new(1_000_000);
    world.policy.orders_max = 9;
    let added = cert("*.shop.com", 0, 10_000_000_000, Origin::Added);
    world.wanted.insert("x.other.com".into(), AppId::in_default("web").unwrap());
    world.wanted.insert("*.wild.com".into(), AppId::in_default("web").unwrap());
    world.store.certs.insert("mine".into(), Kept { record: added, revision: 1 });
    assert_eq!(world.steps(), [Step::Begin("x.other.com".into())]);
    world.busy.insert("x.other.com".into());
    assert_eq!(world.steps(), []);
    world.busy.clear();
    world.store.unreadable.insert("acme/orders/x.other.com".into(), ("?".into(), 1));
    assert_eq!(world.steps(), []);
}

#[test]
fn what_nobody_wants_any_more_goes() {
    let mut world = World::new(1_000_000);
    stepped(&mut world);
    world.wanted.clear();
    let record = cert("old.com", 0, world.now, Origin::Acme);
    world.store.certs.insert(issued_name("old.com"), Kept { record, revision: 1 });
    let mine = cert("mine.com", 0, world.now, Origin::Added);
    world.store.certs.insert("mine".into(), Kept { record: mine, revision: 1 });
    let steps = stepped(&mut world);
    assert!(steps.contains(&Step::Drop(issued_name("old.com"))) && steps.contains(&Step::Forget(HOSTS[0].into())));
    assert!(world.store.orders.is_empty() && world.store.challenges.is_empty());
    assert_eq!(world.store.certs.keys().collect::<Vec<_>>(), ["mine"], "what somebody added stays");
    assert_eq!(world.steps(), []);
}

#[test]
fn an_authority_that_names_a_time_is_not_asked_before() {
    let policy = Policy::default();
    assert_eq!(policy.next_attempt(1_000, 1, "a.com", Some(500_000)), 500_000);
    let year = 365 * 24 * 3_600_000;
    assert!(policy.next_attempt(1_000, 1, "a.com", Some(year)) < year, "no longer than a week");
    let record = cert("a.com", 0, 90, Origin::Acme);
    assert!((56..=60).contains(&renewal_ms("a.com", &record)));
}
