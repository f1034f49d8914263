//! Carries live state from table to table: the same replica at the same address is the same [`Backend`].

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use sc_core::{
    AppId, ReplicaId,
    routes::AppRoutes,
    spec::{Protocol, Traffic},
    stats::Histogram,
};

use super::{App, AppLive, Backend, Hop, Member, Picking, Table, Version};
use crate::{
    compress::Compressor,
    rate::Limiter,
    rules::Rules,
    sticky::Sticky,
    table::{Clash, RouteTable},
};

/// How long a backend that has left the table stays known after its last request: its last counts are still reported, and
/// if it comes back they go on.
const KEEP: Duration = Duration::from_secs(15);

/// Everything that lives on from table to table. Owned by the control thread.
#[derive(Debug)]
pub struct Registry {
    threads: usize,
    serial: u64,
    generation: u64,
    apps: BTreeMap<AppId, Known<AppLive>>,
    backends: HashMap<(ReplicaId, SocketAddr), Known<Backend>>,
    past: BTreeMap<AppId, Past>,
}

/// What an app's backends have counted that are forgotten: sums over all of them are not to shrink.
#[derive(Debug, Default)]
pub struct Past {
    /// Connections made.
    pub connects: u64,
    /// Connections that failed.
    pub connect_errors: u64,
    /// Ejections.
    pub ejections: u64,
    /// Time to the heads of answers.
    pub latency: Histogram,
}

impl Past {
    /// Adds what a backend has counted.
    pub fn add(&mut self, backend: &Backend) {
        self.connects += backend.connects();
        self.connect_errors += backend.connect_errors();
        self.ejections += backend.ejections();
        backend.add_latency(&mut self.latency);
    }
}

#[derive(Debug)]
struct Known<T> {
    value: Arc<T>,
    /// When it was last listed, or last had requests.
    used: Instant,
}

impl Registry {
    /// For so many threads.
    pub fn new(threads: usize) -> Self {
        let (apps, backends, past) = (BTreeMap::new(), HashMap::new(), BTreeMap::new());
        Self { threads, serial: 0, generation: 0, apps, backends, past }
    }

    /// The table of these routes. Backends that are not in it any more are marked so; what is unchanged since `previous` is
    /// taken from there.
    pub fn table(
        &mut self,
        routes: &BTreeMap<AppId, Arc<AppRoutes>>,
        previous: &Table,
        now: Instant,
    ) -> (Table, Vec<Clash>) {
        let (route_table, clashes) = RouteTable::new(routes.values().map(|app| &**app));
        let apps: Vec<_> = routes.values().map(|app| self.app(app, previous, now)).collect();
        self.mark_listed(&apps);
        let by_id = apps.iter().enumerate().map(|(n, app)| (app.id.clone(), n)).collect();
        self.generation += 1;
        (Table { routes: route_table, apps, by_id, generation: self.generation }, clashes)
    }

    fn app(&mut self, routes: &AppRoutes, previous: &Table, now: Instant) -> Arc<App> {
        let members: Vec<_> = routes
            .backends
            .iter()
            .map(|b| Member { backend: self.backend(&b.replica, b.addr, now), weight: b.weight, version: b.version })
            .collect();
        let before = previous.app(&routes.app).map(|n| &previous.apps[n]);
        let limiter = |asked| Limiter::new(asked, before.and_then(|before| before.limiter.as_ref()));
        let limiter = routes.traffic.rate.as_ref().map(limiter);
        let app = App {
            id: routes.app.clone(),
            routes: routes.routes.clone(),
            traffic: routes.traffic.clone(),
            stopped: routes.stopped,
            needs_rich: needs_rich(&routes.traffic) || limiter.is_some(),
            fast_limiter: limiter.clone().filter(|limiter| limiter.is_by_address() && !needs_rich(&routes.traffic)),
            rules: Rules::new(&routes.traffic.rules).map(Arc::new),
            sticky: routes.traffic.sticky.as_ref().map(|asked| Arc::new(Sticky::new(&routes.app, asked))),
            limiter,
            compress: routes.traffic.compress.as_ref().map(|asked| Arc::new(Compressor::new(asked))),
            picking: Picking::new(&routes.traffic, &routes.routes),
            hop: Hop::new(routes, before.map(|before| &**before)),
            versions: if routes.by_version { Version::all(&routes.app, &members) } else { Vec::new() },
            drain: Duration::from_millis(routes.drain_ms),
            even: members.windows(2).all(|pair| pair[0].weight == pair[1].weight),
            members,
            live: self.live(&routes.app, now),
        };
        before.filter(|before| before.is_same_as(&app)).cloned().unwrap_or_else(|| Arc::new(app))
    }

    fn backend(&mut self, replica: &ReplicaId, addr: SocketAddr, now: Instant) -> Arc<Backend> {
        let (serial, threads) = (&mut self.serial, self.threads);
        let known = self.backends.entry((replica.clone(), addr)).or_insert_with(|| {
            *serial += 1;
            Known { value: Arc::new(Backend::new(*serial, replica.clone(), addr, threads)), used: now }
        });
        known.used = now;
        known.value.clone()
    }

    fn live(&mut self, id: &AppId, now: Instant) -> Arc<AppLive> {
        let (serial, threads) = (&mut self.serial, self.threads);
        let known = self.apps.entry(id.clone()).or_insert_with(|| {
            *serial += 1;
            Known { value: Arc::new(AppLive::new(*serial, id.clone(), threads)), used: now }
        });
        known.used = now;
        known.value.clone()
    }

    fn mark_listed(&self, apps: &[Arc<App>]) {
        let listed: std::collections::HashSet<u64> =
            apps.iter().flat_map(|app| &app.members).map(|m| m.backend.serial).collect();
        for known in self.backends.values() {
            known.value.set_listed(listed.contains(&known.value.serial));
        }
    }

    /// Forgets what left the table and has had nothing to do for a while. Called every second.
    pub fn sweep(&mut self, table: &Table, now: Instant) {
        let stays = |used: &mut Instant, busy: bool| {
            if busy {
                *used = now;
            }
            now.saturating_duration_since(*used) < KEEP
        };
        self.backends.retain(|(replica, _), k| {
            let stays = stays(&mut k.used, k.value.is_listed() || k.value.in_flight() > 0);
            if !stays {
                self.past.entry(replica.app.clone()).or_default().add(&k.value);
            }
            stays
        });
        let busy: std::collections::HashSet<&AppId> = self.backends.keys().map(|(replica, _)| &replica.app).collect();
        let in_use = |live: &AppLive| table.app(&live.id).is_some() || busy.contains(&live.id) || live.held() > 0;
        self.apps.retain(|_, k| stays(&mut k.used, in_use(&k.value)));
        self.past.retain(|app, _| self.apps.contains_key(app));
    }

    /// What those backends of an app have counted that are forgotten.
    pub fn past(&self, app: &AppId) -> Option<&Past> {
        self.past.get(app)
    }

    /// All apps that are known, listed or not.
    pub fn apps(&self) -> impl Iterator<Item = &Arc<AppLive>> {
        self.apps.values().map(|known| &known.value)
    }

    /// All backends that are known, listed or not.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.backends.values().map(|known| &known.value)
    }
}

/// Whether an app's requests are for the hyper path alone.
fn needs_rich(traffic: &Traffic) -> bool {
    let one_by_one = !traffic.bounds.is_default() || traffic.sticky.is_some() || traffic.compress.is_some();
    traffic.protocol != Protocol::Http1 || !traffic.rules.is_default() || one_by_one
}

impl App {
    fn is_same_as(&self, other: &Self) -> bool {
        let same = |(a, b): (&Member, &Member)| {
            Arc::ptr_eq(&a.backend, &b.backend) && a.weight == b.weight && a.version == b.version
        };
        Arc::ptr_eq(&self.live, &other.live)
            && (&self.routes, &self.traffic, self.stopped) == (&other.routes, &other.traffic, other.stopped)
            && self.drain == other.drain
            && self.versions.is_empty() == other.versions.is_empty()
            && self.members.len() == other.members.len()
            && self.members.iter().zip(&other.members).all(same)
    }
}

#[cfg(test)]
mod tests {
    use sc_core::routes::BackendRoute;

    use super::*;
    use crate::{
        live::{Ask, Choice},
        sticky::{Stay, Tag},
    };

    fn routes(name: &str, replicas: &[u64]) -> BTreeMap<AppId, Arc<AppRoutes>> {
        let app = AppId::in_default(name).unwrap();
        let backend = |n: &u64| BackendRoute {
            replica: ReplicaId::new(&app, *n),
            addr: ([127, 0, 0, 1], 1000 + *n as u16).into(),
            weight: 1,
            version: 1,
        };
        let backends = replicas.iter().map(backend).collect();
        let traffic = Traffic { max_in_flight: Some(1), ..Default::default() };
        let routes = AppRoutes { traffic, ..AppRoutes::new(app.clone(), vec![], backends) };
        BTreeMap::from([(app, Arc::new(routes))])
    }

    #[test]
    fn live_state_is_carried_over_and_forgotten_only_when_idle() {
        let (mut registry, start) = (Registry::new(1), Instant::now());
        let later = |s| start + Duration::from_secs(s);
        let (first, _) = registry.table(&routes("web", &[1, 2]), &Table::default(), start);
        let one = first.apps[0].members[0].backend.clone();
        assert!(one.enter(None));
        let (second, _) = registry.table(&routes("web", &[2, 3]), &first, start);
        assert!(!one.is_listed() && second.generation == 2);
        assert!(Arc::ptr_eq(&first.apps[0].members[1].backend, &second.apps[0].members[0].backend));
        registry.sweep(&second, later(100));
        assert!(registry.backends().any(|b| Arc::ptr_eq(b, &one)), "it has a request in flight");
        let (third, _) = registry.table(&routes("web", &[1, 2]), &second, later(100));
        assert!(Arc::ptr_eq(&third.apps[0].members[0].backend, &one) && one.is_listed());
        one.leave();
        let (empty, _) = registry.table(&BTreeMap::new(), &third, later(101));
        registry.sweep(&empty, later(110));
        assert_eq!((registry.apps().count(), registry.backends().count()), (1, 3), "not yet");
        registry.sweep(&empty, later(130));
        registry.sweep(&empty, later(150));
        assert_eq!((registry.apps().count(), registry.backends().count()), (0, 0));
    }

    #[test]
    fn what_is_unchanged_stays_the_same() {
        let (mut registry, now) = (Registry::new(1), Instant::now());
        let (first, _) = registry.table(&routes("web", &[1, 2]), &Table::default(), now);
        let (second, _) = registry.table(&routes("web", &[1, 2]), &first, now);
        assert!(Arc::ptr_eq(&first.apps[0], &second.apps[0]));
    }

    #[test]
    fn a_choice_respects_limits_and_what_was_tried() {
        let (mut registry, now) = (Registry::new(1), Instant::now());
        let (table, _) = registry.table(&routes("web", &[1, 2]), &Table::default(), now);
        let app = &table.apps[0];
        let mut dice = 0u32;
        let mut choose = |tried: &[u64]| {
            dice = dice.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            app.choose(Ask { tried, repeatable: true, preferred: None }, || dice, || 0)
        };
        let first = choose(&[]);
        let second = choose(&[]);
        assert!(matches!((first, second), (Choice::Member { at: a, .. }, Choice::Member { at: b, .. }) if a != b));
        assert_eq!(choose(&[]), Choice::Full);
        app.members.iter().for_each(|m| m.backend.leave());
        let serials: Vec<_> = app.members.iter().map(|m| m.backend.serial).collect();
        assert!(matches!(choose(&serials[..1]), Choice::Member { at: 1, .. }));
        assert_eq!(choose(&serials), Choice::Tried);
    }

    #[test]
    fn an_ejected_backend_is_passed_over_until_its_trial() {
        let (mut registry, now) = (Registry::new(1), Instant::now());
        let (table, _) = registry.table(&routes("web", &[1, 2]), &Table::default(), now);
        let app = &table.apps[0];
        (0..3).for_each(|_| app.members[0].backend.failed(0, app.may_eject()));
        assert!(app.members[0].backend.is_ejected() && !app.may_eject());
        (0..3).for_each(|_| app.members[1].backend.failed(0, app.may_eject()));
        assert!(!app.members[1].backend.is_ejected(), "at most half");
        let ask = Ask { repeatable: true, ..Ask::default() };
        assert_eq!(app.choose(ask, || 0, || 10), Choice::Member { at: 1, trial: false });
        assert_eq!(app.choose(ask, || 0, || 10), Choice::Full);
        assert_eq!(app.choose(ask, || 0, || 10_000), Choice::Member { at: 0, trial: true });
        app.members[0].backend.succeeded();
        assert!(!app.members[0].backend.is_ejected());
    }

    proptest::proptest! {
        #[test]
        fn a_cookie_leads_to_the_same_backend_as_long_as_it_may_serve(
            tables in proptest::collection::vec(proptest::collection::btree_set(1u64..6, 0..5), 1..6),
            mine in 1u64..6,
            dice: u32,
        ) {
            let (mut registry, now) = (Registry::new(1), Instant::now());
            let mut table = Table::default();
            let tag = Tag::of(&format!("web-{mine}").parse().unwrap());
            let ask = Ask { preferred: Some(Stay { replica: tag, version: None }), ..Ask::default() };
            for replicas in tables {
                let replicas: Vec<u64> = replicas.into_iter().collect();
                (table, _) = registry.table(&routes("web", &replicas), &table, now);
                let app = &table.apps[0];
                let at = replicas.iter().position(|n| *n == mine);
                match app.choose(ask, || dice, || 0) {
                    Choice::Member { at: chosen, .. } => {
                        proptest::prop_assert!(at.is_none_or(|at| at == chosen));
                        // Its place is still taken: there is no room, so another one serves.
                        let next = app.choose(ask, || dice, || 0);
                        let elsewhere = matches!(next, Choice::Member { at, .. } if at != chosen);
                        proptest::prop_assert_eq!(elsewhere, replicas.len() > 1);
                        proptest::prop_assert_eq!(app.preferred(ask, 0), at);
                    }
                    other => proptest::prop_assert!(other == Choice::Empty && replicas.is_empty()),
                }
                app.members.iter().filter(|m| m.backend.in_flight() > 0).for_each(|m| m.backend.leave());
            }
        }
    }
}
