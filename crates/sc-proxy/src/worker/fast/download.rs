//! A response on its way to a client: the head, and what of the body came with it, in one write; then the rest at the pace
//! of whoever is slower.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::net::TcpStream;

use super::buffer::{Buf, Buffers, SMALL};
use crate::{
    http1::{Answer, Body, Encoding, Framing, answer, fields, forward_response},
    worker::client::{Phase, Transport},
};

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The client has left, or its connection broke.
    Gone,
    /// The client's body is malformed.
    BadBody,
    /// The backend closed or reset the connection with no byte of an answer.
    Silent,
    /// The backend's answer broke off or is malformed.
    Broken,
    /// The head of the backend's answer is longer than is taken.
    TooLong,
}

/// How the response's head is to be written.
#[derive(Clone, Copy)]
pub(super) struct Manner<'a> {
    pub(super) to_head: bool,
    pub(super) takes_trailers: bool,
    pub(super) close: bool,
    pub(super) date: &'a [u8],
}

/// A response that is being passed on.
pub(super) struct Download {
    /// What came from the backend.
    reply: Buf,
    /// What is to be written to the client.
    out: Vec<u8>,
    /// How much of `out` is written.
    at: usize,
    body: Body,
    encoding: Encoding,
    /// The backend's connection can serve again once the body has come.
    keeps: bool,
    /// All of it is in `out` or written.
    is_whole: bool,
    /// Bytes of the body that were taken.
    taken: u64,
}

impl Download {
    pub(super) fn new(out: Vec<u8>) -> Self {
        let (body, encoding) = (Body::Done, Encoding::Plain);
        Self { reply: Buf::default(), out, at: 0, body, encoding, keeps: false, is_whole: false, taken: 0 }
    }

    /// Something of the proxy's own, such as a 100.
    pub(super) fn say(&mut self, text: &[u8]) {
        self.out.extend_from_slice(text);
    }

    /// The whole answer came from the backend, and nothing else: its connection can serve again.
    pub(super) fn is_reusable(&self) -> bool {
        self.is_whole && self.keeps && self.reply.is_empty()
    }

    /// The client has not yet taken all that came.
    pub(super) fn is_blocked(&self) -> bool {
        self.at < self.out.len() || !self.reply.is_empty()
    }

    /// Bytes of the body that were taken.
    pub(super) fn body_bytes(&self) -> u64 {
        self.taken
    }

    /// All of it was read.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Gives its buffers back.
    pub(super) fn free(mut self, buffers: &Buffers) {
        self.reply.rest(buffers);
        buffers.give_back_text(self.out);
    }

    /// Another backend is asked.
    pub(super) fn forget(&mut self) {
        self.reply = Buf::default();
    }

    /// Waits for the head; it is then in `out`. Gives the status.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut impl Transport,
        backend: &mut TcpStream,
        buffers: &Buffers,
        manner: Manner<'_>,
    ) -> Poll<Result<u16, Failure>> {
        loop {
            let filled = match self.reply.is_empty() && backend.poll_readable(cx).is_pending() {
                true => Poll::Pending,
                // Beyond what is enough for nearly all heads.
                false => self.reply.poll_fill(buffers, self.reply.is_full(), cx, backend),
            };
            match filled {
                Poll::Pending if self.out.is_empty() => return Poll::Pending,
                Poll::Pending => {
                    let _ = self.poll_flush(cx, client)?; // a 100 or another interim answer
                    return Poll::Pending;
                }
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) if self.reply.is_empty() => return Poll::Ready(Err(Failure::Silent)),
                Poll::Ready(_) => return Poll::Ready(Err(Failure::Broken)),
            }
            if self.out.capacity() == 0 {
                self.out = buffers.text();
            }
            while !self.reply.is_empty() {
                match self.head(manner)? {
                    Some(status @ 200..) => return Poll::Ready(Ok(status)),
                    Some(_) => {} // an interim answer
                    None if self.reply.is_at_limit() => return Poll::Ready(Err(Failure::TooLong)),
                    None => break,
                }
            }
        }
    }

    /// Takes a head in, if there is a whole one.
    fn head(&mut self, manner: Manner<'_>) -> Result<Option<u16>, Failure> {
        let mut room = fields();
        let response = match answer(self.reply.filled(), manner.to_head, &mut room).map_err(|_| Failure::Broken)? {
            Answer::Head(response) => response,
            Answer::ManyFields => return Err(Failure::TooLong),
            Answer::Partial => return Ok(None),
        };
        match response.status {
            100 => {}                           // we took the expectation off
            101 => return Err(Failure::Broken), // nobody asked
            _ => forward_response(&response, manner.date, manner.close, &mut self.out),
        }
        let chunked = matches!(response.body, Framing::Chunked | Framing::Close);
        self.encoding = if chunked { Encoding::Chunked { trailers: manner.takes_trailers } } else { Encoding::Plain };
        self.body = Body::new(response.body);
        self.keeps = response.keeps;
        let (status, len) = (response.status, response.len);
        self.reply.consume(len);
        if status >= 200 {
            self.is_whole = self.body.is_done();
        }
        Ok(Some(status))
    }

    /// Takes in what of the body came with the head, so that it goes out with it. True when that is all.
    pub(super) fn absorb_first(&mut self, buffers: &Buffers) -> Result<bool, Failure> {
        while !self.is_whole && !self.reply.is_empty() {
            self.absorb()?;
        }
        self.reply.rest(buffers);
        Ok(self.is_whole)
    }

    /// Passes on what comes. Ready when the client has all that was read, and all is read.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut impl Transport,
        backend: Option<&mut TcpStream>,
        (buffers, phase): (&Buffers, &Phase),
    ) -> Poll<Result<(), Failure>> {
        let Some(backend) = backend else { return self.poll_flush(cx, client) };
        loop {
            ready!(self.poll_flush(cx, client))?;
            phase.progress();
            if self.is_whole {
                self.reply.rest(buffers);
                return Poll::Ready(Ok(()));
            }
            if self.reply.is_empty() {
                let large = self.body.left() > SMALL as u64;
                match ready!(self.reply.poll_fill(buffers, large, cx, backend)) {
                    Ok(0) => self.body.end().map_err(|_| Failure::Broken)?,
                    Ok(_) => {}
                    Err(_) => return Poll::Ready(Err(Failure::Broken)),
                }
            }
            if self.encoding == Encoding::Plain && self.reply.filled().len() > SMALL / 4 {
                ready!(self.poll_direct(cx, client))?;
            } else {
                self.absorb()?;
            }
        }
    }

    fn absorb(&mut self) -> Result<(), Failure> {
        let step = self.body.next(self.reply.filled()).map_err(|_| Failure::Broken)?;
        self.taken += step.data.len() as u64;
        self.encoding.put(&self.reply.filled()[step.data], &mut self.out);
        self.reply.consume(step.used);
        self.end();
        Ok(())
    }

    /// Writes what was read without a copy.
    fn poll_direct(&mut self, cx: &mut Context<'_>, client: &mut impl Transport) -> Poll<Result<(), Failure>> {
        let most = (self.reply.filled().len() as u64).min(self.body.left()) as usize;
        let n = ready!(poll_write(cx, client, &self.reply.filled()[..most]))?;
        self.body.next(&self.reply.filled()[..n]).map_err(|_| Failure::Broken)?;
        self.taken += n as u64;
        self.reply.consume(n);
        self.end();
        Poll::Ready(Ok(()))
    }

    fn end(&mut self) {
        if self.body.is_done() {
            self.encoding.end(&self.body, &mut self.out);
            self.is_whole = true;
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, client: &mut impl Transport) -> Poll<Result<(), Failure>> {
        while self.at < self.out.len() {
            self.at += ready!(poll_write(cx, client, &self.out[self.at..]))?;
        }
        self.out.clear();
        self.at = 0;
        Pin::new(client).poll_flush(cx).map_err(|_| Failure::Gone)
    }
}

fn poll_write(cx: &mut Context<'_>, client: &mut impl Transport, bytes: &[u8]) -> Poll<Result<usize, Failure>> {
    let written: io::Result<usize> = ready!(Pin::new(client).poll_write(cx, bytes));
    Poll::Ready(written.ok().filter(|n| *n > 0).ok_or(Failure::Gone))
}
