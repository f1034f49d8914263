//! A request on its way to a backend: the head, then the body at the pace of whoever is slower.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{io::AsyncWrite, net::TcpStream};

use super::{
    buffer::{Buf, Buffers, SMALL},
    download::Failure,
};
use crate::{
    http1::{Body, Encoding, Framing},
    worker::client::{Phase, Transport},
};

/// A request that is being sent.
pub(super) struct Upload {
    /// What is to be written: all of the request so far while it may have to be sent again.
    out: Vec<u8>,
    /// How much of `out` is written.
    at: usize,
    body: Body,
    encoding: Encoding,
    /// How many bytes are kept to be sent again.
    keep: usize,
    /// Something that was written is not in `out` any more.
    is_lost: bool,
    /// All of it is in `out` or written.
    is_whole: bool,
    /// The backend takes no more.
    is_stopped: bool,
    /// The client waits for a 100.
    expects: bool,
    /// Bytes of the body that were taken.
    received: u64,
}

impl Upload {
    /// A request with this head.
    pub(super) fn new(head: Vec<u8>, framing: Framing, encoding: Encoding, keep: usize, expects: bool) -> Self {
        let body = Body::new(framing);
        let (is_whole, keep) = (body.is_done(), head.len() + keep);
        Self {
            out: head,
            at: 0,
            body,
            encoding,
            keep,
            is_lost: false,
            is_whole,
            is_stopped: false,
            expects,
            received: 0,
        }
    }

    /// All of it was read from the client.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Bytes of the body that were taken.
    pub(super) fn body_bytes(&self) -> u64 {
        self.received
    }

    /// The backend has all of it.
    pub(super) fn is_sent(&self) -> bool {
        self.is_whole && self.at == self.out.len()
    }

    /// The backend has nothing of it.
    pub(super) fn is_unsent(&self) -> bool {
        self.at == 0 && !self.is_lost
    }

    /// It can be sent from its start.
    pub(super) fn is_kept(&self) -> bool {
        !self.is_lost
    }

    /// Whether the client must be told to go on, which it is then.
    pub(super) fn takes_100(&mut self) -> bool {
        std::mem::take(&mut self.expects)
    }

    /// From the start, to another.
    pub(super) fn rewind(&mut self) {
        (self.at, self.is_stopped) = (0, false);
    }

    /// Gives its buffer back.
    pub(super) fn free(self, buffers: &Buffers) {
        buffers.give_back_text(self.out);
    }

    /// Sends what can be sent. Ready when nothing more is to be done.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: (&mut impl Transport, &mut Buf),
        backend: &mut TcpStream,
        (buffers, phase): (&Buffers, &Phase),
    ) -> Poll<Result<(), Failure>> {
        let (client, input) = client;
        while !self.is_stopped {
            if !self.is_whole && !input.is_empty() && self.out.len() < SMALL {
                self.absorb(input)?;
                continue;
            }
            if self.at < self.out.len() {
                let written = ready!(Pin::new(&mut *backend).poll_write(cx, &self.out[self.at..]));
                self.at += self.taken(written);
                continue;
            }
            if self.is_whole {
                break;
            }
            if self.out.len() > self.keep || self.keep == 0 || self.body.left() > self.keep as u64 {
                self.is_lost = true;
                self.out.clear();
                self.at = 0;
            }
            if input.is_empty() {
                let large = self.body.left() > SMALL as u64;
                let filled = input.poll_fill(buffers, large, cx, client);
                phase.awaits_body(filled.is_pending());
                if ready!(filled).map_err(|_| Failure::Gone)? == 0 {
                    return Poll::Ready(Err(Failure::Gone));
                }
                phase.progress();
            }
            if self.is_lost && self.encoding == Encoding::Plain {
                ready!(self.poll_direct(cx, input, backend))?;
            } else if !input.is_empty() {
                self.absorb(input)?;
            }
        }
        input.rest(buffers);
        Poll::Ready(Ok(()))
    }

    /// Takes what was read into `out`.
    fn absorb(&mut self, input: &mut Buf) -> Result<(), Failure> {
        let step = self.body.next(input.filled()).map_err(|_| Failure::BadBody)?;
        self.received += step.data.len() as u64;
        self.encoding.put(&input.filled()[step.data], &mut self.out);
        input.consume(step.used);
        self.end();
        Ok(())
    }

    /// Writes what was read without a copy.
    fn poll_direct(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut Buf,
        backend: &mut TcpStream,
    ) -> Poll<Result<(), Failure>> {
        let most = (input.filled().len() as u64).min(self.body.left()) as usize;
        let written = ready!(Pin::new(backend).poll_write(cx, &input.filled()[..most]));
        let n = self.taken(written);
        self.body.next(&input.filled()[..n]).map_err(|_| Failure::BadBody)?;
        self.received += n as u64;
        input.consume(n);
        self.end();
        Poll::Ready(Ok(()))
    }

    fn end(&mut self) {
        if self.body.is_done() {
            self.encoding.end(&self.body, &mut self.out);
            self.is_whole = true;
        }
    }

    /// How much was written. A backend that takes no more may have answered already: that is for the reading side to see.
    fn taken(&mut self, written: io::Result<usize>) -> usize {
        let n = written.unwrap_or(0);
        self.is_stopped |= n == 0;
        n
    }
}
