//! A client's connection under TLS: rustls between a socket and plain bytes.
//!
//! Fewer system calls and packets than with a stream that knows nothing of what passes: the close_notify alert goes with the last bytes
//! of the last answer. Session tickets must not wait for the first answer: they acknowledge what ended the client's handshake, and
//! clients with Nagle's algorithm send no request before that (tried: 40 ms later).

use std::{
    io::{self, BufRead, IoSlice, Read, Write},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustls::{ServerConfig, ServerConnection};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::client::Transport;

/// A connection under TLS whose handshake is done, or goes on.
pub(super) struct Deciphered {
    socket: TcpStream,
    tls: ServerConnection,
    /// The end of what is written next is the end of all.
    is_last: bool,
}

impl Deciphered {
    /// A connection whose client is to begin its handshake.
    ///
    /// # Errors
    /// When rustls does not take its configuration.
    pub(super) fn new(socket: TcpStream, config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self { socket, tls: ServerConnection::new(config)?, is_last: false })
    }

    /// The protocol that was agreed on (ALPN).
    pub(super) fn protocol(&self) -> Option<&[u8]> {
        self.tls.alpn_protocol()
    }

    /// Goes on with the handshake until it is done, session tickets included.
    pub(super) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.is_handshaking() {
            if self.tls.wants_write() {
                ready!(self.poll_send(cx))?;
            } else if ready!(self.poll_receive(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        self.poll_send(cx)
    }

    /// Reads from the socket once, and deciphers. Gives how many bytes came: 0 at the end.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read = ready!(blocks(self.tls.read_tls(&mut Now { socket: &mut self.socket, cx })))?;
        if let Err(error) = self.tls.process_new_packets() {
            let _ = self.poll_send(cx); // The alert that says so, if the socket takes it.
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        Poll::Ready(Ok(read))
    }

    /// Sends all that there is.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            if ready!(blocks(self.tls.write_tls(&mut Now { socket: &mut self.socket, cx })))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ends TLS: nothing can be written after it.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tls.send_close_notify();
        self.poll_send(cx)
    }
}

impl Transport for Deciphered {
    const SECURE: bool = true;

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.tls.wants_read() { self.socket.poll_read_ready(cx).map(drop) } else { Poll::Ready(()) }
    }

    fn ends_with_next(&mut self) {
        self.is_last = true;
    }

    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_end(cx).map(drop)
    }
}

impl AsyncRead for Deciphered {
    /// Also sends what is left of earlier writes: a write is done when rustls has taken it, which may be before the socket has.
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.tls.reader().into_first_chunk() {
                Ok(plain) => {
                    let n = plain.len().min(buf.remaining());
                    buf.put_slice(&plain[..n]);
                    self.tls.reader().consume(n);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            if let Poll::Ready(Err(error)) = self.poll_send(cx) {
                return Poll::Ready(Err(error));
            }
            ready!(self.poll_receive(cx))?; // Of an end without a close_notify the reader tells.
        }
    }
}

impl AsyncWrite for Deciphered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut taken = 0;
        loop {
            taken += self.tls.writer().write(&bytes[taken..])?;
            let is_all = taken == bytes.len();
            if is_all && self.is_last {
                self.tls.send_close_notify();
            }
            match self.poll_send(cx)? {
                Poll::Pending if taken == 0 => return Poll::Pending,
                Poll::Ready(()) if !is_all => {}
                _ => return Poll::Ready(Ok(taken)),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let taken = self.tls.writer().write_vectored(bufs)?;
            match self.poll_send(cx)? {
                Poll::Pending if taken == 0 => return Poll::Pending,
                Poll::Ready(()) if taken == 0 && bufs.iter().any(|buf| !buf.is_empty()) => {}
                _ => return Poll::Ready(Ok(taken)),
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_end(cx))?;
        match ready!(Pin::new(&mut self.socket).poll_shutdown(cx)) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

/// A socket as rustls wants it: what cannot be done now is an error, and the task is woken when it can.
struct Now<'a, 'b> {
    socket: &'a mut TcpStream,
    cx: &'a mut Context<'b>,
}

impl Read for Now<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        now(Pin::new(&mut *self.socket).poll_read(self.cx, &mut buf))?;
        Ok(buf.filled().len())
    }
}

impl Write for Now<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        now(Pin::new(&mut *self.socket).poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        now(Pin::new(&mut *self.socket).poll_write_vectored(self.cx, bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn now<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// The other way round.
fn blocks<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, client::Resumption};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Configurations of both sides for the name `x.test`.
    fn both(version: &'static rustls::SupportedProtocolVersion) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
        let made = rcgen::generate_simple_self_signed(vec!["x.test".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[version]).unwrap();
        let server = server.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let mut client = client.with_root_certificates(roots).with_no_client_auth();
        client.resumption = Resumption::in_memory_sessions(8);
        (Arc::new(server), Arc::new(client))
    }

    /// A client that does with the bytes of its socket what the test says.
    struct Client {
        socket: TcpStream,
        tls: ClientConnection,
        plain: Vec<u8>,
        /// The server has ended TLS.
        is_over: bool,
    }

    impl Client {
        /// Sends what rustls has to send.
        async fn send(&mut self) {
            let mut bytes = Vec::new();
            while self.tls.wants_write() {
                self.tls.write_tls(&mut bytes).unwrap();
            }
            self.socket.write_all(&bytes).await.unwrap();
        }

        /// Takes in what one reading of the socket gives.
        async fn receive(&mut self) -> usize {
            let mut bytes = [0; 32 * 1024];
            let n = self.socket.read(&mut bytes).await.unwrap();
            let mut left = &bytes[..n];
            while !left.is_empty() {
                self.tls.read_tls(&mut left).unwrap();
                self.tls.process_new_packets().unwrap();
                self.is_over |= self.tls.reader().read_to_end(&mut self.plain).is_ok();
            }
            n
        }

        async fn shakes_hands(&mut self) {
            while self.tls.is_handshaking() {
                self.send().await;
                if self.tls.is_handshaking() {
                    self.receive().await;
                }
            }
            self.send().await;
        }

        /// Whether anything has come that was not read. What was written on this host has come.
        fn has_more(&self) -> bool {
            self.socket.try_read(&mut [0]).is_ok()
        }
    }

    async fn connect(configs: &(Arc<ServerConfig>, Arc<ClientConfig>)) -> (Deciphered, Client) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut server = Deciphered::new(listener.accept().await.unwrap().0, configs.0.clone()).unwrap();
        let tls = ClientConnection::new(configs.1.clone(), "x.test".try_into().unwrap()).unwrap();
        let mut client = Client { socket, tls, plain: Vec::new(), is_over: false };
        let (done, ()) = tokio::join!(poll_fn(|cx| server.poll_handshake(cx)), client.shakes_hands());
        done.unwrap();
        (server, client)
    }

    /// Waits until the socket says that it can be read, so that a try of it tells.
    async fn looks(client: &Client) {
        let _ = tokio::time::timeout(Duration::from_millis(20), client.socket.readable()).await;
    }

    #[tokio::test]
    async fn a_ticket_ends_the_handshake_and_the_end_goes_with_the_last_answer() {
        let configs = both(&rustls::version::TLS13);
        let (mut server, mut client) = connect(&configs).await;
        assert!(client.receive().await > 0, "a ticket, which lets a client with Nagle's algorithm go on");
        server.ends_with_next();
        server.write_all(b"an answer").await.unwrap();
        server.flush().await.unwrap();
        client.receive().await;
        assert_eq!((&*client.plain, client.is_over), (&b"an answer"[..], true));
        looks(&client).await;
        assert!(!client.has_more(), "all came at once");
        let (_, again) = connect(&configs).await;
        assert_eq!(again.tls.handshake_kind(), Some(HandshakeKind::Resumed), "the ticket came");
    }

    #[tokio::test]
    async fn with_tls_1_2_the_handshake_ends_by_itself() {
        let (mut server, mut client) = connect(&both(&rustls::version::TLS12)).await;
        client.tls.writer().write_all(b"hello").unwrap();
        client.send().await;
        let mut room = [0; 16];
        assert_eq!(server.read(&mut room).await.unwrap(), 5);
        assert_eq!(&room[..5], b"hello");
        poll_fn(|cx| server.poll_farewell(cx)).await;
        client.receive().await;
        assert!(client.is_over && client.plain.is_empty(), "an end in good order");
    }

    #[tokio::test]
    async fn much_goes_through_a_socket_that_takes_little_and_a_cut_is_told_from_an_end() {
        let (mut server, mut client) = connect(&both(&rustls::version::TLS13)).await;
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let writes = async {
            server.write_all(&sent).await.unwrap();
            server.flush().await.unwrap();
        };
        let reads = async {
            while client.plain.len() < sent.len() {
                assert!(client.receive().await > 0);
            }
        };
        tokio::join!(writes, reads);
        assert!(client.plain == sent);
        drop(client.socket);
        let cut = server.read(&mut [0; 16]).await.unwrap_err();
        assert!(matches!(cut.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset), "{cut}");
    }
}
