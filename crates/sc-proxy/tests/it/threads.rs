//! Threads: as many as there are CPUs to use, and none of them with far more connections than the others.

use crate::{
    binary::{Program, routes},
    support::*,
};

/// The connections of each thread.
async fn by_thread(proxy: &Proxy) -> Vec<u64> {
    let metrics = get(proxy.stats_addr(), "x", "/metrics").await;
    let of = |line: &str| line.strip_prefix("sc_proxy_thread_connections{")?.split(' ').nth(1)?.parse().ok();
    metrics.text().lines().filter_map(of).collect()
}

/// Waits until so many connections are open in all; gives those of each thread.
async fn settled(proxy: &Proxy, all: u64) -> Vec<u64> {
    let mut seen = Vec::new();
    until("all connections are counted", async || {
        seen = by_thread(proxy).await;
        seen.iter().sum::<u64>() == all
    })
    .await;
    seen
}

#[tokio::test]
async fn a_thread_with_far_more_connections_than_the_others_gives_new_ones_away() {
    let backend = Backend::start("a").await;
    let proxy = Proxy::start(vec![app("web", "", &[(1, backend.addr)])]);
    proxy.ready().await;
    let mut kept: Vec<Conn> = Vec::new();
    // Whatever goes to the second thread is closed at once: so all that stay are the first one's, as long as it keeps them.
    let mut given = 0;
    for _ in 0..100 {
        let before = settled(&proxy, kept.len() as u64).await;
        let mut conn = Conn::open(proxy.addr).await.unwrap();
        assert_eq!(
            conn.send(request("GET", "x", "/", "")).await.unwrap().text(),
            "a",
            "whoever accepted it, it is served"
        );
        let after = settled(&proxy, kept.len() as u64 + 1).await;
        if after[0] > before[0] {
            kept.push(conn);
        } else {
            given += 1;
            drop(conn);
        }
    }
    // Twice as many as the mean of two threads are one thread's alone: the limit is a quarter and eight more than the mean.
    assert!(kept.len() <= 22, "the first thread kept {} and {given} went to the second", kept.len());
    assert!(kept.len() >= 10, "a thread with few connections keeps its own: it kept {}", kept.len());
}

/// A program that may use so many CPUs.
fn with_cpus(cpus: usize, args: &[&str]) -> Program {
    // A thread of its own, whose children inherit what it may use.
    let run = || {
        let mut allowed = rustix::thread::sched_getaffinity(None).unwrap();
        let all: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
        all[cpus..].iter().for_each(|cpu| allowed.unset(*cpu));
        rustix::thread::sched_setaffinity(None, &allowed).unwrap();
        Program::start(args)
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

#[tokio::test]
async fn there_is_a_thread_for_each_cpu_that_the_program_may_use() {
    let backend = Backend::start("a").await;
    let folder = tempfile::tempdir().unwrap();
    let file = routes(folder.path(), &backend);
    let here = std::thread::available_parallelism().unwrap().get();
    for cpus in [1, here] {
        let args = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--routes-file", &file];
        let mut program = with_cpus(cpus, &args);
        let admin = program.addr_of("admin=\"http://");
        let config: serde_json::Value = serde_json::from_str(get(admin, "x", "/config").await.text()).unwrap();
        assert_eq!(config["threads"], cpus);
    }
}
