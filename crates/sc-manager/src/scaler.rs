//! The scaling loop: every closed second, and at once when a request waits for an app that sleeps, `decide` for each
//! app that scales by itself, and commit what it wants.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    time::Duration,
};

use sc_core::{
    AppId,
    plan::{Desired, DesiredApp},
    records::{self, Intent, Level, Scale, Shed, UnixMs, key},
};
use sc_scale::{
    Alert, Decision, Memory, Now, Policy, Window, decide,
    minutes::{MINUTE_MS, Minute},
};
use sc_store::{Expect, Fence, StoreError, Write};
use tokio::time::sleep;

use crate::{proxies::Facts, record::Recordings, waiting::chain, world::World};

/// A second that no proxy closes is closed by this tick.
const TICK: Duration = Duration::from_millis(500);
/// The scaler's memory alone is written at most so often.
const MEMORY_EVERY_MS: u64 = 10_000;
/// The largest memory kept in the store, in bytes of JSON.
const MEMORY_MAX: usize = 32 << 10;
/// A replica's CPU counts from so many milliseconds after it became ready: starting is no load.
const WARM_UP_MS: u64 = 10_000;

/// What the loop keeps from one decision to the next, in one epoch.
#[derive(Default)]
struct Remembered {
    epoch: Option<Fence>,
    apps: BTreeMap<AppId, (Memory, UnixMs)>,
    recordings: Recordings,
    /// The minute that goes on, by its number since 1970.
    minute: u64,
    /// When the load was last more than the maximum of replicas did.
    pressed: BTreeMap<AppId, UnixMs>,
    /// What was warned of last, and when.
    warned: BTreeMap<(AppId, &'static str), UnixMs>,
}

/// Load is shed until the maximum has been enough for so many milliseconds, or less is wanted.
const SHED_FOR_MS: u64 = 60_000;

/// The same warning is given at most so often.
const WARN_EVERY_MS: u64 = 600_000;

/// Tells what no number of replicas within the bounds mends.
fn warn(world: &World, id: &AppId, decision: &Decision, warned: &mut BTreeMap<(AppId, &'static str), UnixMs>) {
    let now = world.now_ms();
    warned.retain(|_, at| *at + WARN_EVERY_MS > now);
    for alert in &decision.alerts {
        let (kind, text) = match alert {
            Alert::MaxReached { missing } => {
                ("max_reached", format!("{id} is at its max, {missing} replicas are missing: {}", decision.reason))
            }
            Alert::NoHelp => (
                "no_help",
                format!("{id}: more replicas do not make answers faster; something behind them is the bottleneck"),
            ),
            Alert::Unreachable => (
                "unreachable",
                format!(
                    "{id}: its objective is not reached even at low load; it needs a faster app or another objective"
                ),
            ),
        };
        if let Entry::Vacant(vacant) = warned.entry((id.clone(), kind)) {
            vacant.insert(now);
            let mut event = world.events.event(Level::Warning, kind, Some(id), text);
            event.data = serde_json::to_value(decision).unwrap_or_default();
            world.events.add(event);
        }
    }
}

/// Scales for ever.
pub async fn scale(world: &World) {
    let mut remembered = Remembered::default();
    loop {
        let urgent = tokio::select! {
            biased;
            () = world.reports.urgent.notified() => true,
            () = world.reports.framed.notified() => false,
            () = sleep(TICK) => false,
        };
        let Some(desired) = world.desired() else { continue };
        let facts = desired.apps.iter().map(|(id, app)| (id.clone(), facts(world, id, app))).collect();
        let closed = world.reports.close_second(&facts);
        world.reports.keep_apps(|app| desired.apps.contains_key(app));
        world.keep_decisions(|app| desired.apps.contains_key(app));
        let Some(fence) = world.fence() else {
            remembered = Remembered::default();
            continue;
        };
        if closed {
            keep_minute(world, &desired, &mut remembered.minute);
        }
        if closed || urgent {
            round(world, &desired, fence, urgent, &mut remembered).await;
        }
    }
}

/// Once in a minute, keeps what the last one was like.
fn keep_minute(world: &World, desired: &Desired, minute: &mut u64) {
    let now = world.now_ms() / MINUTE_MS;
    if std::mem::replace(minute, now) + 1 != now {
        // It goes on, or nobody saw its begin.
        return;
    }
    for (id, app) in &desired.apps {
        let last = world.reports.with_window(id, |window| Minute::of(window, now * MINUTE_MS, app.scale.want));
        if let Some(last) = last {
            world.recorder.keep(id, last);
        }
    }
}

async fn round(world: &World, desired: &Desired, fence: Fence, urgent: bool, remembered: &mut Remembered) {
    if remembered.epoch != Some(fence) {
        let minute = remembered.minute;
        *remembered = Remembered { epoch: Some(fence), minute, ..Remembered::default() };
    }
    remembered.apps.retain(|app, _| desired.apps.contains_key(app));
    remembered.pressed.retain(|app, _| desired.apps.contains_key(app));
    remembered.recordings.keep(|app| desired.apps.contains_key(app));
    for (id, app) in &desired.apps {
        let scale = &app.app.scale;
        let paused = app.scale.paused_until_ms.is_some_and(|until| world.now_ms() < until);
        if !scale.auto || app.app.stopped || app.app.deleting || paused {
            continue;
        }
        let (memory, written_ms) = remembered.apps.remove(id).unwrap_or_else(|| (stored_memory(&app.scale), 0));
        let (policy, now) = (Policy::from(scale), now(world, id, app));
        world.reports.note_outside(id, world.outside.of(id));
        let (decision, memory) = recorded(world, id, &policy, &now, memory, &mut remembered.recordings);
        let shed = shed(world, id, &policy, (&decision, &memory), app.scale.shed, &mut remembered.pressed);
        let changes = decision.want != app.scale.want || shed != app.scale.shed;
        // Somebody waits: what only is to be remembered is written a second later.
        let due = changes || !urgent && world.now_ms() >= written_ms + MEMORY_EVERY_MS;
        let written = if due { write(world, desired, fence, id, (&decision, &memory, shed)).await } else { Ok(()) };
        let written_ms = if due { world.now_ms() } else { written_ms };
        remembered.apps.insert(id.clone(), (memory, written_ms));
        warn(world, id, &decision, &mut remembered.warned);
        world.decided(id, decision.clone());
        match written {
            Ok(()) if changes => tell(world, id, &app.scale, decision, shed),
            Ok(()) => {}
            // Somebody else changed the record: the next second decides on that.
            Err(StoreError::Conflict) => {}
            Err(error) => {
                tracing::debug!(app = %id, error = chain(&error), "a scaling decision could not be stored");
            }
        }
    }
}

/// Decides, and records what from.
fn recorded(
    world: &World,
    id: &AppId,
    policy: &Policy,
    now: &Now,
    memory: Memory,
    recordings: &mut Recordings,
) -> (Decision, Memory) {
    let (row, decided) = world.reports.with_window(id, |window| {
        let row = recordings.take(&world.recorder, id, policy, now, window, &memory);
        (row, decide(policy, now, window, memory))
    });
    if let Some(row) = row {
        recordings.put(&world.recorder, id, row.decided(&decided.0));
    }
    decided
}

async fn write(
    world: &World,
    desired: &Desired,
    fence: Fence,
    id: &AppId,
    (decision, memory, shed): (&Decision, &Memory, Option<Shed>),
) -> Result<(), StoreError> {
    let Some(app) = desired.apps.get(id) else { return Ok(()) };
    let memory = serde_json::to_value(memory).unwrap_or_default();
    let small = memory.to_string().len() <= MEMORY_MAX;
    let memory = if small { memory } else { serde_json::Value::Null };
    let record = Scale { want: decision.want, memory, shed, ..app.scale.clone() };
    if record == app.scale {
        return Ok(());
    }
    let key = key::scale(id);
    let revision = desired.revisions.get(&key).copied().unwrap_or(0);
    let app_key = key::app(id);
    let app_revision = desired.revisions.get(&app_key).copied().unwrap_or(0);
    let expects = vec![Expect { key: key.clone(), revision }, Expect { key: app_key, revision: app_revision }];
    let put = Write::Put { key, value: records::write(&record), lease: None };
    world.mirror.commit(Some(fence), expects, vec![put]).await.map(drop)
}

/// What load is to be shed by, while it is more than the maximum takes and for a while after.
fn shed(
    world: &World,
    id: &AppId,
    policy: &Policy,
    (decision, memory): (&Decision, &Memory),
    before: Option<Shed>,
    pressed: &mut BTreeMap<AppId, UnixMs>,
) -> Option<Shed> {
    let now = world.now_ms();
    let too_much = |window: &Window| sc_scale::overload::overloaded(policy, now, window, memory, before.is_some());
    if decision.want >= policy.max && world.reports.with_window(id, too_much) {
        pressed.insert(id.clone(), now);
    } else if before.is_none() {
        return None;
    }
    // A new leader does not know since when.
    let since = *pressed.entry(id.clone()).or_insert(now);
    if now >= since.saturating_add(SHED_FOR_MS) || decision.want < policy.max {
        pressed.remove(id);
        return None;
    }
    world.reports.with_window(id, |window| sc_scale::overload::shed(policy, now, window, memory, before.as_ref()))
}

fn tell(world: &World, id: &AppId, before: &Scale, decision: Decision, shed: Option<Shed>) {
    if shed.is_some() != before.shed.is_some() {
        let (level, text) = match shed {
            Some(Shed { in_flight, queue_ms }) => (
                Level::Warning,
                format!(
                    "{id} gets more than {} replicas take: each works on {in_flight} requests at once, others wait for at \
                     most {queue_ms} ms and get 503 then",
                    decision.want
                ),
            ),
            None => (Level::Info, format!("{id} takes all requests again")),
        };
        world.events.add(world.events.event(level, "overload", Some(id), text));
    }
    if decision.want == before.want {
        return;
    }
    let from = before.want;
    let text = format!("{id}: {from} → {} replicas: {}", decision.want, decision.reason);
    let mut event = world.events.event(Level::Info, "scaled", Some(id), text);
    event.data = serde_json::to_value(&decision).unwrap_or_default();
    world.events.add(event);
}

fn stored_memory(scale: &Scale) -> Memory {
    serde_json::from_value(scale.memory.clone()).unwrap_or_default()
}

fn now(world: &World, id: &AppId, app: &DesiredApp) -> Now {
    Now {
        at_ms: world.now_ms(),
        want: app.scale.want,
        ready: ready(app).count() as u32,
        held: world.reports.gauges(id).held,
        version: app.app.stable.unwrap_or(app.app.version),
        warm: kept(app, |intent| matches!(intent, Intent::Pause { .. })),
        stopped: kept(app, |intent| matches!(intent, Intent::Park { .. })),
    }
}

fn facts(world: &World, id: &AppId, app: &DesiredApp) -> Facts {
    let at = world.now_ms();
    let warm = ready(app).filter(|(_, ready_ms)| ready_ms + WARM_UP_MS <= at);
    let used: Vec<_> = warm
        .filter_map(|(n, _)| world.usages.of(&sc_core::ReplicaId::new(id, n), at))
        .filter_map(|used| used.cpu.map(|cpu| (cpu, used.usage)))
        .collect();
    let limits: Option<Vec<f64>> = used.iter().map(|(_, usage)| usage.cpu_limit).collect();
    let memory_limits: Option<Vec<u64>> = used.iter().map(|(_, usage)| usage.memory_limit).collect();
    let versions: BTreeSet<u64> = ready(app).filter_map(|(n, _)| app.replicas.get(&n)).map(|r| r.version).collect();
    Facts {
        ready: ready(app).count() as u32,
        mixed: versions.len() > 1,
        cpu: (!used.is_empty()).then(|| used.iter().map(|(cpu, _)| cpu).sum()),
        cpu_limit: limits.filter(|l| !l.is_empty()).map(|limits| limits.iter().sum()),
        cpu_replicas: used.len() as u32,
        memory: (!used.is_empty()).then(|| used.iter().map(|(_, usage)| usage.memory as f64).sum()),
        memory_limit: memory_limits.filter(|l| !l.is_empty()).map(|limits| limits.iter().sum::<u64>() as f64),
    }
}

/// The replicas that could be woken, or started again.
fn kept(app: &DesiredApp, kind: fn(&Intent) -> bool) -> u32 {
    app.replicas.values().filter(|r| kind(&r.intent) && app.is_current(r)).count() as u32
}

/// The replicas that take traffic, with the time since when.
fn ready(app: &DesiredApp) -> impl Iterator<Item = (u64, UnixMs)> {
    let running = app.replicas.iter().filter(|(_, replica)| replica.intent == Intent::Run);
    running.filter_map(|(n, replica)| replica.ready_ms.map(|ready| (*n, ready)))
}
