//! An app that speaks no HTTP: it says who it is and whom it hears, then sends back what it gets.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A running echo. Dropping it stops it from taking connections; those that are open go on.
pub struct Echo {
    pub addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Echo {
    /// It greets each client with its name and sends back every byte; at the end of what comes it says `bye` and closes.
    pub async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(echo(name, stream));
            }
        });
        Self { addr, task }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn echo(name: &str, mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(name.as_bytes()).await?;
    let (mut from, mut to) = stream.split();
    tokio::io::copy(&mut from, &mut to).await?;
    to.write_all(b"bye").await?;
    to.shutdown().await
}

/// A port of no ephemeral range that nobody listens on.
pub fn free_port() -> u16 {
    let dice = || std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), 0);
    let mut ports = std::iter::repeat_with(|| 10_000 + (dice() % 20_000) as u16);
    ports.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

/// Connects and reads the greeting, which has one byte; none when the connection ends before.
pub async fn greeted(addr: SocketAddr) -> Option<(TcpStream, char)> {
    let mut stream = TcpStream::connect(addr).await.ok()?;
    let name = heard(&mut stream, 1).await?;
    Some((stream, name.chars().next()?))
}

/// The next `n` bytes as text; none when the connection ends before.
pub async fn heard(stream: &mut TcpStream, n: usize) -> Option<String> {
    let mut bytes = vec![0; n];
    let read = tokio::time::timeout(std::time::Duration::from_secs(10), stream.read_exact(&mut bytes)).await;
    read.expect("something comes").ok()?;
    Some(String::from_utf8(bytes).unwrap())
}
