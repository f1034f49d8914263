//! What the suite needs of each engine: a fresh one, programs for it, and a hand behind its back.

use std::{
    collections::BTreeMap,
    fmt::Write,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};
use sc_core::{
    AppId, ReplicaId,
    observed::{Exit, Node, Run, Seen},
    spec::{AppSpec, FileSpec, Source},
};
use sc_engine::{Engine, EngineError, ExecOutput, ExecSpec, LogLine, LogQuery, NetworkSpec, StartSpec};
use sha2::{Digest, Sha256};

/// What a replica of a case does.
#[derive(Debug, Clone, PartialEq)]
pub enum Program {
    /// Answers at its address until it is told to end.
    Serve,
    /// Does not care about SIGTERM, and has a child that does not either.
    Stubborn,
    /// Writes `one`, `two` and, on standard error, `three`, and ends.
    Talk { code: i32 },
    /// Uses more memory than it may.
    Greedy,
    /// Uses a CPU.
    Busy,
    /// Is not there.
    Missing,
    /// Is there, but may not be executed.
    NotExecutable,
    /// An image that nobody has.
    NoImage,
}

/// A fresh engine.
#[async_trait]
pub trait Subject: Send + Sync {
    /// A handle to it. Each call opens another, as a restarted manager would.
    fn open(&self) -> Arc<dyn Engine>;
    /// The spec of replica `n` of `app`.
    fn spec(&self, app: &str, n: u64, program: &Program) -> StartSpec;
    /// Kills a replica's process, behind the engine's back.
    async fn kill(&self, replica: &ReplicaId);
    /// Whether replicas are real processes.
    fn real(&self) -> bool {
        true
    }
    /// Removes everything.
    async fn clean(&self);
}

/// An app spec of busybox, copied in as a file.
pub fn busybox(blobs: &mut BTreeMap<String, PathBuf>, command: Vec<String>) -> AppSpec {
    let path = PathBuf::from("/bin/busybox");
    let bytes = std::fs::read(&path).expect("these tests need busybox: apt-get install busybox-static");
    let sha256 = Sha256::digest(&bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    blobs.insert(sha256.clone(), path);
    let file = |path: &str, mode| FileSpec { sha256: sha256.clone(), path: path.to_owned(), mode };
    let mut spec: AppSpec =
        serde_json::from_value(serde_json::json!({ "source": { "image": "none" }, "port": 8080 })).unwrap();
    spec.source = Source::Files { base: None };
    spec.files = vec![file("/app/busybox", 0o755), file("/app/text", 0o644)];
    spec.command = command;
    spec
}

/// What a real engine runs for a program.
pub fn real_spec(app: &str, n: u64, program: &Program, ip: &str, addr: SocketAddr) -> StartSpec {
    let sh = |script: &str| ["/app/busybox", "sh", "-c", script].map(str::to_owned).to_vec();
    let command = match program {
        Program::Serve => sh(&format!("exec ./app/busybox httpd -f -p {ip}:$PORT")),
        Program::Stubborn => sh("trap '' TERM; ./app/busybox sleep 1000 & while :; do ./app/busybox sleep 1; done"),
        Program::Talk { code } => sh(&format!("echo one; echo two; echo three >&2; exit {code}")),
        Program::Greedy => sh("exec ./app/busybox tail /dev/zero"),
        Program::Busy => sh("while :; do :; done"),
        Program::Missing => vec!["/app/nothing".to_owned()],
        Program::NotExecutable => vec!["/app/text".to_owned()],
        Program::NoImage => vec![],
    };
    let mut blobs = BTreeMap::new();
    let mut spec = busybox(&mut blobs, command);
    if *program == Program::NoImage {
        spec.source = Source::Image("sc-test/nobody-has-this:1".to_owned());
    }
    if *program == Program::Greedy {
        spec.resources.memory = Some(24 << 20);
    }
    let replica = ReplicaId::new(&AppId::in_default(app).unwrap(), n);
    StartSpec { replica, version: 3, restart: 0, spec, addr, network: None::<NetworkSpec>, blobs }
}

/// Asks again and again until there is an answer; at most 30 s.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let (real, mut tries) = (Instant::now(), 0);
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        tries += 1;
        assert!(real.elapsed() < Duration::from_secs(30) && tries < 3_000, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn observe(engine: &Arc<dyn Engine>) -> BTreeMap<ReplicaId, Seen> {
    match engine.observe().await.unwrap() {
        Node::Known { replicas, .. } => replicas,
        Node::Unknown { why } => panic!("{why}"),
    }
}

pub async fn run_of(engine: &Arc<dyn Engine>, replica: &ReplicaId) -> Option<Run> {
    observe(engine).await.remove(replica).map(|seen| seen.run)
}

/// Waits for its end.
pub async fn exit_of(engine: &Arc<dyn Engine>, replica: &ReplicaId) -> Exit {
    until(&format!("the end of {replica}"), || async {
        match run_of(engine, replica).await {
            Some(Run::Exited(exit)) => Some(exit),
            _ => None,
        }
    })
    .await
}

pub async fn running(engine: &Arc<dyn Engine>, replica: &ReplicaId) {
    until(&format!("{replica} to run"), || async {
        matches!(run_of(engine, replica).await, Some(Run::Running { .. })).then_some(())
    })
    .await;
}

pub async fn lines(engine: &Arc<dyn Engine>, replica: &ReplicaId, query: LogQuery) -> Vec<LogLine> {
    let lines = engine.logs(replica, &query).await.unwrap().try_collect();
    tokio::time::timeout(Duration::from_secs(30), lines).await.expect("the log ends").unwrap()
}

pub fn texts(lines: &[LogLine], stderr: bool) -> Vec<&str> {
    lines.iter().filter(|line| line.stderr == stderr).map(|line| line.text.as_str()).collect()
}

/// Runs a command with this input; gives output and exit status.
pub async fn exec(
    engine: &Arc<dyn Engine>,
    replica: &ReplicaId,
    command: &[&str],
    input: &[u8],
) -> Result<(String, i32), EngineError> {
    use tokio::io::AsyncWriteExt;
    let spec = ExecSpec { command: command.iter().map(|&word| word.to_owned()).collect(), tty: None };
    let mut session = engine.exec(replica, &spec).await?;
    session.input.write_all(input).await.unwrap();
    session.input.shutdown().await.unwrap();
    drop(session.input);
    let said = tokio::time::timeout(Duration::from_secs(30), session.output.try_collect::<Vec<_>>());
    let (mut text, mut code) = (String::new(), None);
    for piece in said.await.expect("the exec ends")? {
        match piece {
            ExecOutput::Stdout(bytes) | ExecOutput::Stderr(bytes) => text += &String::from_utf8_lossy(&bytes),
            ExecOutput::Exit(status) => code = Some(status),
        }
    }
    Ok((text, code.expect("an exit status")))
}

/// Runs a program that ends with status 7 once its terminal has 100 columns and 40 rows, and makes it so.
pub async fn resized(engine: &dyn Engine, replica: &ReplicaId, command: &[&str]) {
    let command = command.iter().map(ToString::to_string).collect();
    let mut session = engine.exec(replica, &ExecSpec { command, tty: Some((80, 24)) }).await.unwrap();
    session.size.send_replace((100, 40));
    let ends = async {
        while let Some(said) = session.output.next().await {
            if let ExecOutput::Exit(status) = said.unwrap() {
                return Some(status);
            }
        }
        None
    };
    let status = tokio::time::timeout(Duration::from_secs(20), ends).await.expect("it sees its new size");
    assert_eq!(status, Some(7));
}
