//! Connections that a proxy in front makes for its clients: the PROXY header comes first, then what the client sent.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{io::AsyncReadExt, net::TcpStream};

use super::Worker;
use crate::proxy_protocol::{Ends, Header, MAX, Verdict, read};

impl Worker {
    /// Whether connections of this peer begin with a header.
    pub(super) fn is_relay(&self, peer: SocketAddr) -> bool {
        self.relays.iter().any(|range| range.contains(peer.ip()))
    }
}

/// Reads the header and nothing beyond it: the client's ends, or none where the connection's own hold.
///
/// # Errors
/// When there is no header, or not within `limit`.
pub(super) async fn ends(stream: &mut TcpStream, limit: Duration) -> io::Result<Option<Ends>> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the PROXY header did not come in time");
    match tokio::time::timeout(limit, header(stream)).await.map_err(late)?? {
        Header::Proxied(ends) => Ok(Some(ends)),
        Header::Unknown => Ok(None),
    }
}

async fn header(stream: &mut TcpStream) -> io::Result<Header> {
    let (mut bytes, mut had) = ([0; MAX], 0);
    loop {
        // Looked at first: what comes after the header is not to be taken.
        let seen = had + stream.peek(&mut bytes[had..]).await?;
        if seen == had {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (end, found) = match read(&bytes[..seen]) {
            Verdict::Whole(header, len) => (len, Some(header)),
            Verdict::Partial => (seen, None),
            Verdict::Bad => return Err(io::Error::other("it does not begin with a PROXY header")),
        };
        stream.read_exact(&mut bytes[had..end]).await?;
        had = end;
        if let Some(header) = found {
            return Ok(header);
        }
    }
}
