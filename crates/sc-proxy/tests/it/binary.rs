//! The program: what it prints, how it ends.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::support::*;

/// A running program; killed when it is dropped.
pub struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Program {
    pub fn start(args: &[&str]) -> Self {
        Self::run(env!("CARGO_BIN_EXE_sc-proxy"), args)
    }

    pub fn run(program: &str, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(args).env_remove("SC_MANAGER").env_remove("SC_ETCD").stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    pub fn with_env(args: &[&str], env: &[(&str, &std::ffi::OsStr)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sc-proxy"));
        Self(command.args(args).envs(env.iter().copied()).stderr(Stdio::piped()).spawn().unwrap())
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// The address that it says it listens on.
    pub fn addr(&mut self) -> std::net::SocketAddr {
        self.addrs().0
    }

    /// The same, and that of its admin API.
    pub fn addrs(&mut self) -> (std::net::SocketAddr, std::net::SocketAddr) {
        let mut lines = BufReader::new(self.0.stderr.as_mut().unwrap()).lines();
        let line = lines.find_map(|line| line.ok().filter(|line| line.contains("serving"))).unwrap();
        let between = |begin: &str, end| line.split_once(begin)?.1.split_once(end)?.0.parse().ok();
        // One on a unix socket has no address.
        let admin = between("admin=\"http://", '"').unwrap_or(([0; 4], 0).into());
        (between("listen=[", ']').unwrap(), admin)
    }

    /// The address after these words of the same line.
    pub fn addr_of(&mut self, words: &str) -> std::net::SocketAddr {
        let mut lines = BufReader::new(self.0.stderr.as_mut().unwrap()).lines();
        let line = lines.find_map(|line| line.ok().filter(|line| line.contains("serving") && line.contains(words)));
        let rest = line.unwrap().split_once(words).unwrap().1.to_owned();
        rest.split([']', '"']).next().unwrap().parse().unwrap()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Its exit status and what else it said.
    pub async fn ended(mut self) -> (Option<i32>, String) {
        until("it ends", async || self.0.try_wait().unwrap().is_some()).await;
        let mut text = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        (self.0.wait().unwrap().code(), text)
    }
}

pub fn routes(folder: &Path, backend: &Backend) -> String {
    let path = folder.join("routes.toml");
    std::fs::write(&path, format!("[[route]]\napp = \"web\"\nbackends = [\"{}\"]\n", backend.addr)).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn it_serves_and_a_signal_lets_it_finish() {
    let backend = Backend::start("a").await;
    let folder = tempfile::tempdir().unwrap();
    let file = routes(folder.path(), &backend);
    let args = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--threads", "2", "--routes-file", &file];
    let mut program = Program::start(&args);
    let addr = program.addr();
    until("it serves", async || get(addr, "x", "/").await.text() == "a").await;
    let slow = tokio::spawn(get(addr, "x", "/slow?1000"));
    until("it runs", async || backend.running() == 1).await;
    program.signal(rustix::process::Signal::TERM);
    assert_eq!(slow.await.unwrap().text(), "a");
    assert_eq!(program.ended().await.0, Some(0));

    let mut program = Program::start(&args);
    let addr = program.addr();
    until("it serves", async || get(addr, "x", "/").await.text() == "a").await;
    let mut conn = Conn::open(addr).await.unwrap();
    let endless = conn.sender.send_request(request("GET", "x", "/drip", "")).await.unwrap();
    program.signal(rustix::process::Signal::TERM);
    // Two signals at once may be merged into one.
    until("the first is heard", async || tokio::net::TcpStream::connect(addr).await.is_err()).await;
    program.signal(rustix::process::Signal::TERM);
    assert_eq!(program.ended().await.0, Some(0));
    drop(endless);
}

#[tokio::test]
async fn a_hangup_opens_the_access_log_anew_and_ends_nothing() {
    let backend = Backend::start("a").await;
    let folder = tempfile::tempdir().unwrap();
    let (file, log) = (routes(folder.path(), &backend), folder.path().join("access.log"));
    let log_to = log.display().to_string();
    let args = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--threads", "1", "--routes-file", &file];
    let access = ["--access-log", &log_to, "--access-log-format", "combined", "--access-log-slow", "500ms"];
    let mut program = Program::start(&[&args[..], &access].concat());
    let addr = program.addr();
    until("it serves", async || get(addr, "x", "/").await.text() == "a").await;
    std::fs::rename(&log, folder.path().join("old")).unwrap();
    program.signal(rustix::process::Signal::HUP);
    until("there is a new log", async || log.exists()).await;
    get(addr, "x", "/after").await;
    let logged = async || std::fs::read_to_string(&log).unwrap().contains("\"GET /after HTTP/1.1\" 200 ");
    until("it is logged", logged).await;
    program.signal(rustix::process::Signal::TERM);
    assert_eq!(program.ended().await.0, Some(0));
}

#[tokio::test]
async fn what_is_wrong_is_said_on_one_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.toml");
    std::fs::write(&bad, "[[route]]\nap = \"web\"\n").unwrap();
    let bad = bad.display().to_string();
    for (args, code, text) in [
        (vec!["--manager", "http://127.0.0.1:1", "--listen", &taken, "--admin", "127.0.0.1:0"], 1, "another process"),
        (vec!["--listen", "127.0.0.1:0"], 2, "--routes-file FILE"),
        (vec!["--routes-file", &bad, "--listen", "127.0.0.1:0"], 1, "line 2, column 1"),
        (vec!["--routes-file", "/nope", "--listen", "127.0.0.1:0"], 1, "/nope"),
        (vec!["--listen", "nowhere"], 2, "nowhere"),
        (vec!["--access-log-sample", "2"], 2, "share from 0 to 1"),
        (vec!["--manager", "http://x", "--token-file", "/nope"], 1, "token in /nope"),
    ] {
        let (status, said) = Program::start(&args).ended().await;
        assert!(status == Some(code) && said.contains(text), "{args:?} gave {status:?}: {said}");
    }
}

#[tokio::test]
async fn what_is_logged_is_set_while_it_runs() {
    let backend = Backend::start("a").await;
    let folder = tempfile::tempdir().unwrap();
    let file = routes(folder.path(), &backend);
    let admin = format!("unix:{}", folder.path().join("admin.sock").display());
    let args = ["--listen", "127.0.0.1:0", "--admin", &admin, "--threads", "1", "--log", "warn,sc_proxy=info"];
    let mut program = Program::start(&[&args[..], &["--routes-file", &file]].concat());
    program.addr();
    let ask = async |method: &str, body: &str| {
        let stream = tokio::net::UnixStream::connect(folder.path().join("admin.sock")).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let response = sender.send_request(request(method, "x", "/log", body.to_owned())).await.unwrap();
        let status = response.status().as_u16();
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    };
    let (status, filter) = ask("GET", "").await;
    assert!(status == 200 && filter.contains("sc_proxy=info"), "{filter}");
    for wrong in ["loud", "", "sc_proxy=loud", &"x=info,".repeat(1_000)] {
        assert_eq!(ask("PUT", wrong).await.0, 400, "{wrong}");
    }
    assert_eq!(ask("GET", "").await.1, filter, "nothing is half applied");
    assert_eq!(ask("PUT", "sc_proxy=trace\n").await, (200, "sc_proxy=trace\n".to_owned()));
    program.signal(rustix::process::Signal::TERM);
    let (code, said) = program.ended().await;
    assert!(code == Some(0) && said.contains("set by hand"), "{said}");
}

/// The start of a handshake whose client names the address 127.0.0.1, which no name may be (RFC 6066 section 3).
fn odd_hello() -> Vec<u8> {
    let config = trusting(&[&Pair::new(&["abc.d.e.f"])], &[], None);
    let mut client = rustls::ClientConnection::new(config, "abc.d.e.f".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let at = hello.windows(9).position(|bytes| bytes == b"abc.d.e.f").unwrap();
    hello[at..at + 9].copy_from_slice(b"127.0.0.1");
    hello
}

#[tokio::test]
async fn what_clients_say_amiss_fills_no_log() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let backend = Backend::start("a").await;
    let folder = tempfile::tempdir().unwrap();
    let file = routes(folder.path(), &backend);
    let listen = ["--listen-tls", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let run = async |log: &str| {
        let mut program = Program::start(&[&listen[..], &["--routes-file", &file, "--log", log]].concat());
        let addr = program.addr_of("tls=[");
        let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        stream.write_all(&odd_hello()).await.unwrap();
        assert!(stream.read(&mut [0; 64]).await.unwrap() > 0, "it is served all the same");
        program.signal(rustix::process::Signal::TERM);
        drop(stream);
        program.ended().await.1
    };
    let said = run("info").await;
    assert!(!said.contains("SNI") && said.contains("stopped"), "{said}");
    let said = run("info,rustls=warn").await;
    assert!(said.contains("SNI"), "who asks for it gets it: {said}");
}

#[tokio::test]
async fn descriptors_that_others_use_up_close_nobody_off() {
    let backend = Backend::start("a").await;
    let folder = tempfile::tempdir().unwrap();
    let file = routes(folder.path(), &backend);
    let admin = folder.path().join("admin.sock");
    let command = "ulimit -n 96 && exec \"$0\" \"$@\"";
    let to_admin = format!("unix:{}", admin.display());
    let listen = ["--listen", "127.0.0.1:0", "--admin", &to_admin, "--threads", "1", "--routes-file", &file];
    let mut program = Program::run("sh", &[&["-c", command, env!("CARGO_BIN_EXE_sc-proxy")][..], &listen].concat());
    let addr = program.addr();
    until("it serves", async || get(addr, "x", "/").await.text() == "a").await;
    let mut conn = Conn::open(addr).await.unwrap();
    assert_eq!(conn.send(request("GET", "x", "/", "")).await.unwrap().text(), "a");
    // The admin API takes up to 256 connections, and so every descriptor that is left.
    let mut hogs = Vec::new();
    for _ in 0..120 {
        hogs.push(tokio::net::UnixStream::connect(&admin).await.unwrap());
    }
    let fds = || std::fs::read_dir(format!("/proc/{}/fd", program.pid())).map_or(0, Iterator::count);
    until("there is none left", async || fds() >= 96).await;
    let waits = tokio::spawn(get(addr, "x", "/"));
    for _ in 0..100 {
        assert_eq!(conn.send(request("GET", "x", "/", "")).await.unwrap().text(), "a");
    }
    assert!(!waits.is_finished(), "it is in the listen queue");
    drop(hogs);
    assert_eq!(waits.await.unwrap().text(), "a");
}

#[tokio::test]
async fn limits_that_make_no_sense_are_refused() {
    for (flag, value) in [
        ("--max-connections", "0"),
        ("--max-connections-per-address", "none"),
        ("--max-streams", "0"),
        ("--max-head", "100"),
        ("--max-head-fields", "0"),
        ("--max-uri", "1MiB"),
        ("--head-timeout", "0s"),
        ("--idle-timeout", "5"),
        ("--listen", "here"),
        ("--listen-tls", "127.0.0.1"),
    ] {
        let (status, said) = Program::start(&["--routes-file", "/nope", flag, value]).ended().await;
        assert!(status == Some(2) && said.contains(flag), "{flag} {value}: {status:?}: {said}");
    }
    let (status, said) = Program::start(&["--listen", "127.0.0.1:0"]).ended().await;
    assert!(status == Some(2) && said.contains("--routes-file FILE"), "no source of routes: {status:?}: {said}");
}
