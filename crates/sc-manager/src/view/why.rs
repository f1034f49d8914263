//! Why an app has as many replicas as it has.

use sc_api::types::{ReplayView, WhyView};
use sc_core::{
    AppId,
    plan::{DesiredApp, lack_of_addresses},
    records::{Event, Shed, UnixMs},
};
use sc_scale::{Decision, minutes::Minute};

use crate::{record::Replayed, world::World};

/// The reason for the count, now or at an earlier time.
pub fn why(world: &World, id: &AppId, app: &DesiredApp, at: Option<UnixMs>) -> WhyView {
    let at_ms = at.unwrap_or_else(|| world.now_ms());
    let decision = match at {
        None => world.decision(id).or_else(|| past(world, id, at_ms)),
        Some(at) => past(world, id, at),
    };
    let decision = decision.filter(|_| app.app.scale.auto || at.is_some());
    WhyView {
        app: id.clone(),
        want: decision.as_ref().filter(|_| at.is_some()).map_or(app.want(), |decision| decision.want),
        text: text(world, id, app, at, decision.as_ref()) + &lack(world, id, at),
        at_ms: decision.as_ref().map_or(at_ms, |decision| decision.at_ms),
        decision,
        minute: None,
        replay: None,
    }
}

/// Adds what that minute was like.
pub fn with_minute(mut why: WhyView, minute: Option<Minute>) -> WhyView {
    if let Some(minute) = &minute {
        let p95 = minute.p95_seconds.map_or_else(String::new, |p95| format!(", 95 % within {:.0} ms", p95 * 1e3));
        let failed = if minute.failed > 0.0 { format!(", {:.1}/s failed", minute.failed) } else { String::new() };
        why.text += &format!(
            ". That minute: {:.1} requests/s (at most {:.0}){p95}{failed}, {:.1} at work on {:.1} ready replicas",
            minute.arrivals, minute.peak, minute.in_flight, minute.ready
        );
    }
    why.minute = minute;
    why
}

/// A decision of an earlier time, decided again.
pub fn why_again(id: &AppId, replayed: Replayed) -> WhyView {
    let Replayed { decision, decisions, differing, decider } = replayed;
    let outcome = match (differing, decider == Replayed::DECIDER) {
        (0, _) => "each came out as it was, byte for byte".to_owned(),
        (_, true) => format!("{differing} came out otherwise: the recording or this program is damaged"),
        (_, false) => {
            format!("{differing} came out otherwise: decider {decider} decided then, {} now", Replayed::DECIDER)
        }
    };
    WhyView {
        app: id.clone(),
        want: decision.want,
        text: format!(
            "{}. {decisions} decisions up to this one were made again from what was recorded: {outcome}",
            sentence(&decision)
        ),
        at_ms: decision.at_ms,
        decision: Some(decision),
        minute: None,
        replay: Some(ReplayView { decisions, differing, decider }),
    }
}

/// Why there are fewer than wanted now.
fn lack(world: &World, id: &AppId, at: Option<UnixMs>) -> String {
    let desired = world.desired().filter(|_| at.is_none());
    let lack = desired.and_then(|desired| lack_of_addresses(&desired, &world.observed(), id));
    lack.map_or_else(String::new, |lack| format!(". Not all of them run: {lack}"))
}

/// The last change of the count before a time, as its event tells.
fn past(world: &World, id: &AppId, at_ms: UnixMs) -> Option<Decision> {
    let scaled = |event: &Event| event.kind == "scaled" && event.app.as_ref() == Some(id) && event.at_ms <= at_ms;
    serde_json::from_value(world.events.last(scaled)?.data.clone()).ok()
}

fn text(world: &World, id: &AppId, app: &DesiredApp, at: Option<UnixMs>, decision: Option<&Decision>) -> String {
    let (want, bounds) = (app.want(), &app.app.scale);
    if at.is_some() {
        return match decision {
            Some(decision) => sentence(decision),
            None => format!("no scaling decision on {id} is known from before that time"),
        };
    }
    if app.app.deleting {
        return format!("{id} is being removed");
    }
    if app.app.stopped {
        return format!("{id} is stopped: `sc start {id}` runs it again");
    }
    if !bounds.auto {
        return format!("{want} replicas, as set by hand. `sc scale {id} --auto --max N` lets the scaler decide");
    }
    if let Some(until) = app.scale.paused_until_ms.filter(|until| *until > world.now_ms()) {
        let seconds = (until - world.now_ms()).div_ceil(1_000);
        return format!("{want} replicas; the scaler holds still for {seconds} s more");
    }
    match decision {
        Some(decision) => format!("{}{}", sentence(decision), shedding(app)),
        None => format!(
            "{want} replicas; the scaler has not decided yet ({} to {}): ask again in a few seconds",
            bounds.min, bounds.max
        ),
    }
}

fn shedding(app: &DesiredApp) -> String {
    app.scale.shed.map_or_else(String::new, |Shed { in_flight, queue_ms }| {
        format!(
            ". More comes in than these take: each works on {in_flight} requests at once, others wait for at most {queue_ms} \
             ms and get 503 then"
        )
    })
}

fn sentence(decision: &Decision) -> String {
    let would = if decision.would_change.is_empty() { String::new() } else { format!(". {}", decision.would_change) };
    format!("{} replicas: {}{would}", decision.want, decision.reason)
}
