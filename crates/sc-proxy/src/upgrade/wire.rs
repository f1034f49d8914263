//! What the two processes say to each other, over a unix socket: a list of sockets with their descriptors (SCM_RIGHTS), then
//! one word each way, and at last clients' connections in the manner of the sockets. Blocking calls with deadlines: see [`super`] for who says what when.

use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    net::SocketAddr,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};

/// Descriptors in one message; Linux takes at most 253.
const AT_ONCE: usize = 64;
/// The longest list that is read, bytes.
const LIST_MAX: u32 = 1 << 20;

/// What a descriptor is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Use {
    /// A listener for HTTP.
    Http(SocketAddr),
    /// A listener for HTTPS.
    Https(SocketAddr),
    /// A listener for a TCP route.
    Tcp(SocketAddr),
    /// The admin API on TCP.
    AdminTcp(SocketAddr),
    /// The admin API on a unix socket.
    AdminUnix(PathBuf),
    /// Where the next upgrade is asked for.
    Upgrade,
    /// A connection of this client, between two requests.
    Client(SocketAddr),
}

/// All there is to hand over, as JSON behind its length.
#[derive(Debug, Serialize, Deserialize)]
struct List {
    v: u32,
    uses: Vec<Use>,
}

/// Bounds every read and write from here on.
pub(crate) fn bound(stream: &UnixStream, wait: Duration) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(wait))?;
    stream.set_write_timeout(Some(wait))
}

/// Sends the list and its descriptors, in order.
pub(crate) fn send(mut stream: &UnixStream, sockets: &[(Use, OwnedFd)]) -> io::Result<()> {
    let list = List { v: 1, uses: sockets.iter().map(|(what, _)| what.clone()).collect() };
    let list = serde_json::to_vec(&list)?;
    let length = u32::try_from(list.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(&list)?;
    for some in sockets.chunks(AT_ONCE) {
        let fds: Vec<BorrowedFd<'_>> = some.iter().map(|(_, fd)| fd.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        rustix::net::sendmsg(stream, &[IoSlice::new(b"+")], &mut control, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// Reads what [`send`] sent.
pub(crate) fn receive(mut stream: &UnixStream) -> io::Result<Vec<(Use, OwnedFd)>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > LIST_MAX {
        return Err(io::Error::other("the list of sockets is too long"));
    }
    let mut list = vec![0; length as usize];
    stream.read_exact(&mut list)?;
    let list: List = serde_json::from_slice(&list)?;
    if list.v != 1 {
        return Err(io::Error::other(format!("the running proxy hands over in layout {}, not 1", list.v)));
    }
    let mut fds = Vec::new();
    while fds.len() < list.uses.len() {
        let before = fds.len();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        rustix::net::recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                fds.extend(some);
            }
        }
        if fds.len() == before {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(list.uses.into_iter().zip(fds).collect())
}

/// Says one word.
pub(crate) fn say(mut stream: &UnixStream, word: u8) -> io::Result<()> {
    stream.write_all(&[word])
}

/// Waits for this word.
pub(crate) fn hear(mut stream: &UnixStream, word: u8) -> io::Result<()> {
    let mut heard = [0];
    stream.read_exact(&mut heard)?;
    if heard[0] == word { Ok(()) } else { Err(io::Error::other("the other process said something else")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_descriptors_than_one_message_takes_arrive_in_order() {
        let (here, there) = UnixStream::pair().unwrap();
        let listeners: Vec<_> = (0..150).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let sockets: Vec<(Use, OwnedFd)> =
            listeners.into_iter().map(|socket| (Use::Http(socket.local_addr().unwrap()), socket.into())).collect();
        send(&here, &sockets).unwrap();
        let got = receive(&there).unwrap();
        assert_eq!(got.len(), 150);
        for (what, fd) in got {
            assert_eq!(what, Use::Http(std::net::TcpListener::from(fd).local_addr().unwrap()));
        }
    }

    #[test]
    fn a_process_that_dies_while_it_hands_over_is_noticed() {
        let (here, there) = UnixStream::pair().unwrap();
        (&here).write_all(&[0, 0, 0, 9]).unwrap();
        drop(here);
        assert_eq!(receive(&there).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
