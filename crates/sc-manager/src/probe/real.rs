//! Probes over the network and inside the replica.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::StreamExt;
use sc_core::spec::Probe;
use sc_engine::{Engine, ExecOutput, ExecSpec};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{Prober, Target, describe};

/// How long an accepted connection must stay open to count: something in front may accept and then close it, because
/// nobody listens behind.
const STAYS_OPEN: Duration = Duration::from_millis(5);
/// The longest status line looked at, in bytes.
const STATUS_LINE: usize = 256;

/// Asks the replica itself.
pub struct RealProber {
    engine: Arc<dyn Engine>,
}

impl RealProber {
    /// One that runs commands through `engine`.
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine }
    }
}

#[async_trait]
impl Prober for RealProber {
    async fn probe(&self, target: &Target) -> Result<(), String> {
        let answer = match &target.probe {
            Probe::Command(command) => return self.command(target, command).await,
            // Without a port it is ready when it runs.
            _ if target.addr.port() == 0 => return Ok(()),
            Probe::Accept => accept(target.addr).await.map_err(|e| words(&e)),
            Probe::Tcp => TcpStream::connect(target.addr).await.map(drop).map_err(|e| words(&e)),
            Probe::Http { path } => http(target.addr, path).await,
        };
        answer.map_err(|error| format!("{}: {error}", describe(target)))
    }
}

impl RealProber {
    async fn command(&self, target: &Target, command: &[String]) -> Result<(), String> {
        let spec = ExecSpec { command: command.to_vec(), tty: None };
        let mut session = self.engine.exec(&target.replica, &spec).await.map_err(|e| e.to_string())?;
        let mut said = Vec::new();
        while let Some(output) = session.output.next().await {
            match output.map_err(|e| e.to_string())? {
                ExecOutput::Exit(0) => return Ok(()),
                ExecOutput::Exit(code) => return Err(failed(target, code, &said)),
                ExecOutput::Stdout(text) | ExecOutput::Stderr(text) if said.len() < STATUS_LINE => {
                    said.extend_from_slice(&text);
                }
                _ => {}
            }
        }
        Err(format!("{}: ended without an exit status", describe(target)))
    }
}

fn failed(target: &Target, code: i32, said: &[u8]) -> String {
    let said = String::from_utf8_lossy(&said[..said.len().min(STATUS_LINE)]);
    format!("{}: exit status {code} {}", describe(target), said.trim()).trim_end().to_owned()
}

async fn accept(addr: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(addr).await?;
    match timeout(STAYS_OPEN, stream.read(&mut [0; 1])).await {
        Ok(Ok(0)) => Err(io::Error::new(io::ErrorKind::ConnectionReset, "closed at once")),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

async fn http(addr: SocketAddr, path: &str) -> Result<(), String> {
    let mut stream = TcpStream::connect(addr).await.map_err(|e| words(&e))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nuser-agent: sc-probe\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|e| words(&e))?;
    let mut head = Vec::with_capacity(STATUS_LINE);
    while !head.contains(&b'\n') && head.len() < STATUS_LINE {
        let mut part = [0; STATUS_LINE];
        match stream.read(&mut part).await.map_err(|e| words(&e))? {
            0 => break,
            n => head.extend_from_slice(&part[..n]),
        }
    }
    match status(&head) {
        Some(200..=399) => Ok(()),
        Some(status) => Err(format!("status {status}")),
        None if head.is_empty() => Err("the connection was closed without an answer".to_owned()),
        None => Err("the answer is not HTTP/1".to_owned()),
    }
}

/// The status of an answer's first line.
fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.")?;
    let digits = rest.get(2..5)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "the connection was closed at once".to_owned(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "not reachable".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn answering(bytes: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(bytes).await;
            }
        });
        addr
    }

    #[tokio::test]
    async fn an_http_probe_reads_the_status() {
        assert_eq!(http(answering(b"HTTP/1.1 204 No Content\r\n\r\n").await, "/").await, Ok(()));
        assert_eq!(http(answering(b"HTTP/1.0 302 Found\r\n\r\n").await, "/").await, Ok(()));
        assert_eq!(http(answering(b"HTTP/1.1 500 Oh\r\n\r\n").await, "/").await, Err("status 500".to_owned()));
        assert!(http(answering(b"hello\n").await, "/").await.unwrap_err().contains("not HTTP"));
        assert!(http(answering(b"").await, "/").await.unwrap_err().contains("without an answer"));
    }

    #[tokio::test]
    async fn accepting_and_closing_at_once_is_no_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let closing = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            drop(stream);
            let (stream, _) = listener.accept().await.unwrap();
            std::future::pending::<()>().await;
            drop(stream);
        });
        assert!(accept(addr).await.is_err());
        assert!(accept(addr).await.is_ok());
        closing.abort();
        let _ = closing.await;
        assert_eq!(words(&accept(addr).await.unwrap_err()), "connection refused");
    }
}
