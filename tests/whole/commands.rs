//! What one does day by day: look, change, look inside.

use sc_tests::{Cloud, cloud::StateIn, docker::docker, poll, secs};

const HOST: &str = "web.localhost";

/// Stopping one replica lowers the count; restarting one replaces it; stop and start; rm leaves nothing.
async fn lives(cloud: Cloud) {
    cloud.run("web", &["--host", HOST, "--replicas", "3"]).await;
    cloud.settles("web", 3).await;
    let replica = cloud.replicas("web").await[0].replica.to_string();
    cloud.sc(&["stop", &replica]).await.ok();
    cloud.settles("web", 2).await;

    let replica = cloud.replicas("web").await[0].replica.to_string();
    cloud.sc(&["restart", &replica]).await.ok();
    cloud.settles("web", 2).await;
    let now = cloud.really_running("web").await;
    assert!(now.iter().all(|(name, _)| *name != replica), "{replica} was replaced: {now:?}");

    cloud.sc(&["restart", "web"]).await.ok();
    cloud.settles("web", 2).await;
    let restarted = cloud.really_running("web").await;
    assert!(now.iter().all(|old| !restarted.contains(old)), "every replica is new: {now:?} → {restarted:?}");

    cloud.sc(&["stop", "web"]).await.ok();
    cloud.settles("web", 0).await;
    cloud.sc(&["start", "web"]).await.ok();
    cloud.settles("web", 2).await;
    cloud.serves(HOST, "/whoami").await;

    cloud.sc(&["rm", "web"]).await.ok();
    let gone = async || cloud.really_running("web").await.is_empty().then_some(());
    poll(secs(60), "the app to be gone", gone).await;
    cloud.sc(&["describe", "web"]).await.exits(4);
    if cloud.on_docker() {
        let filter = format!("label=sc.instance={}", cloud.name);
        let networks =
            async || docker(&["network", "ls", "-q", "--filter", &filter]).await.ok().stdout.is_empty().then_some(());
        poll(secs(60), "its network to be gone", networks).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_lives_on_docker() {
    lives(Cloud::docker().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_lives_on_processes() {
    lives(Cloud::process(StateIn::Embedded).await).await;
}

/// What processes do not keep of an app's limits is said at deploy and later on; on Docker there is nothing to say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_that_are_not_kept_are_said() {
    let cloud = Cloud::process(StateIn::Embedded).await;
    let limits = ["--cpus", "0.5", "--pids", "50", "--memory", "64MiB"];
    let out = cloud.run("web", &limits).await.says(&["0.5 CPUs", "50 processes", "not enforced"]);
    assert!(!out.stdout.contains("enforced"), "{out:?}");
    assert_eq!(out.stderr.lines().filter(|line| line.starts_with("warning")).count(), 2, "memory is kept: {out:?}");
    cloud.sc(&["describe", "web"]).await.ok().says(&["warnings", "0.5 CPUs", "not enforced"]);
    assert_eq!(cloud.app("web").await.warnings.len(), 2);
}

/// What an engine can never run is refused at once, instead of being tried for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_engine_cannot_run_is_refused() {
    let cloud = Cloud::process(StateIn::Embedded).await;
    let out = cloud.sc(&["run", "web", "--image", "nginx", "--detach"]).await.exits(2);
    out.says(&["The app cannot run here", "cannot run the image nginx", "--bin", "nothing was changed"]);
    cloud.sc(&["describe", "web"]).await.exits(4);
}

/// Logs of all replicas, also of one that is gone; exec with the program's own exit status; files in and out.
async fn inside(cloud: Cloud) {
    cloud.run("web", &["--host", HOST, "--replicas", "2"]).await;
    cloud.settles("web", 2).await;
    let replica = cloud.replicas("web").await[0].replica.to_string();

    let logs = cloud.sc(&["logs", "web"]).await.ok();
    assert!(logs.stdout.contains(&replica), "every line has its replica's name: {}", logs.stdout);
    cloud.sc(&["stop", &replica]).await.ok();
    cloud.settles("web", 1).await;
    let logs = cloud.sc(&["logs", "web"]).await.ok();
    assert!(logs.stdout.contains(&replica), "a replica that is gone is still to be read: {}", logs.stdout);

    cloud.sc(&["events"]).await.ok().says(&["web"]);
    cloud.sc(&["ls"]).await.ok().says(&["web", HOST]);
    cloud.sc(&["ls", "-o", "name"]).await.ok().says(&["web"]);
    cloud.sc(&["ps"]).await.ok().says(&["web-"]);
    cloud.sc(&["describe", "web"]).await.ok().says(&["web", HOST]);
    cloud.sc(&["why", "web"]).await.ok();
    cloud.sc(&["doctor"]).await.ok();
    cloud.sc(&["version"]).await.ok().says(&["0.1.0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_on_docker() {
    inside(Cloud::docker().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_on_processes() {
    inside(Cloud::process(StateIn::Embedded).await).await;
}

/// exec and cp, in a container that has a shell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exec_and_cp_on_docker() {
    let cloud = Cloud::docker().await;
    let note = cloud.write("note.txt", "from outside\n").display().to_string();
    let copy = format!("{note}:/etc/note.txt");
    cloud.sc(&["run", "box", "--copy", &copy, "--", "sleep", "1000000"]).await.ok();
    cloud.settles("box", 1).await;
    let replica = cloud.replicas("box").await[0].replica.to_string();
    cloud.sc(&["exec", "box", "--", "cat", "/etc/note.txt"]).await.ok().says(&["from outside"]);
    cloud.sc(&["exec", &replica, "--", "sh", "-c", "exit 42"]).await.exits(42);
    cloud
        .sc(&["exec", "box", "--", "sh", "-c", "echo $SC_REPLICA; echo words >&2"])
        .await
        .ok()
        .says(&[&replica, "words"]);

    let second = cloud.write("second.txt", "second\n").display().to_string();
    cloud.sc(&["cp", &second, &format!("{replica}:/tmp/")]).await.ok();
    cloud.sc(&["exec", "box", "--", "cat", "/tmp/second.txt"]).await.ok().says(&["second"]);
    let back = cloud.path("back.txt");
    cloud.sc(&["cp", &format!("{replica}:/tmp/second.txt"), &back.display().to_string()]).await.ok();
    assert_eq!(std::fs::read_to_string(back).expect("the file that came back"), "second\n");
}
