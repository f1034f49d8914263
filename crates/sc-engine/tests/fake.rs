//! What the fake adds to the conformance suite: faults, and things that happen behind the manager's back.

use std::{sync::Arc, time::Duration};

use sc_core::{
    AppId, ReplicaId,
    observed::{Node, Run},
};
use sc_engine::{
    Engine, EngineError, Fake, StartSpec,
    fake::{Behaviour, Call, End, Fate, Fault},
};

fn spec(incarnation: u64) -> StartSpec {
    let app = AppId::in_default("web").unwrap();
    StartSpec {
        replica: ReplicaId::new(&app, incarnation),
        version: 3,
        restart: 0,
        spec: serde_json::from_value(serde_json::json!({ "source": { "image": "any" }, "port": 8080 })).unwrap(),
        addr: format!("10.213.0.{}:8080", incarnation + 1).parse().unwrap(),
        network: None,
        blobs: Default::default(),
    }
}

/// Waits, on paused time, until it is so.
async fn until(what: &str, so: impl Fn() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(tokio::time::Instant::now() < end, "not so within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn faulty(fake: &Fake, fault: Fault) {
    fake.set_faults(Some(Arc::new(move |call: &Call| match call {
        Call::Start(_) | Call::Stop(_) => Fate::from(fault),
        _ => Fate::default(),
    })));
}

fn run(fake: &Fake, spec: &StartSpec) -> Option<Run> {
    fake.containers().get(&spec.replica).map(|seen| seen.run.clone())
}

fn running(fake: &Fake, spec: &StartSpec) -> bool {
    matches!(run(fake, spec), Some(Run::Running { .. }))
}

#[tokio::test(start_paused = true)]
async fn a_dropped_start_goes_on() {
    let (fake, spec) = (Fake::default(), spec(1));
    let call = tokio::time::timeout(Duration::from_millis(10), fake.start(&spec)).await;
    assert!(call.is_err(), "the start takes longer");
    assert_eq!(run(&fake, &spec), Some(Run::Created));
    fake.quiet().await;
    assert!(running(&fake, &spec));
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_has_its_effect_and_a_hung_call_has_none() {
    let fake = Fake::default();
    faulty(&fake, Fault::LoseReply);
    assert!(matches!(fake.start(&spec(1)).await, Err(EngineError::TimedOut { .. })));
    assert!(running(&fake, &spec(1)));
    faulty(&fake, Fault::Hang);
    assert!(matches!(fake.start(&spec(2)).await, Err(EngineError::TimedOut { .. })));
    fake.quiet().await;
    assert_eq!(run(&fake, &spec(2)), None);
}

#[tokio::test(start_paused = true)]
async fn a_late_start_appears_after_its_timeout() {
    let fake = Fake::default();
    faulty(&fake, Fault::Late(Duration::from_secs(5)));
    assert!(fake.start(&spec(1)).await.is_err());
    assert_eq!(run(&fake, &spec(1)), None);
    fake.changed().await;
    fake.quiet().await;
    assert!(running(&fake, &spec(1)));
}

#[tokio::test(start_paused = true)]
async fn half_a_start_is_made_and_half_a_stop_is_ended() {
    let fake = Fake::default();
    faulty(&fake, Fault::Half);
    assert!(fake.start(&spec(1)).await.is_err());
    assert_eq!(run(&fake, &spec(1)), Some(Run::Created));
    faulty(&fake, Fault::None);
    fake.start(&spec(1)).await.unwrap();
    assert!(running(&fake, &spec(1)));
    faulty(&fake, Fault::Half);
    assert!(fake.stop(&spec(1).replica, 1_000).await.is_err());
    assert!(matches!(run(&fake, &spec(1)), Some(Run::Exited(exit)) if exit.code == 143));
}

#[tokio::test(start_paused = true)]
async fn an_address_is_taken_once() {
    let fake = Fake::default();
    fake.start(&spec(1)).await.unwrap();
    let other = StartSpec { addr: spec(1).addr, ..spec(2) };
    let error = fake.start(&other).await.unwrap_err().to_string();
    assert!(error.contains("already in use by web-1"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn ends_as_it_is_told() {
    let fake = Fake::default();
    let ends = [
        (End::Exit { after: Duration::from_secs(2), code: 3 }, 3, false),
        (End::OutOfMemory { after: Duration::from_secs(2) }, 137, true),
        (End::CannotStart("no such file".to_owned()), 127, false),
    ];
    for (i, (end, code, oom)) in ends.into_iter().enumerate() {
        let spec = spec(i as u64 + 1);
        fake.behave(Behaviour { end, ..Behaviour::default() });
        assert_eq!(fake.start(&spec).await.is_ok(), code != 127);
        until("it has ended", || matches!(run(&fake, &spec), Some(Run::Exited(_)))).await;
        let Some(Run::Exited(exit)) = run(&fake, &spec) else { panic!("{:?}", fake.containers()) };
        assert_eq!((exit.code, exit.oom), (code, oom));
    }
}

#[tokio::test(start_paused = true)]
async fn things_happen_behind_the_managers_back() {
    let fake = Fake::default();
    fake.appear(&spec(1));
    fake.start(&spec(2)).await.unwrap();
    assert!(fake.restart(&spec(1).replica) && fake.vanish(&spec(2).replica));
    let Node::Known { replicas, .. } = fake.observe().await.unwrap() else { panic!() };
    assert_eq!(replicas[&spec(1).replica].restarts, 1);
    assert_eq!(replicas.len(), 1);
    until("it listens", || fake.listening(&spec(1).addr) == Some(spec(1).replica)).await;
    assert!(fake.crash(&spec(1).replica, 1));
    assert_eq!(fake.listening(&spec(1).addr), None);
}

#[tokio::test(start_paused = true)]
async fn down_is_unreachable() {
    let fake = Fake::default();
    fake.start(&spec(1)).await.unwrap();
    fake.set_down(true);
    assert!(matches!(fake.observe().await, Err(EngineError::Unavailable { .. })));
    fake.set_down(false);
    assert!(running(&fake, &spec(1)));
}
