//! The suite on Docker, and what is its own. Everything made here carries an instance name of its own, and is removed
//! also after a failure. Without a Docker engine these tests fail and say so; leave them out by name: `-E 'not test(docker)'`.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bollard::query_parameters::{
    BuildImageOptions, KillContainerOptions, ListContainersOptions, ListImagesOptions, ListNetworksOptions,
    RemoveContainerOptions, RemoveImageOptions, RestartContainerOptions,
};
use futures_util::TryStreamExt;
use sc_core::{
    AppId, Name, ReplicaId,
    observed::{Node, Run},
    spec::Source,
};
use sc_engine::{Docker, Engine, EngineError, LogQuery, NetworkSpec, StartSpec, docker::DockerConfig};

use crate::subject::{Program, Subject, exec, exit_of, lines, observe, real_spec, resized, run_of, running, until};

struct DockerSubject {
    docker: bollard::Docker,
    instance: String,
    /// Number of this test's first range of 64 addresses.
    range: u32,
    logs: tempfile::TempDir,
}

async fn fresh() -> DockerSubject {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let docker = bollard::Docker::connect_with_defaults().expect("Docker");
    let docker = docker.negotiate_version().await.expect("these tests need a running Docker engine");
    let (pid, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
    let subject = DockerSubject {
        docker,
        instance: format!("sct{pid}x{count}"),
        range: (pid.wrapping_mul(2).wrapping_add(count * 2)) % 1024,
        logs: tempfile::tempdir().unwrap(),
    };
    subject.build_base().await;
    subject
}

impl DockerSubject {
    fn base_image(&self) -> String {
        format!("sc-test/{}:1", self.instance)
    }

    /// An image with a busybox and a program of its own, and no registry needed.
    async fn build_base(&self) {
        let busybox = std::fs::read("/bin/busybox").expect("these tests need busybox: apt-get install busybox-static");
        let dockerfile = format!(
            "FROM scratch\nLABEL test={}\nCOPY busybox /bin/sh\nENTRYPOINT [\"/bin/sh\", \"-c\"]\nCMD [\"echo own\"]\n",
            self.instance
        );
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in [("Dockerfile", dockerfile.as_bytes()), ("busybox", &busybox)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            header.set_mtime(1);
            tar.append_data(&mut header, name, content).unwrap();
        }
        let options = BuildImageOptions {
            t: Some(self.base_image()),
            rm: true,
            dockerfile: "Dockerfile".to_owned(),
            ..Default::default()
        };
        let context = bollard::body_full(tar.into_inner().unwrap().into());
        self.docker.build_image(options, None, Some(context)).try_collect::<Vec<_>>().await.unwrap();
    }

    fn config(&self, store: &str) -> DockerConfig {
        DockerConfig {
            base_image: self.base_image(),
            log_dir: Some(self.logs.path().join("kept")),
            ..DockerConfig::new(Name::new("here").unwrap(), &self.instance, store)
        }
    }

    /// Address `n` of this test's range `which` (0 or 1).
    fn network(&self, app: &AppId, which: u32, n: u32) -> (NetworkSpec, Ipv4Addr) {
        let base = u32::from(Ipv4Addr::new(10, 214, 0, 0)) + ((self.range + which) % 1024) * 64;
        (NetworkSpec { app: app.clone(), base: base.into(), bits: 26 }, (base + n).into())
    }

    fn spec_in(&self, app: &str, n: u64, program: &Program, which: u32) -> StartSpec {
        let (network, ip) = self.network(&AppId::in_default(app).unwrap(), which, n as u32 + 1);
        let spec = real_spec(app, n, program, "0.0.0.0", (ip, 8080).into());
        StartSpec { network: Some(network), ..spec }
    }

    fn name(&self, replica: &ReplicaId) -> String {
        format!("{}-{}-{}-{}", self.instance, replica.app.project, replica.app.name, replica.incarnation)
    }

    fn labelled(&self) -> HashMap<String, Vec<String>> {
        HashMap::from([("label".to_owned(), vec![format!("sc.instance={}", self.instance)])])
    }

    async fn images(&self) -> Vec<String> {
        let options = ListImagesOptions { filters: Some(self.labelled()), ..Default::default() };
        let images = self.docker.list_images(Some(options)).await.unwrap();
        images.into_iter().map(|image| image.id).collect()
    }

    async fn networks(&self) -> Vec<String> {
        let options = ListNetworksOptions { filters: Some(self.labelled()) };
        let networks = self.docker.list_networks(Some(options)).await.unwrap();
        networks.into_iter().filter_map(|network| network.name).collect()
    }
}

#[async_trait]
impl Subject for DockerSubject {
    fn open(&self) -> Arc<dyn Engine> {
        Arc::new(Docker::connect(self.config("s1")))
    }

    fn spec(&self, app: &str, n: u64, program: &Program) -> StartSpec {
        self.spec_in(app, n, program, 0)
    }

    async fn kill(&self, replica: &ReplicaId) {
        let options = KillContainerOptions { signal: "KILL".to_owned() };
        self.docker.kill_container(&self.name(replica), Some(options)).await.unwrap();
    }

    async fn clean(&self) {
        let options = ListContainersOptions { all: true, filters: Some(self.labelled()), ..Default::default() };
        for container in self.docker.list_containers(Some(options)).await.unwrap() {
            let options = RemoveContainerOptions { force: true, v: true, link: false };
            let _ = self.docker.remove_container(&container.id.unwrap(), Some(options)).await;
        }
        for network in self.networks().await {
            let _ = self.docker.remove_network(&network).await;
        }
        for image in self.images().await.into_iter().chain([self.base_image()]) {
            let _ = self
                .docker
                .remove_image(&image, Some(RemoveImageOptions { force: true, ..Default::default() }), None)
                .await;
        }
    }
}

crate::all_cases!(fresh().await, (flavor = "multi_thread"));
crate::suite!(fresh().await, (flavor = "multi_thread"), [words_and_environment_pass_unaltered]);

/// Runs a case of this file and cleans up after it.
macro_rules! own {
    ($($name:ident),* $(,)?) => { $(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let subject = fresh().await;
            let case = std::panic::AssertUnwindSafe(own::$name(&subject));
            let result = futures_util::FutureExt::catch_unwind(case).await;
            subject.clean().await;
            if let Err(panic) = result {
                std::panic::resume_unwind(panic);
            }
        }
    )* };
}

own!(
    a_look_does_not_wait_for_what_a_call_changes,
    apps_do_not_reach_each_other,
    a_restart_behind_the_back_shows,
    a_removal_behind_the_back_shows,
    one_made_but_not_started_is_started,
    networks_go_when_they_are_empty,
    a_network_of_another_range_is_made_anew,
    taken_ranges_are_told,
    the_same_files_make_one_image,
    an_images_own_program_runs,
    an_image_runs_with_other_words,
    what_may_not_be_done,
    read_only_on_request,
    names_taken_by_others_are_said,
    another_store_is_left_alone,
    limits_are_set,
    a_missing_base_image_is_refused,
    an_unknown_user_is_refused,
    a_terminal_can_be_resized,
);

mod own {
    use super::*;

    /// Whether a replica can open a connection to an address.
    async fn reaches(engine: &Arc<dyn Engine>, from: &ReplicaId, to: &StartSpec) -> bool {
        let (ip, port) = (to.addr.ip().to_string(), to.addr.port().to_string());
        let command = ["/app/busybox", "nc", "-w", "2", &ip, &port];
        let (said, code) = exec(engine, from, &command, b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        code == 0 && said.starts_with("HTTP/1.")
    }

    pub async fn a_look_does_not_wait_for_what_a_call_changes(s: &DockerSubject) {
        let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
        engine.start(&spec).await.unwrap();
        running(&engine, &spec.replica).await;
        engine.park(&spec.replica, 5_000).await.unwrap();
        assert!(matches!(run_of(&engine, &spec.replica).await, Some(Run::Exited(_))));
        let mut looks = 0;
        let looking = async {
            loop {
                assert!(run_of(&engine, &spec.replica).await.is_some(), "it is there all the time");
                looks += 1;
            }
        };
        tokio::select! {
            biased;
            revived = engine.revive(&spec.replica) => revived.unwrap(),
            () = looking => {}
        }
        // Docker takes as long for the start as for a hundred looks. One may have begun before it locked the container.
        assert!(looks >= 3, "{looks} looks while it was started");
        assert!(
            matches!(run_of(&engine, &spec.replica).await, Some(Run::Running { .. })),
            "seen at once, once it is done"
        );
    }

    pub async fn apps_do_not_reach_each_other(s: &DockerSubject) {
        let engine = s.open();
        let (a1, a2) = (s.spec_in("a", 1, &Program::Serve, 0), s.spec_in("a", 2, &Program::Serve, 0));
        let b1 = s.spec_in("b", 1, &Program::Serve, 1);
        for spec in [&a1, &a2, &b1] {
            engine.start(spec).await.unwrap();
        }
        until("a's replicas to reach each other", || async { reaches(&engine, &a1.replica, &a2).await.then_some(()) })
            .await;
        until("b to answer this host", || async { tokio::net::TcpStream::connect(b1.addr).await.ok() }).await;
        assert!(!reaches(&engine, &a1.replica, &b1).await, "a reaches b");
        assert!(!reaches(&engine, &b1.replica, &a1).await, "b reaches a");
    }

    pub async fn a_restart_behind_the_back_shows(s: &DockerSubject) {
        let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
        engine.start(&spec).await.unwrap();
        running(&engine, &spec.replica).await;
        let before = observe(&engine).await.remove(&spec.replica).unwrap();
        assert_eq!(observe(&engine).await.remove(&spec.replica).unwrap(), before);
        engine.pause(&spec.replica).await.unwrap();
        engine.wake(&spec.replica).await.unwrap();
        assert_eq!(observe(&engine).await.remove(&spec.replica).unwrap().restarts, before.restarts);
        let options = RestartContainerOptions { t: Some(0), ..Default::default() };
        s.docker.restart_container(&s.name(&spec.replica), Some(options)).await.unwrap();
        let after = observe(&engine).await.remove(&spec.replica).unwrap();
        assert!(matches!(after.run, Run::Running { .. }) && after.restarts != before.restarts, "{after:?}");
        // The address stays its own.
        until("an answer", || async { tokio::net::TcpStream::connect(spec.addr).await.ok() }).await;
    }

    pub async fn a_removal_behind_the_back_shows(s: &DockerSubject) {
        let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
        engine.start(&spec).await.unwrap();
        running(&engine, &spec.replica).await;
        let options = RemoveContainerOptions { force: true, ..Default::default() };
        s.docker.remove_container(&s.name(&spec.replica), Some(options)).await.unwrap();
        assert_eq!(observe(&engine).await.len(), 0);
        engine.stop(&spec.replica, 1_000).await.unwrap();
    }

    pub async fn one_made_but_not_started_is_started(s: &DockerSubject) {
        let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
        // As a manager leaves it that dies between the two calls: the labels and all else are those of the engine.
        engine.start(&spec).await.unwrap();
        let name = s.name(&spec.replica);
        let found = s.docker.inspect_container(&name, None).await.unwrap();
        let options = RemoveContainerOptions { force: true, ..Default::default() };
        s.docker.remove_container(&name, Some(options)).await.unwrap();
        let config = serde_json::to_value(found.config.unwrap()).unwrap();
        let mut body: bollard::models::ContainerCreateBody = serde_json::from_value(config).unwrap();
        body.host_config = found.host_config;
        let options = bollard::query_parameters::CreateContainerOptions { name: Some(name), ..Default::default() };
        s.docker.create_container(Some(options), body).await.unwrap();
        assert_eq!(run_of(&engine, &spec.replica).await, Some(Run::Created));
        engine.start(&spec).await.unwrap();
        running(&engine, &spec.replica).await;
    }

    pub async fn networks_go_when_they_are_empty(s: &DockerSubject) {
        let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
        engine.start(&spec).await.unwrap();
        let error = engine.remove_network(&spec.replica.app).await.unwrap_err();
        assert!(matches!(error, EngineError::Failed { .. }), "{error:?}");
        engine.stop(&spec.replica, 1_000).await.unwrap();
        assert_eq!(s.networks().await, [format!("{}-default-web", s.instance)]);
        engine.remove_network(&spec.replica.app).await.unwrap();
        assert_eq!(s.networks().await.len(), 0);
    }

    pub async fn a_network_of_another_range_is_made_anew(s: &DockerSubject) {
        let (engine, first) = (s.open(), s.spec_in("web", 1, &Program::Serve, 0));
        engine.start(&first).await.unwrap();
        let second = s.spec_in("web", 2, &Program::Serve, 1);
        assert!(engine.start(&second).await.is_err(), "the first is still in it");
        engine.stop(&first.replica, 1_000).await.unwrap();
        engine.start(&second).await.unwrap();
        until("an answer", || async { tokio::net::TcpStream::connect(second.addr).await.ok() }).await;
    }

    pub async fn taken_ranges_are_told(s: &DockerSubject) {
        let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
        engine.start(&spec).await.unwrap();
        let own = (spec.network.as_ref().unwrap().base, 26);
        let taken = |node| match node {
            Node::Known { taken, .. } => taken,
            Node::Unknown { why } => panic!("{why}"),
        };
        assert!(!taken(engine.observe().await.unwrap()).contains(&own));
        let other = Docker::connect(s.config("s2"));
        assert!(taken(other.observe().await.unwrap()).contains(&own));
    }

    pub async fn the_same_files_make_one_image(s: &DockerSubject) {
        let engine = s.open();
        let (one, mut two) = (s.spec("web", 1, &Program::Serve), s.spec("web", 2, &Program::Serve));
        let (first, second) = tokio::join!(engine.start(&one), engine.start(&two));
        first.and(second).unwrap();
        assert_eq!(s.images().await.len(), 1);
        two.replica.incarnation = 3;
        two.addr.set_ip(s.network(&two.replica.app, 0, 9).1.into());
        two.spec.files[1].path = "/app/a b \"c\"".to_owned();
        engine.start(&two).await.unwrap();
        assert_eq!(s.images().await.len(), 2);
        let (said, _) = exec(&engine, &two.replica, &["/app/busybox", "ls", "-l", "/app"], b"").await.unwrap();
        assert!(said.contains("-rw-r--r--") && said.contains("a b \"c\"") && said.contains("-rwxr-xr-x"), "{said}");
        // In use: kept. Referred to: kept. Neither: removed.
        engine.collect_garbage(&[]).await.unwrap();
        assert_eq!(s.images().await.len(), 2);
        for n in 1..=3 {
            engine.stop(&ReplicaId::new(&one.replica.app, n), 0).await.unwrap();
        }
        let blobs: Vec<_> = one.blobs.keys().cloned().collect();
        engine.collect_garbage(&blobs).await.unwrap();
        assert_eq!(s.images().await.len(), 2);
        engine.collect_garbage(&[]).await.unwrap();
        assert_eq!(s.images().await.len(), 0);
    }

    fn of_image(s: &DockerSubject, command: &[&str]) -> StartSpec {
        let mut spec = s.spec("web", 1, &Program::Serve);
        spec.spec.source = Source::Image(s.base_image());
        spec.spec.files.clear();
        spec.spec.command = command.iter().map(|&word| word.to_owned()).collect();
        spec
    }

    async fn says(s: &DockerSubject, spec: &StartSpec) -> Vec<String> {
        let engine = s.open();
        engine.start(spec).await.unwrap();
        exit_of(&engine, &spec.replica).await;
        lines(&engine, &spec.replica, LogQuery::default()).await.into_iter().map(|line| line.text).collect()
    }

    pub async fn an_images_own_program_runs(s: &DockerSubject) {
        assert_eq!(says(s, &of_image(s, &[])).await, ["own"]);
    }

    pub async fn an_image_runs_with_other_words(s: &DockerSubject) {
        assert_eq!(says(s, &of_image(s, &["echo other words; pwd"])).await, ["other words", "/"]);
    }

    pub async fn what_may_not_be_done(s: &DockerSubject) {
        let spec =
            of_image(s, &["while read k v; do case $k in Cap*|NoNew*) echo $k $v;; esac; done < /proc/self/status"]);
        let said = says(s, &spec).await;
        let none = "0000000000000000";
        for line in ["CapPrm:", "CapEff:", "CapBnd:"] {
            assert!(said.contains(&format!("{line} {none}")), "{said:?}");
        }
        assert!(said.contains(&"NoNewPrivs: 1".to_owned()), "{said:?}");
    }

    pub async fn read_only_on_request(s: &DockerSubject) {
        let mut spec = of_image(s, &["echo x > /x || echo denied; echo y > /tmp/y && echo allowed"]);
        spec.spec.security.read_only = true;
        let said = says(s, &spec).await;
        assert!(said.contains(&"denied".to_owned()) && said.contains(&"allowed".to_owned()), "{said:?}");
    }

    pub async fn names_taken_by_others_are_said(s: &DockerSubject) {
        let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
        engine.start(&spec).await.unwrap();
        let other = Docker::connect(s.config("s2"));
        let error = other.start(&spec).await.unwrap_err();
        assert!(matches!(&error, EngineError::Refused { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("another installation") && text.contains(&s.instance), "{text}");
    }

    pub async fn another_store_is_left_alone(s: &DockerSubject) {
        let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
        engine.start(&spec).await.unwrap();
        let other: Arc<dyn Engine> = Arc::new(Docker::connect(s.config("s2")));
        assert_eq!(observe(&other).await.len(), 0);
        other.stop(&spec.replica, 0).await.unwrap();
        other.remove_network(&spec.replica.app).await.unwrap();
        assert!(matches!(other.pause(&spec.replica).await, Err(EngineError::NoSuchReplica(_))));
        running(&engine, &spec.replica).await;
    }

    pub async fn limits_are_set(s: &DockerSubject) {
        let (engine, mut spec) = (s.open(), s.spec("web", 1, &Program::Serve));
        spec.spec.resources =
            serde_json::from_value(serde_json::json!({ "cpus": 0.25, "memory": 33_554_432 })).unwrap();
        engine.start(&spec).await.unwrap();
        running(&engine, &spec.replica).await;
        let usage = engine.usage().await.unwrap().remove(&spec.replica).unwrap();
        assert_eq!((usage.cpu_limit, usage.memory_limit), (Some(0.25), Some(32 << 20)));
        let host = s.docker.inspect_container(&s.name(&spec.replica), None).await.unwrap().host_config.unwrap();
        assert_eq!((host.pids_limit, host.memory_swap), (Some(1024), Some(32 << 20)));
        let log = host.log_config.unwrap().config.unwrap();
        assert_eq!((log["max-size"].as_str(), log["max-file"].as_str()), ("10m", "2"));
    }

    pub async fn a_missing_base_image_is_refused(s: &DockerSubject) {
        let config = DockerConfig { base_image: "sc-test/no-such-base:1".to_owned(), ..s.config("s1") };
        let error = Docker::connect(config).start(&s.spec("web", 1, &Program::Serve)).await.unwrap_err();
        assert!(matches!(&error, EngineError::Refused { .. }), "{error:?}");
        assert!(error.to_string().contains("sc-test/no-such-base:1"), "{error}");
    }

    pub async fn a_terminal_can_be_resized(s: &DockerSubject) {
        let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
        engine.start(&spec).await.unwrap();
        running(&engine, &spec.replica).await;
        let script = "until test \"$(/app/busybox stty size)\" = '40 100'; do /app/busybox sleep 0.05; done; exit 7";
        resized(&*engine, &spec.replica, &["/app/busybox", "sh", "-c", script]).await;
    }

    pub async fn an_unknown_user_is_refused(s: &DockerSubject) {
        let (engine, mut spec) = (s.open(), s.spec("web", 1, &Program::Serve));
        spec.spec.security.user = Some("nobody-knows".to_owned());
        let error = engine.start(&spec).await.unwrap_err();
        assert!(matches!(&error, EngineError::Refused { .. }), "{error:?}");
        assert!(error.to_string().contains("nobody-knows"), "{error}");
        let exit = exit_of(&engine, &spec.replica).await;
        assert!(exit.error.contains("nobody-knows"), "{exit:?}");
    }
}

/// A Docker that nobody is, or one that answers as `answer` says.
fn elsewhere(path: &std::path::Path) -> Docker {
    let mut config = DockerConfig::new(Name::new("here").unwrap(), "none", "s1");
    config.host = Some(format!("unix://{}", path.display()));
    config.deadline = Duration::from_millis(500);
    Docker::connect(config)
}

#[tokio::test]
async fn docker_that_is_not_there_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("none.sock");
    let engine = elsewhere(&path);
    let error = engine.observe().await.unwrap_err();
    let EngineError::Unavailable { engine, source } = &error else { panic!("{error:?}") };
    assert_eq!(*engine, format!("Docker at unix://{}", path.display()));
    assert!(source.to_string().contains("is it running?"), "{source}");
}

#[tokio::test]
async fn docker_may_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let mut config = DockerConfig::new(Name::new("here").unwrap(), "none", "s1");
    config.host = Some(format!("unix://{}", path.display()));
    let engine: Arc<dyn Engine> = Arc::new(Docker::connect(config));
    for _ in 0..2 {
        assert!(matches!(engine.observe().await, Err(EngineError::Unavailable { .. })));
        std::os::unix::fs::symlink("/var/run/docker.sock", &path).unwrap();
        assert_eq!(observe(&engine).await.len(), 0);
        assert!(engine.describe().starts_with("Docker ") && !engine.describe().starts_with("Docker at"));
        std::fs::remove_file(&path).unwrap();
    }
}

#[tokio::test]
async fn docker_that_hangs_times_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hung.sock");
    let _listener = tokio::net::UnixListener::bind(&path).unwrap();
    let engine = elsewhere(&path);
    let replica = ReplicaId::new(&AppId::in_default("web").unwrap(), 1);
    assert!(matches!(engine.observe().await, Err(EngineError::TimedOut { .. })));
    assert!(matches!(engine.usage().await, Err(EngineError::TimedOut { .. })));
    assert!(matches!(engine.stop(&replica, 0).await, Err(EngineError::TimedOut { .. })));
    assert!(matches!(engine.logs(&replica, &LogQuery::default()).await, Err(EngineError::TimedOut { .. })));
}

#[tokio::test]
async fn docker_too_old_is_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = connection.read(&mut request).await;
            let body = r#"{"Version":"17.03.2","ApiVersion":"1.27"}"#;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = connection.write_all((head + body).as_bytes()).await;
        }
    });
    let error = elsewhere(&path).observe().await.unwrap_err();
    server.abort();
    assert!(matches!(&error, EngineError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("1.27") && error.to_string().contains("20.10"), "{error}");
}

#[tokio::test]
async fn docker_hosts_of_other_kinds_are_said() {
    let config = DockerConfig::new(Name::new("here").unwrap(), "none", "s1");
    let engine = Docker::connect(DockerConfig { host: Some("ssh://somewhere".to_owned()), ..config });
    let error = engine.observe().await.unwrap_err();
    let EngineError::Unavailable { source, .. } = &error else { panic!("{error:?}") };
    assert!(source.to_string().contains("unix:///PATH"), "{source}");
}
