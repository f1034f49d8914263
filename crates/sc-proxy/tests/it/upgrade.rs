//! A new process takes over the sockets of the running one.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};

use http_body_util::BodyExt;
use sc_core::records::{self, Proxy as Record, key};
use sc_proxy::{Config, Source, upgrade::start_or_take_over};
use sc_store::{Memory, Store};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    binary::{Program, routes},
    support::{line::*, *},
};

fn start(listen: SocketAddr, threads: usize, folder: &Path, routes: &str) -> Program {
    let (listen, threads) = (listen.to_string(), threads.to_string());
    let socket = folder.join("upgrade.sock").display().to_string();
    let args = ["--listen", &listen, "--threads", &threads, "--routes-file", routes, "--upgrade-socket", &socket];
    Program::start(&[&args[..], &["--admin", "127.0.0.1:0"]].concat())
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// One connection per request, until told to stop. Gives what failed.
async fn connect_and_ask(addr: SocketAddr, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) -> Vec<String> {
    let mut failed = Vec::new();
    while !stop.load(SeqCst) {
        let once = async {
            let mut conn = Conn::open(addr).await.map_err(|error| error.to_string())?;
            conn.send(request("GET", "x", "/", "")).await.map_err(|error| format!("{error:?}"))
        };
        match once.await {
            Ok(reply) if reply.status == 200 => drop(done.fetch_add(1, SeqCst)),
            Ok(reply) => failed.push(reply.status.to_string()),
            Err(error) => failed.push(error),
        }
    }
    failed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_upgrades_under_load_fail_no_request() {
    let backend = Backend::start("a").await;
    let folder = tempfile::tempdir().unwrap();
    let file = routes(folder.path(), &backend);
    let mut serving = start(ANY, 2, folder.path(), &file);
    let addr = serving.addr();
    until("it serves", async || get(addr, "x", "/").await.text() == "a").await;
    let load = Load::start(addr, "x", 4, 4);
    let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let fresh = tokio::spawn(connect_and_ask(addr, stop.clone(), done.clone()));
    for upgrade in 0..20 {
        let (before, fresh_before) = (load.done(), done.load(SeqCst));
        let mut next = start(addr, 1 + upgrade % 3, folder.path(), &file);
        assert_eq!(next.addr(), addr);
        assert_eq!(std::mem::replace(&mut serving, next).ended().await.0, Some(0), "upgrade {upgrade}");
        until("load goes on", async || load.done() > before + 20 && done.load(SeqCst) > fresh_before + 20).await;
    }
    stop.store(true, SeqCst);
    let (totals, fresh) = (load.stop().await, fresh.await.unwrap());
    assert!(totals.failed.is_empty() && totals.refused == 0, "{totals:?}");
    assert!(fresh.is_empty(), "{fresh:?}");
}

/// Asks on each of these connections.
async fn all_answer(kept: &mut [Conn]) {
    for conn in kept {
        assert_eq!(conn.send(request("POST", "x", "/", "ask")).await.unwrap().text(), "a");
    }
}

/// A process that serves, and connections to it on which it has answered.
async fn kept(folder: &Path, file: &str, count: usize) -> (Program, SocketAddr, Vec<Conn>) {
    let mut serving = start(ANY, 2, folder, file);
    let addr = serving.addr();
    until("it serves", async || get(addr, "x", "/").await.text() == "a").await;
    let mut kept = Vec::new();
    for _ in 0..count {
        kept.push(Conn::open(addr).await.unwrap());
    }
    all_answer(&mut kept).await;
    (serving, addr, kept)
}

/// To close a kept connection is to race the client's next request: so they are not closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_connections_go_on_in_the_next_process() {
    let (backend, folder) = (Backend::start("a").await, tempfile::tempdir().unwrap());
    let file = routes(folder.path(), &backend);
    let (mut serving, addr, mut kept) = kept(folder.path(), &file, 100).await;
    for threads in [3, 1, 2] {
        let mut next = start(addr, threads, folder.path(), &file);
        assert_eq!(next.addr(), addr);
        assert_eq!(std::mem::replace(&mut serving, next).ended().await.0, Some(0), "it waits for none of them");
        all_answer(&mut kept).await;
    }
}

/// Two upgrades one upon the other: the second process has no connection of its own, and passes on what the first one gives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_connections_go_on_through_a_process_that_is_succeeded_itself() {
    let (backend, folder) = (Backend::start("a").await, tempfile::tempdir().unwrap());
    let file = routes(folder.path(), &backend);
    let (first, addr, mut kept) = kept(folder.path(), &file, 20).await;
    let mut second = start(addr, 2, folder.path(), &file);
    assert_eq!(second.addr(), addr);
    let mut third = start(addr, 2, folder.path(), &file);
    assert_eq!(third.addr(), addr);
    assert_eq!((first.ended().await.0, second.ended().await.0), (Some(0), Some(0)));
    all_answer(&mut kept).await;
}

/// Nobody could report for it any more: drains would wait for it in vain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_handed_over_says_when_it_has_ended_and_who_was_stopped_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let socket = folder.path().join("upgrade.sock");
    let config = |listen| {
        let data = Some(folder.path().join("data"));
        Config { data, threads: 1, listen: vec![listen], ..Config::new(Source::Store(store.clone())) }
    };
    let records = async || -> Vec<(String, Record)> {
        let entries = store.load(key::PROXIES).await.unwrap().entries.into_iter();
        entries.map(|(key, entry)| (key, records::read("", &entry.value).unwrap())).collect()
    };
    let (mut old, upgrades) = start_or_take_over(config(ANY), &socket).await.unwrap();
    let (addr, old_key) = (old.listen[0], key::proxy(&old.id));
    until("it is registered", async || records().await.len() == 1).await;
    let (path, next) = (socket.clone(), config(addr));
    let taking = tokio::spawn(async move { start_or_take_over(next, &path).await });
    let successor = upgrades.next(&old).await;
    successor.let_serve(&mut old).await.unwrap();
    let (new, _) = taking.await.unwrap().unwrap();
    let new_key = key::proxy(&new.id);
    until("both are registered", async || records().await.iter().filter(|(_, record)| !record.ended).count() == 2)
        .await;
    old.stop().await;
    let ended =
        |all: Vec<(String, Record)>| all.into_iter().map(|(key, record)| (key, record.ended)).collect::<Vec<_>>();
    assert_eq!(ended(records().await), [(old_key, true), (new_key.clone(), false)]);
    new.stop().await;
    assert!(records().await.iter().all(|(key, _)| *key != new_key), "it may come again: it only signs off");
}

/// Whether a process sends to this backend no more: its routes are without it, and all its threads go by them.
async fn has_let_go(admin: SocketAddr, leaving: SocketAddr) -> bool {
    let routes: serde_json::Value = serde_json::from_str(get(admin, "x", "/routes").await.text()).unwrap();
    let mut backends = routes["apps"][0]["backends"].as_array().unwrap().iter();
    let listed = backends.any(|backend| backend["addr"] == leaving.to_string());
    !listed && Stats::open(admin).await.next().await.applied >= routes["revision"].as_u64().unwrap()
}

/// Backends are replaced one after the other, and in the middle the proxy itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacements_with_an_upgrade_in_the_middle_fail_no_request() {
    let replacements = if std::env::var_os("SC_TEST_LONG").is_some() { 1_000 } else { 30 };
    let mut running = vec![Backend::start("a").await, Backend::start("a").await];
    let folder = tempfile::tempdir().unwrap();
    let route = |running: &[Backend]| {
        let addrs: Vec<_> = running.iter().map(|backend| backend.addr.to_string()).collect();
        let (file, new) = (folder.path().join("routes.toml"), folder.path().join("new"));
        std::fs::write(&new, format!("[[route]]\napp = \"web\"\nbackends = {addrs:?}\n")).unwrap();
        std::fs::rename(new, &file).unwrap();
        file.display().to_string()
    };
    let file = route(&running);
    let mut serving = start(ANY, 2, folder.path(), &file);
    let (addr, mut admin) = serving.addrs();
    until("it serves", async || get(addr, "x", "/").await.text() == "a").await;
    let load = Load::start(addr, "x", 8, 5);
    for n in 0..replacements {
        if n == replacements / 2 {
            let mut next = start(addr, 2, folder.path(), &file);
            let addrs = next.addrs();
            assert_eq!(addrs.0, addr);
            admin = addrs.1;
            assert_eq!(std::mem::replace(&mut serving, next).ended().await.0, Some(0));
        }
        running.push(Backend::start("a").await);
        let leaving = running.remove(0);
        route(&running);
        let let_go = async || has_let_go(admin, leaving.addr).await && leaving.running() == 0;
        until("nobody asks the old one any more", let_go).await;
        leaving.stop().await;
        let since = load.done();
        until("load goes on", async || load.done() > since + 20).await;
    }
    let totals = load.stop().await;
    assert!(totals.failed.is_empty() && totals.refused == 0, "{totals:?}");
    assert!(running.iter().all(|backend| backend.requests() > 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_is_finished_by_the_old_process() {
    let backend = Backend::start("a").await;
    let folder = tempfile::tempdir().unwrap();
    let file = routes(folder.path(), &backend);
    let mut old = start(ANY, 2, folder.path(), &file);
    let addr = old.addr();
    until("it serves", async || get(addr, "x", "/").await.text() == "a").await;

    let mut conn = Conn::open(addr).await.unwrap();
    let mut download = conn.sender.send_request(request("GET", "x", "/drip", "")).await.unwrap().into_body();
    let mut socket = tokio::net::TcpStream::connect(addr).await.unwrap();
    let head = "GET /upgrade HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    until("the protocol changes", async || {
        answer.push(socket.read_u8().await.unwrap());
        answer.ends_with(b"\r\n\r\n")
    })
    .await;

    let mut new = start(addr, 2, folder.path(), &file);
    assert_eq!(new.addr(), addr);
    old.signal(rustix::process::Signal::HUP); // it is there still
    for _ in 0..20 {
        assert_eq!(&download.frame().await.unwrap().unwrap().into_data().unwrap()[..], b"drop\n");
        socket.write_all(b"ping").await.unwrap();
        let mut echo = [0; 4];
        socket.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"ping");
    }
    assert_eq!(get(addr, "x", "/").await.text(), "a");
    drop((download, conn, socket));
    assert_eq!(old.ended().await.0, Some(0));
    assert_eq!(get(addr, "x", "/").await.text(), "a");
}

#[tokio::test]
async fn a_new_process_that_fails_leaves_the_old_one_serving() {
    let backend = Backend::start("a").await;
    let folder = tempfile::tempdir().unwrap();
    let file = routes(folder.path(), &backend);
    let mut old = start(ANY, 2, folder.path(), &file);
    let addr = old.addr();
    let bad = folder.path().join("bad.toml");
    std::fs::write(&bad, "[[route]]\nap = \"web\"\n").unwrap();
    let (status, said) = start(addr, 2, folder.path(), &bad.display().to_string()).ended().await;
    assert!(status == Some(1) && said.contains("line 2"), "{said}");
    // One that dies after it has got the sockets.
    drop(std::os::unix::net::UnixStream::connect(folder.path().join("upgrade.sock")).unwrap());
    for _ in 0..50 {
        assert_eq!(get(addr, "x", "/").await.text(), "a");
    }
    let mut new = start(addr, 2, folder.path(), &file);
    assert_eq!(new.addr(), addr);
    assert_eq!(old.ended().await.0, Some(0));
    assert_eq!(get(addr, "x", "/").await.text(), "a");
}

#[tokio::test]
async fn a_signal_starts_the_successor_and_the_service_manager_learns_its_pid() {
    let backend = Backend::start("a").await;
    let folder = tempfile::tempdir().unwrap();
    let file = routes(folder.path(), &backend);
    let news = tokio::net::UnixDatagram::bind(folder.path().join("notify")).unwrap();
    let pid = async || {
        let mut text = [0; 256];
        let wait = std::time::Duration::from_secs(20);
        let length = tokio::time::timeout(wait, news.recv(&mut text)).await.expect("news come").unwrap();
        let text = String::from_utf8_lossy(&text[..length]).into_owned();
        text.strip_prefix("READY=1\nMAINPID=").unwrap().parse::<i32>().unwrap()
    };
    let addr = std::net::TcpListener::bind(ANY).unwrap().local_addr().unwrap();
    let (listen, data) = (addr.to_string(), folder.path().display().to_string());
    let args = ["--listen", &listen, "--routes-file", &file, "--data", &data, "--admin", "127.0.0.1:0"];
    let old = Program::with_env(&args, &[("NOTIFY_SOCKET", folder.path().join("notify").as_os_str())]);
    assert_eq!(pid().await, old.pid() as i32);
    until("it has its routes", async || get(addr, "x", "/").await.text() == "a").await;
    old.signal(rustix::process::Signal::USR2);
    let new = rustix::process::Pid::from_raw(pid().await).unwrap();
    let answer = get(addr, "x", "/").await;
    // Both write to one pipe, which is read to its end.
    rustix::process::kill_process(new, rustix::process::Signal::TERM).unwrap();
    let (status, said) = old.ended().await;
    assert_eq!((status, answer.text()), (Some(0), "a"), "{said}");
    assert!(said.contains("a new process serves"), "{said}");
    until("it has ended", async || tokio::net::TcpStream::connect(addr).await.is_err()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_takes_over_the_ports_and_refuses_no_client() {
    let (echo, port, folder) = (Echo::start("a").await, free_port(), tempfile::tempdir().unwrap());
    let door = SocketAddr::from(([127, 0, 0, 1], port));
    let file = folder.path().join("routes.toml");
    let text = format!("[[route]]\napp = \"db\"\ntcp = {port}\nbackends = [\"{}\"]\n", echo.addr);
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    let mut serving = start(ANY, 2, folder.path(), &file);
    let addr = serving.addr();
    until("the port is open", async || TcpStream::connect(door).await.is_ok()).await;
    let (mut open, _) = greeted(door).await.unwrap();
    let stop = Arc::<AtomicBool>::default();
    let stopped = stop.clone();
    let load = tokio::spawn(async move {
        let mut done = 0;
        while !stopped.load(SeqCst) {
            assert!(greeted(door).await.is_some(), "after {done}");
            done += 1;
        }
        done
    });
    let mut leaving = Vec::new();
    for upgrade in 0..5 {
        let mut next = start(addr, 1 + upgrade % 3, folder.path(), &file);
        assert_eq!(next.addr(), addr);
        leaving.push(std::mem::replace(&mut serving, next));
    }
    open.write_all(b"!").await.unwrap();
    assert_eq!(heard(&mut open, 1).await.as_deref(), Some("!"), "the first process still passes it on");
    stop.store(true, SeqCst);
    assert!(load.await.unwrap() > 0);
    drop(open);
    for old in leaving {
        assert_eq!(old.ended().await.0, Some(0));
    }
    assert!(greeted(door).await.is_some());
}
