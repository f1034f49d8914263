//! Where a message's body ends (RFC 9112 section 6.3), and how it is written on.

use std::ops::Range;

use super::{Bad, Chunked, Piece};

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// By the chunked coding.
    Chunked,
    /// By the end of the connection; answers only.
    Close,
}

/// A body that is being read.
#[derive(Debug)]
pub enum Body {
    /// It has ended.
    Done,
    /// So many bytes are to come.
    Length(u64),
    /// Chunks are to come.
    Chunked(Chunked),
    /// All that comes until the end.
    Close,
}

/// What came of some bytes: `used` of them, with data at `data`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// How many bytes were used.
    pub used: usize,
    /// Where in them data is.
    pub data: Range<usize>,
}

impl Body {
    /// A body at its start.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Self::Done,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunked::default()),
            Framing::Close => Self::Close,
        }
    }

    /// Whether it has ended.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Done => true,
            Self::Chunked(chunked) => chunked.is_done(),
            Self::Length(_) | Self::Close => false,
        }
    }

    /// Reads on: one run of data, or everything when there is none.
    ///
    /// # Errors
    /// When the chunked coding is broken.
    pub fn next(&mut self, input: &[u8]) -> Result<Step, Bad> {
        match self {
            Self::Done => Ok(Step::default()),
            Self::Length(left) => {
                let size = (*left).min(input.len() as u64) as usize;
                *left -= size as u64;
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(Step { used: size, data: 0..size })
            }
            Self::Close => Ok(Step { used: input.len(), data: 0..input.len() }),
            Self::Chunked(chunked) => {
                let (used, piece) = chunked.next(input)?;
                let data = if let Piece::Data(range) = piece { range } else { 0..0 };
                Ok(Step { used, data })
            }
        }
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// When the body has not.
    pub fn end(&mut self) -> Result<(), Bad> {
        match self {
            Self::Close => *self = Self::Done,
            _ if self.is_done() => {}
            _ => return Err(Bad("the body is cut off")),
        }
        Ok(())
    }

    /// How many bytes are still to come at least.
    pub fn left(&self) -> u64 {
        if let Self::Length(left) = self { *left } else { 0 }
    }

    /// The trailers that may go on.
    pub fn trailers(&self) -> Vec<u8> {
        if let Self::Chunked(chunked) = self { chunked.trailers() } else { Vec::new() }
    }
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Plain,
    /// In chunks of our own making; trailers go on if the other side takes them.
    Chunked {
        /// Whether it does.
        trailers: bool,
    },
}

impl Encoding {
    /// Writes data.
    pub fn put(self, data: &[u8], out: &mut Vec<u8>) {
        if data.is_empty() {
            return;
        }
        if self == Self::Plain {
            return out.extend_from_slice(data);
        }
        let mut digits = [0; 18];
        out.extend_from_slice(size_line(data.len(), &mut digits));
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }

    /// Writes the end of the body.
    pub fn end(self, body: &Body, out: &mut Vec<u8>) {
        if let Self::Chunked { trailers } = self {
            out.extend_from_slice(b"0\r\n");
            if trailers {
                out.extend_from_slice(&body.trailers());
            }
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn size_line(mut size: usize, line: &mut [u8; 18]) -> &[u8] {
    let mut at = line.len() - 2;
    line[at..].copy_from_slice(b"\r\n");
    loop {
        at -= 1;
        line[at] = b"0123456789abcdef"[size % 16];
        size /= 16;
        if size == 0 {
            return &line[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(framing: Framing, mut input: &[u8]) -> (Vec<u8>, usize) {
        let (mut body, mut data, whole) = (Body::new(framing), Vec::new(), input.len());
        while !body.is_done() && !input.is_empty() {
            let step = body.next(input).unwrap();
            data.extend_from_slice(&input[step.data]);
            input = &input[step.used..];
        }
        body.end().unwrap();
        (data, whole - input.len())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..5_000), 0..6)) {
            let encoding = Encoding::Chunked { trailers: true };
            let mut out = Vec::new();
            parts.iter().for_each(|part| encoding.put(part, &mut out));
            encoding.end(&Body::Done, &mut out);
            let whole = out.len();
            out.extend_from_slice(b"next");
            prop_assert_eq!(read(Framing::Chunked, &out), (parts.concat(), whole));
            let plain = parts.concat();
            prop_assert_eq!(read(Framing::Length(plain.len() as u64), &plain), (plain.clone(), plain.len()));
            prop_assert_eq!(read(Framing::Close, &plain), (plain.clone(), plain.len()));
        }
    }

    #[test]
    fn a_cut_body_is_told_from_a_whole_one() {
        let mut body = Body::new(Framing::Length(2));
        body.next(b"a").unwrap();
        assert!(body.end().is_err());
        body.next(b"bc").unwrap();
        assert!(body.end().is_ok() && body.is_done());
        assert!(Body::new(Framing::Chunked).end().is_err());
    }
}
