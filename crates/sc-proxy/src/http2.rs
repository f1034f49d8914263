//! What a client's HTTP/2 frames are worth, seen as they pass: what guards against floods of frames that cost the proxy and carry
//! nothing (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, kinds that nobody knows: CVE-2019-9511 to 9518). Pure.
//!
//! Bytes that carry heads or bodies, either way, earn `EARNED` times as many of other frames; beside that a client has
//! `AHEAD` bytes of them at once and `PER_SECOND` more each second. nginx bounds floods by such a ratio too
//! (`total_bytes / 8 > payload_bytes + 1 MiB`), but takes what it answers to a PING itself for payload.

use std::time::Instant;

/// What a client sends first (RFC 9113 section 3.4); it is no frame.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of other frames that one byte of a head or a body makes up for. A client that confirms each frame of 20 bytes with two
/// WINDOW_UPDATE sends 26.
const EARNED: i64 = 8;

/// Bytes of other frames that a client may send ahead: 15,000 PINGs.
const AHEAD: i64 = 256 * 1024;

/// Bytes of other frames in a second that nothing needs to make up for: 120 PINGs.
const PER_SECOND: i64 = 2 * 1024;

/// Bytes of a frame's head (RFC 9113 section 4.1).
const HEAD: usize = 9;

/// Kinds of frames (RFC 9113 section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;

/// Flags of frames.
const ACK: u8 = 1;
const PADDED: u8 = 8;

/// Bytes of content that a DATA frame surely has: up to 256 of it may be padding (RFC 9113 section 6.1).
fn carried(length: u32, flags: u8) -> i64 {
    let padding = if flags & PADDED == 0 { 0 } else { 256 };
    i64::from(length.saturating_sub(padding))
}

/// The frames of one connection.
#[derive(Debug)]
pub struct Frames {
    head: [u8; HEAD],
    /// How much of the head has come.
    have: usize,
    /// Bytes that come before the next head.
    skip: u64,
    /// Bytes of other frames that may come yet.
    left: i64,
    /// When time was last made good.
    since: Instant,
}

impl Frames {
    /// Those of a connection that begins now.
    pub fn new(now: Instant) -> Self {
        Self { head: [0; HEAD], have: 0, skip: PREFACE.len() as u64, left: AHEAD, since: now }
    }

    /// These bytes have come. False: the client floods. `now` is asked for only then and when it may be so.
    pub fn came(&mut self, mut bytes: &[u8], now: impl FnOnce() -> Instant) -> bool {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len() as u64);
            self.skip -= skipped;
            bytes = &bytes[skipped as usize..];
            let taken = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEAD {
                self.begins();
            }
        }
        self.left >= 0 || self.rested(now())
    }

    /// So many bytes went to the client.
    pub fn sent(&mut self, n: usize) {
        self.earn(n as i64);
    }

    /// A frame, of whose payload nothing has come yet.
    fn begins(&mut self) {
        let [a, b, c, kind, flags, ..] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]);
        (self.have, self.skip) = (0, length.into());
        let whole = HEAD as i64 + i64::from(length);
        match kind {
            HEADERS | CONTINUATION => self.earn(length.into()),
            // A stream that was answered can be ended again and again, at no cost to the client; and padding may be all there is.
            DATA if carried(length, flags) > 0 => self.earn(carried(length, flags)),
            // The answer is of the same size, and must not earn anything.
            PING if flags & ACK == 0 => self.left -= whole + EARNED * whole,
            SETTINGS if flags & ACK == 0 => self.left -= whole + EARNED * HEAD as i64,
            _ => self.left -= whole,
        }
    }

    fn earn(&mut self, bytes: i64) {
        self.left = (self.left + EARNED * bytes).min(AHEAD);
    }

    /// Makes good for the time that has passed. Whether that is enough.
    fn rested(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since).as_millis();
        self.since = now;
        let rest = PER_SECOND.saturating_mul(passed.try_into().unwrap_or(i64::MAX)) / 1_000;
        self.left = self.left.saturating_add(rest).min(AHEAD);
        self.left >= 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const END_STREAM: u8 = 1;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = (payload as u32).to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], &vec![0; payload]].concat()
    }

    /// How many of these frames are taken in one moment, up to 100,000.
    fn taken(frame: &[u8], answer: usize) -> usize {
        let now = Instant::now();
        let mut frames = Frames::new(now);
        assert!(frames.came(PREFACE, || now));
        let takes = |_: &usize| {
            frames.sent(answer);
            frames.came(frame, || now)
        };
        (0..100_000).take_while(takes).count()
    }

    #[test]
    fn what_carries_nothing_is_bounded() {
        for (kind, flags, payload, answer) in [
            (PING, 0, 8, 17),
            (PING, 0, 8, 0),
            (PING, ACK, 8, 0),
            (SETTINGS, 0, 0, 9),
            (SETTINGS, 0, 60, 9),
            (SETTINGS, ACK, 0, 0),
            (2, 0, 5, 0),
            (3, 0, 4, 0),
            (8, 0, 4, 0),
            (0xbe, 0, 100, 0),
            (DATA, 0, 0, 0),
            (DATA, END_STREAM, 0, 0),
            (DATA, END_STREAM | PADDED, 1, 0),
            (DATA, PADDED, 200, 0),
        ] {
            let most = taken(&frame(kind, flags, payload), answer);
            assert!((1_000..30_000).contains(&most), "{most} of kind {kind}, flags {flags}, {payload} bytes");
        }
    }

    #[test]
    fn what_carries_something_is_not() {
        for (kind, flags, payload) in [(HEADERS, 4, 20), (DATA, 0, 1), (DATA, PADDED, 1_000), (CONTINUATION, 4, 10)] {
            assert_eq!(taken(&frame(kind, flags, payload), 0), 100_000, "kind {kind}");
        }
        // A request whose end comes by itself.
        assert_eq!(taken(&[frame(HEADERS, 4, 5), frame(DATA, END_STREAM, 0)].concat(), 0), 100_000);
        // Two WINDOW_UPDATE for each small event of an answer.
        assert_eq!(taken(&frame(8, 0, 4).repeat(2), 9 + 20), 100_000);
        // A PING for each kilobyte of a download, as gRPC does to measure the path.
        assert_eq!(taken(&frame(PING, 0, 8), 1_024 + 17), 100_000);
    }

    #[test]
    fn time_makes_up_for_a_little() {
        let start = Instant::now();
        let mut frames = Frames::new(start);
        assert!(frames.came(PREFACE, || start));
        let ping = frame(PING, 0, 8);
        let takes = |second: u64, frames: &mut Frames| {
            frames.sent(17);
            frames.came(&ping, || start + Duration::from_secs(second))
        };
        let at_once = (0..).take_while(|_| takes(1, &mut frames)).count();
        assert!(at_once > 10_000);
        // A hundred a second can go on for ever, a thousand a second cannot.
        for second in 2..200 {
            assert!((0..100).all(|_| takes(second, &mut frames)), "second {second}");
        }
        let fast = (200..300).take_while(|second| (0..1_000).all(|_| takes(*second, &mut frames))).count();
        assert!(fast < 5, "{fast} seconds");
    }

    /// A client that asks every ten seconds whether the connection lives, and nothing else for a month.
    #[test]
    fn keeping_alive_is_no_flood() {
        let start = Instant::now();
        let mut frames = Frames::new(start);
        frames.came(PREFACE, || start);
        for n in 0..260_000 {
            frames.sent(17);
            assert!(frames.came(&frame(PING, 0, 8), || start + Duration::from_secs(10 * n)), "PING {n}");
        }
    }

    proptest! {
        /// Frames come to the same in pieces of any length, and no bytes make it panic.
        #[test]
        fn pieces_do_not_matter(
            frames in prop::collection::vec((any::<u8>(), any::<u8>(), 0_usize..300), 0..60),
            noise in prop::collection::vec(any::<u8>(), 0..40),
            cuts in prop::collection::vec(1_usize..50, 1..20),
        ) {
            let now = Instant::now();
            let mut bytes = [PREFACE.to_vec(), frames.iter().flat_map(|(kind, flags, n)| frame(*kind, *flags, *n)).collect()].concat();
            bytes.extend(&noise);
            let mut whole = Frames::new(now);
            whole.came(&bytes, || now);
            let (mut pieces, mut rest, mut cut) = (Frames::new(now), &bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let n = (*cut.next().unwrap()).min(rest.len());
                pieces.came(&rest[..n], || now);
                rest = &rest[n..];
            }
            prop_assert_eq!((whole.left, whole.skip, whole.have), (pieces.left, pieces.skip, pieces.have));
        }
    }
}
