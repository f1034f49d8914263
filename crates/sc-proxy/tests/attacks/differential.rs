//! The same bytes to this proxy, to nginx and to HAProxy: what both of them refuse, this one refuses too; and where it takes a
//! request, it ends where one of them says that it ends. Without those two programs nothing is compared, and that is said.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    backend::{Backend, Seen},
    bench::{Bench, GOOD, NEXT, PATHS, PATIENCE},
    chunks, framing, mutated, syntax,
};

/// Changed requests beside those of the tables.
const MUTATED: u64 = 600;
/// How long a proxy may think about a request that is not whole. All are told shorter times of their own.
const PAUSE: Duration = Duration::from_millis(600);

/// What both refuse for reasons of their own, and this proxy takes rightly.
const OURS_IS_RIGHT: &[&str] = &[];

struct Peer {
    name: &'static str,
    backend: Backend,
    port: u16,
    process: Child,
    _folder: TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Peer {
    /// Starts a program that is installed, with a configuration that is made of two ports and a folder.
    async fn start(name: &'static str, configure: fn(u16, u16, &str) -> (String, Vec<String>)) -> Option<Self> {
        let program = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
            .map(|folder| PathBuf::from(folder).join(name));
        let program = program.into_iter().find(|path| path.exists())?;
        let backend = Backend::start(GOOD).await;
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = folder.path().to_str().unwrap().to_owned();
        let (text, arguments) = configure(port, backend.addr.port(), &path);
        std::fs::write(folder.path().join("conf"), text).unwrap();
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let peer = Self { name, backend, port, process: command.spawn().unwrap(), _folder: folder };
        let up = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, up).await.unwrap_or_else(|_| panic!("{name} does not listen"));
        Some(peer)
    }
}

fn nginx(port: u16, backend: u16, folder: &str) -> (String, Vec<String>) {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};"))
        .concat();
    let text = format!(
        "daemon off; master_process off; pid {folder}/pid; error_log {folder}/log; events {{}}
         http {{ access_log off; {temporary} client_header_timeout 300ms; client_body_timeout 300ms; keepalive_timeout 300ms;
           server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{backend}; proxy_http_version 1.1;
             proxy_set_header Connection ''; proxy_next_upstream off; proxy_read_timeout 300ms; }} }} }}"
    );
    (text, ["-e", &format!("{folder}/log"), "-c", &format!("{folder}/conf")].map(str::to_owned).to_vec())
}

fn haproxy(port: u16, backend: u16, folder: &str) -> (String, Vec<String>) {
    let text = format!(
        "defaults\n mode http\n retries 0\n timeout connect 1s\n timeout client 300ms\n timeout server 300ms\n \
         timeout http-request 300ms\n timeout http-keep-alive 300ms\nlisten web\n bind 127.0.0.1:{port}\n \
         server one 127.0.0.1:{backend}\n"
    );
    (text, ["-db", "-f", &format!("{folder}/conf")].map(str::to_owned).to_vec())
}

/// What a backend has seen of some bytes that were sent through a proxy.
async fn seen(backend: &Backend, port: u16, bytes: &[u8]) -> Vec<Seen> {
    let before = backend.requests().len();
    if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await {
        let _ = stream.write_all(&[bytes, NEXT.as_bytes()].concat()).await;
        let _ = timeout(PAUSE, stream.read_to_end(&mut Vec::new())).await;
    }
    backend.requests().split_off(before)
}

fn inputs() -> Vec<(String, Vec<u8>)> {
    let post = "POST /attack HTTP/1.1\r\nhost: a\r\n";
    let named = |name: &&str, text: String| ((*name).to_owned(), text.into_bytes());
    let mut all: Vec<_> = syntax::HEADS.iter().map(|(name, text)| named(name, (*text).to_owned())).collect();
    all.extend(framing::AMBIGUOUS.iter().map(|(name, rest)| named(name, format!("{post}{rest}"))));
    let chunked = format!("{post}transfer-encoding: chunked\r\n\r\n");
    all.extend(chunks::BROKEN.iter().map(|(name, body)| named(name, format!("{chunked}{body}"))));
    all.extend((1..=MUTATED).map(|seed| (format!("SC_SEED={seed}"), mutated::request(seed))));
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn this_proxy_is_not_the_laxer_one() {
    let (Some(nginx), Some(haproxy)) = (Peer::start("nginx", nginx).await, Peer::start("haproxy", haproxy).await)
    else {
        return eprintln!("skipped: nginx and haproxy are needed to compare with (Debian: nginx-light, haproxy)");
    };
    let hasty = |config: &mut sc_proxy::Config| {
        config.limits.head_timeout = Duration::from_millis(300);
        config.limits.idle_timeout = Duration::from_millis(300);
    };
    let [fast, hyper] = PATHS.map(|http1| Bench::start_with(http1, GOOD, &[], hasty));
    let (fast, hyper) = tokio::join!(fast, hyper);
    let mut laxer = Vec::new();
    for (name, bytes) in inputs() {
        let (by_nginx, by_haproxy, by_fast, by_hyper) = tokio::join!(
            seen(&nginx.backend, nginx.port, &bytes),
            seen(&haproxy.backend, haproxy.port, &bytes),
            seen(&fast.backend, fast.addr.port(), &bytes),
            seen(&hyper.backend, hyper.addr.port(), &bytes),
        );
        for (path, ours) in [("fast", by_fast), ("hyper", by_hyper)] {
            let Some(first) = ours.first() else { continue };
            let theirs: Vec<_> = [&by_nginx, &by_haproxy].into_iter().filter_map(|seen| seen.first()).collect();
            let agreed = theirs.iter().any(|their| their.body == first.body && same_method(their, first));
            if !agreed && !OURS_IS_RIGHT.contains(&name.as_str()) {
                laxer.push(format!(
                    "{path}: {name}: {:?} became {first:?}; theirs: {theirs:?}",
                    String::from_utf8_lossy(&bytes)
                ));
            }
        }
    }
    assert!(laxer.is_empty(), "beside {} and {}:\n{}", nginx.name, haproxy.name, laxer.join("\n"));
}

fn same_method(one: &Seen, other: &Seen) -> bool {
    one.head.split(' ').next() == other.head.split(' ').next()
}
