//! Clients that people use, and one that attacks, through the proxy alone. Debian's own Python has the modules.

use std::{net::SocketAddr, path::PathBuf, process::Stdio};

use sc_tests::{long, poll, program, secs, slot::Slot};
use tokio::process::{Child, Command};

const PYTHON: &str = "/usr/bin/python3";

struct Stage {
    url: String,
    http: SocketAddr,
    _running: [Child; 3],
    _folder: tempfile::TempDir,
    _slot: Slot,
}

impl Stage {
    async fn set(http1: &str) -> Self {
        let slot = Slot::take();
        let folder = tempfile::tempdir().expect("a temporary folder");
        // More ports of one address: the backends listen on loopback.
        let (http, app, sockets, grpc) = (slot.addr(), free_port(), free_port(), free_port());
        let backend = spawn(Command::new(PYTHON).arg(script("backend")).args([app.to_string(), sockets.to_string()]));
        let calls = spawn(Command::new(PYTHON).arg(script("grpc_backend")).arg(grpc.to_string()));
        let file = folder.path().join("routes.toml");
        let route = |app: &str, path: &str, port: u16| {
            format!("[[route]]\napp = \"{app}\"\npath = \"{path}\"\nbackends = [\"127.0.0.1:{port}\"]\n")
        };
        let calls_route = route("calls", "/t.T", grpc) + "protocol = \"h2c\"\n";
        let routes = route("web", "/", app) + &route("sockets", "/ws", sockets) + &calls_route;
        std::fs::write(&file, routes).expect("a file");
        let mut proxy = Command::new(program("sc-proxy"));
        proxy.args(["--listen", &http.to_string(), "--threads", "2", "--admin", &slot.addr().to_string()]);
        let proxy = spawn(proxy.args(["--http1", http1, "--routes-file"]).arg(&file));
        for port in [app, sockets, grpc] {
            listens(SocketAddr::from(([127, 0, 0, 1], port))).await;
        }
        listens(http).await;
        Self { url: format!("http://{http}"), http, _running: [backend, calls, proxy], _folder: folder, _slot: slot }
    }

    /// Runs a program to its end, which must be a good one.
    async fn run(&self, command: &mut Command) -> String {
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
        let output = tokio::time::timeout(secs(60), output).await.expect("it ends").expect("it starts");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{command:?}: {text}");
        text
    }

    async fn python(&self, name: &str) {
        self.run(Command::new(PYTHON).arg(script(name)).arg(&self.url)).await;
    }
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients").join(format!("{name}.py"))
}

fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().expect("a program to start")
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

async fn listens(addr: SocketAddr) {
    let connected = async || tokio::net::TcpStream::connect(addr).await.ok().map(drop);
    poll(secs(20), &format!("{addr} to listen"), connected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_and_curl_are_served_on_both_paths() {
    for http1 in ["fast", "hyper"] {
        let stage = Stage::set(http1).await;
        stage.python("with_requests").await;
        stage.python("with_httpx").await;
        stage.python("with_websockets").await;
        stage.python("with_grpc").await;
        let url = &stage.url;
        let many: Vec<_> = (0..50).map(|n| format!("{url}/{n}")).collect();
        let answers = stage.run(Command::new("curl").args(["-sSf", "--http1.1"]).args(&many)).await;
        assert_eq!(answers.matches("GET /").count(), 50, "{http1}: {answers}");
        for option in ["--http1.0", "--http1.1", "--compressed", "--raw"] {
            let answer = stage.run(Command::new("curl").args(["-sSf", option, &format!("{url}/chunked")])).await;
            assert!(answer.contains("49,"), "{http1}: {option}: {answer}");
        }
        let upload =
            ["-sSf", "-H", "Expect: 100-continue", "-H", "Transfer-Encoding: chunked", "--data-binary", "hello"];
        assert_eq!(stage.run(Command::new("curl").args(upload).arg(url)).await, "hello", "{http1}");
    }
}

/// Hundreds of connections that send their heads or bodies drop by drop, or read so: others are served as if they were not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_attackers_do_not_stand_in_the_way() {
    for http1 in ["fast", "hyper"] {
        let stage = Stage::set(http1).await;
        for mode in ["-H", "-B", "-X"] {
            let mut attack = Command::new("slowhttptest");
            attack.args([mode, "-c", "400", "-r", "400", "-i", "1", "-l", "4", "-u", &format!("{}/page", stage.url)]);
            let mut attack = spawn(&mut attack);
            let mut served = 0;
            while attack.try_wait().expect("its state").is_none() {
                let answer = stage.run(Command::new("curl").args(["-sSf", "-m", "5", &stage.url])).await;
                assert_eq!(answer, "GET / http", "{http1} {mode} at {}", stage.http);
                served += 1;
            }
            assert!(served > 3, "{http1} {mode}: only {served} requests in the time of an attack");
        }
    }
}

/// A browser loads a page with a hundred scripts, each of which counts; with `tests/run --long`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_loads_a_page_with_many_parts() {
    if !long() {
        return;
    }
    for http1 in ["fast", "hyper"] {
        let stage = Stage::set(http1).await;
        let profile = tempfile::tempdir().expect("a temporary folder");
        let mut browser = Command::new("chromium");
        browser.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"]);
        browser.args(["--virtual-time-budget=20000", &format!("--user-data-dir={}", profile.path().display())]);
        let page = stage.run(browser.arg(format!("{}/page", stage.url))).await;
        assert!(page.contains("<title>loaded 100</title>"), "{http1}: {page}");
    }
}
