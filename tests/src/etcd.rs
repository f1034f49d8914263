//! One real etcd as a process, to be killed and started again.

use std::{net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};

use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

use crate::{Out, poll, programs::run, secs, slot::Slot};

/// An etcd member with its data folder. Dropping it ends it.
pub struct Etcd {
    folder: PathBuf,
    client: SocketAddr,
    peer: SocketAddr,
    child: Option<Child>,
    scheme: &'static str,
    more: Vec<String>,
    tls: Vec<String>,
}

/// Runs `etcdctl` with these options against it.
pub async fn ctl(url: &str, options: &[String], words: &[&str]) -> Out {
    let mut command = Command::new("etcdctl");
    command.args(["--endpoints", url]).args(options).args(words).env("ETCDCTL_API", "3");
    run(&mut command, secs(10)).await
}

impl Etcd {
    /// Starts one with its data below `folder`.
    pub async fn start(slot: &Slot, folder: PathBuf) -> Self {
        Self::start_as(slot, folder, "http", Vec::new(), Vec::new()).await
    }

    /// The same with TLS: `more` are its own arguments about that, `tls` those of `etcdctl`.
    pub async fn start_with_tls(slot: &Slot, folder: PathBuf, more: Vec<String>, tls: Vec<String>) -> Self {
        Self::start_as(slot, folder, "https", more, tls).await
    }

    async fn start_as(slot: &Slot, folder: PathBuf, scheme: &'static str, more: Vec<String>, tls: Vec<String>) -> Self {
        let (client, peer) = (slot.addr(), slot.addr());
        let mut etcd = Self { folder, client, peer, child: None, scheme, more, tls };
        etcd.resume().await;
        etcd
    }

    /// Its client URL.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.client)
    }

    /// SIGKILL.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.expect("etcd to be killed");
        }
    }

    /// Starts it again on the same data, and waits until it answers.
    pub async fn resume(&mut self) {
        let (client, peer) = (self.url(), format!("http://{}", self.peer));
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.with_extension("log"))
            .expect("etcd's log");
        let child = Command::new("etcd")
            .args(["--name", "t", "--initial-cluster", &format!("t={peer}"), "--listen-client-urls", &client])
            .args([
                "--advertise-client-urls",
                &client,
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .arg("--data-dir")
            .arg(&self.folder)
            .args(&self.more)
            // One disk for everything on a test machine: a slow fsync must not cost the leadership.
            .args(["--heartbeat-interval", "200", "--election-timeout", "2000"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        self.child = Some(child.expect("etcd is installed (Debian: etcd-server)"));
        poll(secs(30), "etcd to answer", async || {
            TcpStream::connect(self.client).await.ok()?;
            (ctl(&client, &self.tls, &["endpoint", "health"]).await.code == 0).then_some(())
        })
        .await;
    }
}

/// How long etcd stays away in tests that take it away.
pub const AWAY: Duration = secs(4);
