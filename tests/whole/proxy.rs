//! The proxy alone, with its routes in a file.

use std::{net::SocketAddr, path::Path, process::Stdio};

use sc_tests::{Load, LoadSpec, Target, poll, program, secs, slot::Slot};
use tokio::process::{Child, Command};

fn replica(name: &str, addr: SocketAddr) -> Child {
    let mut command = Command::new(program("sc-matrix"));
    command.args(["--listen", &addr.ip().to_string()]).env("PORT", addr.port().to_string());
    command.env("SC_REPLICA", name).env("SC_APP", "web").env("SC_VERSION", "1");
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn().expect("sc-matrix to start")
}

/// Replaces the file at once, as an editor does.
fn route_to(file: &Path, backends: &[SocketAddr]) {
    let backends: Vec<_> = backends.iter().map(ToString::to_string).collect();
    let new = file.with_extension("new");
    std::fs::write(&new, format!("[[route]]\napp = \"web\"\npath = \"/\"\nbackends = {backends:?}\n")).expect("a file");
    std::fs::rename(new, file).expect("a file in its place");
}

async fn listens(addr: SocketAddr) {
    let connected = async || tokio::net::TcpStream::connect(addr).await.ok().map(drop);
    poll(secs(20), &format!("{addr} to listen"), connected).await;
}

/// The file is edited under load, from one backend to another and to both: no request fails. Nonsense in it changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_from_a_file() {
    let slot = Slot::take();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (http, one, two) = (slot.addr(), slot.addr(), slot.addr());
    let _replicas = [replica("web-1", one), replica("web-2", two)];
    listens(one).await;
    listens(two).await;
    let file = folder.path().join("routes.toml");
    route_to(&file, &[one]);
    let mut proxy = Command::new(program("sc-proxy"));
    proxy.args(["--listen", &http.to_string(), "--threads", "2", "--admin", &slot.addr().to_string()]);
    proxy.arg("--routes-file").arg(&file).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let _proxy = proxy.spawn().expect("sc-proxy to start");
    listens(http).await;

    let load = Load::start(LoadSpec::steady(http, vec![Target::host("web", "any.localhost")]));
    let by = |name: &str| load.so_far().by_replica.get(name).copied().unwrap_or(0);
    load.goes_on(50).await;
    assert_eq!(by("web-2"), 0, "no route leads there yet");
    route_to(&file, &[two]);
    poll(secs(20), "the other one to answer", async || (by("web-2") > 0).then_some(())).await;
    std::fs::write(&file, "[[route\n").expect("a file");
    load.goes_on(50).await;
    route_to(&file, &[one, two]);
    let before = by("web-1");
    poll(secs(20), "both to answer", async || (by("web-1") > before + 10).then_some(())).await;
    load.goes_on(150).await;
    load.all_good(150).await;
}
