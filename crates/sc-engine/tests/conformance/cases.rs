//! What every engine must do.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use sc_core::{AppId, ReplicaId, observed::Run};
use sc_engine::{EngineError, LogQuery};

use crate::subject::{Program, Subject, exec, exit_of, lines, observe, run_of, running, texts, until};

pub async fn starts_with_version_and_address(s: &dyn Subject) {
    let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
    engine.start(&spec).await.unwrap();
    running(&engine, &spec.replica).await;
    let seen = observe(&engine).await.remove(&spec.replica).unwrap();
    assert_eq!((seen.version, seen.addr), (3, Some(spec.addr)));
    if s.real() {
        until("an answer", || async { tokio::net::TcpStream::connect(spec.addr).await.ok() }).await;
    }
}

pub async fn start_twice_is_one(s: &dyn Subject) {
    let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
    engine.start(&spec).await.unwrap();
    running(&engine, &spec.replica).await;
    let before = observe(&engine).await;
    engine.start(&spec).await.unwrap();
    assert_eq!(observe(&engine).await, before);
}

pub async fn starts_at_once_are_one(s: &dyn Subject) {
    let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
    let starts: Vec<_> = (0..5).map(|_| s.open()).collect();
    let starts: Vec<_> = stream::iter(starts)
        .map(|engine| {
            let spec = spec.clone();
            async move { engine.start(&spec).await }
        })
        .buffer_unordered(5)
        .collect()
        .await;
    assert!(starts.iter().all(Result::is_ok), "{starts:?}");
    running(&engine, &spec.replica).await;
    assert_eq!(observe(&engine).await.len(), 1);
    engine.stop(&spec.replica, 1_000).await.unwrap();
    assert_eq!(observe(&engine).await.len(), 0);
}

pub async fn stop_removes_and_absent_is_fine(s: &dyn Subject) {
    let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
    engine.stop(&spec.replica, 1_000).await.unwrap();
    engine.start(&spec).await.unwrap();
    engine.stop(&spec.replica, 5_000).await.unwrap();
    assert_eq!(run_of(&engine, &spec.replica).await, None);
    engine.stop(&spec.replica, 5_000).await.unwrap();
    if s.real() {
        assert!(tokio::net::TcpStream::connect(spec.addr).await.is_err(), "nobody listens any more");
    }
}

pub async fn a_stubborn_one_is_killed(s: &dyn Subject) {
    let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Stubborn));
    engine.start(&spec).await.unwrap();
    running(&engine, &spec.replica).await;
    engine.stop(&spec.replica, 300).await.unwrap();
    assert_eq!(run_of(&engine, &spec.replica).await, None);
}

pub async fn an_end_is_seen_with_its_log(s: &dyn Subject) {
    let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Talk { code: 3 }));
    engine.start(&spec).await.unwrap();
    let exit = exit_of(&engine, &spec.replica).await;
    assert_eq!((exit.code, exit.oom), (3, false), "{exit:?}");
    assert!(exit.at_ms > 1_600_000_000_000, "{exit:?}");
    let all = lines(&engine, &spec.replica, LogQuery::default()).await;
    let out = texts(&all, false);
    assert_eq!(out[..2], ["one", "two"]);
    if s.real() {
        assert_eq!(texts(&all, true), ["three"]);
    }
    // Starting what has ended does not start it again.
    engine.start(&spec).await.unwrap();
    assert_eq!(exit_of(&engine, &spec.replica).await, exit);
}

pub async fn logs_outlive_the_replica(s: &dyn Subject) {
    let (engine, spec) = (s.open(), s.spec("web", 7, &Program::Talk { code: 0 }));
    engine.start(&spec).await.unwrap();
    exit_of(&engine, &spec.replica).await;
    let before = lines(&engine, &spec.replica, LogQuery::default()).await;
    engine.stop(&spec.replica, 1_000).await.unwrap();
    let again = s.open();
    assert_eq!(lines(&again, &spec.replica, LogQuery::default()).await, before);
    let last = lines(&again, &spec.replica, LogQuery { tail: Some(1), ..LogQuery::default() }).await;
    assert_eq!(last, before[before.len() - 1..]);
    let later = LogQuery { since_ms: Some(before[0].at_ms + 3_600_000), ..LogQuery::default() };
    assert_eq!(lines(&again, &spec.replica, later).await, []);
    let followed = lines(&again, &spec.replica, LogQuery { follow: true, ..LogQuery::default() }).await;
    assert_eq!(followed, before);
    assert_eq!(again.logged(&spec.replica.app).await.unwrap(), std::slice::from_ref(&spec.replica));
    assert_eq!(again.logged(&AppId::in_default("other").unwrap()).await.unwrap(), []);
}

pub async fn a_followed_log_ends_with_the_replica(s: &dyn Subject) {
    let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
    engine.start(&spec).await.unwrap();
    running(&engine, &spec.replica).await;
    let follow = engine.logs(&spec.replica, &LogQuery { follow: true, ..LogQuery::default() }).await.unwrap();
    let stop = engine.stop(&spec.replica, 5_000);
    let both = async { tokio::join!(follow.try_collect::<Vec<_>>(), stop) };
    let (log, stopped) = tokio::time::timeout(Duration::from_secs(30), both).await.expect("it ends");
    stopped.unwrap();
    log.unwrap();
}

pub async fn too_much_memory_is_said(s: &dyn Subject) {
    let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Greedy));
    engine.start(&spec).await.unwrap();
    let exit = exit_of(&engine, &spec.replica).await;
    assert_eq!((exit.code, exit.oom), (137, true), "{exit:?}");
}

async fn cannot_start(s: &dyn Subject, program: Program, code: i32, word: &str) {
    let (engine, spec) = (s.open(), s.spec("web", 1, &program));
    let error = engine.start(&spec).await.unwrap_err();
    assert!(matches!(&error, EngineError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains(word), "{error}");
    let exit = exit_of(&engine, &spec.replica).await;
    assert!(exit.code == code || !s.real(), "{exit:?}");
    assert!(exit.error.contains(word), "{exit:?}");
    engine.stop(&spec.replica, 1_000).await.unwrap();
    assert_eq!(run_of(&engine, &spec.replica).await, None);
}

pub async fn a_missing_program_is_refused(s: &dyn Subject) {
    cannot_start(s, Program::Missing, 127, "/app/nothing").await;
}

pub async fn a_file_that_is_no_program_is_refused(s: &dyn Subject) {
    cannot_start(s, Program::NotExecutable, 126, "/app/text").await;
}

pub async fn an_unknown_image_is_refused(s: &dyn Subject) {
    let (engine, spec) = (s.open(), s.spec("web", 1, &Program::NoImage));
    let error = engine.start(&spec).await.unwrap_err();
    assert!(matches!(&error, EngineError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("sc-test/nobody-has-this:1"), "{error}");
    assert_eq!(observe(&engine).await.len(), 0);
}

pub async fn pauses_and_wakes(s: &dyn Subject) {
    let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
    engine.start(&spec).await.unwrap();
    running(&engine, &spec.replica).await;
    for _ in 0..2 {
        engine.pause(&spec.replica).await.unwrap();
        assert_eq!(run_of(&engine, &spec.replica).await, Some(Run::Paused));
    }
    for _ in 0..2 {
        engine.wake(&spec.replica).await.unwrap();
        assert!(matches!(run_of(&engine, &spec.replica).await, Some(Run::Running { .. })));
    }
    engine.pause(&spec.replica).await.unwrap();
    engine.stop(&spec.replica, 2_000).await.unwrap();
    assert_eq!(run_of(&engine, &spec.replica).await, None);
}

pub async fn parks_and_revives(s: &dyn Subject) {
    let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
    engine.start(&spec).await.unwrap();
    running(&engine, &spec.replica).await;
    let before = observe(&engine).await.remove(&spec.replica).unwrap();
    for round in 0..2 {
        let known = observe(&engine).await.remove(&spec.replica).unwrap().restarts;
        for _ in 0..2 {
            engine.park(&spec.replica, 5_000).await.unwrap();
            assert!(matches!(run_of(&engine, &spec.replica).await, Some(Run::Exited(_))));
        }
        let parked = observe(&engine).await.remove(&spec.replica).unwrap();
        assert_eq!((parked.addr, parked.version, parked.restarts), (before.addr, before.version, known));
        if s.real() {
            assert!(tokio::net::TcpStream::connect(spec.addr).await.is_err(), "nobody listens");
        }
        // A start is for one that was never started.
        engine.start(&spec).await.unwrap();
        assert!(matches!(run_of(&engine, &spec.replica).await, Some(Run::Exited(_))));
        // Another manager takes over meanwhile.
        let engine = s.open();
        for _ in 0..2 {
            engine.revive(&spec.replica).await.unwrap();
            running(&engine, &spec.replica).await;
        }
        let revived = observe(&engine).await.remove(&spec.replica).unwrap();
        assert_eq!((revived.addr, revived.version), (before.addr, before.version));
        assert_ne!(revived.restarts, known, "round {round}: it is seen that it was started again");
        if s.real() {
            until("an answer", || async { tokio::net::TcpStream::connect(spec.addr).await.ok() }).await;
        }
    }
    engine.park(&spec.replica, 5_000).await.unwrap();
    engine.stop(&spec.replica, 5_000).await.unwrap();
    assert_eq!(run_of(&engine, &spec.replica).await, None);
}

pub async fn a_parked_one_that_sleeps_is_stopped_and_one_that_is_unknown_is_said(s: &dyn Subject) {
    let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
    let unknown = |result| matches!(result, Err(EngineError::NoSuchReplica(_)));
    assert!(unknown(engine.park(&spec.replica, 1_000).await) && unknown(engine.revive(&spec.replica).await));
    engine.start(&spec).await.unwrap();
    running(&engine, &spec.replica).await;
    engine.pause(&spec.replica).await.unwrap();
    engine.park(&spec.replica, 5_000).await.unwrap();
    assert!(matches!(run_of(&engine, &spec.replica).await, Some(Run::Exited(_))));
    engine.revive(&spec.replica).await.unwrap();
    running(&engine, &spec.replica).await;
}

pub async fn another_handle_adopts(s: &dyn Subject) {
    let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
    engine.start(&spec).await.unwrap();
    running(&engine, &spec.replica).await;
    let before = observe(&engine).await;
    drop(engine);
    let engine = s.open();
    assert_eq!(observe(&engine).await, before);
    engine.stop(&spec.replica, 2_000).await.unwrap();
    assert_eq!(observe(&engine).await.len(), 0);
}

pub async fn a_killed_process_is_seen(s: &dyn Subject) {
    let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
    engine.start(&spec).await.unwrap();
    running(&engine, &spec.replica).await;
    let changed = async {
        loop {
            engine.changed().await;
            if matches!(run_of(&engine, &spec.replica).await, Some(Run::Exited(_))) {
                return;
            }
        }
    };
    let both = async { tokio::join!(changed, s.kill(&spec.replica)) };
    tokio::time::timeout(Duration::from_secs(30), both).await.expect("the change is noticed");
    let exit = exit_of(&engine, &spec.replica).await;
    assert_eq!((exit.code, exit.oom), (137, false), "{exit:?}");
}

pub async fn exec_gives_status_and_takes_input(s: &dyn Subject) {
    let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
    engine.start(&spec).await.unwrap();
    running(&engine, &spec.replica).await;
    let (said, code) = exec(&engine, &spec.replica, &["/app/busybox", "cat"], b"heard").await.unwrap();
    assert_eq!((said.as_str(), code), ("heard", 0));
    let (said, code) =
        exec(&engine, &spec.replica, &["/app/busybox", "sh", "-c", "echo no; exit 5"], b"").await.unwrap();
    assert_eq!((said.as_str(), code), ("no\n", 5));
}

pub async fn copies_in_and_out(s: &dyn Subject) {
    let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
    engine.start(&spec).await.unwrap();
    running(&engine, &spec.replica).await;
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o640);
    tar.append_data(&mut header, "greeting", &b"hello"[..]).unwrap();
    let bytes = bytes::Bytes::from(tar.into_inner().unwrap());
    let pieces: Vec<_> = bytes.chunks(100).map(|piece| Ok(bytes.slice_ref(piece))).collect();
    engine.copy_in(&spec.replica, "/app", stream::iter(pieces).boxed()).await.unwrap();
    let out = engine.copy_out(&spec.replica, "/app/greeting").await.unwrap();
    let out: Vec<_> = out.try_collect().await.unwrap();
    let out = out.concat();
    let mut archive = tar::Archive::new(out.as_slice());
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(entry.path().unwrap().to_str(), Some("greeting"));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
    assert_eq!(text, "hello");
    let missing = engine.copy_out(&spec.replica, "/app/nothing").await.err().expect("there is none");
    assert!(missing.to_string().contains("/app/nothing"), "{missing}");
}

pub async fn usage_grows(s: &dyn Subject) {
    let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Busy));
    engine.start(&spec).await.unwrap();
    running(&engine, &spec.replica).await;
    let sample = || async { engine.usage().await.unwrap().remove(&spec.replica) };
    let first = until("a sample", sample).await;
    let later =
        until("more CPU time", || async { sample().await.filter(|later| later.cpu_seconds > first.cpu_seconds + 0.1) })
            .await;
    assert!(later.at_ms > first.at_ms && later.memory > 0 && later.pids > 0, "{later:?}");
}

pub async fn unknown_replicas_are_said(s: &dyn Subject) {
    let engine = s.open();
    let replica = ReplicaId::new(&AppId::in_default("web").unwrap(), 99);
    let none = |error: Option<EngineError>| assert!(matches!(error, Some(EngineError::NoSuchReplica(_))), "{error:?}");
    none(engine.pause(&replica).await.err());
    none(engine.wake(&replica).await.err());
    none(engine.logs(&replica, &LogQuery::default()).await.err());
    none(engine.copy_out(&replica, "/").await.err());
    none(exec(&engine, &replica, &["/app/busybox"], b"").await.err());
    engine.remove_network(&replica.app).await.unwrap();
    engine.collect_garbage(&[]).await.unwrap();
    assert_eq!(engine.usage().await.unwrap().len(), 0);
}

/// Only for engines with real processes.
pub async fn words_and_environment_pass_unaltered(s: &dyn Subject) {
    let mut spec = s.spec("web", 1, &Program::Serve);
    let words = ["a b", "it's", "\"q\"", "$HOME", "`x`", "*", "", "ü\n2", "-n"];
    spec.spec.command = ["/app/busybox", "sh", "-c", r#"for w; do echo "<$w>"; done; ./app/busybox env"#, "sh"]
        .iter()
        .chain(&words)
        .map(|&word| word.to_owned())
        .collect();
    spec.spec.env = [("GREETING".to_owned(), "it's $5".to_owned())].into();
    let engine = s.open();
    engine.start(&spec).await.unwrap();
    exit_of(&engine, &spec.replica).await;
    let all = lines(&engine, &spec.replica, LogQuery::default()).await;
    let text = texts(&all, false).join("\n");
    let expected: Vec<_> = words.iter().map(|word| format!("<{word}>\n")).collect();
    assert!(text.starts_with(&expected.concat()), "{text}");
    let port = format!("PORT={}", spec.addr.port());
    let own = ["GREETING=it's $5", &port, "SC_APP=web", "SC_REPLICA=web-1", "SC_VERSION=3", "SC_PROJECT=default"];
    for expected in own {
        assert!(text.lines().any(|line| line == expected), "{expected} in {text}");
    }
    assert!(!text.contains("CARGO"), "the tests' own environment stays out: {text}");
}

/// Replicas at once, started, seen, measured and stopped.
pub async fn many_at_once(s: &dyn Subject) {
    let engine = s.open();
    let specs: Vec<_> = (1..=6).map(|n| s.spec("web", n, &Program::Serve)).collect();
    let each = |spec: sc_engine::StartSpec| {
        let engine = Arc::clone(&engine);
        async move { engine.start(&spec).await.unwrap() }
    };
    stream::iter(specs.clone()).map(each).buffer_unordered(6).collect::<Vec<()>>().await;
    for spec in &specs {
        running(&engine, &spec.replica).await;
    }
    assert_eq!(engine.usage().await.unwrap().len(), 6);
    let each = |spec: sc_engine::StartSpec| {
        let engine = Arc::clone(&engine);
        async move { engine.stop(&spec.replica, 5_000).await.unwrap() }
    };
    stream::iter(specs).map(each).buffer_unordered(6).collect::<Vec<()>>().await;
    assert_eq!(observe(&engine).await.len(), 0);
}
