//! Buffers of a thread: a connection has one only while there is something in it.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

/// Enough for nearly all heads, and for small bodies with them.
pub(super) const SMALL: usize = 16 * 1024;
/// For what is known to be large: fewer system calls.
const LARGE: usize = 64 * 1024;
/// Bytes that the head of an answer has at most, on all paths.
pub(crate) const HEAD_MAX: usize = LARGE;
/// As much is kept in a piece of memory of its own size while more is waited for.
const LITTLE: usize = 2 * 1024;
/// How many of each size are kept for later.
const KEPT: usize = 64;
/// Bytes of texts that are kept for later: as many as there are requests under way, which are far more than buffers.
const TEXTS: usize = 2 * 1024 * 1024;
/// A new text has room for most heads.
const TEXT: usize = 512;

/// Buffers that are free.
#[derive(Default)]
pub(crate) struct Buffers {
    small: RefCell<Vec<Box<[u8]>>>,
    large: RefCell<Vec<Box<[u8]>>>,
    texts: RefCell<Vec<Vec<u8>>>,
    /// The room in all texts that are free.
    room: Cell<usize>,
}

impl Buffers {
    fn take(&self, size: usize) -> Box<[u8]> {
        let free = if size == SMALL { &self.small } else { &self.large };
        free.borrow_mut().pop().unwrap_or_else(|| vec![0; size].into())
    }

    fn give_back(&self, bytes: Box<[u8]>) {
        let free = match bytes.len() {
            SMALL => &self.small,
            LARGE => &self.large,
            _ => return,
        };
        let mut free = free.borrow_mut();
        if free.len() < KEPT {
            free.push(bytes);
        }
    }

    /// An empty text to write to.
    pub(crate) fn text(&self) -> Vec<u8> {
        let Some(text) = self.texts.borrow_mut().pop() else { return Vec::with_capacity(TEXT) };
        self.room.set(self.room.get() - text.capacity());
        text
    }

    /// A text that is done with.
    pub(crate) fn give_back_text(&self, mut text: Vec<u8>) {
        let room = self.room.get() + text.capacity();
        if text.capacity() > 0 && room <= TEXTS {
            text.clear();
            self.texts.borrow_mut().push(text);
            self.room.set(room);
        }
    }
}

/// Bytes that were read and not yet used. It owns a buffer only while there are some.
#[derive(Default)]
pub(crate) struct Buf {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buf {
    /// What is there.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Nothing more can be read, unless it is large, before something is used.
    pub(crate) fn is_full(&self) -> bool {
        self.start == 0 && self.end == self.bytes.len() && self.end >= SMALL
    }

    /// Nothing more can be read, whatever is to come.
    pub(crate) fn is_at_limit(&self) -> bool {
        self.is_full() && self.end == LARGE
    }

    /// So many bytes were used.
    pub(crate) fn consume(&mut self, n: usize) {
        self.start += n;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Gives the buffer back if there is nothing in it.
    pub(crate) fn rest(&mut self, buffers: &Buffers) {
        if self.is_empty() && !self.bytes.is_empty() {
            buffers.give_back(std::mem::take(&mut self.bytes));
        }
    }

    /// Reads more. Gives 0 at the end of the stream. It must not be full. `large`: much more is to come.
    pub(crate) fn poll_fill(
        &mut self,
        buffers: &Buffers,
        large: bool,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
    ) -> Poll<io::Result<usize>> {
        let size = if large { LARGE } else { SMALL };
        if self.bytes.len() < size || self.end == self.bytes.len() {
            self.make_room(buffers, size);
        }
        let mut room = ReadBuf::new(&mut self.bytes[self.end..]);
        let read = Pin::new(from).poll_read(cx, &mut room);
        let n = room.filled().len();
        if n == 0 {
            if self.is_empty() { self.rest(buffers) } else { self.shrink(buffers) }
        }
        ready!(read)?;
        self.end += n;
        Poll::Ready(Ok(n))
    }

    /// Little that must wait for more waits in little: a client that dawdles holds no whole buffer.
    fn shrink(&mut self, buffers: &Buffers) {
        let held = self.end - self.start;
        if held <= LITTLE && self.bytes.len() >= SMALL {
            let bytes = self.filled().into();
            buffers.give_back(std::mem::replace(&mut self.bytes, bytes));
            (self.start, self.end) = (0, held);
        }
    }

    fn make_room(&mut self, buffers: &Buffers, size: usize) {
        if self.bytes.is_empty() {
            self.bytes = buffers.take(size);
        } else if self.bytes.len() < size {
            let mut bytes = buffers.take(size);
            let held = self.end - self.start;
            bytes[..held].copy_from_slice(self.filled());
            buffers.give_back(std::mem::replace(&mut self.bytes, bytes));
            (self.start, self.end) = (0, held);
        } else if self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing ever comes.
    struct Never;

    impl AsyncRead for Never {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_buffer_is_held_only_while_it_holds_something() {
        let (buffers, mut buf) = (Buffers::default(), Buf::default());
        let text = vec![7u8; SMALL + 10];
        let mut source = &text[..];
        let mut fill = async |buf: &mut Buf, large| {
            std::future::poll_fn(|cx| buf.poll_fill(&buffers, large, cx, &mut source)).await.unwrap()
        };
        assert_eq!(fill(&mut buf, false).await, SMALL);
        assert!(buf.is_full());
        buf.consume(SMALL - 5);
        assert_eq!(fill(&mut buf, true).await, 10);
        assert!(buf.filled() == [7; 15] && buf.bytes.len() == LARGE);
        let pending = std::future::poll_fn(|cx| std::task::Poll::Ready(buf.poll_fill(&buffers, false, cx, &mut Never)));
        assert!(pending.await.is_pending() && buf.bytes.len() == 15 && !buf.is_full());
        buf.consume(15);
        assert_eq!(fill(&mut buf, false).await, 0);
        assert!(buf.bytes.is_empty() && buffers.large.borrow().len() == 1 && buffers.small.borrow().len() == 1);
    }
}
