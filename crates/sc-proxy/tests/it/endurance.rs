//! The program at its bounds: many connections, few descriptors. Both HTTP/1.1 paths.

use std::{fs, time::Duration};

use tokio::{net::TcpStream, task::JoinSet};

use crate::{
    binary::{Program, routes},
    support::*,
};

const PATHS: [&str; 2] = ["fast", "hyper"];

/// A program in front of a backend, started by a shell with so many descriptors.
fn start(http1: &str, file: &str, descriptors: u32) -> Program {
    let binary = env!("CARGO_BIN_EXE_sc-proxy");
    let listen = "--listen 127.0.0.1:0 --admin 127.0.0.1:0 --threads 1";
    let line = format!("ulimit -n {descriptors}; exec '{binary}' {listen} --http1 {http1} --routes-file '{file}'");
    Program::run("sh", &["-c", &line])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn want_of_descriptors_refuses_new_connections_and_fails_no_open_one() {
    for http1 in PATHS {
        let backend = Backend::start("a").await;
        let folder = tempfile::tempdir().unwrap();
        let mut program = start(http1, &routes(folder.path(), &backend), 160);
        let addr = program.addr();
        until("it serves", async || get(addr, "x", "/").await.text() == "a").await;
        let mut open = Vec::new();
        for _ in 0..30 {
            let mut conn = Conn::open(addr).await.unwrap();
            assert_eq!(conn.send(request("GET", "x", "/", "")).await.unwrap().text(), "a");
            open.push(conn);
        }
        let mut crowd = Vec::new();
        for _ in 0..300 {
            crowd.push(TcpStream::connect(addr).await.unwrap()); // the kernel takes them in, the proxy need not
        }
        let mut at_work = JoinSet::new();
        for mut conn in open {
            at_work.spawn(async move {
                for _ in 0..20 {
                    let reply = conn.send(request("GET", "x", "/slow?5", "")).await.unwrap();
                    assert_eq!((reply.status.as_u16(), reply.text()), (200, "a"));
                }
            });
        }
        at_work.join_all().await;
        drop(crowd);
        let again = tokio::time::timeout(Duration::from_secs(10), get(addr, "x", "/")).await;
        assert_eq!(again.expect("there is room again").text(), "a", "{http1}");
    }
}

/// A number from the process's status, in KiB.
fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// So many connections of so many requests each, sixteen at a time.
async fn traffic(addr: std::net::SocketAddr, connections: usize, requests: usize) {
    let mut clients = JoinSet::new();
    for _ in 0..16 {
        clients.spawn(async move {
            for _ in 0..connections / 16 {
                let mut conn = Conn::open(addr).await.unwrap();
                for n in 0..requests {
                    let (method, body) = if n % 5 == 0 { ("POST", "x".repeat(n * 40)) } else { ("GET", String::new()) };
                    assert_eq!(conn.send(request(method, "x", "/", body)).await.unwrap().status, 200);
                }
            }
        });
    }
    clients.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_and_descriptors_stay_flat_while_clients_come_and_go() {
    let rounds = if std::env::var_os("SC_TEST_LONG").is_some() { 10 } else { 1 };
    for http1 in PATHS {
        let backend = Backend::start("a").await;
        let folder = tempfile::tempdir().unwrap();
        let mut program = start(http1, &routes(folder.path(), &backend), 4_096);
        let addr = program.addr();
        until("it serves", async || get(addr, "x", "/").await.text() == "a").await;
        traffic(addr, 320, 20).await;
        let before = resident_kib(program.pid());
        traffic(addr, 1_000 * rounds, 10 * rounds).await;
        let after = resident_kib(program.pid());
        assert!(after < before + 6 * 1024, "{http1}: {before} KiB became {after} KiB");
        until("the connections are closed", async || descriptors(program.pid()) < 64).await;
    }
}
