//! Requests with a few bytes changed, by a seed: whatever is made of them, no byte that reaches the backend has two readings.

use super::bench::{Bench, GOOD, PATHS};

const SEEDS: &[&str] = &[
    "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc",
    "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "GET /a HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, x-a\r\nx-a: b\r\n\r\n",
    "GET http://a/b HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
    "POST /a HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\ncontent-length: 3\r\n\r\nabc",
];
const PIECES: &[&[u8]] = &[
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"0",
    b"1",
    b"a",
    b"+",
    b"-",
    b"_",
    b"0x",
    b"\x0b",
    b"\x7f",
    b"\xff",
    b"chunked",
    b"identity",
    b"content-length: 1\r\n",
    b"transfer-encoding: chunked\r\n",
    b"connection: close\r\n",
    b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n",
    b"0\r\n\r\n",
    b"HTTP/1.0",
];
const ROUNDS: u64 = 400;

/// SplitMix64: the same requests from the same seed, always.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn request(&mut self) -> Vec<u8> {
        let mut bytes = SEEDS[self.below(SEEDS.len())].as_bytes().to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => _ = bytes.remove(at),
                1 => bytes[at] = self.next() as u8,
                _ => {
                    let piece = PIECES[self.below(PIECES.len())];
                    bytes.splice(at..at, piece.iter().copied());
                }
            }
        }
        bytes
    }
}

/// A request that was changed, always the same for a seed.
pub fn request(seed: u64) -> Vec<u8> {
    Dice(seed).request()
}

#[tokio::test]
async fn changed_bytes_never_give_the_backend_two_readings() {
    let first = std::env::var("SC_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    for http1 in PATHS {
        let bench = Bench::start_with(http1, GOOD, &[], |config| {
            // What waits for the rest of a request is let go soon.
            config.limits.head_timeout = std::time::Duration::from_millis(100);
            config.limits.idle_timeout = std::time::Duration::from_millis(100);
        })
        .await;
        for seed in first..first + ROUNDS {
            let bytes = request(seed);
            bench.mutated(&format!("{http1:?}: SC_SEED={seed}"), &bytes).await;
        }
    }
}
