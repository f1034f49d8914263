//! What holds of the plan whatever happens.

use crate::world::{Program, World, app_id, networks, route, spec};
use proptest::prelude::*;
use sc_core::{
    AppId, ReplicaId, check,
    observed::{Exit, Run},
    plan::{Addressing, Desired},
    records::{App, Intent, Rollout, Scale, key},
    routes,
    spec::AppSpec,
    warm::WarmSpec,
};

/// Something that happens to the world. Replicas are chosen by a number, counted round.
#[derive(Debug, Clone)]
enum Event {
    Tick(u64),
    Pass,
    /// A pass whose manager is killed after so many steps.
    Killed(usize),
    /// A pass whose engine calls all get lost.
    CallsLost,
    TakeOver,
    Deploy(usize, Program, u32),
    Canary(usize, Program, u32),
    Promote(usize),
    Withdraw(usize),
    Scale(usize, u32),
    SetMax(usize, u32),
    Warm(usize, u32, u64, Option<u32>, u64),
    Stop(usize, bool),
    Restart(usize),
    Remove(usize),
    Crash(usize),
    Vanish(usize),
    RestartedByOthers(usize),
    PausedByOthers(usize),
    StartedByOthers(usize),
    Sick(usize),
    Well,
    Busy(usize, u64),
    Idle,
    EngineHangs(bool),
    StartsLate(bool),
    ProxyLags(bool),
}

fn program() -> impl Strategy<Value = Program> {
    prop_oneof![3 => Just(Program::Good), 1 => Just(Program::Crashes), 1 => Just(Program::Mute), 1 => Just(Program::Refused)]
}

/// Milliseconds for which warm ones are kept.
fn kept_for() -> impl Strategy<Value = u64> {
    prop_oneof![Just(20_000_u64), Just(86_400_000)]
}

fn event() -> impl Strategy<Value = Event> {
    use Event::*;
    let n = 0..20_usize;
    prop_oneof![
        6 => prop_oneof![Just(1_u64), Just(25), Just(500), Just(3_000), Just(20_000)].prop_map(Tick),
        8 => Just(Pass),
        3 => (0..6_usize).prop_map(Killed),
        1 => Just(CallsLost),
        1 => Just(TakeOver),
        3 => (0..3_usize, program(), 0..6_u32).prop_map(|(a, p, w)| Deploy(a, p, w)),
        2 => (0..3_usize, program(), 1..10_u32).prop_map(|(a, p, s)| Canary(a, p, s)),
        1 => (0..3_usize).prop_map(Promote),
        1 => (0..3_usize).prop_map(Withdraw),
        3 => (0..3_usize, 0..8_u32).prop_map(|(a, w)| Scale(a, w)),
        1 => (0..3_usize, 1..8_u32).prop_map(|(a, m)| SetMax(a, m)),
        2 => (0..3_usize, 0..4_u32, kept_for(), proptest::option::of(0..4_u32), kept_for())
            .prop_map(|(a, n, ms, stopped, stopped_ms)| Warm(a, n, ms, stopped, stopped_ms)),
        1 => n.clone().prop_map(StartedByOthers),
        1 => (0..3_usize, any::<bool>()).prop_map(|(a, s)| Stop(a, s)),
        1 => (0..3_usize).prop_map(Restart),
        1 => (0..3_usize).prop_map(Remove),
        1 => n.clone().prop_map(Crash),
        1 => n.clone().prop_map(Vanish),
        1 => n.clone().prop_map(RestartedByOthers),
        1 => n.clone().prop_map(PausedByOthers),
        1 => n.clone().prop_map(Sick),
        1 => Just(Well),
        1 => (n, 1..3_u64).prop_map(|(r, k)| Busy(r, k)),
        1 => Just(Idle),
        1 => any::<bool>().prop_map(EngineHangs),
        1 => any::<bool>().prop_map(StartsLate),
        1 => any::<bool>().prop_map(ProxyLags),
    ]
}

fn app(n: usize) -> AppId {
    app_id(["web", "shop", "blog"][n])
}

fn nth(world: &World, n: usize) -> Option<ReplicaId> {
    world.containers.keys().nth(n % world.containers.len().max(1)).cloned()
}

fn version_of(n: usize) -> AppSpec {
    let mut spec = spec((n != 2).then_some(80));
    spec.routes = if n == 2 { Vec::new() } else { vec![route(&format!("{}.example", app(n)))] };
    spec
}

fn set_run(world: &mut World, n: usize, run: Run) {
    if let Some(seen) = nth(world, n).and_then(|id| world.containers.get_mut(&id)) {
        seen.run = run;
    }
}

fn edit(world: &mut World, n: usize, edit: impl FnOnce(&mut App)) {
    let key = key::app(&app(n));
    if world.store.contains_key(&key) {
        world.edit(&key, edit);
    }
}

fn happen(world: &mut World, event: &Event) {
    match event.clone() {
        Event::Tick(ms) => world.tick(ms),
        Event::Pass => drop(world.pass(usize::MAX)),
        Event::Killed(steps) => drop(world.pass(steps)),
        Event::CallsLost => {
            world.loses_calls = true;
            world.pass(usize::MAX);
            world.loses_calls = false;
        }
        Event::TakeOver => world.lead(),
        Event::Canary(n, program, tenths) => {
            let stable = |app: &sc_core::plan::DesiredApp| app.app.stable == Some(app.app.version) && !app.app.deleting;
            if world.desired().apps.get(&app(n)).is_some_and(stable) {
                world.canary(&app(n), version_of(n), &format!("{tenths}0%"), program);
            }
        }
        Event::Promote(n) => {
            if world.store.contains_key(&key::app(&app(n))) {
                world.promote(&app(n));
            }
        }
        Event::Withdraw(n) => edit(world, n, |app| app.canary = None),
        Event::Deploy(n, program, want) => {
            let spec = version_of(n);
            edit(world, n, |app| app.canary = None);
            if !world.desired().apps.get(&app(n)).is_some_and(|app| app.app.deleting) {
                world.deploy(&app(n), spec, want, program);
            }
        }
        Event::Scale(n, want) => {
            if world.store.contains_key(&key::scale(&app(n))) {
                world.scale(&app(n), want);
            }
        }
        Event::SetMax(n, max) => edit(world, n, |app| app.scale.max = max),
        Event::Warm(n, size, for_ms, stopped, stop_for_ms) => {
            let warm = WarmSpec { size, for_ms, memory: None, stopped, stop_for_ms };
            // With nothing said, what scales by itself down to zero keeps one.
            edit(world, n, |app| (app.scale.auto, app.scale.warm) = (stopped.is_none(), warm));
        }
        Event::Stop(n, stopped) => edit(world, n, |app| app.stopped = stopped),
        Event::Restart(n) => {
            let now = world.now;
            edit(world, n, |app| {
                (app.restart, app.crash) = (app.restart + 1, None);
                app.rollout = Rollout::Rolling { since_ms: now, progress_ms: now };
            });
        }
        Event::Remove(n) => edit(world, n, |app| app.deleting = true),
        Event::Crash(n) => {
            let exit = Exit { code: 137, oom: true, error: String::new(), at_ms: world.now };
            set_run(world, n, Run::Exited(exit));
        }
        Event::Vanish(n) => drop(nth(world, n).map(|id| world.containers.remove(&id))),
        Event::RestartedByOthers(n) => {
            if let Some(seen) = nth(world, n).and_then(|id| world.containers.get_mut(&id)) {
                seen.restarts += 1;
            }
        }
        Event::StartedByOthers(n) => {
            let now = world.now;
            if let Some(seen) = nth(world, n).and_then(|id| world.containers.get_mut(&id))
                && matches!(seen.run, Run::Exited(_))
            {
                (seen.run, seen.restarts) = (Run::Running { since_ms: now }, seen.restarts + 1);
            }
        }
        Event::PausedByOthers(n) => set_run(world, n, Run::Paused),
        Event::Sick(n) => world.sick.extend(nth(world, n)),
        Event::Well => world.sick.clear(),
        Event::Busy(n, requests) => drop(nth(world, n).map(|id| world.in_flight.insert(id, requests))),
        Event::Idle => world.in_flight.clear(),
        Event::EngineHangs(hangs) => world.engine_answers = !hangs,
        Event::StartsLate(late) => world.starts_late = late,
        Event::ProxyLags(lags) => world.lagging = lags.then(|| "p1".to_owned()).into_iter().collect(),
    }
}

/// Everything that was broken works again; every app gets a version that serves.
fn heal(world: &mut World) {
    (world.engine_answers, world.starts_late, world.loses_calls) = (true, false, false);
    world.lagging.clear();
    world.in_flight.clear();
    world.sick.clear();
    for program in world.programs.values_mut() {
        *program = Program::Good;
    }
}

/// Passes until all deadlines of drains and starts, all back-offs and rollouts that still have to fail are over.
fn settle_down(world: &mut World) {
    let mut idle = 0;
    for _ in 0..1_000 {
        world.tick(if idle > 4 { 15_000 } else { 200 });
        idle = if world.pass(usize::MAX) == 0 { idle + 1 } else { 0 };
        if idle > 25 {
            return;
        }
    }
    panic!("there is still to do: {:#?}", world.plan());
}

/// Each app has exactly what it shall have, and nothing else is there.
fn assert_converged(world: &World) {
    let (desired, observed) = (world.desired(), world.observed());
    let mut replicas = 0;
    for (id, app) in &desired.apps {
        let (count, canary) = (app.want() as usize, app.canary_want() as usize);
        let want = count + canary - app.gives_way() as usize;
        assert!(want <= count + app.surge() as usize && count <= want, "{id}: {want} for {count}");
        assert_eq!(app.replicas.values().filter(|r| app.is_canary(r)).count(), canary, "{id}");
        assert!(app.app.canary.as_ref().is_none_or(|canary| canary.up_ms.is_some() && canary.crash.is_none()), "{id}");
        if let (Some(of), true, true) = (&app.app.canary, canary > 0, app.spec().unwrap().port.is_some()) {
            let share = world.share(id, of.version);
            assert!((share - f64::from(of.share.permille())).abs() < 1e-6, "{id}: {share} for {}", of.share);
        }
        let asleep = app.replicas.values().filter(|r| matches!(r.intent, Intent::Pause { .. })).count();
        let parked = app.replicas.values().filter(|r| matches!(r.intent, Intent::Park { .. })).count();
        let all = want + asleep + parked;
        replicas += all;
        assert_eq!(app.replicas.len(), all, "{id}: {:#?}", app.replicas);
        let (scale, max) = (&app.app.scale, app.app.scale.max as usize);
        assert!(
            asleep <= scale.warm.size as usize && parked <= scale.most_stopped() as usize,
            "{id}: {:#?}",
            app.replicas
        );
        assert!(all <= max.max(want), "{id}: {asleep} sleep, {parked} are parked");
        assert_eq!(world.ready(id), want, "{id}");
        assert!(app.replicas.values().all(|replica| app.is_wanted(replica)), "{id}");
        let listens = app.spec().unwrap().port.is_some();
        assert_eq!(world.listed(id).len(), if listens { want } else { 0 }, "{id}");
        assert_eq!(app.published.as_ref().unwrap().routes, routes(&desired, &observed)[id]);
        assert_eq!(app.app.crash, None, "{id}");
        assert!(!matches!(app.app.rollout, Rollout::Rolling { .. } | Rollout::Failed { .. }), "{:?}", app.app.rollout);
    }
    assert_eq!(world.containers.len(), replicas, "orphans: {:?}", world.containers.keys().collect::<Vec<_>>());
    assert_eq!(check(&desired, &observed), []);
}

fn addressing() -> impl Strategy<Value = Addressing> {
    let ports = Addressing::Ports { ip: [127, 0, 0, 1].into(), first: 20_000, last: 21_000 };
    prop_oneof![Just(networks()), Just(ports)]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        max_shrink_iters: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever happens in whatever order, with managers killed anywhere: every invariant holds after every step (see
    /// `World::pass`), and once everything works again, all is as desired within bounded time, and stays so.
    #[test]
    fn any_history_keeps_the_invariants_and_converges(
        addressing in addressing(),
        proxies in 0..3_usize,
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut world = World::new(addressing);
        for n in 1..proxies {
            world.add_proxy(&format!("p{}", n + 1));
        }
        world.deploy(&app(0), { let mut s = spec(Some(80)); s.routes = vec![route("web.example")]; s }, 2, Program::Good);
        for event in &events {
            happen(&mut world, event);
        }
        heal(&mut world);
        settle_down(&mut world);
        assert_converged(&world);
    }

    /// A rollout of a sound version never has fewer ready replicas than wanted, in the records and in any proxy's table,
    /// and never more than the surge above; and it ends with all replaced.
    #[test]
    fn a_rollout_never_lacks_ready_replicas(
        want in 1..8_u32,
        surge in 1..4_u32,
        settle_ms in prop_oneof![Just(0_u64), Just(700)],
        ticks in prop::collection::vec(prop_oneof![Just(10_u64), Just(100), Just(1_000)], 1..40),
        busy in prop::collection::vec(0..20_usize, 0..3),
        late in any::<bool>(),
    ) {
        let mut new = spec(Some(80));
        (new.deploy.surge, new.deploy.settle_ms) = (surge, settle_ms);
        let mut world = World::new(networks());
        let web = app(0);
        world.deploy(&web, new.clone(), want, Program::Good);
        for _ in 0..6 {
            world.tick(1_000);
            world.pass(usize::MAX);
        }
        prop_assert_eq!(world.ready(&web), want as usize);
        new.env.insert("NEW".to_owned(), "1".to_owned());
        world.deploy(&web, new, 0, Program::Good);
        let scale: Scale = world.get(&key::scale(&web));
        world.starts_late = late;
        for n in busy {
            world.in_flight.extend(nth(&world, n).map(|id| (id, 1)));
        }
        let mut ticks = ticks.into_iter().cycle();
        for _ in 0..1_500 {
            world.tick(ticks.next().unwrap());
            world.pass(usize::MAX);
            prop_assert!(world.ready(&web) >= want as usize);
            let listed = world.proxies["p1"].1.get(&web).map_or(0, |routes| routes.backends.len());
            prop_assert!(listed >= want as usize, "a proxy knows only {}", listed);
            let run = world.desired().apps[&web].replicas.values().filter(|r| r.intent == Intent::Run).count();
            prop_assert!(run <= (want + surge) as usize);
            if world.app(&web).stable == Some(2) {
                break;
            }
        }
        prop_assert_eq!(world.app(&web).stable, Some(2));
        prop_assert_eq!(world.get::<Scale>(&key::scale(&web)), scale);
    }

    /// Through a canary, changes of its share, and its end either way: never fewer ready replicas than wanted, in the
    /// records and in any proxy's table, never more than the surge above, the canary never gets more than was asked but
    /// while its share is lowered, and the count stays.
    #[test]
    fn a_canary_never_lacks_ready_replicas_nor_gets_more_than_its_share(
        want in 1..9_u32,
        surge in 1..4_u32,
        shares in prop::collection::vec(1..999_u32, 1..4),
        promoted in any::<bool>(),
        ticks in prop::collection::vec(prop_oneof![Just(10_u64), Just(100), Just(1_000)], 1..40),
        take_over in 0..60_usize,
    ) {
        let mut new = spec(Some(80));
        new.deploy.surge = surge;
        let (mut world, web) = (World::new(networks()), app(0));
        world.deploy(&web, new.clone(), want, Program::Good);
        world.converge(25, 20);
        let scale: Scale = world.get(&key::scale(&web));
        let mut ticks = ticks.into_iter().cycle();
        let mut before = 0;
        for (n, share) in shares.iter().map(Some).chain([None]).enumerate() {
            let share = share.map(|permille| (*permille, format!("{}.{}%", permille / 10, permille % 10)));
            let now = world.now;
            match &share {
                Some((_, text)) if n == 0 => drop(world.canary(&web, new.clone(), text, Program::Good)),
                Some((_, text)) => edit(&mut world, 0, |app| {
                    app.canary = Some(app.canary.as_ref().unwrap().with_share(text.parse().unwrap(), now));
                }),
                None if promoted => world.promote(&web),
                None => edit(&mut world, 0, |app| app.canary = None),
            }
            for pass in 0..400 {
                if pass == take_over {
                    world.lead();
                }
                world.tick(ticks.next().unwrap());
                let planned = world.pass(usize::MAX);
                prop_assert!(world.ready(&web) >= want as usize, "{} are ready", world.ready(&web));
                let listed = world.proxies["p1"].1.get(&web).map_or(0, |routes| routes.backends.len());
                prop_assert!(listed >= want as usize, "a proxy knows only {}", listed);
                let run = world.desired().apps[&web].replicas.values().filter(|r| r.intent == Intent::Run).count();
                prop_assert!(run <= (want + surge) as usize);
                if let Some((permille, _)) = &share {
                    let got = world.share(&web, 2);
                    prop_assert!(got <= f64::from((*permille).max(before)) + 1e-6, "{got} of {permille}, {before} before");
                }
                if planned == 0 && pass > 1 {
                    break;
                }
            }
            settle_down(&mut world);
            assert_converged(&world);
            before = share.map_or(0, |(permille, _)| permille);
        }
        prop_assert_eq!(world.app(&web).version, if promoted { 2 } else { 1 });
        prop_assert_eq!(world.get::<Scale>(&key::scale(&web)), scale);
    }

    /// The order in which the store gives its entries is irrelevant.
    #[test]
    fn the_order_of_records_is_irrelevant(events in prop::collection::vec(event(), 1..30), seed in any::<u64>()) {
        let mut world = World::new(networks());
        for event in &events {
            happen(&mut world, event);
        }
        let mut entries: Vec<_> = world.store.iter().collect();
        entries.sort_by_key(|(key, _)| key.bytes().fold(seed, |h, b| h.wrapping_mul(0x100000001b3) ^ u64::from(b)));
        let entries = entries.into_iter().map(|(key, (value, revision))| (key.as_str(), &value[..], *revision));
        let (desired, errors) = Desired::from_snapshot(world.addressing.clone(), world.revision, entries);
        prop_assert!(errors.is_empty());
        prop_assert_eq!(&desired, &world.desired());
        prop_assert_eq!(sc_core::plan(&desired, &world.observed()), world.plan());
    }

    /// Any record may be garbage: nothing panics, and no other app's plan changes.
    #[test]
    fn garbage_in_a_record_touches_only_its_app(
        events in prop::collection::vec(event(), 1..30),
        victim in any::<prop::sample::Index>(),
        garbage in prop_oneof![Just("{"), Just("null"), Just("[]"), Just("{\"v\":1}"), Just("")],
    ) {
        let mut world = World::new(networks());
        world.deploy(&app(0), spec(Some(80)), 2, Program::Good);
        for event in &events {
            happen(&mut world, event);
        }
        let victim = victim.get(&world.store.keys().cloned().collect::<Vec<_>>()).clone();
        world.store.get_mut(&victim).unwrap().0 = garbage.as_bytes().to_vec();
        let (plan, desired) = (world.plan(), world.desired());
        let alone = |id: &AppId| desired.left_alone.contains_key(id);
        prop_assert!(!plan.steps.iter().filter_map(|(action, _)| action.app()).any(alone));
        if victim.starts_with("default/apps/") || victim.starts_with("default/replicas/") {
            prop_assert_eq!(desired.left_alone.len(), 1);
        }
    }
}
