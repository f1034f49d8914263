//! How a WebSocket takes leave: when its replica leaves the table, or the proxy stops, it goes on for most of the time that is left,
//! and is then closed by a Close frame with 1001, "going away" (RFC 6455 section 7.4.1), so that the client knows and connects
//! anew, instead of being cut off in the middle of a frame when the replica is stopped. Clients are told at different moments: all
//! at once they would come back all at once.

use std::{
    cell::Cell,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::io::{AsyncRead, ReadBuf};

use super::{LocalApp, Worker, upstream::Upstream};

/// A Close frame from the server's side, with the code 1001.
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];
/// How long both sides have to end after it.
pub(super) const PARTING: Duration = Duration::from_secs(2);
/// The share of the time left after which the first is told, and that in which all are.
const FROM: f64 = 0.75;
const WITHIN: f64 = 0.2;

/// Waits until a stream to this backend is to be closed.
pub(super) async fn due(worker: &Worker, app: &LocalApp, upstream: &Upstream, drain: Duration) {
    let backend = &upstream.backend;
    let moment = FROM + WITHIN * f64::from(worker.roll()) / f64::from(u32::MAX);
    loop {
        // One that was away and is back has a new one.
        let current = if backend.is_listed() { Some(worker.upstream(backend)) } else { None };
        let mut stopping = pin!(worker.leaving.notified());
        stopping.as_mut().enable();
        if let Some(stop_by) = worker.stop_by.get() {
            let left = stop_by.saturating_duration_since(std::time::Instant::now());
            return tokio::time::sleep(left.mul_f64(moment)).await;
        }
        if let Some(current) = current {
            let mut left = pin!(current.left.notified());
            left.as_mut().enable();
            if backend.is_listed() {
                tokio::select! { () = left => {}, () = stopping => {} }
            }
            continue;
        }
        let drain = app.of(&worker.table()).map_or(drain, |app| app.drain);
        tokio::select! {
            () = tokio::time::sleep(drain.mul_f64(moment)) => if !backend.is_listed() { return },
            () = stopping => {}
        }
    }
}

/// Where one direction of a WebSocket is among its frames (RFC 6455 section 5.2). What the frames hold is not looked at.
#[derive(Debug, Default)]
struct Frames {
    /// The head of a frame that is not all there.
    head: [u8; 14],
    has: usize,
    /// What is to come of a frame's payload.
    payload: u64,
    /// A Close frame has begun: nothing may follow it.
    closed: bool,
}

impl Frames {
    /// No frame has begun.
    fn is_between(&self) -> bool {
        self.has == 0 && self.payload == 0
    }

    /// So many bytes certainly belong to the frame that has begun; 0: none has.
    fn wants(&self) -> u64 {
        if self.has > 0 { (self.head_len() - self.has) as u64 } else { self.payload }
    }

    fn head_len(&self) -> usize {
        if self.has < 2 {
            return 2;
        }
        let extended = match self.head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + extended + if self.head[1] & 0x80 == 0 { 0 } else { 4 }
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let some = self.payload.min(bytes.len() as u64);
                self.payload -= some;
                bytes = &bytes[some as usize..];
                continue;
            }
            // As far as the length is known; with each step it may turn out longer.
            let some = (self.head_len() - self.has).min(bytes.len());
            self.head[self.has..self.has + some].copy_from_slice(&bytes[..some]);
            self.has += some;
            bytes = &bytes[some..];
            if self.has >= 2 && self.has == self.head_len() {
                self.begin();
            }
        }
    }

    /// The head is there.
    fn begin(&mut self) {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        self.payload = match self.head[1] & 0x7f {
            126 => number(&self.head[2..4]),
            127 => number(&self.head[2..10]),
            len => len.into(),
        };
        self.closed |= self.head[0] & 0xf == 8;
        self.has = 0;
    }
}

/// What a WebSocket's backend says. Once it is asked to end, a Close frame comes after the frame that is under way, and then
/// nothing more but the end.
pub(super) struct Parting {
    frames: Frames,
    asked: Rc<Cell<bool>>,
    said: bool,
}

impl Parting {
    /// `asked` becomes true when it is to end; whoever sets it reads again.
    pub(super) fn new(asked: Rc<Cell<bool>>) -> Self {
        Self { frames: Frames::default(), asked, said: false }
    }

    /// Reads what goes on to the client from what the backend sends.
    pub(super) fn poll_read(
        &mut self,
        backend: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut backend = Pin::new(backend);
        if self.said {
            // The backend's own goodbye, and whatever it had yet to say, comes too late.
            let mut room = [0; 1024];
            loop {
                let mut rest = ReadBuf::new(&mut room);
                ready!(backend.as_mut().poll_read(cx, &mut rest))?;
                if rest.filled().is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
        }
        let before = buf.filled().len();
        if !self.asked.get() || self.frames.closed {
            ready!(backend.poll_read(cx, buf))?;
        } else if self.frames.is_between() {
            buf.put_slice(&GOING_AWAY);
            self.said = true;
            return Poll::Ready(Ok(()));
        } else {
            let most = usize::try_from(self.frames.wants()).unwrap_or(usize::MAX).min(buf.remaining());
            let mut some = ReadBuf::new(buf.initialize_unfilled_to(most));
            ready!(backend.poll_read(cx, &mut some))?;
            let n = some.filled().len();
            buf.advance(n);
        }
        self.frames.pass(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncWriteExt, DuplexStream};

    use super::*;

    /// A frame from a server, or from a client if `mask` is given.
    fn frame(opcode: u8, payload: &[u8], mask: bool) -> Vec<u8> {
        let bit = if mask { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match payload.len() {
            len @ 0..126 => frame.push(bit | len as u8),
            len @ 126..65536 => frame.extend([&[bit | 126][..], &(len as u16).to_be_bytes()].concat()),
            len => frame.extend([&[bit | 127][..], &(len as u64).to_be_bytes()].concat()),
        }
        frame.extend(mask.then_some([1, 2, 3, 4]).into_iter().flatten());
        frame.extend(payload);
        frame
    }

    proptest! {
        #[test]
        fn ends_of_frames_are_found_however_they_are_cut(
            sizes in proptest::collection::vec((prop_oneof![0usize..200, 65_500usize..65_600], any::<bool>()), 1..6),
            cut in 1usize..5_000,
        ) {
            let mut ends = vec![0];
            let mut all = Vec::new();
            for (size, mask) in sizes {
                all.extend(frame(2, &vec![0x88; size], mask));
                ends.push(all.len());
            }
            let (mut frames, mut at) = (Frames::default(), 0);
            for piece in all.chunks(cut) {
                frames.pass(piece);
                at += piece.len();
                prop_assert_eq!(frames.is_between(), ends.contains(&at));
                if !frames.is_between() {
                    let end = ends.iter().find(|end| **end > at).unwrap();
                    prop_assert!(frames.wants() > 0 && at as u64 + frames.wants() <= *end as u64, "it never wants too much");
                }
            }
            prop_assert!(!frames.closed);
        }
    }

    /// Reads until there are `most` bytes, or the end comes.
    async fn read(parting: &mut Parting, backend: &mut DuplexStream, most: usize) -> Vec<u8> {
        let (mut got, mut room) = (Vec::new(), [0; 1024]);
        while got.len() < most {
            let mut buf = ReadBuf::new(&mut room);
            std::future::poll_fn(|cx| parting.poll_read(backend, cx, &mut buf)).await.unwrap();
            if buf.filled().is_empty() {
                break;
            }
            got.extend_from_slice(buf.filled());
        }
        got
    }

    #[tokio::test]
    async fn the_goodbye_comes_after_the_frame_that_is_under_way_and_nothing_after_it() {
        let (mut ours, mut backend) = tokio::io::duplex(1 << 20);
        let asked = Rc::new(Cell::new(false));
        let mut parting = Parting::new(asked.clone());
        let (one, two) = (frame(1, b"hello", false), frame(2, &[7; 300], false));
        let begun = [&one[..], &two[..100]].concat();
        backend.write_all(&begun).await.unwrap();
        assert_eq!(read(&mut parting, &mut ours, begun.len()).await, begun);
        asked.set(true);
        backend.write_all(&[&two[100..], &one[..]].concat()).await.unwrap();
        drop(backend);
        assert_eq!(read(&mut parting, &mut ours, usize::MAX).await, [&two[100..], &GOING_AWAY].concat());
    }

    #[tokio::test]
    async fn after_the_backends_own_close_nothing_is_added() {
        let (mut ours, mut backend) = tokio::io::duplex(1 << 20);
        let asked = Rc::new(Cell::new(false));
        let mut parting = Parting::new(asked.clone());
        let close = frame(8, &1000u16.to_be_bytes(), false);
        backend.write_all(&close).await.unwrap();
        assert_eq!(read(&mut parting, &mut ours, close.len()).await, close);
        asked.set(true);
        drop(backend);
        assert_eq!(read(&mut parting, &mut ours, usize::MAX).await, b"");
    }
}
