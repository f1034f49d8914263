//! The suite on the process engine, and what is its own.

use std::{fs, net::SocketAddr, os::unix::fs::MetadataExt, path::Path, sync::Arc};

use async_trait::async_trait;
use sc_core::{Name, ReplicaId, observed::Run};
use sc_engine::{
    Engine, ExecOutput, ExecSpec, LogQuery, Process, StartSpec,
    process::{ProcessConfig, Shim},
};

use crate::subject::{Program, Subject, exec, exit_of, lines, observe, real_spec, resized, run_of, running, until};

struct ProcessSubject {
    folder: tempfile::TempDir,
}

fn fresh() -> ProcessSubject {
    ProcessSubject { folder: tempfile::tempdir().unwrap() }
}

impl ProcessSubject {
    fn open_store(&self, store: &str) -> Arc<dyn Engine> {
        let shim = Shim { program: env!("CARGO_BIN_EXE_sc-shim").into(), args: vec![] };
        let node = Name::new("here").unwrap();
        let data = self.folder.path().to_owned();
        let config = ProcessConfig { node, data, store: store.to_owned(), ports: (20_000, 29_999), shim };
        Arc::new(Process::open(config).unwrap())
    }

    fn state(&self, replica: &ReplicaId) -> serde_json::Value {
        let folder = format!("replicas/{}.{}.{}", replica.app.project, replica.app.name, replica.incarnation);
        let text = fs::read(self.folder.path().join(folder).join("state.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    fn pid(&self, replica: &ReplicaId, whose: &str) -> i32 {
        self.state(replica)[whose]["pid"].as_i64().unwrap() as i32
    }
}

fn signal(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

fn exists(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

/// A port that nobody listens on now.
fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[async_trait]
impl Subject for ProcessSubject {
    fn open(&self) -> Arc<dyn Engine> {
        self.open_store("s1")
    }

    fn spec(&self, app: &str, n: u64, program: &Program) -> StartSpec {
        real_spec(app, n, program, "127.0.0.1", free())
    }

    async fn kill(&self, replica: &ReplicaId) {
        signal(self.pid(replica, "child"), rustix::process::Signal::KILL);
    }

    async fn clean(&self) {
        let engine = self.open();
        for replica in observe(&engine).await.into_keys() {
            engine.stop(&replica, 0).await.unwrap();
        }
    }
}

crate::all_cases!(fresh(), (flavor = "multi_thread"));
crate::suite!(fresh(), (flavor = "multi_thread"), [words_and_environment_pass_unaltered]);

/// Runs a case of this file and cleans up after it.
macro_rules! own {
    ($($name:ident),*) => { $(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let subject = fresh();
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
    a_killed_shim_takes_its_replica_along,
    nothing_started_is_left_behind,
    a_number_given_anew_is_not_touched,
    another_store_is_left_alone,
    a_start_cut_off_goes_on,
    a_host_program_runs,
    options_it_has_not_are_refused,
    exec_on_a_terminal,
    a_terminal_can_be_resized,
    execs_end_with_the_replica,
    the_blob_stays_as_it_is,
    a_killed_manager_leaves_replicas_running
);

mod own {
    use super::*;

    pub async fn a_killed_shim_takes_its_replica_along(s: &ProcessSubject) {
        let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
        engine.start(&spec).await.unwrap();
        running(&engine, &spec.replica).await;
        let child = s.pid(&spec.replica, "child");
        signal(s.pid(&spec.replica, "shim"), rustix::process::Signal::KILL);
        let exit = exit_of(&engine, &spec.replica).await;
        assert_eq!(exit.error, "the process that minded it was killed");
        until("the replica's process to be gone", || async { (!exists(child)).then_some(()) }).await;
    }

    pub async fn nothing_started_is_left_behind(s: &ProcessSubject) {
        let (engine, mut spec) = (s.open(), s.spec("web", 1, &Program::Serve));
        let script = "/app/busybox setsid /app/busybox sleep 1000 & echo $!; exec /app/busybox sleep 1000";
        spec.spec.command[3] = script.replace("/app/", "./app/");
        engine.start(&spec).await.unwrap();
        let pid: i32 = until("a child", || async {
            let said = lines(&engine, &spec.replica, LogQuery::default()).await;
            said.first().map(|line| line.text.parse().unwrap())
        })
        .await;
        assert!(exists(pid));
        engine.stop(&spec.replica, 5_000).await.unwrap();
        until("its child to be gone", || async { (!exists(pid)).then_some(()) }).await;
    }

    pub async fn a_number_given_anew_is_not_touched(s: &ProcessSubject) {
        let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Talk { code: 0 }));
        engine.start(&spec).await.unwrap();
        exit_of(&engine, &spec.replica).await;
        // As if the host had been restarted, and a process of ours had the numbers now.
        let folder = s.folder.path().join("replicas/default.web.1");
        let own = std::process::id();
        let mut state = s.state(&spec.replica);
        for whose in ["shim", "child"] {
            state[whose]["pid"] = own.into();
            state[whose]["boot"] = "an earlier one".into();
        }
        state["exit"] = serde_json::Value::Null;
        fs::write(folder.join("state.json"), state.to_string()).unwrap();
        assert_eq!(exit_of(&engine, &spec.replica).await.error, "the host was restarted");
    }

    pub async fn another_store_is_left_alone(s: &ProcessSubject) {
        let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
        engine.start(&spec).await.unwrap();
        assert_eq!(observe(&s.open_store("s2")).await.len(), 0);
        assert_eq!(observe(&engine).await.len(), 1);
    }

    pub async fn a_start_cut_off_goes_on(s: &ProcessSubject) {
        let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
        engine.start(&spec).await.unwrap();
        engine.stop(&spec.replica, 2_000).await.unwrap();
        // What a crash between making the folder and starting the shim leaves.
        let (gone, folder) =
            (s.folder.path().join("gone/default.web.1"), s.folder.path().join("replicas/default.web.1"));
        fs::rename(gone, &folder).unwrap();
        fs::remove_file(folder.join("state.json")).unwrap();
        fs::create_dir_all(folder.join("root/app")).unwrap();
        fs::copy("/bin/busybox", folder.join("root/app/busybox")).unwrap();
        assert_eq!(run_of(&engine, &spec.replica).await, Some(Run::Created));
        engine.start(&spec).await.unwrap();
        running(&engine, &spec.replica).await;
    }

    pub async fn a_host_program_runs(s: &ProcessSubject) {
        let (engine, mut spec) = (s.open(), s.spec("web", 1, &Program::Serve));
        spec.spec.files.clear();
        spec.spec.command = ["sh", "-c", "exit 9"].map(str::to_owned).to_vec();
        engine.start(&spec).await.unwrap();
        assert_eq!(exit_of(&engine, &spec.replica).await.code, 9);
    }

    pub async fn options_it_has_not_are_refused(s: &ProcessSubject) {
        let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
        let (mut user, mut volume, mut command) = (spec.clone(), spec.clone(), spec);
        user.spec.security.user = Some("nobody".to_owned());
        volume.spec.volumes = vec!["a:/b".to_owned()];
        command.spec.command.clear();
        command.spec.files[1].mode = 0o755;
        for (spec, word) in [(user, "user, not as nobody"), (volume, "volumes"), (command, "no command")] {
            let error = engine.start(&spec).await.unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert_eq!(observe(&engine).await.len(), 0);
    }

    pub async fn exec_on_a_terminal(s: &ProcessSubject) {
        use futures_util::StreamExt;
        use tokio::io::AsyncWriteExt;
        let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
        engine.start(&spec).await.unwrap();
        running(&engine, &spec.replica).await;
        let script = "test -t 0 && stty size; read word; echo got:$word; exit 4";
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let mut session = engine.exec(&spec.replica, &ExecSpec { command, tty: Some((90, 30)) }).await.unwrap();
        session.input.write_all(b"hello\n").await.unwrap();
        let (mut text, mut code) = (String::new(), None);
        while let Some(piece) = session.output.next().await {
            match piece.unwrap() {
                ExecOutput::Stdout(bytes) => text += &String::from_utf8_lossy(&bytes),
                ExecOutput::Stderr(_) => panic!("a terminal has one stream"),
                ExecOutput::Exit(status) => code = Some(status),
            }
        }
        assert!(text.contains("30 90") && text.contains("got:hello"), "{text}");
        assert_eq!(code, Some(4));
    }

    pub async fn a_terminal_can_be_resized(s: &ProcessSubject) {
        let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
        engine.start(&spec).await.unwrap();
        running(&engine, &spec.replica).await;
        let script = "until test \"$(stty size)\" = '40 100'; do sleep 0.05; done; exit 7";
        resized(&*engine, &spec.replica, &["/bin/sh", "-c", script]).await;
    }

    pub async fn execs_end_with_the_replica(s: &ProcessSubject) {
        let (engine, spec) = (s.open(), s.spec("web", 1, &Program::Serve));
        engine.start(&spec).await.unwrap();
        running(&engine, &spec.replica).await;
        let sleep = exec(&engine, &spec.replica, &["/app/busybox", "sleep", "1000"], b"");
        let stop = async {
            until("the exec to run", || async {
                let all = fs::read_dir("/proc").unwrap().flatten();
                let own = |path: &Path| path.metadata().is_ok_and(|m| m.uid() == rustix::process::getuid().as_raw());
                let root = s.folder.path().join("replicas/default.web.1/root").canonicalize().unwrap();
                let here =
                    all.filter(|e| own(&e.path()) && fs::read_link(e.path().join("cwd")).is_ok_and(|cwd| cwd == root));
                (here.count() >= 2).then_some(())
            })
            .await;
            engine.stop(&spec.replica, 2_000).await.unwrap();
        };
        let (exec, ()) = tokio::join!(sleep, stop);
        assert_eq!(exec.unwrap().1, 137);
    }

    pub async fn the_blob_stays_as_it_is(s: &ProcessSubject) {
        let (engine, mut spec) = (s.open(), s.spec("web", 1, &Program::Serve));
        let blob = s.folder.path().join("blob");
        fs::write(&blob, "original").unwrap();
        for path in spec.blobs.values_mut() {
            *path = blob.clone();
        }
        spec.spec.command = ["sh", "-c", "echo changed > app/busybox; cat app/busybox"].map(str::to_owned).to_vec();
        engine.start(&spec).await.unwrap();
        exit_of(&engine, &spec.replica).await;
        let said = lines(&engine, &spec.replica, LogQuery::default()).await;
        assert_eq!(said[0].text, "changed");
        assert_eq!(fs::read_to_string(blob).unwrap(), "original");
    }

    /// The engine lives in another process here, which is killed.
    pub async fn a_killed_manager_leaves_replicas_running(s: &ProcessSubject) {
        let spec = s.spec("web", 1, &Program::Serve);
        let shim = env!("CARGO_BIN_EXE_sc-shim");
        // The shim is started by a shell that stands for the manager, in whose session and group it begins.
        let engine = s.open();
        let mut half = spec.clone();
        half.spec.command = vec!["/app/busybox".to_owned(), "true".to_owned()];
        engine.start(&half).await.unwrap();
        engine.stop(&half.replica, 1_000).await.unwrap();
        let gone = s.folder.path().join("gone/default.web.1");
        let folder = s.folder.path().join("replicas/default.web.1");
        fs::rename(gone, &folder).unwrap();
        fs::remove_file(folder.join("state.json")).unwrap();
        let mut meta: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("meta.json")).unwrap()).unwrap();
        meta["program"] = "/bin/sleep".into();
        meta["args"] = serde_json::json!(["1000"]);
        fs::write(folder.join("meta.json"), meta.to_string()).unwrap();
        fs::create_dir_all(folder.join("root")).unwrap();
        let script = format!("'{shim}' run '{}' & wait", folder.display());
        let mut manager = std::process::Command::new("sh").arg("-c").arg(script).spawn().unwrap();
        running(&engine, &spec.replica).await;
        drop(engine);
        manager.kill().unwrap();
        manager.wait().unwrap();
        let engine = s.open();
        let child = s.pid(&spec.replica, "child");
        assert!(matches!(run_of(&engine, &spec.replica).await, Some(Run::Running { .. })) && exists(child));
        engine.stop(&spec.replica, 2_000).await.unwrap();
        assert!(!exists(child));
    }
}
