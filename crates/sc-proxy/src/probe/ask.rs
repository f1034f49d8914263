//! One probe.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// How much of an answer's head is read.
const HEAD: usize = 16 * 1024;

/// Asks a backend how it is. With no path a connection is enough.
///
/// # Errors
/// When there is no connection, no answer, or none of class 2xx or 3xx.
pub(super) async fn ask(addr: SocketAddr, path: Option<&str>) -> io::Result<()> {
    let mut stream = TcpStream::connect(addr).await?;
    let Some(path) = path else { return Ok(()) };
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {addr}\r\nuser-agent: sc-proxy/{}\r\nconnection: close\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    stream.write_all(request.as_bytes()).await?;
    let mut read = Vec::with_capacity(1024);
    loop {
        let n = stream.read_buf(&mut read).await?;
        match status(&read) {
            Some(200..=399) => return Ok(()),
            Some(status) => return Err(io::Error::other(format!("status {status}"))),
            None if n == 0 || read.len() > HEAD => return Err(io::Error::other("no HTTP answer")),
            None => {}
        }
    }
}

/// The status of the answer that begins so, once it has come.
fn status(read: &[u8]) -> Option<u16> {
    let line = &read[..memchr::memchr(b'\n', read)?];
    let text = line.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5)).unwrap_or(b"0");
    Some(std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_from_the_first_line() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(status(b"HTTP/1.1 50"), None);
        assert_eq!(status(b"SSH-2.0-x\r\n"), Some(0));
        assert_eq!(status(b"HTTP/1.1\n"), Some(0));
    }
}
