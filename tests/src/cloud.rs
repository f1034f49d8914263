//! An installation of sc for one test, brought up as a person would, and gone without a trace afterwards.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use sc_api::types::{AppView, ReplicaView};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{
    Etcd, Out,
    docker::{self, docker},
    load::get,
    poll, program,
    programs::{kill9, processes_with, run},
    secs,
    slot::Slot,
};

/// Where the state of an installation of processes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateIn {
    /// A file of the manager's; the proxy asks the manager.
    Embedded,
    /// A real etcd.
    Etcd,
}

/// An installation: manager, proxy and store, with an engine. Dropping it removes all of it.
pub struct Cloud {
    /// Its name; everything it makes in Docker starts with it.
    pub name: String,
    /// Where the proxy takes traffic.
    pub http: SocketAddr,
    /// Where the manager's API listens.
    pub api: SocketAddr,
    /// Ports and addresses of its own.
    pub slot: Slot,
    /// Where the proxy's stats are.
    pub admin: SocketAddr,
    engine: Vec<String>,
    /// Further arguments of `sc up`.
    pub more: Vec<String>,
    /// Further arguments of the manager, where it is a process.
    pub manager_more: Vec<String>,
    /// Further arguments of the proxy, where it is a process.
    pub proxy_more: Vec<String>,
    folder: TempDir,
    parts: Parts,
}

enum Parts {
    Docker,
    Process(Box<Processes>),
}

struct Processes {
    manager: Option<Child>,
    proxy: Option<Child>,
    etcd: Option<Etcd>,
}

impl Cloud {
    /// By the real `sc up`: containers of etcd, manager and proxy.
    pub async fn docker() -> Self {
        Self::docker_with(&[]).await
    }

    /// The same with further arguments for `sc up`.
    pub async fn docker_with(arguments: &[&str]) -> Self {
        let cloud = Self::docker_not_yet(arguments);
        cloud.up().await.ok();
        cloud
    }

    /// The same, and `sc up` is still to be run.
    pub fn docker_not_yet(arguments: &[&str]) -> Self {
        let mut cloud = Self::new(Parts::Docker);
        cloud.more = arguments.iter().map(|&word| word.to_owned()).collect();
        cloud
    }

    /// By three plain processes and the process engine: no Docker.
    pub async fn process(state: StateIn) -> Self {
        let mut cloud = Self::process_not_yet(state).await;
        cloud.start().await;
        cloud
    }

    /// The same, and only the store is there; [`Cloud::start`] does the rest.
    pub async fn process_not_yet(state: StateIn) -> Self {
        let mut cloud = Self::new(Parts::Process(Box::new(Processes { manager: None, proxy: None, etcd: None })));
        if state == StateIn::Etcd {
            let etcd = Etcd::start(&cloud.slot, cloud.path("etcd")).await;
            cloud.processes().etcd = Some(etcd);
        }
        cloud
    }

    /// Starts manager and proxy for the first time.
    pub async fn start(&mut self) {
        self.resume_manager().await;
        self.works().await;
        self.resume_proxy().await;
    }

    /// By plain processes with an embedded store, and replicas as containers: no images but the replicas' own.
    pub async fn processes_on_docker() -> Self {
        let mut cloud = Self::new(Parts::Process(Box::new(Processes { manager: None, proxy: None, etcd: None })));
        cloud.engine = ["--engine", "docker", "--pool", &cloud.slot.pool()].map(str::to_owned).into();
        cloud.resume_manager().await;
        cloud.works().await;
        cloud.resume_proxy().await;
        cloud
    }

    /// Only a manager, on Docker at an address of the test's choice (where there may be none, or something strange).
    pub async fn manager_on(docker_host: &str) -> Self {
        let mut cloud = Self::new(Parts::Process(Box::new(Processes { manager: None, proxy: None, etcd: None })));
        cloud.engine = ["--engine", "docker", "--docker-host", docker_host].map(str::to_owned).into();
        cloud.resume_manager().await;
        cloud
    }

    fn new(parts: Parts) -> Self {
        let slot = Slot::take();
        let folder = tempfile::Builder::new().prefix("sct-").tempdir().expect("a temporary folder");
        let engine = ["--engine", "process"].map(str::to_owned).into();
        Self {
            name: slot.instance(),
            http: slot.addr(),
            api: slot.addr(),
            admin: slot.addr(),
            engine,
            more: Vec::new(),
            manager_more: Vec::new(),
            proxy_more: Vec::new(),
            folder,
            slot,
            parts,
        }
    }

    /// Runs `sc up` for this installation; again: it changes nothing.
    pub async fn up(&self) -> Out {
        run(&mut self.up_command(), secs(180)).await
    }

    /// That command, not run yet; killed when it is dropped.
    pub fn up_command(&self) -> Command {
        let (http, api, admin) = (self.http.to_string(), self.api.to_string(), self.admin.to_string());
        let pool = self.slot.pool();
        let fixed =
            ["up", "--instance", &self.name, "--http", &http, "--listen", &api, "--admin", &admin, "--pool", &pool];
        let mut command = self.sc_command();
        command.args(fixed).args(&self.more).kill_on_drop(true);
        command
    }

    /// Whether replicas are containers.
    pub fn has_containers(&self) -> bool {
        self.on_docker() || self.engine.iter().any(|word| word == "docker")
    }

    /// Whether all of it is containers.
    pub fn on_docker(&self) -> bool {
        matches!(self.parts, Parts::Docker)
    }

    /// A path in its own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file in its own folder.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("a file in the test's own folder");
        path
    }

    /// Runs `sc ARGS…` against it.
    pub async fn sc(&self, args: &[&str]) -> Out {
        run(self.sc_command().args(args), secs(180)).await
    }

    /// `sc`, with nothing of the environment but what finds this installation.
    pub fn sc_command(&self) -> Command {
        let mut command = Command::new(program("sc"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SC_")) {
            command.env_remove(name);
        }
        command
            .env("HOME", self.folder.path())
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_RUNTIME_DIR", self.folder.path());
        command.env("SC_TEST_MARK", &self.name).current_dir(self.folder.path());
        if !self.on_docker() {
            command.env("SC_MANAGER", format!("unix:{}", self.path("manager.sock").display()));
        }
        command
    }

    /// The arguments that name the reference app as this engine takes it.
    pub fn matrix(&self) -> Vec<String> {
        let words: Vec<String> = if self.has_containers() {
            vec!["--image".into(), "sc/matrix:0.1.0".into()]
        } else {
            vec!["--bin".into(), program("sc-matrix").display().to_string()]
        };
        [words, vec!["--port".into(), "8080".into()]].concat()
    }

    /// `sc run APP` with the reference app and these arguments, waited for.
    pub async fn run(&self, app: &str, more: &[&str]) -> Out {
        let matrix = self.matrix();
        let mut args = vec!["run", app];
        args.extend(matrix.iter().map(String::as_str));
        args.extend(more);
        self.sc(&args).await.ok()
    }

    /// An app as `sc describe` sees it.
    pub async fn app(&self, app: &str) -> AppView {
        let out = self.sc(&["describe", app, "-o", "json"]).await.ok();
        serde_json::from_value(out.json()).expect("an app view")
    }

    /// The replicas of an app as `sc ps` sees them.
    pub async fn replicas(&self, app: &str) -> Vec<ReplicaView> {
        let out = self.sc(&["ps", app, "-o", "json"]).await.ok();
        serde_json::from_value(out.json()).expect("a list of replica views")
    }

    /// What really runs of an app, by asking Docker or the kernel and not sc: names and process or container ids.
    pub async fn really_running(&self, app: &str) -> Vec<(String, String)> {
        self.really(app, "running").await
    }

    /// What is really frozen of an app: names and process or container ids.
    pub async fn really_frozen(&self, app: &str) -> Vec<(String, String)> {
        self.really(app, "paused").await
    }

    /// What is really stopped of an app and kept: names and container ids. Docker only.
    pub async fn really_stopped(&self, app: &str) -> Vec<(String, String)> {
        self.really(app, "exited").await
    }

    async fn really(&self, app: &str, state: &str) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = if self.has_containers() {
            let all = docker::replicas(&self.name, app).await;
            all.into_iter().filter(|c| c.state == state).map(|c| (format!("{app}-{}", c.replica), c.id)).collect()
        } else {
            let replicas = processes_with(&format!("SC_APP={app}\0")).into_iter().filter(|pid| self.owns(*pid));
            let replicas = replicas.filter(|pid| is_frozen(*pid) == (state == "paused"));
            replicas.filter_map(|pid| Some((environment(pid, "SC_REPLICA")?, pid.to_string()))).collect()
        };
        all.sort();
        all
    }

    /// Whether a process works for this installation: it, or one that it descends from, names its folder.
    fn owns(&self, pid: i32) -> bool {
        let folder = self.folder.path().display().to_string();
        let file = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        [file("cmdline"), file("environ")].iter().any(|content| String::from_utf8_lossy(content).contains(&folder))
            || std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(self.folder.path()))
            || std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(self.folder.path()))
    }

    /// Kills a replica behind sc's back: `docker rm -f`, or SIGKILL.
    ///
    /// # Panics
    /// When Docker refuses.
    pub async fn destroy(&self, id: &str) {
        if self.has_containers() {
            docker(&["rm", "-f", id]).await.ok();
        } else {
            kill9(id.parse().expect("a process id"));
        }
    }

    /// Waits until commands are answered.
    pub async fn works(&self) {
        poll(secs(60), "the manager to answer commands", async || (self.sc(&["ls"]).await.code == 0).then_some(()))
            .await;
    }

    /// Waits until an app is as it was asked to be, in sc's eyes and really, with so many replicas.
    pub async fn settles(&self, app: &str, count: usize) {
        let what = format!("{app} to have {count} replicas and nothing else");
        let settled = async || {
            let out = self.sc(&["describe", app, "-o", "json"]).await;
            let view: AppView = serde_json::from_str(&out.stdout).ok()?;
            let running = self.really_running(app).await;
            (view.converged && view.ready as usize == count && running.len() == count).then_some(())
        };
        poll(secs(90), &what, settled).await;
    }

    /// Waits until a GET through the proxy is answered by the app.
    pub async fn serves(&self, host: &str, path: &str) {
        let ask = async || get(self.http, host, path).await.is_ok_and(|(head, _)| head.status == 200).then_some(());
        poll(secs(60), &format!("{host}{path} to be served"), ask).await;
    }

    /// SIGKILL for the manager; it stays away until [`Cloud::resume_manager`].
    pub async fn kill_manager(&mut self) {
        let name = format!("{}-manager", self.name);
        match &mut self.parts {
            Parts::Docker => drop(docker(&["kill", &name]).await.ok()),
            Parts::Process(parts) => kill(&mut parts.manager).await,
        }
    }

    /// Starts the manager again.
    pub async fn resume_manager(&mut self) {
        if self.on_docker() {
            docker(&["start", &format!("{}-manager", self.name)]).await.ok();
            return;
        }
        let mut command = self.daemon("sc-manager");
        command.arg("--data").arg(self.path("manager")).args(&self.engine).args(["--instance", &self.name]);
        command.arg("--socket").arg(self.path("manager.sock")).args(["--listen", &self.api.to_string()]);
        command.args(["--ports", &self.slot.ports()]).args(&self.manager_more);
        match self.etcd_url() {
            Some(url) => command.args(["--store", "etcd", "--etcd", &url]),
            None => command.args(["--store", "embedded"]),
        };
        self.processes().manager = Some(command.spawn().expect("sc-manager to start"));
    }

    /// SIGKILL for the proxy; it stays away until [`Cloud::resume_proxy`].
    pub async fn kill_proxy(&mut self) {
        let name = format!("{}-proxy", self.name);
        match &mut self.parts {
            Parts::Docker => drop(docker(&["kill", &name]).await.ok()),
            Parts::Process(parts) => kill(&mut parts.proxy).await,
        }
    }

    /// Starts the proxy again, and waits until it takes connections.
    pub async fn resume_proxy(&mut self) {
        if self.on_docker() {
            docker(&["start", &format!("{}-proxy", self.name)]).await.ok();
        } else {
            let mut command = self.daemon("sc-proxy");
            command.args(["--listen", &self.http.to_string(), "--threads", "2", "--id", "proxy"]);
            command.arg("--data").arg(self.path("proxy")).args(["--admin", &self.admin.to_string()]);
            command.args(&self.proxy_more);
            match self.etcd_url() {
                Some(url) => command.args(["--etcd", &url]),
                None => command
                    .args(["--manager", &format!("http://{}", self.api)])
                    .arg("--token-file")
                    .arg(self.path("manager/token")),
            };
            self.processes().proxy = Some(command.spawn().expect("sc-proxy to start"));
        }
        let listens = async || tokio::net::TcpStream::connect(self.http).await.ok().map(drop);
        poll(secs(30), "the proxy to listen", listens).await;
    }

    /// SIGKILL for etcd; it stays away until [`Cloud::resume_etcd`].
    ///
    /// # Panics
    /// When there is none.
    pub async fn kill_etcd(&mut self) {
        let name = format!("{}-etcd", self.name);
        match &mut self.parts {
            Parts::Docker => drop(docker(&["kill", &name]).await.ok()),
            Parts::Process(parts) => parts.etcd.as_mut().expect("an installation with etcd").kill().await,
        }
    }

    /// Starts etcd again.
    ///
    /// # Panics
    /// When there is none.
    pub async fn resume_etcd(&mut self) {
        let name = format!("{}-etcd", self.name);
        match &mut self.parts {
            Parts::Docker => drop(docker(&["start", &name]).await.ok()),
            Parts::Process(parts) => parts.etcd.as_mut().expect("an installation with etcd").resume().await,
        }
    }

    /// A daemon as a process, its log in its own folder.
    fn daemon(&self, name: &str) -> Command {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path(&format!("{name}.log")))
            .expect("a log file");
        let mut command = Command::new(program(name));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("the log twice")).stderr(log).kill_on_drop(true);
        command.env("SC_TEST_MARK", &self.name).env("RUST_LOG", "info");
        command
    }

    fn processes(&mut self) -> &mut Processes {
        match &mut self.parts {
            Parts::Process(parts) => parts,
            Parts::Docker => unreachable!("asked for the processes of an installation on Docker"),
        }
    }

    /// Where its etcd is, if it has one as a process.
    pub fn etcd_url(&self) -> Option<String> {
        match &self.parts {
            Parts::Process(parts) => parts.etcd.as_ref().map(Etcd::url),
            Parts::Docker => None,
        }
    }

    /// What the daemons said last.
    fn show_logs(&self) {
        for name in ["manager", "proxy", "etcd"] {
            let text = if self.on_docker() {
                let out = std::process::Command::new("docker")
                    .args(["logs", "--tail", "60", &format!("{}-{name}", self.name)])
                    .output();
                out.map(|o| [o.stdout, o.stderr].concat()).unwrap_or_default()
            } else {
                std::fs::read(self.path(&format!("sc-{name}.log"))).unwrap_or_default()
            };
            eprintln!("--- the last lines of {name}\n{}", last_lines(&String::from_utf8_lossy(&text), 60));
        }
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
        if let Parts::Process(parts) = &mut self.parts {
            // Daemons first, lest they replace what is killed.
            for child in [&mut parts.manager, &mut parts.proxy].into_iter().flatten() {
                let _ = child.start_kill();
            }
            // A shim may start its replica just now: twice.
            for _ in 0..2 {
                for pid in processes_of(self.folder.path(), &self.name) {
                    kill9(pid);
                }
            }
        }
        if self.has_containers() {
            docker::forget(&self.name);
        }
    }
}

fn processes_of(folder: &Path, name: &str) -> Vec<i32> {
    let folder = folder.display().to_string();
    [processes_with(&folder), processes_with(&format!("SC_TEST_MARK={name}\0"))].concat()
}

async fn kill(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        child.kill().await.expect("a process to be killed");
    }
}

/// Whether a process is stopped by a signal (proc(5), state `T`).
fn is_frozen(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && line.contains("T (stopped)"))
}

/// A variable of a running process.
fn environment(pid: i32, name: &str) -> Option<String> {
    let content = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let content = String::from_utf8_lossy(&content);
    content.split('\0').find_map(|entry| entry.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
}

/// The last lines of a text.
fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
