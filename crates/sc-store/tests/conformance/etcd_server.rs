//! Private etcd servers on loopback, ended with the test.

use std::{
    io::Write,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use sc_store::{Etcd, EtcdConfig, Store};

/// One member.
pub struct Server {
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    child: Option<Child>,
    pub url: String,
}

/// Ports that were free just now.
fn ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("an address").port()).collect()
}

impl Server {
    /// One server by itself, with further arguments; `scheme` is `http` or `https`.
    pub fn new(scheme: &str, more: &[String]) -> Self {
        let ports = ports(2);
        let (url, peer) = (format!("{scheme}://127.0.0.1:{}", ports[0]), format!("http://127.0.0.1:{}", ports[1]));
        let mut server = Self::prepare("one", &url, &peer, &format!("one={peer}"), more);
        server.start();
        server.wait();
        server
    }

    /// Three servers that are one etcd.
    pub fn cluster() -> Vec<Self> {
        let ports = ports(6);
        let name = |n: usize| ["one", "two", "three"][n];
        let peer = |n: usize| format!("http://127.0.0.1:{}", ports[3 + n]);
        let all = (0..3).map(|n| format!("{}={}", name(n), peer(n))).collect::<Vec<_>>().join(",");
        let member = |n: usize| Self::prepare(name(n), &format!("http://127.0.0.1:{}", ports[n]), &peer(n), &all, &[]);
        let mut servers: Vec<_> = (0..3).map(member).collect();
        servers.iter_mut().for_each(Self::start);
        servers.iter().for_each(Self::wait);
        servers
    }

    fn prepare(name: &str, url: &str, peer: &str, all: &str, more: &[String]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data").display().to_string();
        let pairs = [
            ("--name", name),
            ("--data-dir", &data),
            ("--listen-client-urls", url),
            ("--advertise-client-urls", url),
            ("--listen-peer-urls", peer),
            ("--initial-advertise-peer-urls", peer),
            ("--initial-cluster", all),
            ("--log-level", "error"),
            ("--heartbeat-interval", "50"),
            ("--election-timeout", "500"),
        ];
        let arguments = pairs.iter().flat_map(|(key, value)| [key.to_string(), value.to_string()]);
        Self { arguments: arguments.chain(more.iter().cloned()).collect(), folder, child: None, url: url.to_owned() }
    }

    /// Starts it, or starts it again on the same data.
    pub fn start(&mut self) {
        let log = std::fs::File::create(self.folder.path().join("log")).expect("a log file");
        let mut command = Command::new("etcd");
        command.args(&self.arguments).stdout(Stdio::null()).stderr(log);
        let child = command.spawn();
        self.child = Some(child.expect("etcd is needed for this test: apt-get install etcd-server"));
    }

    /// Waits until it takes connections.
    pub fn wait(&self) {
        let address = self.url.split_once("://").expect("a URL").1;
        let end = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(address).is_err() {
            assert!(Instant::now() < end, "etcd does not start: {}", self.log());
            std::thread::yield_now();
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGSTOP or SIGCONT.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = self.child.as_ref().expect("it runs").id();
        let id = rustix::process::Pid::from_raw(id as i32).expect("a process id");
        rustix::process::kill_process(id, signal).expect("it is ours");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// etcdctl on this server, which must succeed.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.url]).args(arguments);
        let output = command.output().expect("etcdctl is needed for this test: apt-get install etcd-client");
        assert!(output.status.success(), "etcdctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The same with this on its standard input.
    pub fn ctl_with_input(&self, arguments: &[&str], input: &str) {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.url]).args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("etcdctl");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
        assert!(child.wait().expect("it ends").success(), "etcdctl {arguments:?}");
    }

    pub fn config(&self) -> EtcdConfig {
        EtcdConfig { endpoints: vec![self.url.clone()], ..EtcdConfig::default() }
    }

    pub fn store(&self) -> Arc<dyn Store> {
        Arc::new(Etcd::new(self.config()).expect("a sound configuration"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
