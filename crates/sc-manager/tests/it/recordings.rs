//! Decisions can be made again from what was recorded of them.

use std::time::Duration;

use sc_core::{AppId, spec::ScaleSpec};
use sc_manager::{Settings, commands, record, view};

use crate::cluster::{Cluster, Manager, app, deploy, eventually, spec};

/// The load in requests per second, and the replicas it needs at 50 each.
const RPS: u64 = 190;
const WANT: u32 = 4;

/// An app that was scaled up with its decisions recorded in `folder`.
async fn recorded(folder: &std::path::Path) -> (Cluster, Manager, AppId) {
    let cluster = Cluster::new().await;
    let settings = Settings { recordings: Some(folder.to_owned()), ..Settings::new("a", "unused") };
    let manager = cluster.manager_set(cluster.parts(), settings);
    eventually("it leads", || manager.world.fence().is_some() && manager.world.desired().is_some()).await;
    let web = app("web");
    let scale = ScaleSpec { max: 6, auto: true, rps: Some(50.0), ..ScaleSpec::default() };
    let request = sc_api::types::Deploy { scale: Some(scale), replicas: None, ..deploy(spec("web", "1"), 1) };
    commands::deploy(&manager.world, &web, &request).await.unwrap();
    cluster.has(&web, 1).await;
    cluster.proxy.rps.lock().unwrap().insert(web.clone(), RPS);
    cluster.has(&web, WANT as usize).await;
    let scaled = manager.world.events.last(|event| event.kind == "scaled").unwrap();
    let known = serde_json::from_value::<sc_scale::Decision>(scaled.data.clone()).unwrap();
    eventually("the change is recorded", || {
        record::replay(folder, &web, scaled.at_ms).is_ok_and(|replayed| replayed.decision == known)
    })
    .await;
    eventually("more are", || record::replay(folder, &web, u64::MAX).is_ok_and(|replayed| replayed.decisions > 9))
        .await;
    (cluster, manager, web)
}

#[tokio::test(start_paused = true)]
async fn a_decision_is_made_again_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (_cluster, manager, web) = recorded(folder.path()).await;
    // Longer than a segment: the next one goes on from it.
    let files = || std::fs::read_dir(folder.path().join("default/web")).map_or(0, Iterator::count);
    let end = tokio::time::Instant::now() + Duration::from_secs(2_000);
    while files() < 2 {
        assert!(tokio::time::Instant::now() < end, "no second segment");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    eventually("the second segment has rows", || {
        record::replay(folder.path(), &web, u64::MAX).is_ok_and(|replayed| replayed.decisions >= 1)
    })
    .await;
    let replayed = record::replay(folder.path(), &web, u64::MAX).unwrap();
    assert_eq!(replayed.differing, 0, "{replayed:?}");
    assert_eq!(replayed.decision.want, WANT);
    let text = view::why_again(&web, replayed).text;
    assert!(text.contains("byte for byte"), "{text}");
    assert!(record::replay(folder.path(), &web, 0).is_err(), "nothing is known from before");
    assert!(record::replay(folder.path(), &app("other"), u64::MAX).is_err());
    drop(manager);
}

#[tokio::test(start_paused = true)]
async fn a_changed_recording_is_noticed_and_a_cut_off_one_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (_, manager, web) = recorded(folder.path()).await;
    drop(manager);
    let path = std::fs::read_dir(folder.path().join("default/web")).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&path).unwrap();
    let rows = text.trim_end().lines().count() as u64 - 1;
    // Edited elsewhere: the recorder may still be writing the last of it.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("default/web").join(path.file_name().unwrap());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();

    let cut = text.trim_end().rsplit_once('\n').unwrap().0.to_owned() + "\n{\"n\":{\"at_ms\":17";
    std::fs::write(&path, cut).unwrap();
    let replayed = record::replay(folder.path(), &web, u64::MAX).unwrap();
    assert_eq!((replayed.differing, replayed.decisions), (0, rows - 1));

    let load = format!("\"arrivals\":{}.0", RPS);
    assert!(text.contains(&load), "{text}");
    std::fs::write(&path, text.replace(&load, "\"arrivals\":77.0")).unwrap();
    let replayed = record::replay(folder.path(), &web, u64::MAX).unwrap();
    assert!(replayed.differing > 0);
    assert!(view::why_again(&web, replayed).text.contains("came out otherwise"));
}

#[tokio::test(start_paused = true)]
async fn every_minute_is_kept_for_later() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, manager, web) = recorded(folder.path()).await;
    let minutes = || {
        let now = cluster.engine.now_ms();
        record::minutes::read(&manager.world.recorder.minutes().unwrap(), &web, 0, now, now)
    };
    let end = tokio::time::Instant::now() + Duration::from_secs(400);
    while minutes().len() < 2 {
        assert!(tokio::time::Instant::now() < end, "no minutes: {:?}", minutes());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let kept = minutes();
    let last = kept.last().unwrap();
    assert_eq!((last.arrivals, last.want, last.at_ms % 60_000), (RPS as f32, WANT as f32, 0));
    assert!(last.seconds >= 58, "{last:?}");
    assert!(kept.windows(2).all(|two| two[1].at_ms == two[0].at_ms + 60_000), "{kept:?}");
    let desired = cluster.desired();
    let why = view::why(&manager.world, &web, &desired.apps[&web], Some(last.at_ms));
    let why = view::with_minute(why, Some(*last));
    assert!(why.text.contains("That minute: 190.0 requests/s (at most 190)"), "{}", why.text);
}

#[tokio::test(start_paused = true)]
async fn what_was_measured_outlives_the_manager() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, _manager, web) = recorded(folder.path()).await;
    let now_ms = cluster.engine.now_ms();
    let windows = record::windows(folder.path(), now_ms);
    let (known, window) = &windows[0];
    assert_eq!((windows.len(), known), (1, &web));
    assert!(window.seconds.iter().any(|sample| sample.arrivals == RPS as f64), "{window:?}");
    assert_eq!(record::windows(folder.path(), now_ms + 3_600_000), [], "an hour later it says nothing");
}
