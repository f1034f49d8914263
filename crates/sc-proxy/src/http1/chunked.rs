//! The chunked coding (RFC 9112 section 7.1), read strictly: sizes are hexadecimal digits, lines end in CR LF.

use std::ops::Range;

use super::Bad;

/// Bytes of chunk extensions that are read past in one body.
const EXTENSIONS_MAX: usize = 16 * 1024;
/// Bytes of trailers.
const TRAILERS_MAX: usize = 8 * 1024;

/// A decoder of one chunked body.
#[derive(Debug, Default)]
pub struct Chunked {
    state: State,
    /// The size being read, or what is left of the chunk.
    left: u64,
    extensions: usize,
    trailers: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    FirstDigit,
    Size,
    /// Blanks after a size: an extension or the line's end must follow.
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
    End,
}

/// What came of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Data is here in the input.
    Data(Range<usize>),
    /// The body has ended.
    End,
    /// All was used and there is more to come.
    More,
}

impl Chunked {
    /// Reads on. Gives how many bytes of `input` were used, and what they were.
    ///
    /// # Errors
    /// When the coding is broken.
    pub fn next(&mut self, input: &[u8]) -> Result<(usize, Piece), Bad> {
        let mut at = 0;
        while at < input.len() && self.state != State::End {
            if self.state == State::Data {
                let size = self.left.min((input.len() - at) as u64) as usize;
                self.left -= size as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                return Ok((at + size, Piece::Data(at..at + size)));
            }
            self.step(input[at])?;
            at += 1;
        }
        Ok((at, if self.state == State::End { Piece::End } else { Piece::More }))
    }

    fn step(&mut self, byte: u8) -> Result<(), Bad> {
        self.state = match (self.state, byte) {
            (State::FirstDigit | State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => self.digit(byte)?,
            (State::Size | State::Blank | State::Extension, b'\r') => State::SizeLf,
            (State::Size | State::Blank, b';') => State::Extension,
            (State::Size | State::Blank, b' ' | b'\t') => self.extension().map(|_| State::Blank)?,
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => self.extension()?,
            (State::SizeLf, b'\n') if self.left == 0 => State::Trailers,
            (State::SizeLf, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::FirstDigit,
            (State::Trailers, _) => self.trailer(byte)?,
            _ => return Err(Bad("chunked coding")),
        };
        Ok(())
    }

    fn digit(&mut self, byte: u8) -> Result<State, Bad> {
        let value = (byte as char).to_digit(16).ok_or(Bad("chunk size"))?;
        if self.left >> 60 != 0 {
            return Err(Bad("chunk size"));
        }
        self.left = self.left << 4 | u64::from(value);
        Ok(State::Size)
    }

    fn extension(&mut self) -> Result<State, Bad> {
        self.extensions += 1;
        if self.extensions > EXTENSIONS_MAX { Err(Bad("chunk extensions")) } else { Ok(State::Extension) }
    }

    fn trailer(&mut self, byte: u8) -> Result<State, Bad> {
        if self.trailers.len() >= TRAILERS_MAX || (byte == b'\n' && self.trailers.last() != Some(&b'\r')) {
            return Err(Bad("trailers"));
        }
        self.trailers.push(byte);
        if self.trailers == b"\r\n" {
            self.trailers.clear();
            return Ok(State::End);
        }
        if !self.trailers.ends_with(b"\r\n\r\n") {
            return Ok(State::Trailers);
        }
        let mut fields = [httparse::EMPTY_HEADER; 32];
        httparse::parse_headers(&self.trailers, &mut fields).map_err(|_| Bad("trailers"))?;
        Ok(State::End)
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::End
    }

    /// The trailers that may go on (RFC 9110 section 6.5.1), as lines; valid once the body has ended.
    pub fn trailers(&self) -> Vec<u8> {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let parsed = httparse::parse_headers(&self.trailers, &mut fields);
        let Ok(httparse::Status::Complete((_, fields))) = parsed else { return Vec::new() };
        let mut lines = Vec::new();
        for field in fields.iter().filter(|field| may_trail(field.name.as_bytes())) {
            lines.extend_from_slice(field.name.as_bytes());
            lines.extend_from_slice(b": ");
            lines.extend_from_slice(field.value);
            lines.extend_from_slice(b"\r\n");
        }
        lines
    }
}

/// Fields of framing, routing, authentication and content may not come after it.
fn may_trail(name: &[u8]) -> bool {
    use super::field::Field;
    const NEVER: [&str; 12] = [
        "authorization",
        "cache-control",
        "content-encoding",
        "content-range",
        "content-type",
        "cookie",
        "max-forwards",
        "range",
        "set-cookie",
        "www-authenticate",
        "if-match",
        "if-none-match",
    ];
    let plain = matches!(super::field::field(name), Field::Other | Field::Date);
    plain && !NEVER.iter().any(|never| name.eq_ignore_ascii_case(never.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(mut input: &[u8], split: usize) -> Result<(Vec<u8>, Vec<u8>, usize), Bad> {
        let (mut chunked, mut data, mut used) = (Chunked::default(), Vec::new(), 0);
        while !input.is_empty() && !chunked.is_done() {
            let part = &input[..split.clamp(1, input.len())];
            let (n, piece) = chunked.next(part)?;
            if let Piece::Data(range) = piece {
                data.extend_from_slice(&part[range]);
            }
            (input, used) = (&input[n..], used + n);
        }
        if chunked.is_done() { Ok((data, chunked.trailers(), used)) } else { Err(Bad("cut")) }
    }

    #[test]
    fn broken_codings_are_refused() {
        for bad in [
            "",
            "0",
            "0\r\n",
            "\r\n0\r\n\r\n",
            "0x1\r\na\r\n0\r\n\r\n",
            "+1\r\na\r\n0\r\n\r\n",
            "1_0\r\na\r\n0\r\n\r\n",
            "-1\r\n",
            "1\na\r\n0\r\n\r\n",
            "1\r\na\n0\r\n\r\n",
            "1\r\nab\r\n0\r\n\r\n",
            "1\r\na0\r\n\r\n",
            " 1\r\na\r\n0\r\n\r\n",
            "11111111111111111\r\n",
            "1;\x01\r\na\r\n0\r\n\r\n",
            "1;a\nb\r\na\r\n0\r\n\r\n",
            "1 2\r\na\r\n0\r\n\r\n",
            "1 \t\x0b\r\na\r\n0\r\n\r\n",
            "1\r\r\na\r\n0\r\n\r\n",
            "0\r\nx y: 1\r\n\r\n",
            "0\r\nx: 1\n\r\n",
            "0\r\n\n",
            "0\r\n x: 1\r\n\r\n",
        ] {
            assert!(decode(bad.as_bytes(), usize::MAX).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_comes_after_is_not_touched_and_only_harmless_trailers_go_on() {
        let body = "3 \t;x=\"y\"\r\nabc\r\n02 \r\nde\r\n0\r\nX-Sum: 5\r\nContent-Length: 9\r\nHost: a\r\n\r\nGET /";
        let want = (b"abcde".to_vec(), b"X-Sum: 5\r\n".to_vec(), body.len() - 5);
        for split in [1, 2, 7, usize::MAX] {
            assert_eq!(decode(body.as_bytes(), split), Ok(want.clone()));
        }
    }

    proptest! {
        #[test]
        fn any_chunks_in_any_parts_are_the_data(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..8), split in 1usize..400) {
            let mut coded = Vec::new();
            for chunk in &chunks {
                coded.extend(format!("{:X}\r\n", chunk.len()).bytes());
                coded.extend(chunk);
                coded.extend(b"\r\n");
            }
            coded.extend(b"0\r\n\r\n");
            prop_assert_eq!(decode(&coded, split), Ok((chunks.concat(), Vec::new(), coded.len())));
        }

        #[test]
        fn no_bytes_break_it_and_splitting_changes_nothing(bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'1'), Just(b';'), any::<u8>()], 0..60), split in 1usize..20) {
            prop_assert_eq!(decode(&bytes, split), decode(&bytes, usize::MAX));
        }
    }
}
